import type { AbortOptions } from '../../common/abort.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { LogState, Session } from '../format/log-state.ts';
import { entryKey, LOG_PREFIX, parseLogKey } from '../format/object-keys.ts';

/**
 * How long ago things happened, for deciding what is tried (P8). No age here is the difference of two hosts' clocks:
 *
 * - Where the store has a clock, what happened has the store's time of the object that says so: the log entry, or the newest
 *   pack of a session. Now is what the store's clock shows.
 * - Where it has none, only times that a pruner wrote are compared with this pruner's clock. What another host dated counts
 *   from the first collection that saw it.
 *
 * A time that lies ahead, and one that is not known, is 0 old, and a collection has to date it anew: from then on it counts
 * from that entry, whichever process prunes next.
 */
export class Ages {
  /** Whether {@link Ages.now} is the store's. */
  readonly isStores: boolean;
  readonly #context: RepositoryContext;
  readonly #options: AbortOptions;
  #now: number;
  /** By number of an entry: the store's time of its object. */
  readonly #entries = new Map<number, Promise<number | undefined>>();

  private constructor(context: RepositoryContext, options: AbortOptions, storeNow: Date | undefined) {
    this.#context = context;
    this.#options = options;
    this.isStores = storeNow !== undefined;
    this.#now = storeNow?.getTime() ?? context.now();
  }

  /** Milliseconds since 1970, by the store's clock where it has one, else by this host's. */
  get now(): number {
    return this.#now;
  }

  /** @throws what the target gives */
  static async of(context: RepositoryContext, { signal }: AbortOptions): Promise<Ages> {
    // @mutation ages-are-the-stores
    return new Ages(context, { signal }, await context.target.storeTime?.({ signal }));
  }

  /**
   * Asks the store's clock again, before anything is fenced or deleted. Another of its servers may answer: the earliest answer
   * holds, so that one server whose clock is ahead fences nobody and frees nothing early.
   */
  async lookAgain(): Promise<void> {
    if (!this.isStores) return;
    const now = await this.#context.target.storeTime?.(this.#options);
    if (now !== undefined) this.#now = Math.min(this.#now, now.getTime());
  }

  /** Of an open session: how long it has been silent. */
  async ofSession(session: Session, life: SessionLife | undefined): Promise<Age> {
    const { seq, dated } = session;
    if (!this.isStores) return this.#age(dated?.at);
    const opened = await this.#storeTime(dated?.seq ?? seq);
    const age = this.#age(opened ?? dated?.at);
    // Packs from the future are no sign of life once the session was dated after them.
    if (life?.isAhead === true && dated === undefined) return { ms: 0, mustBeDated: true };
    if (life?.newestAt === undefined) return age;
    const silentMs = Math.max(0, this.now - life.newestAt);
    return age.mustBeDated || silentMs >= age.ms ? age : { ms: silentMs, mustBeDated: false };
  }

  /** Of a fenced session: how long ago it was given up. */
  async ofFence({ seq, dated, fencedBy }: Session): Promise<Age> {
    const by = dated ?? fencedBy;
    const stored = this.isStores ? await this.#storeTime(by?.seq ?? seq) : undefined;
    // An `open` has the time of the host that took the volume over; a collection has a pruner's.
    const isPruners = dated !== undefined || (fencedBy !== undefined && fencedBy.owner === undefined);
    return this.#age(stored ?? (isPruners ? by?.at : undefined));
  }

  /** How long ago a collection condemned something. */
  async ofCollection({ seq, at }: { readonly seq: number; readonly at: number }): Promise<Age> {
    return this.#age((this.isStores ? await this.#storeTime(seq) : undefined) ?? at);
  }

  /** How long ago an object was written, `undefined` where the store does not say. */
  ofObject(modifiedAt: Date | undefined): number | undefined {
    return this.isStores && modifiedAt !== undefined ? Math.max(0, this.now - modifiedAt.getTime()) : undefined;
  }

  /** Whether a time of the store lies so far ahead that its clock must have been wrong. */
  isAhead(at: number): boolean {
    return at > this.now + TOLERANCE_MS;
  }

  #age(at: number | undefined): Age {
    if (at === undefined || this.isAhead(at)) return { ms: 0, mustBeDated: true };
    return { ms: Math.max(0, this.now - at), mustBeDated: false };
  }

  #storeTime(seq: number): Promise<number | undefined> {
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
    // In single-writer mode the key ends in what only the entry says. Its checkpoint begins alike.
    for await (const { key, modifiedAt } of target.list(entryKey(seq), this.#options)) {
      if (parseLogKey(key)?.kind === 'entry' && key.startsWith(LOG_PREFIX)) return modifiedAt?.getTime();
    }
    return undefined;
  }
}

/** How old something is. */
export interface Age {
  /** At least 0. */
  readonly ms: number;
  /** Whether its time is not known, or lies ahead: it counts from the collection that dates it. */
  readonly mustBeDated: boolean;
}

/** What the listing of a session's packs says of its being alive. */
export interface SessionLife {
  /** By the store's clock: the newest of its packs that does not lie ahead. */
  readonly newestAt: number | undefined;
  /** Whether one lies ahead. */
  readonly isAhead: boolean;
}

/** The servers of one store differ a little, and some tell whole seconds only. What is ahead by more was dated wrongly. */
const TOLERANCE_MS = 3_600_000;

/** Numbers of the collections that condemned what is not gone yet, with their times. */
export function condemningCollections(state: LogState): { readonly seq: number; readonly at: number }[] {
  const times = new Map<number, number>();
  for (const { seq, at } of state.condemned.values()) times.set(seq, at);
  for (const { seq, at } of state.condemnedSessions.values()) times.set(seq, at);
  return [...times].map(([seq, at]) => ({ seq, at }));
}
