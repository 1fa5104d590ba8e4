import type { AbortOptions } from '../../common/abort.ts';
import { described, optionsArgument, signalArgument } from '../../common/arguments.ts';
import { type RepositoryContext, requireWritable } from '../context/repository-context.ts';
import { appendInLittleRoom } from '../context/reserve.ts';
import { decideForget } from '../log/entries/sessions.ts';

/** Options of `BackupRepository.forget`. @public */
export interface ForgetOptions extends AbortOptions {}

/**
 * Forgets backups, all of them or none. From then on they can't be opened; what only they need goes with later prunes.
 *
 * @throws TypeError; `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`, `BACKUP_HELD`, `READ_ONLY`, `COMMIT_UNKNOWN`, `NO_SPACE`, and
 * what the log gives
 */
export async function forgetBackups(
  context: RepositoryContext,
  ids: readonly string[],
  options: ForgetOptions = {},
): Promise<void> {
  const { signal } = optionsArgument('options', options, { signal: true });
  const wanted = idsArgument('ids', ids);
  signalArgument('signal', signal);
  requireWritable(context);
  if (wanted.length === 0) return;
  await appendInLittleRoom(context, (state) => decideForget(state, wanted), { signal });
}

/** Ids of backups as callers give them: an array of strings that are not empty. @throws TypeError */
export function idsArgument(name: string, value: unknown): string[] {
  if (!Array.isArray(value)) throw new TypeError(`${name} must be an array of ids of backups, not ${described(value)}`);
  return value.map((id: unknown) => {
    if (typeof id === 'string' && id.length > 0) return id;
    throw new TypeError(`${name} must hold ids of backups, which are strings, and not ${described(id)}`);
  });
}
