import { BackupError } from '../../common/errors.ts';

/** What every decoder and the fold of the log throw. */
export function logCorrupt(message: string, cause?: unknown): BackupError {
  return new BackupError('LOG_CORRUPT', `the log is damaged: ${message}`, cause === undefined ? {} : { cause });
}
