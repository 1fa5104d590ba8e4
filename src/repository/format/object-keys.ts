import type { PackName } from './record.ts';

/**
 * The keys of a repository's objects: `docs/FORMAT.md`, section 1.
 *
 * This folder is the stored format: one file for each kind of object or record, with its limits, its encoder and its
 * decoder. Nothing in it reads or writes a store, so every function can be tested with bytes alone. Work that may be long
 * is a generator, which stops where other work of the process may run (`common/yield-to-event-loop.ts`).
 */

export const FORMAT_KEY = 'format';
export const KEYS_PREFIX = 'keys/';
export const LOG_PREFIX = 'log/';
/** Pages of the catalogue. */
export const CATALOGUE_PREFIX = 'catalogue/';
export const PACKS_PREFIX = 'packs/';
/** Objects of tests whether the store creates atomically. */
export const PROBES_PREFIX = 'probe/';
/** Objects that any program may delete, because they can be made again. */
export const CACHE_PREFIX = 'cache/';
export const VERIFIED_KEY = `${CACHE_PREFIX}verified`;
export const VERIFIED_LOG_KEY = `${CACHE_PREFIX}verified-log`;
export const RESERVE_KEY = 'reserve';

/** The largest number of a log entry. */
export const MAX_SEQ = 2 ** 52 - 2;

const LOG_KEY = /^log\/([0-9a-f]{13})(-c)?(?:-([0-9a-f]{32}))?$/;
const PACK_KEY = /^packs\/([0-9a-f]{13})\/([0-9a-f]{32})$/;
const PAGE_KEY = /^(catalogue\/([0-9a-f]{13})\/[0-9a-f]{32})(?:-2)?$/;
const SUFFIX_DIGITS = 32;

/** What a key under `log/` means. Objects with other keys are not part of the log, and are left alone. */
export type LogKey =
  | { readonly kind: 'entry'; readonly seq: number; readonly suffix: string | undefined }
  | { readonly kind: 'checkpoint'; readonly seq: number; readonly suffix: string | undefined };

export function slotKey(slot: string): string {
  return `${KEYS_PREFIX}${slot}`;
}

export function isSlotName(name: string): boolean {
  return /^[0-9a-f]{16}$/.test(name);
}

/** What the keys of a session's packs begin with. */
export function sessionPrefix(session: number): string {
  return `${PACKS_PREFIX}${session.toString(16).padStart(13, '0')}/`;
}

/** A pack's key. Maps and sets of packs use it as well. */
export function packKey({ session, random }: PackName): string {
  return `${sessionPrefix(session)}${random}`;
}

/** The pack of a key, `undefined` where it is not the key of a pack. */
export function parsePackKey(key: string): PackName | undefined {
  const match = PACK_KEY.exec(key);
  if (match === null) return undefined;
  return { session: Number.parseInt(match[1] as string, 16), random: match[2] as string };
}

/**
 * The key of an entry.
 *
 * @param hash - of the entry, in single-writer mode (P13): then two entries of one number have different keys
 */
export function entryKey(seq: number, hash?: Uint8Array): string {
  // @mutation keys-end-in-the-hash
  return `${LOG_PREFIX}${inverted(seq)}${hash === undefined ? '' : `-${suffixOf(hash)}`}`;
}

/**
 * The key of a checkpoint.
 *
 * @param sha256 - of the object, in single-writer mode (P13): then no late put replaces another checkpoint
 */
export function checkpointKey(seq: number, sha256?: Uint8Array): string {
  // @mutation checkpoint-keys-end-in-the-digest
  return `${LOG_PREFIX}${inverted(seq)}-c${sha256 === undefined ? '' : `-${suffixOf(sha256)}`}`;
}

export function parseLogKey(key: string): LogKey | undefined {
  const match = LOG_KEY.exec(key);
  if (match === null) return undefined;
  const seq = 2 ** 52 - 1 - Number.parseInt(match[1] as string, 16);
  if (seq < 1 || seq > MAX_SEQ) return undefined;
  return { kind: match[2] === undefined ? 'entry' : 'checkpoint', seq, suffix: match[3] };
}

/** The key of a page of the catalogue. @param sha256 - of the object */
export function cataloguePageKey(seq: number, sha256: Uint8Array): string {
  return `${CATALOGUE_PREFIX}${seq.toString(16).padStart(13, '0')}/${suffixOf(sha256)}`;
}

/** The key of the second copy of a page. */
export function secondCopyOf(pageKey: string): string {
  return `${pageKey}-2`;
}

/** What the key of a page or of its second copy says; `undefined` where it is neither. */
export function parsePageKey(key: string): { readonly seq: number; readonly page: string } | undefined {
  const match = PAGE_KEY.exec(key);
  return match === null ? undefined : { seq: Number.parseInt(match[2] as string, 16), page: match[1] as string };
}

function suffixOf(hash: Uint8Array): string {
  return Buffer.from(hash).toString('hex').slice(0, SUFFIX_DIGITS);
}

/** Listings are in the order of the keys, so newer entries come first. */
function inverted(seq: number): string {
  return (2 ** 52 - 1 - seq).toString(16).padStart(13, '0');
}
