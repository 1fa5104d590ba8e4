import type { AbortOptions } from '../../common/abort.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { livenessOf } from '../backup/session-owner.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { LogState, Session } from '../format/log-state.ts';
import { entryKey, parseLogKey } from '../format/object-keys.ts';

/**
 * Computes how long ago things happened, which decides what a prune tries (P8). If the store has a clock, the time of an event
 * is the store's modification time of the object that records it: of the log entry, or of the newest pack of a session. If it
 * has none, only times that a pruner wrote are compared with this pruner's clock.
 */
export class Ages {
  /** Whether {@link Ages.now} is the time of the store's clock. */
  readonly isStores: boolean;
  readonly #context: RepositoryContext;
  readonly #options: AbortOptions;
  /** Entries up to this number may have been deleted: what has their numbers now says nothing of their times. */
  floor = 0;
  #now: number;
  /** The store's time of the object of each log entry, by sequence number. */
  readonly #entries = new Map<number, Promise<number | undefined>>();

  private constructor(context: RepositoryContext, options: AbortOptions, storeNow: Date | undefined) {
    this.#context = context;
    this.#options = options;
    this.isStores = storeNow !== undefined;
    this.#now = storeNow?.getTime() ?? context.now();
  }

  /** Milliseconds since 1970, by the store's clock if it has one, otherwise by this host's. */
  get now(): number {
    return this.#now;
  }

  /** Reads the store's clock. @throws what the target throws */
  static async of(context: RepositoryContext, { signal }: AbortOptions): Promise<Ages> {
    // @mutation ages-are-the-stores
    return new Ages(context, { signal }, await context.target.storeTime?.({ signal }));
  }

  /**
   * Reads the store's clock again, before anything is fenced or deleted. Another server of the store may answer; the earliest
   * answer counts, so that one server whose clock is ahead makes no prune fence a session or delete a pack too early.
   */
  async lookAgain(): Promise<void> {
    if (!this.isStores) return;
    const now = await this.#context.target.storeTime?.(this.#options);
    if (now !== undefined) this.#now = Math.min(this.#now, now.getTime());
  }

  /** How long an open session has stored nothing. */
  async ofSession(session: Session, life: SessionLife | undefined): Promise<Age> {
    const { seq, dated } = session;
    if (!this.isStores) return this.#age(dated?.at);
    const opened = await this.#storeTime(dated?.seq ?? seq);
    const age = this.#age(opened ?? dated?.at);
    // Packs from the future show no life of a session that a collection has dated since.
    if (life?.isAhead === true && dated === undefined) return { ms: 0, mustBeDated: true };
    if (life?.newestAt === undefined) return age;
    const silentMs = Math.max(0, this.now - life.newestAt);
    return age.mustBeDated || silentMs >= age.ms ? age : { ms: silentMs, mustBeDated: false };
  }

  /** How long ago a session was fenced. */
  async ofFence({ seq, dated, fencedBy }: Session): Promise<Age> {
    const by = dated ?? fencedBy;
    const stored = this.isStores ? await this.#storeTime(by?.seq ?? seq) : undefined;
    // An `open` entry has the time of the host that took the volume over, a collection has the time of a pruner.
    const isPruners = dated !== undefined || (fencedBy !== undefined && fencedBy.owner === undefined);
    return this.#age(stored ?? (isPruners ? by?.at : undefined));
  }

  /** How long ago a collection was written. */
  async ofCollection({ seq, at }: { readonly seq: number; readonly at: number }): Promise<Age> {
    return this.#age((this.isStores ? await this.#storeTime(seq) : undefined) ?? at);
  }

  /** How long ago an object was written; `undefined` if the store does not say. */
  ofObject(modifiedAt: Date | undefined): number | undefined {
    return this.isStores && modifiedAt !== undefined ? Math.max(0, this.now - modifiedAt.getTime()) : undefined;
  }

  /** Whether a time of the store lies so far in the future that its clock must have been wrong. */
  isAhead(at: number): boolean {
    return at > this.now + TOLERANCE_MS;
  }

  #age(at: number | undefined): Age {
    if (at === undefined || this.isAhead(at)) return { ms: 0, mustBeDated: true };
    return { ms: Math.max(0, this.now - at), mustBeDated: false };
  }

  #storeTime(seq: number): Promise<number | undefined> {
    if (seq <= this.floor) return Promise.resolve(undefined);
    let time = this.#entries.get(seq);
    if (time === undefined) {
      time = this.#lookUp(seq);
      this.#entries.set(seq, time);
    }
    return time;
  }

  async #lookUp(seq: number): Promise<number | undefined> {
    const { target, format } = this.#context;
    if (format.mode === 'shared') {
      const info = await target.stat(entryKey(seq), this.#options);
      return info?.modifiedAt?.getTime();
    }
    // In single-writer mode the key ends in the entry's hash, which is not known here. Keys of checkpoints begin in the same way.
    for await (const { key, modifiedAt } of target.list(entryKey(seq), this.#options)) {
      if (parseLogKey(key)?.kind === 'entry') return modifiedAt?.getTime();
    }
    return undefined;
  }
}

export interface Age {
  /** Milliseconds, at least 0. */
  readonly ms: number;
  /** Whether the time is unknown or lies in the future, so that a collection has to date it. */
  readonly mustBeDated: boolean;
}

/** What the listing of a session's packs shows of its activity. */
export interface SessionLife {
  /** The time of the newest pack that does not lie in the future, by the store's clock. */
  readonly newestAt: number | undefined;
  /** Whether a pack lies in the future. */
  readonly isAhead: boolean;
}

/** The clocks of a store's servers differ a little, and some show whole seconds only. A time that is ahead by more is wrong. */
const TOLERANCE_MS = 3_600_000;

/** The collections that condemned packs or sessions which are not deleted yet. */
function condemningCollections(state: LogState): { readonly seq: number; readonly at: number }[] {
  const times = new Map<number, number>();
  for (const { seq, at } of state.condemned.values()) times.set(seq, at);
  for (const { seq, at } of state.condemnedSessions.values()) times.set(seq, at);
  return [...times].map(([seq, at]) => ({ seq, at }));
}

/** What a collection decides by the ages of things. */
export interface TimeDecisions {
  /** Open sessions to fence. */
  readonly fence: readonly number[];
  /** Fenced sessions that are kept for now: the next backup of their volumes adopts them (L12). */
  readonly keepFenced: ReadonlySet<number>;
  /** Sessions and collections that need a new date. */
  readonly redate: readonly number[];
}

/** What is needed to decide by ages. A wait of 0 ms is over at once, and needs no request. */
export interface Deciding {
  readonly context: RepositoryContext;
  readonly ages: Ages;
  readonly options: AbortOptions & {
    readonly graceMs: number;
    readonly keepFencedMs: number;
    readonly fenceAfterMs: number;
  };
}

const AT_A_TIME = 16;

/** Compares the age of every session and collection with how long it has to wait. */
export async function decideByAge(
  deciding: Deciding,
  state: LogState,
  lifeOf: (session: number) => SessionLife | undefined,
): Promise<TimeDecisions> {
  const { ages, options } = deciding;
  const { graceMs, keepFencedMs, signal } = options;
  await ages.lookAgain();
  const fence = new Set<number>();
  const keepFenced = new Set<number>();
  const redate = new Set<number>();
  const waits = (seq: number, age: Age, waitMs: number) => {
    if (age.ms >= waitMs) return false;
    // @mutation what-lies-ahead-is-redated
    if (age.mustBeDated) redate.add(seq);
    return true;
  };
  const lookAtOpen = async (session: Session) => {
    if (await isSilent(deciding, session, lifeOf(session.seq), waits)) fence.add(session.seq);
  };
  const lookAtFenced = async (session: Session) => {
    // What a repacker has left behind, or a commit has made use of, is never adopted.
    if (keepFencedMs === 0 || session.volumes.size === 0) return;
    if (waits(session.seq, await ages.ofFence(session), keepFencedMs)) keepFenced.add(session.seq);
  };
  const lookAtCollection = async (collection: { readonly seq: number; readonly at: number }) => {
    if (graceMs > 0) waits(collection.seq, await ages.ofCollection(collection), graceMs);
  };
  const { open, dead } = openSessions(deciding, state);
  for (const seq of dead) fence.add(seq);
  for await (const _ of mapConcurrently(open, lookAtOpen, AT_A_TIME)) signal?.throwIfAborted();
  for await (const _ of mapConcurrently(state.fenced.values(), lookAtFenced, AT_A_TIME)) signal?.throwIfAborted();
  for await (const _ of mapConcurrently(condemningCollections(state), lookAtCollection, AT_A_TIME)) {
    signal?.throwIfAborted();
  }
  return { fence: [...fence], keepFenced, redate: [...redate] };
}

/** A dead repacker is fenced at once, because its session will never go on. Sessions of this process are left alone. */
function openSessions({ context }: Deciding, state: LogState): { open: Session[]; dead: number[] } {
  const open: Session[] = [];
  const dead: number[] = [];
  for (const session of state.sessions.values()) {
    const liveness = livenessOf(session, context.format.repositoryId, context.owner);
    if (liveness === 'dead' && session.volumes.size === 0) dead.push(session.seq);
    else if (liveness !== 'own') open.push(session);
  }
  return { open, dead };
}

async function isSilent(
  { ages, options: { fenceAfterMs } }: Deciding,
  session: Session,
  life: SessionLife | undefined,
  waits: (seq: number, age: Age, waitMs: number) => boolean,
): Promise<boolean> {
  if (fenceAfterMs === 0) return true;
  const isActive = ages.isStores && life?.newestAt !== undefined && ages.now - life.newestAt < fenceAfterMs;
  if (isActive) return false; // Its other times do not matter then, and need no request.
  return !waits(session.seq, await ages.ofSession(session, life), fenceAfterMs);
}
