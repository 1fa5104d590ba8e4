import type { AbortOptions } from '../../common/abort.ts';
import type { ObjectInfo } from '../../targets/cloud-target.ts';
import { MAX_CHECKPOINT_BYTES } from '../format/checkpoint-codec.ts';
import { checkpointKey, LOG_PREFIX, parseLogKey } from '../format/object-keys.ts';
import { type LogSource, truncated } from './log-source.ts';

/** As many as one page of an object store's listing holds. */
const PAGE_KEYS = 1000;

/** An object as a listing shows it. */
export interface NamedObject {
  readonly key: string;
  /** Bytes. */
  readonly size: number;
}

/** An object that is named as an entry. What it holds only reading it shows. */
export interface ListedEntry extends NamedObject {
  /** What changes when the object is replaced by another one of the same size; `undefined` where the store tells nothing. */
  readonly tag: string | undefined;
}

/** How far a listing is read. */
export interface ReadListingOptions extends AbortOptions {
  /** The number down to which entries are of interest, and from there to the next checkpoint. @defaultValue a page */
  readonly through?: number | undefined;
  /** One page and no more, for when it is not known yet which keys are entries. @defaultValue false */
  readonly onlyOnePage?: boolean | undefined;
}

/** The newest end of the log as listings show it, page by page. */
export class LogListing {
  /** Sequence of the newest object that is named as an entry; 0 where there is none. */
  newest = 0;
  /** Sequences of checkpoints, newest first. */
  readonly checkpoints: number[] = [];
  /** Bytes of each of them. */
  readonly #checkpointBytes = new Map<number, number>();
  readonly #source: Pick<LogSource, 'target' | 'mode'>;
  /** By number, newest first. */
  readonly #entries = new Map<number, ListedEntry[]>();
  /** The lowest number of any object that was listed. */
  #lowest = Infinity;
  #after: string | undefined;
  #hasMore = true;

  private constructor(source: Pick<LogSource, 'target' | 'mode'>) {
    this.#source = source;
  }

  /**
   * From the beginning to the first page that shows an entry. It needs no key, so it may be read beside the other things
   * that opening reads.
   */
  static async read(source: Pick<LogSource, 'target' | 'mode'>, options: ReadListingOptions = {}): Promise<LogListing> {
    const listing = new LogListing(source);
    await listing.readMore(options);
    if (options.onlyOnePage !== true) await listing.reachNewest(options);
    return listing;
  }

  /**
   * Reads on to the newest entry. Whatever somebody has put before it, however much: a log that does not show is taken for
   * one that is empty, and then nothing that the packs hold is needed by anybody.
   */
  async reachNewest(options: ReadListingOptions = {}): Promise<void> {
    while (this.#hasMore && this.newest === 0) await this.readMore(options);
  }

  /** Whether there are older objects than those that were listed. */
  get hasMore(): boolean {
    return this.#hasMore;
  }

  /** Numbers at which objects are named as entries, newest first. */
  get numbers(): number[] {
    return [...this.#entries.keys()].sort((one, other) => other - one);
  }

  /** What is named as a checkpoint of this number. */
  checkpointAt(seq: number): NamedObject {
    return { key: checkpointKey(seq), size: this.#checkpointBytes.get(seq) ?? 0 };
  }

  /** An object that is named as a checkpoint, and is none. */
  discardCheckpoint(seq: number): void {
    const at = this.checkpoints.indexOf(seq);
    if (at >= 0) this.checkpoints.splice(at, 1);
  }

  /** What is named as an entry of this number, as far as it was listed. */
  entriesAt(seq: number): readonly ListedEntry[] {
    return this.#entries.get(seq) ?? [];
  }

  /** Of the only object that is named as this entry. */
  tagOf(seq: number): string | undefined {
    const [only, ...others] = this.entriesAt(seq);
    return others.length === 0 ? only?.tag : undefined;
  }

  /** An entry by its name, reading on where the listing has not come to it. */
  async find(seq: number, key: string, options: AbortOptions = {}): Promise<ListedEntry | undefined> {
    await this.reach(seq, options);
    return this.entriesAt(seq).find((entry) => entry.key === key);
  }

  /** Reads on until everything down to a number was listed. */
  async reach(seq: number, { signal }: AbortOptions = {}): Promise<void> {
    while (this.#hasMore && this.#lowest >= seq) await this.readMore({ signal, through: seq });
  }

  async readMore({ signal, through }: ReadListingOptions = {}): Promise<void> {
    let count = 0;
    for await (const info of this.#source.target.list(LOG_PREFIX, { after: this.#after, signal })) {
      this.#add(info);
      this.#after = info.key;
      if (++count === PAGE_KEYS || (through !== undefined && this.#isPast(through))) return;
    }
    this.#hasMore = false;
  }

  /**
   * That no number is missing from `top` down to the newest checkpoint below it, or as far as was listed: a store
   * that was swapped for another, or a folder whose disk is gone, shows itself there.
   *
   * @throws `LOG_TRUNCATED`
   */
  checkWhole(top: number): void {
    const lowest = this.#hasMore ? this.#lowest + 1 : 1; // Of the lowest one, the entry may be on the next page.
    const checkpoint = this.checkpoints.find((seq) => seq <= top) ?? 0;
    for (let seq = top; seq >= Math.max(lowest, checkpoint, 1); seq--) {
      if (!this.#entries.has(seq)) throw truncated(seq);
    }
  }

  /** Whether everything from `through` up was listed, and from the newest checkpoint up. */
  #isPast(through: number): boolean {
    const checkpoint = this.checkpoints.find((seq) => seq <= this.newest);
    return checkpoint !== undefined && this.#lowest < Math.min(through, checkpoint);
  }

  #add({ key, size, modifiedAt, sha256 }: ObjectInfo): void {
    const parsed = parseLogKey(key);
    if (parsed === undefined) return;
    const { seq } = parsed;
    this.#lowest = Math.min(this.#lowest, seq);
    if (parsed.kind === 'checkpoint') {
      if (size === 0 || size > MAX_CHECKPOINT_BYTES) return;
      this.checkpoints.push(seq);
      this.#checkpointBytes.set(seq, size);
      return;
    }
    // Keys of the other mode are not this repository's log.
    if ((parsed.suffix === undefined) !== (this.#source.mode === 'shared')) return;
    const entries = this.#entries.get(seq) ?? [];
    entries.push({ key, size, tag: sha256 ?? modifiedAt?.toISOString() });
    this.#entries.set(seq, entries);
    this.newest = Math.max(this.newest, seq);
  }
}
