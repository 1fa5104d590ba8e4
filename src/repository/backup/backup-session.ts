import type { AbortOptions } from '../../common/abort.ts';
import { BackupError, isDamage } from '../../common/errors.ts';
import { hedgedHex } from '../../common/hedged-random.ts';
import { encodeMsgpack } from '../../common/msgpack.ts';
import { runInSteps, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { Lane } from '../../pipeline/block-feed.ts';
import { metered } from '../../targets/decorators/request-meter.ts';
import { once, type RepositoryContext } from '../context/repository-context.ts';
import { appendInLittleRoom } from '../context/reserve.ts';
import { backupPlain } from '../format/backup-codec.ts';
import { volumeSuffix } from '../format/catalogue-pages.ts';
import type { BackupRecord, CommittedPack, PackTable } from '../format/log-entry.ts';
import { type LogState, type SessionName, sessionIn } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { encodingPackTable, MAX_TABLE_PACKS } from '../format/pack-table-record.ts';
import { type PackName, RecordKind, type RecordWriter } from '../format/record.ts';
import { type CommitPlan, decideCommit } from '../log/entries/commit.ts';
import type { Decide } from '../log/entries/decision.ts';
import { decideAbort, decideGiveUp, endedSession } from '../log/entries/sessions.ts';
import { NodeWriter } from '../packs/node-writer.ts';
import { INTERCEPTED_PACK_BYTES } from '../packs/pack-sizes.ts';
import { PackWriter } from '../packs/pack-writer.ts';
import { Adoption } from './adoption.ts';
import { type DedupIndex, SessionDedup } from './dedup-index.ts';
import type { JobProgress } from './job-progress.ts';
import type { OpenedSession, PinnedPart } from './open-session.ts';
import { mayBeSentAgain } from './outage-retries.ts';
import { dropSession } from './session-owner.ts';

export interface StoringOptions {
  readonly packBytes: number;
  readonly parallelPuts: number;
}

export interface SessionTools {
  readonly storing: StoringOptions;
  readonly index: DedupIndex;
  readonly progress: JobProgress;
  /** The job's; it ends the session's requests too. */
  readonly signal: AbortSignal;
}

/** What a session has stored, as its commit says it. */
export interface UploadedPacks {
  readonly references: readonly PackName[];
  readonly listed: ListedPacks;
  /** The size of all packs together. */
  readonly bytes: number;
}

/** The part of a `CommitPlan` that lists packs. */
export interface ListedPacks extends Pick<CommitPlan, 'packs'> {
  readonly packTables: readonly PackTable[];
  /** Keys of the packs that the tables list. */
  readonly tabled: ReadonlySet<string>;
}

/** More packs than this are listed in tables: an entry is never deleted, and each of its packs takes some 60 bytes of it. */
const MAX_LISTED_PACKS = 64;

/** The digits after them stand for the volume. */
const BACKUP_RANDOM_BYTES = 12;

/** How long intercepted blocks wait for others to share a pack with. */
const INTERCEPTED_WAIT_MS = 30_000;

/**
 * The log's part of a backup, or of a group of backups: the packs that they are stored in, and their one commit (P1 to P5,
 * P12).
 */
export class BackupSession {
  readonly seq: number;
  readonly parts: readonly PinnedPart[];
  readonly packs: Readonly<Record<Lane, PackWriter>>;
  readonly dedup: SessionDedup;
  readonly adoption: Adoption | undefined;
  /** Called with the key of every pack that the store has. */
  readonly storedListeners: ((key: string) => void)[] = [];
  readonly #context: RepositoryContext;
  readonly #nodes: Readonly<Record<Lane, NodeWriter>>;
  /** Of the `open` entry. */
  readonly #hash: Uint8Array;
  #flushTimer: NodeJS.Timeout | undefined;
  #hasEnded = false;

  constructor(context: RepositoryContext, opened: OpenedSession, { storing, index, progress, signal }: SessionTools) {
    // A session that adopts nothing makes no request for it.
    if (opened.adopted.length > 0) this.adoption = new Adoption(context, opened.adopted, signal);
    this.dedup = new SessionDedup(index, () => context.log.state, this.adoption);
    this.#context = context;
    this.seq = opened.seq;
    this.#hash = opened.hash;
    this.parts = opened.parts;
    const packBytes = Math.min(storing.packBytes, context.target.capabilities.maxObjectBytes ?? storing.packBytes);
    const writer = (most: number, parallelPuts: number) =>
      new PackWriter({
        target: context.target,
        session: this.seq,
        footerKey: context.keys.footerKey,
        createOnly: context.format.mode === 'shared',
        packBytes: Math.min(packBytes, most),
        parallelPuts,
        onStored: ({ random }) => {
          for (const listener of this.storedListeners) listener(packKey({ session: this.seq, random }));
        },
        onSent: () => progress.moved(),
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
   * An id for one of its backups. It differs even from that of a cloned process, which has another session, and ends in digits of
   * its volume, by which the catalogue finds it.
   */
  newBackupId(volume: string): string {
    return hedgedHex(BACKUP_RANDOM_BYTES, undefined, this.seq, this.#hash, volume) + volumeSuffix(volume);
  }

  get repositoryId(): Uint8Array {
    return this.#context.format.repositoryId;
  }

  /** Writes map records, to the pack that is being filled, so that a small backup is one pack. */
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

  /**
   * Sends intercepted blocks before long, however few they are. A lazy job gathers them slowly, and their pre-images take
   * up room until they are stored.
   */
  flushSoon(): void {
    const { intercepted } = this.packs;
    if (this.#flushTimer !== undefined || this.#hasEnded || intercepted.filling === undefined) return;
    const flush = () => {
      this.#flushTimer = undefined;
      // A failure is reported by the next block that is stored, or by the commit.
      intercepted.flush().catch(() => {});
    };
    this.#flushTimer = setTimeout(flush, INTERCEPTED_WAIT_MS).unref();
  }

  /** Replaces an error that says "damaged" if the session was fenced: then its base may be gone, and nothing is damaged. */
  async explain(error: unknown, options: AbortOptions = {}): Promise<unknown> {
    if (!isDamage(error)) return error;
    const state = await this.#context.log.catchUp(options).catch(() => undefined);
    if (state === undefined || sessionIn(state.sessions, this.#name) !== undefined) return error;
    const { code, message } = endedSession(state, this.seq);
    return new BackupError(code, message, { cause: error });
  }

  /** Sends everything, and resolves with what the commit says of it when the store has all of it. */
  async upload(): Promise<UploadedPacks> {
    await Promise.all([this.packs.intercepted.flush(), this.packs.swept.flush()]);
    const adopted = this.adoption?.used ?? [];
    const own = [...this.#ownPacks(), ...adopted];
    const listed = await commitPacks(this.#context, this.packs.swept, own);
    // All other packs that the maps name are held by the pinned bases (P3).
    const references = [...own, ...this.dedup.referred];
    const bytes = [...this.#ownPacks(), ...adopted].reduce((sum, { size }) => sum + size, 0);
    return { references, listed, bytes };
  }

  /**
   * Commits the backups, all of them or none. Resolves with the state that contains them.
   *
   * If the outcome of an entry could not be learned, the entry may be in the log, or may still arrive. So it is looked for
   * first, and sent again only under a number at which the earlier one would have lost.
   *
   * @throws `COMMIT_UNKNOWN` if the outcome is still unknown when the time for retries is over or the job ends
   */
  async commit(backups: readonly BackupRecord[], packs: UploadedPacks, options: AbortOptions = {}): Promise<LogState> {
    const { log, insist = once } = this.#context;
    const plan = { session: this.seq, openHash: this.#hash, backups, references: packs.references, ...packs.listed };
    let unknown: BackupError | undefined;
    let mayBeThere = false;
    const usual = {
      newest: backups.map(({ volume }) => ({ volume, count: 1 })),
      packs: [...packs.references, ...packs.listed.packs],
    };
    // Newer backups of others may have moved what was sent into older pages.
    const needs = () => (mayBeThere ? { ...usual, ids: backups.map(({ id }) => id) } : usual);
    const onMayBeThere = () => {
      mayBeThere = true;
    };
    let verdict: BackupError | undefined;
    const decide: Decide = (state) => {
      // @mutation sent-commit-is-in-the-state
      if (mayBeThere && sessionIn(state.sessions, this.#name) === undefined) {
        verdict = this.#outcomeIn(state, backups);
        return verdict;
      }
      return decideCommit(state, plan);
    };
    const append = async () => {
      try {
        return await log.append(decide, { needs, ...options, lookFirst: unknown !== undefined, onMayBeThere });
      } catch (error) {
        // Noted here, because after an abort `insist` does not ask whether the error may pass.
        if (BackupError.is(error, 'COMMIT_UNKNOWN')) unknown = error;
        throw error;
      }
    };
    const appended = await insist(append, (error) => error !== verdict && mayBeSentAgain(error)).catch(
      (error: unknown) => {
        if (BackupError.is(error, 'COMMIT_UNKNOWN') || unknown === undefined || isAnswer(error)) throw error;
        throw unknown;
      },
    );
    const state = appended?.state ?? (await log.withPages(needs(), options));
    this.#end();
    this.dedup.committed();
    return state;
  }

  /**
   * What became of a commit that was sent, in a state in which the session is not open: its entry may have been deleted (L2).
   *
   * @returns `undefined` if the backups are in the log
   */
  #outcomeIn(state: LogState, backups: readonly BackupRecord[]): BackupError | undefined {
    if (areCommitted(state, backups)) return undefined;
    if (sessionIn(state.fenced, this.#name) !== undefined) return endedSession(state, this.seq);
    const message = `the log has neither session ${this.seq} nor a backup of it: the backup was committed and has been forgotten since, or it failed`;
    return new BackupError('COMMIT_UNKNOWN', message);
  }

  get #name(): SessionName {
    return { seq: this.seq, hash: this.#hash };
  }

  /**
   * Ends the session without a commit. Takes a request, so no job waits for it.
   *
   * @param options - with `keepsUploads`, the next backup of a volume of it uses what it has uploaded, and prune keeps that for
   * a while; otherwise the next prune collects it
   */
  async leave({ keepsUploads, signal }: AbortOptions & { readonly keepsUploads: boolean }): Promise<void> {
    if (this.#hasEnded) return;
    this.#end();
    const { log, target } = this.#context;
    const isKept = keepsUploads && this.#ownPacks().length > 0;
    // @mutation uploads-are-kept
    const decide = (state: LogState) =>
      isKept ? decideGiveUp(state, this.seq, this.#hash) : decideAbort(state, this.seq, this.#hash);
    const options = { usesReserve: false, confirm: false, signal };
    await metered(undefined, () => appendInLittleRoom({ log, target }, decide, options));
  }

  #ownPacks(): CommittedPack[] {
    const { intercepted, swept } = this.packs;
    return [...intercepted.stored, ...swept.stored].map((pack) => ({ ...pack, session: this.seq }));
  }

  #end(): void {
    this.#hasEnded = true;
    this.adoption?.end();
    clearTimeout(this.#flushTimer);
    dropSession(this.#context.format.repositoryId, this.seq);
  }
}

/**
 * Decides whether a commit lists its packs in its entry or in tables (record kind 5), and stores the tables. Resolves when
 * the store has everything that `writer` was given.
 *
 * @param writer - a writer of the session: a table is in a pack of the session itself, which the entry lists
 * @param packs - all packs, each acknowledged, those that `writer` has stored included
 */
export async function commitPacks(
  context: Pick<RepositoryContext, 'keys'>,
  writer: PackWriter,
  packs: readonly CommittedPack[],
): Promise<ListedPacks> {
  await writer.flush();
  const given = new Set(packs.map(packKey));
  const ownPacks = () => writer.stored.map((pack): CommittedPack => ({ ...pack, session: writer.session }));
  const all = [...packs, ...ownPacks().filter((pack) => !given.has(packKey(pack)))];
  if (all.length <= MAX_LISTED_PACKS) return { packs: all, packTables: [], tabled: new Set() };
  const tabled = new Set(all.map(packKey));
  const nodes = new NodeWriter(context.keys, writer);
  const packTables: PackTable[] = [];
  for (let from = 0; from < all.length; from += MAX_TABLE_PACKS) {
    const listed = all.slice(from, from + MAX_TABLE_PACKS);
    const raw = await runInSteps(encodingPackTable(listed));
    await yieldToEventLoop();
    const id = context.keys.recordId(RecordKind.table, raw);
    packTables.push({ id, location: await nodes.write(RecordKind.table, id, raw, 0), packs: listed.length });
  }
  await writer.flush();
  return { packs: ownPacks().filter((pack) => !tabled.has(packKey(pack))), packTables, tabled };
}

/** Whether exactly these backups are in the log: a cloned process may have made others with the same ids. */
function areCommitted(state: LogState, backups: readonly BackupRecord[]): boolean {
  return backups.every((backup) => {
    const stored = state.backups.get(backup.id);
    return (
      stored !== undefined &&
      Buffer.compare(encodeMsgpack(backupPlain(stored)), encodeMsgpack(backupPlain(backup))) === 0
    );
  });
}

/** Whether the log proves that a commit is not there and can't arrive any more. */
function isAnswer(error: unknown): boolean {
  return BackupError.is(error) && ['SESSION_FENCED', 'SESSION_ENDED', 'PARENT_CHANGED'].includes(error.code);
}
