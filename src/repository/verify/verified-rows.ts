import { StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import type { PackName } from '../format/record.ts';

/** The body of `cache/verified`, kept as its bytes: `docs/FORMAT.md`, section 10. There may be 2^21 rows, so they are gone through in steps. */

const VERSION = 1;
/** 8 bytes of the pack's random part, u32 seconds since 1970. */
const ROW_BYTES = 12;
const NAME_DIGITS = 16;
export const MAX_ROWS = 2 ** 21;

/** Times by {@link nameOf} of packs. */
export type Times = ReadonlyMap<string, number>;

/** The first 8 bytes of a pack's name, as hex digits: what it goes by here. */
export function nameOf({ random }: PackName): string {
  return random.slice(0, NAME_DIGITS);
}

/** Rows that ascend by name. */
export class VerifiedRows {
  static readonly EMPTY = new VerifiedRows(Buffer.of(VERSION));

  /** As it is stored. */
  readonly body: Buffer;
  readonly #count: number;

  private constructor(body: Buffer) {
    this.body = body;
    this.#count = (body.length - 1) / ROW_BYTES;
  }

  /** What is not understood is nothing. */
  static *reading(bytes: Uint8Array): Steps<VerifiedRows> {
    const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const rows = new VerifiedRows(body);
    if (body[0] !== VERSION || !Number.isInteger(rows.#count)) return VerifiedRows.EMPTY;
    const steps = new StepCounter();
    for (let row = 1; row < rows.#count; row++) {
      if (rows.#compare(row - 1, rows.#high(row), rows.#low(row)) >= 0) return VerifiedRows.EMPTY;
      if (steps.isDue()) yield;
    }
    return rows;
  }

  /** Seconds since 1970; 0 for never. */
  of(pack: PackName): number {
    const row = this.#find(nameOf(pack));
    return row === undefined ? 0 : this.#seconds(row);
  }

  /** Rows of those packs that are `there`, with the later time of each. What `noted` has and the rows have not is added. */
  *with(noted: Times, there: Iterable<PackName>): Steps<VerifiedRows> {
    const stays = new Uint8Array(this.#count);
    const added = new Set<string>();
    const steps = new StepCounter();
    for (const pack of there) {
      const name = nameOf(pack);
      const row = this.#find(name);
      if (row !== undefined) stays[row] = 1;
      else if (noted.has(name)) added.add(name);
      if (steps.isDue()) yield;
    }
    const news = [...added].sort();
    const body = Buffer.alloc(1 + (this.#count + news.length) * ROW_BYTES);
    body[0] = VERSION;
    let end = 1;
    const add = (name: string, seconds: number) => {
      body.write(name, end, 'hex');
      body.writeUInt32LE(Math.min(Math.max(seconds, noted.get(name) ?? 0), 2 ** 32 - 1), end + 8);
      end += ROW_BYTES;
    };
    let next = 0;
    for (let row = 0; row < this.#count; row++) {
      const name = this.#name(row);
      for (; next < news.length && (news[next] as string) < name; next++) add(news[next] as string, 0);
      if (stays[row] === 1) add(name, this.#seconds(row));
      if (steps.isDue()) yield;
    }
    for (; next < news.length; next++) add(news[next] as string, 0);
    return new VerifiedRows(body.subarray(0, Math.min(end, 1 + MAX_ROWS * ROW_BYTES)));
  }

  #find(name: string): number | undefined {
    const high = Number.parseInt(name.slice(0, 8), 16);
    const low = Number.parseInt(name.slice(8), 16);
    let first = 0;
    let end = this.#count;
    while (first < end) {
      const middle = (first + end) >>> 1;
      if (this.#compare(middle, high, low) < 0) first = middle + 1;
      else end = middle;
    }
    return first < this.#count && this.#compare(first, high, low) === 0 ? first : undefined;
  }

  #compare(row: number, high: number, low: number): number {
    return this.#high(row) - high || this.#low(row) - low;
  }

  #high(row: number): number {
    return this.body.readUInt32BE(1 + row * ROW_BYTES);
  }

  #low(row: number): number {
    return this.body.readUInt32BE(5 + row * ROW_BYTES);
  }

  #name(row: number): string {
    return this.body.toString('hex', 1 + row * ROW_BYTES, 9 + row * ROW_BYTES);
  }

  #seconds(row: number): number {
    return this.body.readUInt32LE(9 + row * ROW_BYTES);
  }
}
