import type { AbortOptions } from '../../common/abort.ts';
import { encodePlain } from '../../common/bounded-msgpack.ts';
import { isDamage } from '../../common/damage.ts';
import { BackupError } from '../../common/errors.ts';
import { hedgedHex } from '../../common/hedged-random.ts';
import { metered } from '../../targets/decorators/request-meter.ts';
import { once, type RepositoryContext } from '../context/repository-context.ts';
import { appendInLittleRoom } from '../context/reserve.ts';
import { backupPlain } from '../format/backup-codec.ts';
import type { BackupRecord, CommittedPack } from '../format/log-entry.ts';
import type { LogState, StoredBackup } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import type { PackName, RecordWriter } from '../format/record.ts';
import { decideCommit } from '../log/entries/commit-decision.ts';
import type { Decide } from '../log/entries/decision.ts';
import { decideAbort, decideOpen, endedSession, missingBackup } from '../log/entries/sessions.ts';
import type { Appended } from '../log/log-writer.ts';
import { NodeWriter } from '../packs/node-writer.ts';
import { INTERCEPTED_PACK_BYTES } from '../packs/pack-sizes.ts';
import { PackWriter } from '../packs/pack-writer.ts';
import type { Lane } from './block-feed.ts';
import { commitPacks, type TabledPacks } from './commit-packs.ts';
import { type ContentIndex, KnownContents } from './dedup-index.ts';
import { isOutage } from './job-patience.ts';
import { holderText } from './list-sessions.ts';
import { deadSessions, dropSession, holdSession, SessionClaim } from './session-owner.ts';

/** One volume of a session. */
export interface SessionPart {
  readonly volume: string;
  /** A backup's id, or how to choose. */
  readonly base: string | 'latest' | 'none';
  /** A base of another block size is of no use. */
  readonly blockSize: number;
}

/** How sessions store. */
export interface StoringOptions {
  readonly packBytes: number;
  readonly parallelPuts: number;
}

/** The signal is the job's: it ends the session's requests too. */
export interface OpenSessionOptions extends AbortOptions {
  /** Fence the sessions that hold one of the volumes. */
  readonly takeOver?: boolean | undefined;
  /** Earlier sessions of the same job. */
  readonly resume?: readonly number[] | undefined;
}

/** What a session has stored, as its commit tells of it. */
export interface UploadedPacks {
  readonly references: readonly PackName[];
  readonly listed: TabledPacks;
  /** Of all packs. */
  readonly bytes: number;
}

/** What a session pinned for one volume. */
export interface PinnedPart extends SessionPart {
  readonly pinned: StoredBackup | undefined;
  readonly parent: string | undefined;
}

/** A session of the log: what a backup, or a group of them, stores under, and its one commit (P1 to P5, P12). */
export class BackupSession {
  readonly seq: number;
  readonly parts: readonly PinnedPart[];
  readonly packs: Readonly<Record<Lane, PackWriter>>;
  readonly known: KnownContents;
  /** Told of every pack that the store has. */
  readonly storedListeners: ((key: string) => void)[] = [];
  /** Told when more of a pack has been sent. */
  readonly sentListeners: (() => void)[] = [];
  readonly #context: RepositoryContext;
  readonly #nodes: Readonly<Record<Lane, NodeWriter>>;
  /** Of its `open` entry. */
  readonly #hash: Uint8Array;
  #hasEnded = false;

  private constructor(
    context: RepositoryContext,
    { seq, hash }: { readonly seq: number; readonly hash: Uint8Array },
    parts: readonly PinnedPart[],
    storing: StoringOptions,
    contents: ContentIndex,
    signal: AbortSignal | undefined,
  ) {
    this.known = new KnownContents(contents, () => context.log.state);
    this.#context = context;
    this.seq = seq;
    this.#hash = hash;
    this.parts = parts;
    const packBytes = Math.min(storing.packBytes, context.target.capabilities.maxObjectBytes ?? storing.packBytes);
    const writer = (most: number, parallelPuts: number) =>
      new PackWriter({
        target: context.target,
        session: seq,
        footerKey: context.keys.footerKey,
        createOnly: context.format.mode === 'shared',
        packBytes: Math.min(packBytes, most),
        parallelPuts,
        onStored: ({ random }) => {
          for (const listener of this.storedListeners) listener(packKey({ session: seq, random }));
        },
        onSent: () => {
          for (const listener of this.sentListeners) listener();
        },
        insist: context.insist,
        signal,
      });
    this.packs = { intercepted: writer(INTERCEPTED_PACK_BYTES, 1), swept: writer(packBytes, storing.parallelPuts) };
    this.#nodes = {
      intercepted: new NodeWriter(context.keys, this.packs.intercepted),
      swept: new NodeWriter(context.keys, this.packs.swept),
    };
  }

  /**
   * Opens a session, with the bases that it pins chosen on the state that it is opened on.
   *
   * @throws `VOLUME_BUSY`, `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN` (of a base), `COMMIT_UNKNOWN`, and what the log gives
   */
  static async open(
    context: RepositoryContext,
    parts: readonly SessionPart[],
    storing: StoringOptions,
    contents: ContentIndex,
    options: OpenSessionOptions,
  ): Promise<BackupSession> {
    const { signal, takeOver = false, resume } = options;
    const { repositoryId } = context.format;
    const { insist = once } = context;
    const decideAs =
      (claim: SessionClaim): Decide =>
      (state) => {
        const missing = parts.find(({ base }) => isId(base) && !state.backups.has(base));
        if (missing !== undefined) return missingBackup(state, missing.base);
        const volumes = new Map(parts.map((part) => [part.volume, chooseBase(state, part)]));
        const others = takeOver ? [...state.sessions.keys()] : deadSessions(state, repositoryId, context.owner);
        return decideOpen(state, {
          owner: claim.ownerOn(state),
          volumes,
          resume,
          takeOver: others,
          holderText: (session) => holderText(session, context.now()),
        });
      };
    // An entry whose outcome was not learned has opened a session that nobody holds: the next try takes it over.
    // A state that is behind loses the number, and the commit's look confirms the session too.
    const appending = { signal, lookFirst: false, confirm: false };
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
    if (opened?.entry.type !== 'open') throw new BackupError('SESSION_ENDED', 'the session could not be opened');
    const { entry, state } = opened;
    const id = { seq: entry.seq, hash: state.hash };
    const pinned = parts.map((part): PinnedPart => {
      const base = entry.volumes.get(part.volume);
      return {
        ...part,
        pinned: base === undefined ? undefined : state.backups.get(base),
        parent: state.heads.get(part.volume),
      };
    });
    return new BackupSession(context, id, pinned, storing, contents, signal);
  }

  /** An id for one of its backups. A copy of this process that draws the same numbers has another session. */
  newBackupId(volume: string): string {
    return hedgedHex(16, undefined, this.seq, this.#hash, volume);
  }

  get repositoryId(): Uint8Array {
    return this.#context.format.repositoryId;
  }

  /** Where map records go: into the pack that is being filled, so that a small backup is one pack. */
  get nodes(): RecordWriter {
    const { records } = this.#context;
    return {
      write: async (kind, id, raw, hint) => {
        const { intercepted, swept } = this.packs;
        const lane = intercepted.filling !== undefined && swept.filling === undefined ? 'intercepted' : 'swept';
        const location = await this.#nodes[lane].write(kind, id, raw, hint);
        records.remember(kind, id, location, raw);
        return location;
      },
    };
  }

  /** Sends what has been gathered, and resolves when the store has everything. */
  async flush(): Promise<void> {
    await Promise.all([this.packs.intercepted.flush(), this.packs.swept.flush()]);
  }

  /** What a failure is told as: to who was given up meanwhile, what it builds on may look damaged, and is only gone. */
  async explain(error: unknown, options: AbortOptions = {}): Promise<unknown> {
    if (!isDamage(error)) return error;
    const state = await this.#context.log.catchUp(options).catch(() => undefined);
    if (state === undefined || state.sessions.has(this.seq)) return error;
    const { code, message } = endedSession(state, this.seq);
    return new BackupError(code, message, { cause: error });
  }

  /** Sends everything, and resolves with what the commit says of it once the store has all of it. */
  async upload(): Promise<UploadedPacks> {
    await this.flush();
    const own = this.#ownPacks();
    const listed = await commitPacks(this.#context, this.packs.swept, own);
    // Whatever else the maps name came through the pinned bases (P3).
    const references = [...own, ...this.known.referred];
    return { references, listed, bytes: this.#ownPacks().reduce((sum, { size }) => sum + size, 0) };
  }

  /**
   * Makes the backups true, all of them or none. Resolves with the state of which they are part.
   *
   * An entry whose outcome could not be learned may be there, or may yet come: it is looked for, and is sent again only
   * to a number at which it would have lost.
   *
   * @throws `COMMIT_UNKNOWN` while that is so when patience or the job ends
   */
  async commit(backups: readonly BackupRecord[], packs: UploadedPacks, options: AbortOptions = {}): Promise<LogState> {
    const { log, insist = once } = this.#context;
    const plan = { session: this.seq, backups, references: packs.references, ...packs.listed };
    let unknown: BackupError | undefined;
    const decide: Decide = (state) =>
      unknown !== undefined && areCommitted(state, backups) ? undefined : decideCommit(state, plan);
    const append = async () => {
      try {
        return await log.append(decide, { ...options, lookFirst: unknown !== undefined });
      } catch (error) {
        // Noted here: after an abort nobody asks whether it may pass.
        if (BackupError.is(error, 'COMMIT_UNKNOWN')) unknown = error;
        throw error;
      }
    };
    const appended = await insist(append, mayBeSentAgain).catch((error: unknown) => {
      if (BackupError.is(error, 'COMMIT_UNKNOWN') || unknown === undefined || isAnswer(error)) throw error;
      throw unknown;
    });
    const { state } = appended ?? log;
    this.#end();
    this.known.committed();
    return state;
  }

  /** Gives the session up. What it has stored is collected one day. Needs the network, so nobody waits for it. */
  async abort({ signal }: AbortOptions = {}): Promise<void> {
    if (this.#hasEnded) return;
    this.#end();
    const { log, target } = this.#context;
    const decide = (state: LogState) => decideAbort(state, this.seq);
    const options = { usesReserve: false, confirm: false, signal };
    await metered(undefined, () => appendInLittleRoom({ log, target }, decide, options));
  }

  #ownPacks(): CommittedPack[] {
    const { intercepted, swept } = this.packs;
    return [...intercepted.stored, ...swept.stored].map((pack) => ({ ...pack, session: this.seq }));
  }

  #end(): void {
    this.#hasEnded = true;
    dropSession(this.#context.format.repositoryId, this.seq);
  }
}

/** The base that a session would pin. */
export function chooseBase(state: LogState, { volume, base, blockSize }: SessionPart): string | undefined {
  if (isId(base)) return base;
  if (base === 'none') return undefined;
  let latest: StoredBackup | undefined;
  for (const backup of state.backups.values()) if (backup.volume === volume) latest = backup; // Oldest first.
  return latest?.descriptor.blockSize === blockSize ? latest.id : undefined;
}

/** Whether the very same backups are in the log. A copy of this process may have made others under these ids. */
function areCommitted(state: LogState, backups: readonly BackupRecord[]): boolean {
  return backups.every((backup) => {
    const stored = state.backups.get(backup.id);
    return (
      stored !== undefined && Buffer.compare(encodePlain(backupPlain(stored)), encodePlain(backupPlain(backup))) === 0
    );
  });
}

/** Whether the log says that a commit is not there, and can't come any more. */
function isAnswer(error: unknown): boolean {
  return BackupError.is(error) && ['SESSION_FENCED', 'SESSION_ENDED', 'PARENT_CHANGED'].includes(error.code);
}

/** Whether an entry may be sent again: to a number that it can't get twice. */
function mayBeSentAgain(error: unknown): boolean {
  return isOutage(error) || BackupError.is(error, 'COMMIT_UNKNOWN');
}

function isId(base: string): boolean {
  return base !== 'none' && base !== 'latest';
}
