import type { AbortOptions } from '../../common/abort.ts';
import { described, optionsArgument, signalArgument, textArgument } from '../../common/arguments.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import { type RepositoryContext, requireWritable } from '../context/repository-context.ts';
import { appendInLittleRoom } from '../context/reserve.ts';
import { isTextWithin, MAX_TEXT } from '../format/decode-values.ts';
import { decideForget, decideHold, decideRelease } from '../log/entries/backups.ts';

/** Forgets backups, and holds them. Each call is one log entry for all of its backups, or none. */

/** Options of `BackupRepository.forget`. @public */
export interface ForgetOptions extends AbortOptions {}

/** Options of `BackupRepository.hold`. @public */
export interface HoldOptions extends AbortOptions {
  /** The reason, as text for people: at most 1,024 bytes of UTF-8. It is shown to all who list the backups. */
  readonly reason?: string | undefined;
}

/** See `BackupRepository.forget`. */
export async function forgetBackups(
  context: RepositoryContext,
  ids: readonly string[],
  options: ForgetOptions = {},
): Promise<void> {
  const { signal } = optionsArgument('options', options, { signal: true });
  const wanted = checkCall(context, ids, signal);
  if (wanted.length > 0) {
    await appendInLittleRoom(context, (state) => runInSteps(decideForget(state, wanted)), {
      needs: { ids: wanted },
      signal,
    });
  }
}

/** See `BackupRepository.hold`. */
export async function holdBackups(
  context: RepositoryContext,
  ids: readonly string[],
  options: HoldOptions = {},
): Promise<void> {
  const { reason, signal } = optionsArgument('options', options, { reason: true, signal: true });
  if (reason !== undefined && !isTextWithin(textArgument('reason', reason), MAX_TEXT)) {
    throw new TypeError(`reason must be a well-formed string of at most ${MAX_TEXT} bytes of UTF-8`);
  }
  const wanted = checkCall(context, ids, signal);
  if (wanted.length > 0) {
    await context.log.append((state) => runInSteps(decideHold(state, wanted, reason)), {
      needs: { ids: wanted },
      signal,
    });
  }
}

/** See `BackupRepository.release`. */
export async function releaseBackups(
  context: RepositoryContext,
  ids: readonly string[],
  options: AbortOptions = {},
): Promise<void> {
  const { signal } = optionsArgument('options', options, { signal: true });
  const wanted = checkCall(context, ids, signal);
  if (wanted.length > 0) {
    await context.log.append((state) => runInSteps(decideRelease(state, wanted)), { needs: { ids: wanted }, signal });
  }
}

function checkCall(context: RepositoryContext, ids: unknown, signal: unknown): string[] {
  const wanted = idsArgument('ids', ids);
  signalArgument('signal', signal);
  requireWritable(context);
  return wanted;
}

/** Ids of backups as a caller gives them: an array of strings that are not empty. @throws TypeError */
export function idsArgument(name: string, value: unknown): string[] {
  if (!Array.isArray(value)) throw new TypeError(`${name} must be an array of ids of backups, not ${described(value)}`);
  return value.map((id: unknown) => {
    if (typeof id === 'string' && id.length > 0) return id;
    throw new TypeError(`${name} must hold ids of backups, which are strings, and not ${described(id)}`);
  });
}
