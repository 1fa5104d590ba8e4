import { BackupError } from '../../common/errors.ts';
import type { LogState } from '../format/log-state.ts';

/**
 * What it means that a backup can't be read: a pack that is missing is damage, unless the backup has been forgotten.
 *
 * @param state - the newest one: whoever rejects with `PACK_MISSING` has read the log after the pack was missed
 * @param backup - that was there when its reader began
 */
export function forgottenOr(state: Pick<LogState, 'backups'>, backup: string, error: unknown): unknown {
  if (!BackupError.is(error, 'PACK_MISSING') || state.backups.has(backup)) return error;
  return new BackupError('BACKUP_FORGOTTEN', `backup ${backup} has been forgotten`, { cause: error });
}
