import { BackupError } from '../common/errors.ts';
import type { CloudTarget, GetOptions } from './cloud-target.ts';

/**
 * Reads the first `length` bytes of an object, which an attacker may have made arbitrarily large. The result is `undefined` if
 * the object has fewer bytes.
 */
export async function getBounded(
  target: CloudTarget,
  key: string,
  length: number,
  { signal, ifTag }: Omit<GetOptions, 'range'> = {},
): Promise<Uint8Array | undefined> {
  try {
    return await target.get(key, { range: { offset: 0, length }, signal, ...(ifTag === undefined ? {} : { ifTag }) });
  } catch (error) {
    if (BackupError.is(error, 'RANGE_UNSATISFIABLE')) return undefined;
    throw error;
  }
}
