/** After so many minutes without a write, a region is cleared. Rule C2. */
const QUIET_MINUTES = 10;
const UNMARKED = 0;
const MARKED = 1;
const COMING = 2;
/** From so many regions on, the memory is searched as a whole. */
const MANY_REGIONS = 64;

/** Regions of which the marks are being made durable. */
interface Batch {
  readonly first: number;
  readonly last: number;
  readonly done: Promise<void>;
}

/** Neighbouring regions. */
export interface RegionRun {
  readonly first: number;
  readonly count: number;
}

/**
 * Which regions of a volume may have been written since their epochs were recorded. Rule C1: a region is marked, durably, before the
 * first write to it is issued.
 */
export class RegionMarks {
  /** Blocks of a region. */
  readonly regionBlocks: number;
  readonly #shift: number;
  /** By region. Every write asks this. */
  readonly #marks: Uint8Array;
  /** By region: the minutes since the last write, at most, and 1. 0: it was written in this minute, or is not marked. */
  readonly #quiet: Uint8Array;
  readonly #batches = new Set<Batch>();

  /**
   * @param regionBlocks - a power of two
   * @param marked - by region: 1 for those that are marked
   */
  constructor(regionBlocks: number, marked: Uint8Array) {
    this.regionBlocks = regionBlocks;
    this.#shift = Math.log2(regionBlocks);
    this.#marks = marked.slice();
    this.#quiet = new Uint8Array(marked.length);
  }

  /** Whether all regions of these blocks are marked; if so, they count as written now. */
  areMarked(first: number, last: number): boolean {
    const [from, end] = [first >>> this.#shift, last >>> this.#shift];
    if (end - from > MANY_REGIONS) {
      const part = this.#marks.subarray(from, end + 1);
      if (part.includes(UNMARKED) || part.includes(COMING)) return false;
      this.#quiet.fill(0, from, end + 1);
      return true;
    }
    for (let region = from; region <= end; region++) {
      if (this.#marks[region] !== MARKED) return false;
      this.#quiet[region] = 0;
    }
    return true;
  }

  /** Regions of these blocks that are not marked and whose mark is not on its way: the first ones, at most `most`. */
  unmarked(first: number, last: number, most: number): number[] {
    const regions: number[] = [];
    const end = last >>> this.#shift;
    let region = this.#marks.indexOf(UNMARKED, first >>> this.#shift);
    while (region >= 0 && region <= end && regions.length < most) {
      regions.push(region);
      region = this.#marks[region + 1] === UNMARKED ? region + 1 : this.#marks.indexOf(UNMARKED, region + 1);
    }
    return regions;
  }

  /** The marks of these regions, in ascending order, are being made durable. */
  coming(regions: readonly number[], durable: Promise<void>): void {
    for (const region of regions) this.#marks[region] = COMING;
    const done = durable.then(
      () => this.#end(regions, MARKED),
      (error: unknown) => {
        this.#end(regions, UNMARKED);
        throw error;
      },
    );
    const batch = { first: regions[0] as number, last: regions.at(-1) as number, done };
    this.#batches.add(batch);
    done.catch(() => {}).finally(() => this.#batches.delete(batch)); // The writes that wait for it see the error.
  }

  marked(regions: readonly number[]): void {
    for (const region of regions) {
      this.#marks[region] = MARKED;
      this.#quiet[region] = 0;
    }
  }

  /** Resolves when marks of these blocks that are on their way are durable. */
  async arrived(first: number, last: number): Promise<void> {
    const [from, to] = [first >>> this.#shift, last >>> this.#shift];
    await Promise.all(
      [...this.#batches].filter((batch) => batch.first <= to && batch.last >= from).map(({ done }) => done),
    );
  }

  /** All regions that are marked, also those of which the mark is on its way. */
  *runs(): Generator<RegionRun> {
    const marks = this.#marks;
    for (let at = 0; at < marks.length; ) {
      const found = [marks.indexOf(MARKED, at), marks.indexOf(COMING, at)].filter((each) => each >= 0);
      if (found.length === 0) return;
      const first = Math.min(...found);
      const end = marks.indexOf(UNMARKED, first);
      at = end < 0 ? marks.length : end;
      yield { first, count: at - first };
    }
  }

  /** Whether any region is marked. */
  get areAny(): boolean {
    return this.#batches.size > 0 || this.#marks.includes(MARKED);
  }

  clear(region: number): void {
    this.#marks[region] = UNMARKED;
  }

  /** A minute has passed. @returns the regions that have been quiet for long enough to be cleared */
  minute(): number[] {
    const quiet: number[] = [];
    for (let region = this.#marks.indexOf(MARKED); region >= 0; region = this.#marks.indexOf(MARKED, region + 1)) {
      const minutes = this.#quiet[region] as number;
      if (minutes >= QUIET_MINUTES) quiet.push(region);
      else this.#quiet[region] = minutes + 1;
    }
    return quiet;
  }

  /** The blocks of a region. */
  blocksOf(region: number, blockCount: number): { first: number; end: number } {
    const first = region * this.regionBlocks;
    return { first, end: Math.min(blockCount, first + this.regionBlocks) };
  }

  #end(regions: readonly number[], now: typeof MARKED | typeof UNMARKED): void {
    for (const region of regions) {
      if (this.#marks[region] !== COMING) continue; // The synchronous door has marked it meanwhile.
      this.#marks[region] = now;
      this.#quiet[region] = 0;
    }
  }
}
