import type { AbortOptions } from '../common/abort.ts';
import { BackupError } from '../common/errors.ts';
import type { CloudTarget } from './cloud-target.ts';

/**
 * Reads the first `length` bytes of an object, which an attacker may have made arbitrarily large. The result is `undefined` if
 * the object has fewer bytes.
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
