import { BackupError } from '../../common/errors.ts';

/** What every decoder of the block map throws. */
export function mapCorrupt(message: string, cause?: unknown): BackupError {
  return new BackupError('MAP_CORRUPT', `the block map is damaged: ${message}`, cause === undefined ? {} : { cause });
}
