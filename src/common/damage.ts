import { BackupError } from './errors.ts';

const CODES = ['PACK_MISSING', 'PACK_CORRUPT', 'RECORD_CORRUPT', 'MAP_CORRUPT'];

/** Whether something stored is not as it should be, rather than the store not answering. */
export function isDamage(error: unknown): error is BackupError {
  return BackupError.is(error) && CODES.includes(error.code);
}
