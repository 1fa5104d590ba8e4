/** Readers followed at a time. */
const MAX_STREAMS = 8;
/** Reads of one reader may overtake each other by so many blocks. */
const SLACK_BLOCKS = 16;
/** Blocks ahead at first; twice as many each time that they were right. */
const FIRST_AHEAD_BLOCKS = 4;

interface Stream {
  /** The block after the last one that was read. */
  next: number;
  /** The block after the last one that was read ahead. */
  aheadEnd: number;
  aheadBlocks: number;
}

/** Finds reads that follow one another, of several readers at once, and says what to read ahead for them. */
export class ReadStreams {
  readonly #blockCount: number;
  readonly #mostAhead: number;
  /** The most recently used last. */
  readonly #streams: Stream[] = [];

  /** @param mostAhead - blocks ahead of one reader; 0: none */
  constructor(blockCount: number, mostAhead: number) {
    this.#blockCount = blockCount;
    this.#mostAhead = mostAhead;
  }

  /**
   * Some blocks are being read.
   *
   * @param mayReadAhead - if not, it will be time when the next ones are read
   * @returns the blocks to read ahead, if it is time to
   */
  follow(
    first: number,
    count: number,
    mayReadAhead = true,
  ): { readonly first: number; readonly count: number } | undefined {
    if (this.#mostAhead === 0) return undefined;
    const end = first + count;
    const at = this.#streams.findIndex(
      ({ next, aheadEnd }) => first >= next - SLACK_BLOCKS && first <= Math.max(next, aheadEnd),
    );
    if (at < 0) {
      this.#streams.push({ next: end, aheadEnd: end, aheadBlocks: FIRST_AHEAD_BLOCKS });
      if (this.#streams.length > MAX_STREAMS) this.#streams.shift();
      return undefined;
    }
    const [stream] = this.#streams.splice(at, 1) as [Stream];
    this.#streams.push(stream);
    if (end <= stream.next) return undefined; // The same block again, or one that was overtaken.
    stream.next = end;
    stream.aheadEnd = Math.max(stream.aheadEnd, end);
    const ahead = Math.min(stream.aheadBlocks, this.#mostAhead);
    // Half of it at a time: a block a time would be a request a time.
    if (!mayReadAhead || stream.aheadEnd - end > ahead / 2) return undefined;
    const wanted = { first: stream.aheadEnd, count: Math.min(end + ahead, this.#blockCount) - stream.aheadEnd };
    if (wanted.count <= 0) return undefined;
    stream.aheadEnd += wanted.count;
    stream.aheadBlocks = Math.min(stream.aheadBlocks * 2, this.#mostAhead);
    return wanted;
  }
}
