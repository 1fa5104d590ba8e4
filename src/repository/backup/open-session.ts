import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { once, type RepositoryContext } from '../context/repository-context.ts';
import { backupOf, headOf, type LogState, type StoredBackup } from '../format/log-state.ts';
import { missingBackup } from '../log/entries/backups.ts';
import type { Decide } from '../log/entries/decision.ts';
import { decideOpen } from '../log/entries/sessions.ts';
import type { Appended } from '../log/log-writer.ts';
import { holderText } from './list-sessions.ts';
import { mayBeSentAgain } from './outage-retries.ts';
import { deadSessions, holdSession, SessionClaim } from './session-owner.ts';

/** One volume of a session. */
export interface SessionPart {
  readonly volume: string;
  /** The id of a backup, or how to choose one. */
  readonly base: string | 'latest' | 'none';
  /** A base with another block size can't be used. */
  readonly blockSize: number;
}

/** What a session has pinned for one volume. */
export interface PinnedPart extends SessionPart {
  readonly pinned: StoredBackup | undefined;
  readonly parent: string | undefined;
}

/** An `open` entry that is in the log. */
export interface OpenedSession {
  readonly seq: number;
  /** The hash of the entry. */
  readonly hash: Uint8Array;
  readonly parts: readonly PinnedPart[];
  /** The sessions that the entry adopts: those of its volumes that ended without a commit. */
  readonly adopted: readonly number[];
}

/**
 * Appends an `open` entry that pins a base for each volume. The bases are chosen on the very state that the entry follows.
 *
 * @param options - with `takeOver`, the sessions that hold one of the volumes are fenced
 * @throws `VOLUME_BUSY`, `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN` (of a base), `COMMIT_UNKNOWN`, and what the log throws
 */
export async function openSession(
  context: RepositoryContext,
  parts: readonly SessionPart[],
  { signal, takeOver }: AbortOptions & { readonly takeOver: boolean },
): Promise<OpenedSession> {
  const { repositoryId } = context.format;
  const { insist = once } = context;
  const decideAs =
    (claim: SessionClaim): Decide =>
    (state) => {
      const missing = parts.find(({ base }) => isId(base) && backupOf(state, base) === undefined);
      if (missing !== undefined) return missingBackup(state, missing.base);
      const volumes = new Map(parts.map((part) => [part.volume, chooseBase(state, part)]));
      const others = takeOver ? [...state.sessions.keys()] : deadSessions(state, repositoryId, context.owner);
      return decideOpen(state, {
        owner: claim.ownerOn(state),
        volumes,
        takeOver: others,
        holderText: (session) => holderText(session, context.now()),
      });
    };
  // If the outcome of an entry was not learned, it may have opened a session that no job holds: the next attempt takes it
  // over. No look at the log is needed before (an outdated state loses the number) or after (the commit looks).
  const needs = {
    newest: parts.map(({ volume }) => ({ volume, count: 1 })),
    ids: parts.map(({ base }) => base).filter(isId),
  };
  const appending = { needs, signal, lookFirst: context.log.reader.mayBeFarBehind, confirm: false };
  let claim: SessionClaim | undefined;
  const tryOnce = () => {
    claim?.settle();
    claim = new SessionClaim(context.owner, repositoryId);
    return context.log.append(decideAs(claim), appending);
  };
  let opened: Appended | undefined;
  try {
    opened = await insist(tryOnce, mayBeSentAgain);
    if (opened !== undefined) holdSession(repositoryId, opened.entry.seq);
  } finally {
    claim?.settle();
  }
  if (opened?.entry.type !== 'open') {
    throw new BackupError('SESSION_ENDED', 'the session could not be opened: start the backup again');
  }
  const { entry, state } = opened;
  const pinned = parts.map((part): PinnedPart => {
    const base = entry.volumes.get(part.volume);
    return {
      ...part,
      pinned: base === undefined ? undefined : state.backups.get(base),
      parent: headOf(state, part.volume)?.id,
    };
  });
  return { seq: entry.seq, hash: state.hash, parts: pinned, adopted: entry.adopt };
}

/** The base that a session would pin. */
export function chooseBase(state: LogState, { volume, base, blockSize }: SessionPart): string | undefined {
  if (isId(base)) return base;
  if (base === 'none') return undefined;
  let latest: StoredBackup | undefined;
  for (const backup of state.backups.values()) if (backup.volume === volume) latest = backup; // Oldest first.
  return latest?.descriptor.blockSize === blockSize ? latest.id : undefined;
}

function isId(base: string): boolean {
  return base !== 'none' && base !== 'latest';
}
