import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { ObjectInfo } from '../../targets/cloud-target.ts';
import { MAX_CHECKPOINT_BYTES } from '../format/checkpoint-codec.ts';
import { logCorrupt } from '../format/decode-values.ts';
import {
  CATALOGUE_PREFIX,
  LOG_PREFIX,
  PACKS_PREFIX,
  parseLogKey,
  parsePackKey,
  parsePageKey,
} from '../format/object-keys.ts';
import { type LogWeights, tailLength } from './checkpoint-due.ts';
import {
  fetchCheckpoint,
  fetchEntry,
  type LogSource,
  type NamedObject,
  tagsOf,
  truncated,
  truncatedBelow,
} from './log-source.ts';

/** The number of keys in one page of an object store's listing. */
const PAGE_KEYS = 1000;
/** The most keys of the other mode that are kept. */
const OTHERS_KEPT = 8;
/** The most entries below the newest one that are requested at the same time. */
const MOST_AHEAD = 8;

/** An object with the key of an entry. Only reading it shows what it is. */
export interface ListedEntry extends NamedObject {
  /** Changes when the object is replaced, at least if its time does; `undefined` if the store has nothing of the kind. */
  readonly tag: string | undefined;
}

interface ReadListingOptions extends AbortOptions {
  /** Reads down to this number, and from there to the next checkpoint. @defaultValue one page */
  readonly through?: number | undefined;
  /** Reads one page and no more: it may not be known yet which keys are entries. @defaultValue false */
  readonly onlyOnePage?: boolean | undefined;
}

/** The newest part of the log as listings show it, read page by page: newer entries sort first. */
export class LogListing {
  /** Number of the newest object with the key of an entry; 0 if there is none. */
  newest = 0;
  /** Numbers of the checkpoints, newest first. */
  readonly checkpoints: number[] = [];
  /** Objects with keys of entries of the other mode, the newest of them. They are not part of this log. */
  readonly ofOtherMode: (NamedObject & { readonly seq: number })[] = [];
  /** The objects with the key of each checkpoint. */
  readonly #checkpoints = new Map<number, NamedObject[]>();
  readonly #source: Pick<LogSource, 'target' | 'mode'>;
  /** By number, newest first. */
  readonly #entries = new Map<number, ListedEntry[]>();
  /** The lowest number of any object that was listed. */
  #lowest = Infinity;
  #after: string | undefined;
  #hasMore = true;
  #isInOrder = true;

  private constructor(source: Pick<LogSource, 'target' | 'mode'>) {
    this.#source = source;
  }

  /** Reads from the newest end to the first page that shows an entry. This needs no encryption key. */
  static async read(source: Pick<LogSource, 'target' | 'mode'>, options: ReadListingOptions = {}): Promise<LogListing> {
    const listing = new LogListing(source);
    await listing.readMore(options);
    if (options.onlyOnePage !== true) await listing.reachNewest(options);
    return listing;
  }

  /**
   * Reads on to the newest entry, past any number of other objects that sort before it (decision 085). A log that was not
   * found would count as empty, and then every pack as garbage.
   */
  async reachNewest(options: ReadListingOptions = {}): Promise<void> {
    while (this.#hasMore && this.newest === 0) await this.readMore(options);
  }

  /** Whether there are older objects than those that were listed. */
  get hasMore(): boolean {
    return this.#hasMore;
  }

  /** Numbers for which there is an object with the key of an entry, newest first. */
  get numbers(): number[] {
    return [...this.#entries.keys()].sort((one, other) => other - one);
  }

  /** The objects with a key of this checkpoint. In single-writer mode there may be several (P13). */
  checkpointsAt(seq: number): readonly NamedObject[] {
    return this.#checkpoints.get(seq) ?? [];
  }

  /** Leaves out objects that are no checkpoints, although their keys say so. */
  discardCheckpoint(seq: number): void {
    const at = this.checkpoints.indexOf(seq);
    if (at >= 0) this.checkpoints.splice(at, 1);
  }

  /** The listed objects with a key of this entry. In single-writer mode there may be several. */
  entriesAt(seq: number): readonly ListedEntry[] {
    return this.#entries.get(seq) ?? [];
  }

  /** The tag of the object with the key of this entry, if there is only one. */
  tagOf(seq: number): string | undefined {
    const [only, ...others] = this.entriesAt(seq);
    return others.length === 0 ? only?.tag : undefined;
  }

  /** Finds an entry by its key, and reads more of the listing if that is needed. */
  async find(seq: number, key: string, options: AbortOptions = {}): Promise<ListedEntry | undefined> {
    await this.reach(seq, options);
    return this.entriesAt(seq).find((entry) => entry.key === key);
  }

  /** Reads on until everything down to this number is listed. */
  async reach(seq: number, { signal }: AbortOptions = {}): Promise<void> {
    while (this.#hasMore && this.#lowest >= seq) await this.readMore({ signal, through: seq });
  }

  /** Reads the next page, or with `through` as much as it asks for. */
  async readMore({ signal, through }: ReadListingOptions = {}): Promise<void> {
    let count = 0;
    for await (const info of this.#source.target.list(LOG_PREFIX, { after: this.#after, signal })) {
      this.#add(info);
      // L4: what a store lists out of order is not known to be the newest part before all of it was read.
      if (this.#after !== undefined && info.key <= this.#after) this.#isInOrder = false;
      this.#after = info.key;
      if (!this.#isInOrder) continue;
      if (++count === PAGE_KEYS || (through !== undefined && this.#isPast(through))) return;
    }
    this.#hasMore = false;
    this.checkpoints.sort((one, other) => other - one);
  }

  /** The newest checkpoint up to a number; 0 if there is none. */
  checkpointBelow(top: number): number {
    return this.checkpoints.find((seq) => seq <= top) ?? 0;
  }

  /** What the newest checkpoint up to a number weighs, and the entries above it. */
  weightsAt(top: number): LogWeights {
    const checkpoint = this.checkpointBelow(top);
    let sinceBytes = 0;
    for (let seq = top; seq > checkpoint; seq--) for (const { size } of this.entriesAt(seq)) sinceBytes += size;
    return { checkpointBytes: this.checkpointsAt(checkpoint)[0]?.size ?? 0, sinceBytes };
  }

  /**
   * The first of the entries that have to be read from one number down to another, if tails are as long as writers make them. They
   * end where a number is missing, since the chain does too (L4): a stray object may be named as an entry of any number, up to 2^52.
   */
  entriesAhead(from: number, through: number): { readonly seq: number; readonly named: ListedEntry }[] {
    const found: { seq: number; named: ListedEntry }[] = [];
    for (let seq = from; seq >= through && found.length < MOST_AHEAD; seq = this.belowTail(seq)) {
      const [named, ...others] = this.entriesAt(seq);
      if (named === undefined) break;
      if (others.length === 0) found.push({ seq, named });
    }
    return found;
  }

  /** The number of the next entry to be read below one whose tail is as long as writers make it. */
  belowTail(seq: number): number {
    return Math.max(seq - tailLength(seq) - 1, this.checkpointBelow(seq - 1));
  }

  /** Reads on until a checkpoint is listed with everything above it, or until the end. */
  async reachCheckpoint(options: AbortOptions): Promise<void> {
    while (this.#hasMore && this.#lowest > this.checkpointBelow(this.newest)) await this.readMore(options);
  }

  /**
   * Checks that no number is missing from `top` down to the one above the newest checkpoint below it (L4). This shows that a store
   * was swapped for another one, or that the disk of a folder is gone. The entry of the checkpoint itself may have been deleted.
   *
   * @throws `LOG_TRUNCATED`
   */
  checkWhole(top: number): void {
    const lowest = this.#hasMore ? this.#lowest + 1 : 1; // The entry of the lowest number may be on the next page.
    for (let seq = top; seq >= Math.max(lowest, this.checkpointBelow(top) + 1); seq--) {
      // @mutation listing-is-whole
      if (!this.#entries.has(seq)) throw truncatedBelow(seq);
    }
  }

  /** Whether everything down to `through` and down to the newest checkpoint was listed. */
  #isPast(through: number): boolean {
    const checkpoint = this.checkpoints.find((seq) => seq <= this.newest);
    return checkpoint !== undefined && this.#lowest < Math.min(through, checkpoint);
  }

  #add(info: ObjectInfo): void {
    const { key, size } = info;
    const parsed = parseLogKey(key);
    if (parsed === undefined) return;
    const { seq } = parsed;
    this.#lowest = Math.min(this.#lowest, seq);
    const isOfOtherMode = (parsed.suffix === undefined) !== (this.#source.mode === 'shared');
    if (parsed.kind === 'checkpoint') {
      if (!isOfOtherMode && size > 0 && size <= MAX_CHECKPOINT_BYTES) this.#addCheckpoint(seq, { key, size });
      return;
    }
    if (isOfOtherMode) {
      if (this.ofOtherMode.length < OTHERS_KEPT) this.ofOtherMode.push({ key, size, seq });
      return;
    }
    const entries = this.#entries.get(seq) ?? [];
    entries.push({ key, size, ...tagsOf(info) });
    this.#entries.set(seq, entries);
    this.newest = Math.max(this.newest, seq);
  }

  #addCheckpoint(seq: number, named: NamedObject): void {
    const before = this.#checkpoints.get(seq);
    if (before === undefined) this.checkpoints.push(seq);
    this.#checkpoints.set(seq, [...(before ?? []), named]);
  }
}

/**
 * Checks that no checkpoint is ahead of the newest entry: its writer had read entries that are not there. An object that only
 * has the key of a checkpoint and can't be read proves nothing.
 *
 * @throws `LOG_TRUNCATED`, and what the target throws
 */
export async function checkNotAhead(source: LogSource, listing: LogListing, options: AbortOptions): Promise<void> {
  for (const seq of listing.checkpoints.filter((each) => each > listing.newest)) {
    for (const named of listing.checkpointsAt(seq)) {
      if ((await fetchCheckpoint(source, seq, named, options)) !== undefined) throw truncated(seq);
    }
    listing.discardCheckpoint(seq);
  }
}

/**
 * Checks that an empty log is empty. If it has entries that are named as in the other mode, `format` is not the one that they
 * were written by, and taking the log for empty would make garbage of every pack. An object that is no entry proves nothing.
 *
 * @throws `LOG_CORRUPT`, and what the target throws
 */
export async function checkMode(source: LogSource, listing: LogListing, options: AbortOptions): Promise<void> {
  if (listing.newest > 0) return;
  const mode = source.mode === 'shared' ? 'single-writer' : 'shared';
  for (const { seq, ...named } of listing.ofOtherMode) {
    const entry = await fetchEntry({ ...source, mode }, seq, named, options).catch((error: unknown) => {
      if (!BackupError.is(error, 'LOG_CORRUPT')) throw error;
      return undefined;
    });
    // @mutation mode-is-that-of-the-log
    if (entry !== undefined) {
      const what = `${named.key} is an entry of a repository in ${mode} mode`;
      throw logCorrupt(
        `${what}, and the object \`format\` says ${source.mode}: restore \`format\` from a copy of the store`,
      );
    }
  }
}

/**
 * Checks that nothing was ever written where the log is empty: packs and pages are put only after an entry. Taking the log for empty
 * would make garbage of them.
 *
 * @throws `LOG_TRUNCATED`, and what the target throws
 */
export async function checkNeverWritten({ target }: LogSource, { newest }: LogListing, options: AbortOptions) {
  if (newest > 0) return;
  for (const prefix of [PACKS_PREFIX, CATALOGUE_PREFIX]) {
    for await (const { key } of target.list(prefix, { signal: options.signal })) {
      if ((parsePackKey(key) ?? parsePageKey(key)) === undefined) continue;
      // @mutation empty-log-has-no-packs
      throw new BackupError(
        'LOG_TRUNCATED',
        `the log has no entries, and ${key} is there, which is put only after one: restore the objects under ${LOG_PREFIX} from a copy of the store`,
      );
    }
  }
}
