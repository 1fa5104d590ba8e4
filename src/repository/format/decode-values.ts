import { isBytes } from '../../common/realms.ts';
import type { Steps } from '../../common/yield-to-event-loop.ts';
import { logCorrupt, madeByNewer } from './corrupt.ts';
import { decodeLocation } from './map-descriptor-codec.ts';
import { MAX_SEQ } from './object-keys.ts';
import type { Location, PackName } from './record.ts';

/** Reading decoded MessagePack of the log: each value is checked as it is taken, once, here. */

/** Longest name or other short text, in UTF-16 units. */
export const MAX_TEXT = 1024;
/** Items of a few fields each that are read in less than a millisecond. */
const ITEMS_AT_ONCE = 256;

/** The latest time that a `Date` can hold, in milliseconds since 1970. */
export const MAX_TIME = 8.64e15;

export type PlainMap = Readonly<Record<string, unknown>>;

export function mapOf(value: unknown, what: string): PlainMap {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || isBytes(value)) {
    throw logCorrupt(`${what} is not a map`);
  }
  return value as PlainMap;
}

/** Items of an array, each through `read`. */
export function listOf<T>(value: unknown, what: string, read: (item: unknown) => T, most = Infinity): T[] {
  if (!Array.isArray(value) || value.length > most) throw logCorrupt(`${what} is not an array, or too long`);
  return value.map(read);
}

/** As {@link listOf}, in steps: for arrays that may be long. @param atOnce - so many items are read in one step */
export function* listIn<T>(
  value: unknown,
  what: string,
  read: (item: unknown) => T,
  atOnce = ITEMS_AT_ONCE,
): Steps<T[]> {
  if (!Array.isArray(value)) throw logCorrupt(`${what} is not an array`);
  const items: T[] = [];
  for (const item of value as readonly unknown[]) {
    items.push(read(item));
    if (items.length % atOnce === 0) yield;
  }
  return items;
}

export function tupleOf(value: unknown, length: number, what: string): unknown[] {
  if (!Array.isArray(value) || value.length !== length) throw logCorrupt(`${what} has not ${length} parts`);
  return value;
}

export function intOf(value: unknown, what: string, min = 0, max: number = Number.MAX_SAFE_INTEGER): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
    throw logCorrupt(`${what} is not from ${min} to ${max}`);
  }
  return value === 0 ? 0 : value; // A float may be the negative zero.
}

/** The version of what follows: this program knows the first. @throws `LOG_CORRUPT`, `REPOSITORY_UNSUPPORTED` */
export function checkVersion(value: unknown, what: string): void {
  if (intOf(value, `the version of ${what}`, 1) > 1) throw madeByNewer(what);
}

export function seqOf(value: unknown, what: string): number {
  return intOf(value, what, 1, MAX_SEQ);
}

/** Milliseconds since 1970: whatever a `Date` can hold. */
export function timeOf(value: unknown, what: string): number {
  if (typeof value !== 'number' || !(Math.abs(value) <= MAX_TIME)) throw logCorrupt(`${what} is not a time`);
  return value === 0 ? 0 : value; // A float may be the negative zero.
}

export function textOf(value: unknown, what: string, min = 0, max: number = MAX_TEXT): string {
  if (typeof value !== 'string' || value.length < min || value.length > max || !value.isWellFormed()) {
    throw logCorrupt(`${what} is not a text of ${min} to ${max} characters`);
  }
  return value;
}

export function flagOf(value: unknown, what: string): boolean {
  if (typeof value !== 'boolean') throw logCorrupt(`${what} is neither true nor false`);
  return value;
}

/** A copy: a view would keep the whole object in memory. */
export function bytesOf(value: unknown, length: number, what: string): Uint8Array<ArrayBuffer> {
  if (!isBytes(value) || value.length !== length) throw logCorrupt(`${what} is not ${length} bytes`);
  return Uint8Array.from(value);
}

/** 16 bytes, as 32 hex digits. */
export function idOf(value: unknown, what: string): string {
  if (!isBytes(value) || value.length !== 16) throw logCorrupt(`${what} is not an id`);
  return Buffer.from(value.buffer, value.byteOffset, value.length).toString('hex');
}

export function optional<T>(value: unknown, read: (value: unknown) => T): T | undefined {
  return value === undefined || value === null ? undefined : read(value);
}

export function packOf(value: unknown): PackName {
  const [session, random] = tupleOf(value, 2, "a pack's name");
  return { session: seqOf(session, "a pack's session"), random: idOf(random, "a pack's name") };
}

export function locationOf(value: unknown, what: string): Location {
  try {
    return decodeLocation(value);
  } catch (cause) {
    throw logCorrupt(`${what} is nowhere`, cause);
  }
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

/** Refuses at the door what would come back changed: MessagePack texts are UTF-8. */
export function wellFormed(text: string, what: string): string {
  if (!text.isWellFormed()) throw logCorrupt(`${what} holds half a character`);
  return text;
}
