import type { AbortOptions } from '../../common/abort.ts';
import { optionsArgument, signalArgument, textArgument } from '../../common/arguments.ts';
import { type RepositoryContext, requireWritable } from '../context/repository-context.ts';
import { MAX_TEXT } from '../format/decode-values.ts';
import { decideHold, decideRelease } from '../log/entries/sessions.ts';
import { idsArgument } from './forget.ts';

/** Options of `BackupRepository.hold`. @public */
export interface HoldOptions extends AbortOptions {
  /** Why, for people: at most 1,024 characters. Everybody who lists the backups sees it. */
  readonly reason?: string | undefined;
}

/**
 * Keeps backups from being forgotten, by `forget` and by any policy, until they are released.
 *
 * @throws TypeError; `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN` (then none is held), `READ_ONLY`, `COMMIT_UNKNOWN`, and what the
 * log gives
 */
export async function holdBackups(
  context: RepositoryContext,
  ids: readonly string[],
  options: HoldOptions = {},
): Promise<void> {
  const { reason, signal } = optionsArgument('options', options, { reason: true, signal: true });
  if (reason !== undefined && (textArgument('reason', reason).length > MAX_TEXT || !reason.isWellFormed())) {
    throw new TypeError(`reason must be a well-formed string of at most ${MAX_TEXT} characters`);
  }
  const wanted = idsArgument('ids', ids);
  signalArgument('signal', signal);
  requireWritable(context);
  if (wanted.length > 0) await context.log.append((state) => decideHold(state, wanted, reason), { signal });
}

/** Lets backups be forgotten again. One that is not held is left alone. @throws as {@link holdBackups} */
export async function releaseBackups(
  context: RepositoryContext,
  ids: readonly string[],
  options: AbortOptions = {},
): Promise<void> {
  const { signal } = optionsArgument('options', options, { signal: true });
  const wanted = idsArgument('ids', ids);
  signalArgument('signal', signal);
  requireWritable(context);
  if (wanted.length > 0) await context.log.append((state) => decideRelease(state, wanted), { signal });
}
