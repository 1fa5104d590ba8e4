import type { AbortOptions } from '../common/abort.ts';
import { BackupError } from '../common/errors.ts';
import type { CloudTarget } from './cloud-target.ts';

/**
 * The first bytes of an object that a stranger may have made as large as they like. `undefined` where it has fewer.
 *
 * @throws `OBJECT_NOT_FOUND`, and what the target gives
 */
export async function getBounded(
  target: CloudTarget,
  key: string,
  length: number,
  { signal }: AbortOptions = {},
): Promise<Uint8Array | undefined> {
  try {
    return await target.get(key, { range: { offset: 0, length }, signal });
  } catch (error) {
    if (BackupError.is(error, 'RANGE_UNSATISFIABLE')) return undefined;
    throw error;
  }
}
