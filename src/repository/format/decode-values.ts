import { SharedTexts, ShortBytes } from '../../common/compact-memory.ts';
import { BackupError, type CorruptError, corruptError } from '../../common/errors.ts';
import { UndecodedArray } from '../../common/msgpack-reader.ts';
import { isBytes } from '../../common/realms.ts';
import { runAtOnce, type Steps } from '../../common/yield-to-event-loop.ts';
import { MAX_SEQ } from './object-keys.ts';
import { type Codec, type Location, MAX_RAW_LENGTH, type PackName } from './record.ts';
import { locationFault } from './record-parts.ts';

/**
 * Reading decoded MessagePack: every value that comes from a store is checked here, once, as it is taken out of its map or
 * array. Fields that no decoder asks for are ignored, so a later version of the format may add some.
 */

export const logCorrupt = corruptError('LOG_CORRUPT', 'the log');

/** For what authenticates but is not understood: it is not damaged, a newer version of this program wrote it. */
export function madeByNewer(what: string): BackupError {
  const message = `${what} was made by a newer version of this program: update it to read this repository`;
  return new BackupError('REPOSITORY_UNSUPPORTED', message);
}

/** Longest name or other short text, in bytes of UTF-8. */
export const MAX_TEXT = 1024;
/** A UTF-16 unit takes at most so many bytes of UTF-8. */
const BYTES_OF_UNIT = 3;
/** The latest time that a `Date` can hold, in milliseconds since 1970. */
export const MAX_TIME = 8.64e15;
/** Items of a few fields each that are read in less than a millisecond. */
const ITEMS_AT_ONCE = 256;

const texts = new SharedTexts();
const shortBytes = new ShortBytes();

export type PlainMap = Readonly<Record<string, unknown>>;

/**
 * Checks of one kind of object. Each method returns the value or throws the object's error, which names the value by `what`
 * and never quotes it: it may be long, and it may be a secret.
 */
export class ValueCheck {
  readonly corrupt: CorruptError;

  constructor(corrupt: CorruptError) {
    this.corrupt = corrupt;
  }

  map(value: unknown, what: string): PlainMap {
    const isOther = Array.isArray(value) || isBytes(value) || value instanceof UndecodedArray;
    if (typeof value !== 'object' || value === null || isOther) {
      throw this.corrupt(`${what} is not a map`);
    }
    return value as PlainMap;
  }

  /** Items of an array, each through `read`, at most `most` of them. */
  list<T>(value: unknown, what: string, read: (item: unknown) => T, most = Infinity): T[] {
    const tooLong = () => this.corrupt(`${what} is too long`);
    if (Array.isArray(value)) {
      if (value.length > most) throw tooLong();
      return value.map(read); // An array that grows by `push` keeps room for 17 items.
    }
    const items: T[] = [];
    const take = (item: unknown) => {
      if (items.length >= most) throw tooLong();
      items.push(read(item));
    };
    runAtOnce(this.each(value, what, take));
    return items;
  }

  /** As {@link list}, in steps: for arrays that may be long. @param atOnce - so many items are read in one step */
  *longList<T>(value: unknown, what: string, read: (item: unknown) => T, atOnce = ITEMS_AT_ONCE): Steps<T[]> {
    const items: T[] = [];
    yield* this.each(value, what, function* (item): Steps<void> {
      if (items.push(read(item)) % atOnce === 0) yield;
    });
    return items;
  }

  /** Calls `take` with each item of an array, which may not be decoded yet. */
  *each(value: unknown, what: string, take: (item: unknown) => Steps<void> | void): Steps<void> {
    if (value instanceof UndecodedArray) return yield* value.each(take);
    if (!Array.isArray(value)) throw this.corrupt(`${what} is not an array`);
    for (const item of value as readonly unknown[]) {
      const steps = take(item);
      if (steps !== undefined) yield* steps;
    }
  }

  tuple(value: unknown, length: number, what: string): unknown[] {
    if (!Array.isArray(value) || value.length !== length) throw this.corrupt(`${what} has not ${length} parts`);
    return value;
  }

  int(value: unknown, what: string, min = 0, max: number = Number.MAX_SAFE_INTEGER): number {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
      throw this.corrupt(`${what} is not an integer from ${min} to ${max}`);
    }
    return value === 0 ? 0 : value; // A float may be the negative zero.
  }

  /** The number of an entry or a session. */
  seq(value: unknown, what: string): number {
    return this.int(value, what, 1, MAX_SEQ);
  }

  /** Milliseconds since 1970. */
  time(value: unknown, what: string): number {
    if (typeof value !== 'number' || !(Math.abs(value) <= MAX_TIME)) throw this.corrupt(`${what} is not a time`);
    return value === 0 ? 0 : value; // A float may be the negative zero.
  }

  /** @param min - bytes of UTF-8. @param max - the same */
  text(value: unknown, what: string, min = 0, max: number = MAX_TEXT): string {
    if (typeof value !== 'string' || value.length < min || !isTextWithin(value, max)) {
      throw this.corrupt(`${what} is not a text of ${min} to ${max} bytes`);
    }
    return texts.share(value);
  }

  choice<const T extends string>(value: unknown, what: string, choices: readonly T[]): T {
    if (!choices.includes(value as T)) throw this.corrupt(`${what} is not one of ${choices.join(', ')}`);
    return value as T;
  }

  flag(value: unknown, what: string): boolean {
    if (typeof value !== 'boolean') throw this.corrupt(`${what} is neither true nor false`);
    return value;
  }

  /** A copy: a view would keep the whole object in memory. */
  bytes(value: unknown, what: string, min: number, max: number = min): Uint8Array<ArrayBuffer> {
    if (!isBytes(value) || value.length < min || value.length > max) {
      throw this.corrupt(`${what} is not ${min === max ? '' : `${min} to `}${max} bytes`);
    }
    return shortBytes.copyOf(value);
  }

  /** 16 bytes, as 32 hex digits. */
  hexId(value: unknown, what: string): string {
    if (!isBytes(value) || value.length !== 16) throw this.corrupt(`${what} is not an id of 16 bytes`);
    return Buffer.from(value.buffer, value.byteOffset, value.length).toString('hex');
  }

  optional<T>(value: unknown, read: (value: unknown) => T): T | undefined {
    return value === undefined || value === null ? undefined : read(value);
  }

  pack(value: unknown): PackName {
    const [session, random] = this.tuple(value, 2, "a pack's name");
    return { session: this.seq(session, "a pack's session"), random: this.hexId(random, "a pack's name") };
  }

  /** `[session, random, offset, storedLength, codec, rawLength]`: `docs/FORMAT.md`, section 6. */
  location(value: unknown, what: string): Location {
    const [session, random, at, stored, codecNumber, raw] = this.tuple(value, 6, 'a location');
    const location = {
      pack: { session: this.seq(session, "a location's session"), random: this.hexId(random, "a location's pack") },
      offset: this.int(at, "a location's offset"),
      storedLength: this.int(stored, "a location's stored length"),
      codec: this.int(codecNumber, "a location's codec", 0, 1) as Codec,
      rawLength: this.int(raw, "a location's raw length", 0, MAX_RAW_LENGTH[3]),
    };
    const fault = locationFault(location.offset, location.storedLength, location.codec, location.rawLength);
    if (fault !== undefined) throw this.corrupt(`the location of ${what} is not valid: ${fault}`);
    return location;
  }
}

/** Checks of what a log object holds. */
export const logValue = new ValueCheck(logCorrupt);

/** Whether a text is well-formed and has at most so many bytes of UTF-8, which is how long texts are wherever they are stored. */
export function isTextWithin(text: string, maxBytes: number): boolean {
  if (!text.isWellFormed()) return false;
  return text.length * BYTES_OF_UNIT <= maxBytes || Buffer.byteLength(text) <= maxBytes;
}

/** The version of what follows: this program knows the first. @throws `LOG_CORRUPT`, `REPOSITORY_UNSUPPORTED` */
export function checkVersion(value: unknown, what: string): void {
  if (logValue.int(value, `the version of ${what}`, 1) > 1) throw madeByNewer(what);
}

/** The bytes of an id of 32 hex digits. */
export function idBytes(id: string): Uint8Array<ArrayBuffer> {
  if (!/^[0-9a-f]{32}$/.test(id)) throw logCorrupt(`${JSON.stringify(id.slice(0, 40))} is not an id`);
  return new Uint8Array(Buffer.from(id, 'hex'));
}

export function optionalIdBytes(id: string | undefined): Uint8Array<ArrayBuffer> | null {
  return id === undefined ? null : idBytes(id);
}

export function packPlain({ session, random }: PackName): unknown {
  return [session, idBytes(random)];
}

/** What {@link ValueCheck.location} reads. */
export function locationPlain({ pack, offset, storedLength, codec, rawLength }: Location): unknown {
  return [...(packPlain(pack) as unknown[]), offset, storedLength, codec, rawLength];
}

/** Refuses at the door what would come back changed: MessagePack texts are UTF-8. */
export function wellFormed(text: string, what: string): string {
  if (!text.isWellFormed()) throw logCorrupt(`${what} holds half a character`);
  return text;
}
