import type { AbortOptions } from '../../../common/abort.ts';
import { BackupError } from '../../../common/errors.ts';
import { LruCache } from '../../../common/lru-cache.ts';
import { mapConcurrently } from '../../../common/map-concurrently.ts';
import { runInSteps } from '../../../common/yield-to-event-loop.ts';
import { getBounded } from '../../../targets/bounded-get.ts';
import type { CloudTarget } from '../../../targets/cloud-target.ts';
import {
  backupKey,
  type CataloguePages,
  type CatalogueTable,
  idRange,
  type KeyRange,
  type NamedPage,
  namedPages,
  overlaps,
  type PageRef,
  packRange,
  pageKeyOf,
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

/** What somebody wants to ask a state about. */
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

  constructor({ target, logKey }: { readonly target: CloudTarget; readonly logKey: Uint8Array | undefined }) {
    this.#target = target;
    this.#logKey = logKey;
  }

  /** The state with the pages taken in that are needed. @throws `OBJECT_NOT_FOUND`, `LOG_CORRUPT`, and what the target throws */
  async takeIn(state: LogState, needs: CatalogueNeeds, { signal }: AbortOptions = {}): Promise<LogState> {
    const newest = needs === 'all' ? [] : [...(needs.newest ?? [])];
    const read: ReadPage[] = [];
    let taken = state;
    let wanted = uniquePages([...neededPages(state.pages, needs), ...newest.flatMap((each) => morePages(state, each))]);
    while (wanted.length > 0) {
      const rowsOf = async ({ table, ref }: NamedPage): Promise<ReadPage> => ({
        ...{ table, ref },
        rows: await this.rows(table, ref, { signal }),
      });
      for await (const page of mapConcurrently(wanted, rowsOf, PAGES_AT_A_TIME)) read.push(page);
      // All at once: which backup of a volume is the newest shows only where its pages are seen together.
      taken = await runInSteps(takingIn(state, read));
      wanted = uniquePages(newest.flatMap((each) => morePages(taken, each)));
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
    if (ref.size > MAX_PAGE_BYTES) throw logCorrupt(`object ${key} is larger than a page may be`);
    const rows = await this.#readCopy(key, table, ref, signal).catch((error: unknown) => {
      // @mutation pages-have-two-copies
      if (!isLost(error)) throw error;
      this.lost.add(key);
      return this.#readCopy(secondCopyOf(key), table, ref, signal);
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
    try {
      const bytes = await getBounded(this.#target, key, ref.size, { signal });
      if (bytes === undefined) throw logCorrupt('it has fewer bytes than it should');
      return await decodePage(this.#logKey, table, ref, bytes);
    } catch (error) {
      if (BackupError.is(error, 'LOG_CORRUPT')) throw logCorrupt(`object ${key}`, error);
      throw error;
    }
  }

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

/** Whether a page can't be read from this object. Another copy, or another checkpoint, may be sound. */
export function isLost(error: unknown): error is BackupError {
  return BackupError.is(error, 'OBJECT_NOT_FOUND') || BackupError.is(error, 'LOG_CORRUPT');
}

function neededPages({ backups, packs }: CataloguePages, needs: CatalogueNeeds): NamedPage[] {
  if (needs === 'all') return namedPages({ backups, packs });
  if (backups.length + packs.length === 0) return [];
  const ofBackups = [...[...(needs.volumes ?? [])].map(volumeRange), ...[...(needs.ids ?? [])].map(idRange)];
  const ofPacks =
    packs.length === 0 ? [] : [...(needs.packs ?? [])].map(({ session, random }) => packRange(session, random));
  return namedPages({ backups: pagesIn(backups, ofBackups), packs: pagesIn(packs, ofPacks) });
}

function pagesIn(refs: readonly PageRef[], ranges: readonly KeyRange[]): PageRef[] {
  return refs.filter((ref) => ranges.some((range) => overlaps(ref, range)));
}

/**
 * Pages that have to be taken in before a state has the newest backups of a volume: that of level 0 and, of the others, one at a
 * time from the newest on. Mostly these are two, in one round.
 */
function morePages(state: LogState, { volume, count }: NewestOf): NamedPage[] {
  const left = pagesIn(state.pages.backups, [volumeRange(volume)]);
  const newer = left.filter(({ level }) => level === 0);
  const newest = left.filter(({ level }) => level === 1).at(-1);
  // Older pages may have been taken in for another volume: only what is newer than all that is left counts.
  // @mutation newest-are-without-gaps
  if (newer.length === 0 && countAbove(state, volume, newest?.last ?? '') >= count) return [];
  return namedPages({ backups: newest === undefined ? newer : [...newer, newest], packs: [] });
}

function uniquePages(pages: readonly NamedPage[]): NamedPage[] {
  return [...new Map(pages.map((page) => [page.ref, page])).values()];
}

/** How many backups of a volume have a higher key. */
function countAbove({ backups }: LogState, volume: string, last: string): number {
  let count = 0;
  for (const backup of backups.values()) {
    if (backup.volume === volume && backupKey(volume, backup.seq) > last) count++;
  }
  return count;
}
