import { BackupError } from '../../common/errors.ts';

/** What every decoder and the fold of the log throw. */
export function logCorrupt(message: string, cause?: unknown): BackupError {
  return new BackupError('LOG_CORRUPT', `the log is damaged: ${message}`, cause === undefined ? {} : { cause });
}

/** What authenticates and is not understood was not damaged: a newer version of this program wrote it. */
export function madeByNewer(what: string): BackupError {
  const message = `${what} was made by a newer version of this program: update it to read this repository`;
  return new BackupError('REPOSITORY_UNSUPPORTED', message);
}
