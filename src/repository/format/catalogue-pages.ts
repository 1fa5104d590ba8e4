import { createHash } from 'node:crypto';
import { StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import { logCorrupt, logValue } from './decode-values.ts';
import { cataloguePageKey } from './object-keys.ts';

/**
 * Which pages of the catalogue a checkpoint names: `docs/FORMAT.md`, section 9. The rows of a table are in the order of their
 * keys, which are compared here as hex digits; a page has the rows of a range of keys, and ranges may overlap.
 */

/**
 * Pages of both tables. Pages of level 1 come first, in the order of their ranges, which do not overlap; a page of level 0 has newer
 * rows, and there is at most one.
 */
export interface CataloguePages {
  /** Rows of backups, by volume and entry. */
  readonly backups: readonly PageRef[];
  /** Rows of known packs, by session and name. */
  readonly packs: readonly PageRef[];
}

export type CatalogueTable = keyof CataloguePages;

/** How a checkpoint names a page. */
export interface PageRef {
  /** Number of the checkpoint that the page was first made for: an older page than the floor may be deleted. */
  readonly seq: number;
  /** Of the object. */
  readonly sha256: Uint8Array;
  /** Bytes of the object. */
  readonly size: number;
  readonly rows: number;
  readonly level: 0 | 1;
  /** The key of its first row, as {@link KEY_DIGITS} hex digits. */
  readonly first: string;
  readonly last: string;
}

/** Keys from `first` to `last`, both included. */
export type KeyRange = Pick<PageRef, 'first' | 'last'>;

export const NO_PAGES: CataloguePages = { backups: [], packs: [] };
/** Most rows of a page. */
export const MAX_PAGE_ROWS = 1024;
/** Most pages that a state may name. */
const MAX_PAGES = 65_536;
const KEY_BYTES = 23;
export const KEY_DIGITS = 2 * KEY_BYTES;
const SEQ_DIGITS = 14;
/** Digits of a key of a backup that stand for its volume. */
export const VOLUME_DIGITS = KEY_DIGITS - SEQ_DIGITS;
/** Digits of the volume that end a backup's id, so that its row is found by the id alone. */
const ID_DIGITS = 8;
/** Volumes of which the digits are kept: those of a hundred thousand rows are asked for one after the other. */
const MAX_KNOWN_DIGITS = 1024;
const digitsOf = new Map<string, string>();

/** 32 hex digits that stand for a volume, of which the first 8 end the ids of its backups. */
export function volumeDigits(volume: string): string {
  const known = digitsOf.get(volume);
  if (known !== undefined) return known;
  const digest = createHash('sha256').update('cow1 volume').update(volume).digest();
  const digits = digest.toString('hex', 0, VOLUME_DIGITS / 2);
  if (digitsOf.size >= MAX_KNOWN_DIGITS) digitsOf.clear();
  digitsOf.set(volume, digits);
  return digits;
}

/** The digits in which the ids of the volume's backups end. */
export function volumeSuffix(volume: string): string {
  return volumeDigits(volume).slice(0, ID_DIGITS);
}

export function backupKey(volume: string, seq: number): string {
  return volumeDigits(volume) + seqDigits(seq);
}

/** All keys of a volume's backups. */
export function volumeRange(volume: string): KeyRange {
  return rangeOf(volumeDigits(volume));
}

/** All keys that the backup of this id may have. */
export function idRange(id: string): KeyRange {
  return rangeOf(id.slice(-ID_DIGITS));
}

export function packRowKey(session: number, random: string): string {
  return seqDigits(session) + random;
}

export function packRange(session: number, random: string): KeyRange {
  const key = packRowKey(session, random);
  return { first: key, last: key };
}

/** All keys of a session's packs. */
export function sessionRange(session: number): KeyRange {
  return rangeOf(seqDigits(session));
}

/** Whether one of these pages may have a row in the range. */
export function mayHold(pages: readonly PageRef[], range: KeyRange): boolean {
  const newer = pages.at(-1);
  if (newer === undefined) return false;
  if (newer.level === 0 && overlaps(newer, range)) return true;
  const count = newer.level === 0 ? pages.length - 1 : pages.length;
  const at = firstReaching(pages, count, range.first);
  return at < count && (pages[at] as PageRef).first <= range.last;
}

/** The pages that may have a row in one of the ranges, of which there may be a hundred thousand, in the order of `pages`. */
export function* pagesWith(pages: readonly PageRef[], ranges: Iterable<KeyRange>): Steps<PageRef[]> {
  const steps = new StepCounter();
  const found = new Set<PageRef>();
  const newer = pages.at(-1)?.level === 0 ? pages.at(-1) : undefined;
  const count = newer === undefined ? pages.length : pages.length - 1;
  for (const range of ranges) {
    if (steps.isDue()) yield;
    if (newer !== undefined && overlaps(newer, range)) found.add(newer);
    let at = firstReaching(pages, count, range.first);
    for (; at < count && (pages[at] as PageRef).first <= range.last; at++) found.add(pages[at] as PageRef);
  }
  return pages.filter((page) => found.has(page));
}

/** The index of the first page of level 1 that does not end before `key`; `count`, which is how many there are, if all do. */
function firstReaching(pages: readonly PageRef[], count: number, key: string): number {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((pages[middle] as PageRef).last < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The backup's number in `key`, if that is a key of the volume; otherwise Infinity, because all keys of the volume are lower. */
export function seqOfKey(volume: string, key: string): number {
  return key.startsWith(volumeDigits(volume)) ? Number.parseInt(key.slice(VOLUME_DIGITS), 16) : Infinity;
}

function overlaps(one: KeyRange, other: KeyRange): boolean {
  return one.first <= other.last && other.first <= one.last;
}

/** A page and the table that it belongs to. */
export interface NamedPage {
  readonly table: CatalogueTable;
  readonly ref: PageRef;
}

export function namedPages({ backups, packs }: CataloguePages): NamedPage[] {
  const ofTable = (refs: readonly PageRef[], table: CatalogueTable) => refs.map((ref) => ({ table, ref }));
  return [...ofTable(backups, 'backups'), ...ofTable(packs, 'packs')];
}

/** Keys of all pages. */
export function pageKeys(pages: CataloguePages): Set<string> {
  return new Set(namedPages(pages).map(({ ref }) => pageKeyOf(ref)));
}

/**
 * L8: the pages that a prune may delete once the floor is `seq`: those of lower numbers that the floor's checkpoint does not name.
 *
 * @param ofFloor - keys of the pages that it names
 */
export function unsafePages(pages: CataloguePages, seq: number, ofFloor: ReadonlySet<string>): NamedPage[] {
  return namedPages(pages).filter(({ ref }) => ref.seq < seq && !ofFloor.has(pageKeyOf(ref)));
}

export function pageKeyOf({ seq, sha256 }: Pick<PageRef, 'seq' | 'sha256'>): string {
  return cataloguePageKey(seq, sha256);
}

export function pagesPlain({ backups, packs }: CataloguePages): unknown {
  return [backups.map(refPlain), packs.map(refPlain)];
}

export function pagesOf(value: unknown): CataloguePages {
  const [backups, packs] = logValue.tuple(value, 2, 'pages');
  return { backups: refsOf(backups), packs: refsOf(packs) };
}

/** Backups of one commit, in the order that a state has them in. */
export function sortedByKey<T extends { readonly volume: string }>(backups: readonly T[]): T[] {
  if (backups.length < 2) return [...backups];
  const keys = new Map(backups.map((backup) => [backup, backupKey(backup.volume, 0)]));
  return backups.toSorted((one, other) => ((keys.get(one) as string) < (keys.get(other) as string) ? -1 : 1));
}

function refPlain({ seq, sha256, size, rows, level, first, last }: PageRef): unknown {
  return [seq, sha256, size, rows, level, Buffer.from(first, 'hex'), Buffer.from(last, 'hex')];
}

function refsOf(value: unknown): PageRef[] {
  const refs = logValue.list(value, 'pages', refOf, MAX_PAGES);
  let before = '';
  for (const { level, first, last } of refs) {
    // Of rows that two pages have, readers might believe one or the other.
    if (level === 1 && first <= before) throw logCorrupt('the pages of a checkpoint overlap');
    if (level === 1) before = last;
  }
  if (refs.slice(0, -1).some(({ level }) => level === 0)) throw logCorrupt('a page of newer rows is not the last one');
  return refs;
}

function refOf(value: unknown): PageRef {
  const [seq, sha256, size, rows, level, first, last] = logValue.tuple(value, 7, 'a page');
  const ref = {
    seq: logValue.seq(seq, "a page's number"),
    sha256: logValue.bytes(sha256, 'the SHA-256 of a page', 32),
    size: logValue.int(size, 'the size of a page', 1),
    rows: logValue.int(rows, 'the rows of a page', 1, MAX_PAGE_ROWS),
    level: logValue.int(level, 'the level of a page', 0, 1) as 0 | 1,
    first: keyOf(first),
    last: keyOf(last),
  };
  if (ref.first > ref.last) throw logCorrupt('the range of a page is not valid');
  return ref;
}

function keyOf(value: unknown): string {
  return Buffer.from(logValue.bytes(value, 'a key in the catalogue', KEY_BYTES)).toString('hex');
}

function seqDigits(seq: number): string {
  return seq.toString(16).padStart(SEQ_DIGITS, '0');
}

function rangeOf(prefix: string): KeyRange {
  return { first: prefix.padEnd(KEY_DIGITS, '0'), last: prefix.padEnd(KEY_DIGITS, 'f') };
}
