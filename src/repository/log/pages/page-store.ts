import type { AbortOptions } from '../../../common/abort.ts';
import { BackupError } from '../../../common/errors.ts';
import { LruCache } from '../../../common/lru-cache.ts';
import { mapConcurrently } from '../../../common/map-concurrently.ts';
import { runInSteps, StepCounter, type Steps } from '../../../common/yield-to-event-loop.ts';
import { getBounded } from '../../../targets/bounded-get.ts';
import type { CloudTarget } from '../../../targets/cloud-target.ts';
import {
  type CataloguePages,
  type CatalogueTable,
  idRange,
  type KeyRange,
  type NamedPage,
  namedPages,
  type PageRef,
  packRange,
  pageKeyOf,
  pagesWith,
  seqOfKey,
  volumeRange,
} from '../../format/catalogue-pages.ts';
import { logCorrupt } from '../../format/decode-values.ts';
import type { LogState } from '../../format/log-state.ts';
import { secondCopyOf } from '../../format/object-keys.ts';
import { decodePage, MAX_PAGE_BYTES, type PageRow, type PageRows, rowsWeight } from '../../format/page-codec.ts';
import type { PackName } from '../../format/record.ts';
import { type ReadPage, takingIn } from './take-in.ts';

/*
 * This folder, `log/pages`, moves rows of a state into pages of the catalogue, and takes pages in again (decision 143).
 */

/** What a caller will ask a state about, which says what pages have to be taken in. */
export type CatalogueNeeds =
  | 'all'
  | {
      readonly volumes?: Iterable<string> | undefined;
      /** Ids of backups. */
      readonly ids?: Iterable<string> | undefined;
      readonly packs?: Iterable<PackName> | undefined;
      /** The newest backups of volumes: at least so many, if they have them, and the newest one of all even if it was forgotten. */
      readonly newest?: Iterable<NewestOf> | undefined;
    };

export interface NewestOf {
  readonly volume: string;
  readonly count: number;
}

/** Where pages are. */
export interface PageSource {
  readonly target: CloudTarget;
  /** Of an encrypted repository. */
  readonly logKey: Uint8Array | undefined;
}

const PAGES_AT_A_TIME = 8;
/** The weight of rows in memory that are kept: some 30 pages. */
const MAX_WEIGHT = 64 * 2 ** 20;

/** Reads pages of the catalogue, and keeps those that were used most recently. */
export class PageStore {
  readonly #target: CloudTarget;
  readonly #logKey: Uint8Array | undefined;
  /** Keys of pages of which no copy could be read when it was tried last. */
  readonly lost = new Set<string>();
  readonly #read = new LruCache<string, ReadPage['rows']>(MAX_WEIGHT);

  constructor({ target, logKey }: PageSource) {
    this.#target = target;
    this.#logKey = logKey;
  }

  /** The state with the pages taken in that are needed. @throws `OBJECT_NOT_FOUND`, `LOG_CORRUPT`, and what the target throws */
  async takeIn(state: LogState, needs: CatalogueNeeds, { signal }: AbortOptions = {}): Promise<LogState> {
    const newest = needs === 'all' ? [] : [...(needs.newest ?? [])];
    const read: ReadPage[] = [];
    let taken = state;
    const needed = await runInSteps(neededPages(state.pages, needs));
    let wanted = uniquePages([...needed, ...(await runInSteps(morePages(state, newest)))]);
    while (wanted.length > 0) {
      const rowsOf = async ({ table, ref }: NamedPage): Promise<ReadPage> => ({
        ...{ table, ref },
        rows: await this.rows(table, ref, { signal }),
      });
      for await (const page of mapConcurrently(wanted, rowsOf, PAGES_AT_A_TIME)) read.push(page);
      // All at once: which backup of a volume is the newest shows only where its pages are seen together.
      taken = await runInSteps(takingIn(state, read));
      wanted = uniquePages(await runInSteps(morePages(taken, newest)));
    }
    return taken;
  }

  /** The rows of a page. @throws as {@link PageStore.takeIn} */
  async rows<Table extends CatalogueTable>(
    table: Table,
    ref: PageRef,
    { signal }: AbortOptions = {},
  ): Promise<PageRows[Table]> {
    const key = pageKeyOf(ref);
    const kept = this.#read.get(key);
    if (kept !== undefined) return kept as PageRows[Table];
    const rows = await this.#readCopy(key, table, ref, signal).catch((error: unknown) => {
      // @mutation pages-have-two-copies
      if (!isLost(error)) throw error;
      this.lost.add(key);
      return this.#readCopy(secondCopyOf(key), table, ref, signal).catch((other: unknown) => {
        throw isLost(other) ? bothLost(key, other) : other;
      });
    });
    this.lost.delete(key);
    this.keep(ref, rows);
    return rows;
  }

  async #readCopy<Table extends CatalogueTable>(
    key: string,
    table: Table,
    ref: PageRef,
    signal: AbortSignal | undefined,
  ): Promise<PageRows[Table]> {
    const source = { target: this.#target, logKey: this.#logKey };
    return (await readPageCopy(source, key, { table, ref }, { signal })).rows;
  }

  /** Keeps the rows of a page in memory. */
  keep(ref: PageRef, rows: readonly PageRow[]): void {
    this.#read.set(pageKeyOf(ref), rows as ReadPage['rows'], rowsWeight(rows));
  }

  /**
   * Puts a page, twice: checkpoints share pages, so a single one that is lost would be missing in all of them. The name has the
   * content, so an object that is there already is the same.
   */
  async put(ref: PageRef, bytes: Uint8Array<ArrayBuffer>, createOnly: boolean, options: AbortOptions): Promise<void> {
    const key = pageKeyOf(ref);
    await Promise.all(
      [key, secondCopyOf(key)].map(async (copy) => {
        try {
          await this.#target.put(copy, Uint8Array.from(bytes), { createOnly, ...options });
        } catch (error) {
          if (!BackupError.is(error, 'OBJECT_EXISTS')) throw error;
        }
      }),
    );
  }
}

/**
 * Reads one copy of a page.
 *
 * @throws `OBJECT_NOT_FOUND`, `LOG_CORRUPT`, and what the target throws
 */
export async function readPageCopy<Table extends CatalogueTable>(
  { target, logKey }: PageSource,
  key: string,
  { table, ref }: { readonly table: Table; readonly ref: PageRef },
  { signal }: AbortOptions,
): Promise<{ readonly bytes: Uint8Array; readonly rows: PageRows[Table] }> {
  // The size comes from a checkpoint, and in a plain repository anyone who can write to the store can make one.
  if (ref.size > MAX_PAGE_BYTES) throw logCorrupt(`object ${key} is larger than a page may be`);
  try {
    const bytes = await getBounded(target, key, ref.size, { signal });
    if (bytes === undefined) throw logCorrupt('it has fewer bytes than it should');
    return { bytes, rows: await decodePage(logKey, table, ref, bytes) };
  } catch (error) {
    // The message names the damaged object.
    if (BackupError.is(error, 'LOG_CORRUPT')) throw logCorrupt(`object ${key}`, error);
    throw error;
  }
}

/** Whether a page can't be read from this object. Another copy, or another checkpoint, may be sound. */
export function isLost(error: unknown): error is BackupError {
  return BackupError.is(error, 'OBJECT_NOT_FOUND') || BackupError.is(error, 'LOG_CORRUPT');
}

function* neededPages({ backups, packs }: CataloguePages, needs: CatalogueNeeds): Steps<NamedPage[]> {
  if (needs === 'all') return namedPages({ backups, packs });
  if (backups.length + packs.length === 0) return [];
  return namedPages({
    backups: yield* pagesWith(backups, rangesOfBackups(needs)),
    packs: packs.length === 0 ? [] : yield* pagesWith(packs, rangesOfPacks(needs)),
  });
}

function* rangesOfBackups({ volumes = [], ids = [] }: Exclude<CatalogueNeeds, 'all'>): Iterable<KeyRange> {
  for (const volume of volumes) yield volumeRange(volume);
  for (const id of ids) yield idRange(id);
}

function* rangesOfPacks({ packs = [] }: Exclude<CatalogueNeeds, 'all'>): Iterable<KeyRange> {
  for (const { session, random } of packs) yield packRange(session, random);
}

/**
 * Pages that have to be taken in before a state has the newest backups of volumes: that of level 0 and, of the others, one at a
 * time from the newest on. Mostly these are two for a volume, in one round.
 */
function* morePages(state: LogState, newest: readonly NewestOf[]): Steps<NamedPage[]> {
  const wanted: PageRef[] = [];
  const above = new Map<string, { readonly page: PageRef; readonly seq: number; left: number }>();
  for (const { volume, count } of newest) {
    const pages = yield* pagesWith(state.pages.backups, [volumeRange(volume)]);
    const page = pages.findLast(({ level }) => level === 1);
    const newer = pages.filter(({ level }) => level === 0);
    wanted.push(...newer);
    if (page === undefined) continue;
    // Older pages may have been taken in for another volume: only what is newer than all that is left counts.
    // @mutation newest-are-without-gaps
    const seq = seqOfKey(volume, page.last);
    if (newer.length > 0) wanted.push(page);
    else above.set(volume, { page, seq, left: Math.max(count, above.get(volume)?.left ?? 0) });
  }
  if (above.size > 0) yield* countDown(state, above);
  for (const { page, left } of above.values()) if (left > 0) wanted.push(page);
  return namedPages({ backups: wanted, packs: [] });
}

/** Takes one from what is `left` for each backup of a volume with a higher number than `seq`. */
function* countDown(
  { backups }: LogState,
  above: ReadonlyMap<string, { readonly seq: number; left: number }>,
): Steps<void> {
  const steps = new StepCounter();
  for (const { volume, seq } of backups.values()) {
    if (steps.isDue()) yield;
    const found = above.get(volume);
    if (found !== undefined && seq > found.seq) found.left--;
  }
}

function uniquePages(pages: readonly NamedPage[]): NamedPage[] {
  return [...new Map(pages.map((page) => [page.ref, page])).values()];
}

function bothLost(key: string, cause: BackupError): BackupError {
  const what = `page ${key} of the catalogue and its copy ${secondCopyOf(key)} are missing or damaged`;
  return logCorrupt(`${what}: restore one of them from a copy of the store`, cause);
}
