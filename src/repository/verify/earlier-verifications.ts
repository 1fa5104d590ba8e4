import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { sortInSteps } from '../../common/sort-in-steps.ts';
import { runInSteps, StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import { getBounded } from '../../targets/bounded-get.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { openingObject, openObject, sealingObject, sealObject } from '../format/log-object.ts';
import { packKey, VERIFIED_KEY, VERIFIED_LOG_KEY } from '../format/object-keys.ts';
import type { PackName } from '../format/record.ts';

/*
 * What earlier verifications, of any host, have noted in the store: `docs/FORMAT.md`, section 10. These are caches and may be lost.
 */

const MAX_BYTES = 2 ** 25;
/** Times kept until they can be saved. The oldest are dropped: then their packs are only verified again sooner. */
const MAX_NOTED = 8192;

/**
 * When each pack's data was verified last, by any host: `docs/FORMAT.md`, section 10. It only decides the order in which packs
 * are verified, so a file that can't be read counts as empty, and a failure to write is ignored.
 */
export class VerifiedTimes {
  readonly #target: CloudTarget;
  readonly #logKey: Uint8Array | undefined;
  readonly #signal: AbortSignal | undefined;
  #stored: VerifiedRows;
  /** Times noted since the object was read or written. */
  readonly #noted = new Map<string, number>();

  private constructor(
    target: CloudTarget,
    logKey: Uint8Array | undefined,
    signal: AbortSignal | undefined,
    stored: VerifiedRows,
  ) {
    this.#target = target;
    this.#logKey = logKey;
    this.#signal = signal;
    this.#stored = stored;
  }

  static async read(
    target: CloudTarget,
    logKey: Uint8Array | undefined,
    signal: AbortSignal | undefined,
  ): Promise<VerifiedTimes> {
    return new VerifiedTimes(target, logKey, signal, (await readRows(target, logKey, signal)) ?? VerifiedRows.EMPTY);
  }

  /** Seconds since 1970; 0 for never. */
  of(pack: PackName): number {
    return this.#noted.get(nameOf(pack)) ?? this.#stored.of(pack);
  }

  /** @param now - milliseconds since 1970 */
  note(pack: PackName, now: number): void {
    this.#noted.set(nameOf(pack), Math.floor(now / 1000));
    if (this.#noted.size <= MAX_NOTED) return;
    const [oldest] = this.#noted.keys();
    this.#noted.delete(oldest as string);
  }

  /**
   * Adds the noted times to the stored ones, which another host may have changed meanwhile.
   *
   * @param there - the packs that exist: times of others are dropped
   */
  async save(there: readonly PackName[]): Promise<void> {
    if (this.#noted.size === 0) return;
    const stored = await readRows(this.#target, this.#logKey, this.#signal);
    if (stored === undefined) return; // It is not known, so it is left alone.
    const rows = await runInSteps(stored.with(this.#noted, there));
    try {
      const bytes = await runInSteps(sealingObject(this.#logKey, 'cow1 verified', 0, rows.body));
      await this.#target.put(VERIFIED_KEY, bytes, { signal: this.#signal });
      this.#stored = rows;
      this.#noted.clear();
    } catch {
      this.#signal?.throwIfAborted();
    }
  }
}

/** Keys of the packs that are verified next: a part of the data, the least recently verified first, and at least one pack. */
export async function leastRecentlyVerified(
  all: readonly PackName[],
  times: VerifiedTimes,
  sizeOf: (key: string) => number,
  { fraction, maxBytes }: { readonly fraction: number; readonly maxBytes: number },
): Promise<Set<string>> {
  const packs = await sortInSteps(
    all.map((pack) => ({ key: packKey(pack), at: times.of(pack) })),
    (a, b) => a.at - b.at || (a.key < b.key ? -1 : 1),
  );
  const total = packs.reduce((sum, { key }) => sum + sizeOf(key), 0);
  const chosen = new Set<string>();
  let bytes = 0;
  for (const { key } of packs) {
    const size = sizeOf(key);
    const isEnough = bytes >= fraction * total || bytes + size > maxBytes;
    if (chosen.size > 0 && isEnough) break;
    chosen.add(key);
    bytes += size;
  }
  return chosen;
}

/** `undefined` if the store did not answer. */
async function readRows(
  target: CloudTarget,
  logKey: Uint8Array | undefined,
  signal: AbortSignal | undefined,
): Promise<VerifiedRows | undefined> {
  try {
    const info = await target.stat(VERIFIED_KEY, { signal });
    if (info === undefined || info.size === 0 || info.size > MAX_BYTES) return VerifiedRows.EMPTY;
    const bytes = await getBounded(target, VERIFIED_KEY, info.size, { signal });
    if (bytes === undefined) return VerifiedRows.EMPTY;
    const body = await runInSteps(openingObject(logKey, 'cow1 verified', 0, bytes));
    return await runInSteps(VerifiedRows.reading(body));
  } catch (error) {
    signal?.throwIfAborted();
    const isUseless = BackupError.is(error, 'LOG_CORRUPT') || BackupError.is(error, 'OBJECT_NOT_FOUND');
    return isUseless ? VerifiedRows.EMPTY : undefined;
  }
}

const VERSION = 1;
/** 8 bytes of the pack's random part, u32 seconds since 1970. */
const ROW_BYTES = 12;
const NAME_DIGITS = 16;
export const MAX_ROWS = 2 ** 21;

/** Times by {@link nameOf} of packs. */
export type Times = ReadonlyMap<string, number>;

/** The first 8 bytes of a pack's name, as hex digits, which identify it here. */
export function nameOf({ random }: PackName): string {
  return random.slice(0, NAME_DIGITS);
}

/** The body of `cache/verified`: rows that ascend by name, kept as its bytes. There may be 2^21, so they are processed in steps. */
export class VerifiedRows {
  static readonly EMPTY = new VerifiedRows(Buffer.of(VERSION));

  /** As it is stored. */
  readonly body: Buffer;
  readonly #count: number;

  private constructor(body: Buffer) {
    this.body = body;
    this.#count = (body.length - 1) / ROW_BYTES;
  }

  /** Bytes that are not understood count as no rows. */
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

  /** The rows of packs that are `there`, with the later time of each, and rows for packs that only `noted` has. */
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

const MARK_VERSION = 1;
const MARK_BYTES = 1 + 6 + 32 + 6;
const MARK_LABEL = 'cow1 verified log';
/** The most bytes of the object; a sealed body is a little longer than a plain one. */
const MOST_MARK_BYTES = 1024;

/** Up to which entry the log was read in full once, and which old entry is to be read again next. */
interface LogMark {
  readonly seq: number;
  /** Of entry `seq`. */
  readonly hash: Uint8Array;
  readonly next: number;
}

/** The mark that an earlier verification has left; `undefined` if there is none that can be read. */
export async function readMark(
  target: CloudTarget,
  logKey: Uint8Array | undefined,
  { signal }: AbortOptions,
): Promise<LogMark | undefined> {
  try {
    const info = await target.stat(VERIFIED_LOG_KEY, { signal });
    if (info === undefined || info.size === 0 || info.size > MOST_MARK_BYTES) return undefined;
    const bytes = await getBounded(target, VERIFIED_LOG_KEY, info.size, { signal });
    return bytes && decodeMark(openObject(logKey, MARK_LABEL, 0, bytes));
  } catch (error) {
    signal?.throwIfAborted();
    if (BackupError.is(error, 'LOG_CORRUPT') || BackupError.is(error, 'OBJECT_NOT_FOUND')) return undefined;
    throw error;
  }
}

/** A failure to write is ignored: then more is read the next time. */
export async function saveMark(
  target: CloudTarget,
  logKey: Uint8Array | undefined,
  { seq, hash, next }: LogMark,
  { signal }: AbortOptions,
): Promise<void> {
  const body = Buffer.alloc(MARK_BYTES);
  body[0] = MARK_VERSION;
  body.writeUIntLE(seq, 1, 6);
  body.set(hash, 7);
  body.writeUIntLE(next, 39, 6);
  try {
    await target.put(VERIFIED_LOG_KEY, sealObject(logKey, MARK_LABEL, 0, body), { signal });
  } catch {
    signal?.throwIfAborted();
  }
}

function decodeMark(body: Uint8Array): LogMark | undefined {
  if (body.length !== MARK_BYTES || body[0] !== MARK_VERSION) return undefined;
  const view = Buffer.from(body.buffer, body.byteOffset, body.length);
  return { seq: view.readUIntLE(1, 6), hash: body.slice(7, 39), next: Math.max(1, view.readUIntLE(39, 6)) };
}
