import { runInSteps, StepCounter, type Steps, yieldToEventLoop } from '../../../common/yield-to-event-loop.ts';
import { type CatalogueTable, type PageRef, pagesWith } from '../../format/catalogue-pages.ts';
import type { LogState } from '../../format/log-state.ts';
import { encodePage, type PageRow, rowKey, rowsWeight } from '../../format/page-codec.ts';
import { backupWeight, WEIGHT } from '../../format/state-weight.ts';
import { BackupTable, type Keyed, KnownPackTable, type LooseTable } from './loose-rows.ts';
import type { PageLimits } from './page-limits.ts';

/*
 * Moves rows of a state into pages, so that its checkpoint is small (decision 143).
 *
 * The pages of level 1 have rows in their order, none twice. New rows are first collected in one page of level 0, so that
 * most checkpoints write one page of each table; when it is full, it is merged into the pages of level 1, each of which is
 * rewritten only if a row of it changes. So a lookup reads two pages.
 */

export interface PageFiles {
  rows(table: CatalogueTable, ref: PageRef): Promise<readonly PageRow[]>;
  put(ref: PageRef, bytes: Uint8Array<ArrayBuffer>, rows: readonly PageRow[]): Promise<void>;
}

export interface PageOutOptions {
  /** Of an encrypted repository. */
  readonly logKey: Uint8Array | undefined;
  /** Whether to merge all rows, so that pages have nothing that was forgotten. */
  readonly everything: boolean;
  readonly limits: PageLimits;
}

/** Whether the rows of a state that are in no page weigh so much that they should be moved into pages. */
export function isHeavy(state: LogState, { looseWeight }: PageLimits): boolean {
  let weight = WEIGHT.name * (state.forgotten.size + state.holds.size + state.heads.size);
  for (const { packs, dead } of state.known.values()) {
    weight += WEIGHT.pack * packs.size + WEIGHT.name * dead.size;
    if (weight > looseWeight) return true;
  }
  for (const backup of state.backups.values()) {
    weight += backupWeight(backup);
    if (weight > looseWeight) return true;
  }
  return false;
}

/** Moves the rows of a state into pages, and puts these. Resolves with the same state. @throws what `files` throws */
export async function pageOut(state: LogState, files: PageFiles, options: PageOutOptions): Promise<LogState> {
  const backups = new BackupTable(state);
  const packs = new KnownPackTable(state);
  const pages = {
    backups: await new Merge(state.seq, 'backups', backups, files, options).run(state.pages.backups),
    packs: await new Merge(state.seq, 'packs', packs, files, options).run(state.pages.packs),
  };
  return { ...state, pages, ...backups.left(), known: await runInSteps(packs.left()) };
}

class Merge {
  readonly #seq: number;
  readonly #name: CatalogueTable;
  readonly #table: LooseTable;
  readonly #files: PageFiles;
  readonly #options: PageOutOptions;
  readonly #limits: PageLimits;
  /** A page with fewer rows is written together with the next one. */
  readonly #fewRows: number;

  constructor(seq: number, name: CatalogueTable, table: LooseTable, files: PageFiles, options: PageOutOptions) {
    this.#seq = seq;
    this.#name = name;
    this.#table = table;
    this.#files = files;
    this.#options = options;
    this.#limits = options.limits;
    this.#fewRows = this.#limits.rows >>> 3;
  }

  /** @returns the pages afterwards */
  async run(refs: readonly PageRef[]): Promise<readonly PageRef[]> {
    const { everything } = this.#options;
    const newer = refs.find(({ level }) => level === 0);
    const bottom = refs.filter(({ level }) => level === 1);
    const loose = await runInSteps(this.#table.loose());
    const changed = await runInSteps(this.#table.changed());
    if (loose.length + changed.length === 0 && (newer === undefined || !everything)) return refs;
    const rows = newer === undefined ? loose : await runInSteps(merging(loose, await this.#read(newer)));
    const isOnePage = Math.max(rows.length, changed.length) <= this.#limits.rows && this.#isLight(rows);
    if (bottom.length > 1 && isOnePage && !everything) {
      return [...bottom, ...(await this.#write(await this.#renewed(rows, () => true), 0))];
    }
    this.#table.merged();
    return this.#mergeBottom(bottom, rows, new Set(await runInSteps(pagesWith(bottom, changed))));
  }

  async #mergeBottom(
    bottom: readonly PageRef[],
    rows: readonly Keyed[],
    touched: ReadonlySet<PageRef>,
  ): Promise<readonly PageRef[]> {
    const table = this.#table;
    if (bottom.length === 0) return this.#write(await this.#renewed(rows, () => true), 1);
    const refs: PageRef[] = [];
    let at = 0;
    let pending: Keyed[] = [];
    for (const [index, ref] of bottom.entries()) {
      const next = bottom[index + 1];
      const from = at;
      while (at < rows.length && (next === undefined || (rows[at] as Keyed).key < next.first)) at++;
      if (at === from && pending.length === 0 && !touched.has(ref)) {
        refs.push(ref);
        continue;
      }
      const own = await runInSteps(merging(rows.slice(from, at), await this.#read(ref)));
      const isLast = (row: Keyed) => next === undefined || !table.belongTogether(row.key, next.first);
      pending = pending.concat(await this.#renewed(own, isLast));
      if (pending.length < this.#fewRows && next !== undefined) continue;
      refs.push(...(await this.#write(pending, 1)));
      pending = [];
    }
    return [...refs, ...(await this.#write(pending, 1))];
  }

  #renewed(rows: readonly Keyed[], isLast: (row: Keyed) => boolean): Promise<Keyed[]> {
    return runInSteps(this.#table.renewed(rows, isLast));
  }

  async #read(ref: PageRef): Promise<Keyed[]> {
    const rows = await this.#files.rows(this.#name, ref);
    return rows.map((row) => ({ key: rowKey(row), row }));
  }

  /** Writes rows into as many pages as they need. */
  async #write(rows: readonly Keyed[], level: 0 | 1): Promise<PageRef[]> {
    const refs: PageRef[] = [];
    for (const part of this.#parts(rows)) {
      await yieldToEventLoop();
      const { ref, bytes } = await encodePage(this.#options.logKey, this.#name, { seq: this.#seq, level }, part);
      await this.#files.put(ref, bytes, part);
      refs.push(ref);
    }
    return refs;
  }

  #isLight(rows: readonly Keyed[]): boolean {
    return rowsWeight(rows.map(({ row }) => row)) <= this.#limits.weight;
  }

  /** Parts of nearly the same length, which are cut between volumes if possible. */
  *#parts(rows: readonly Keyed[]): Generator<PageRow[]> {
    const pages = Math.max(1, Math.ceil(rows.length / this.#limits.rows));
    const most = Math.ceil(rows.length / pages);
    const enough = pages === 1 ? most : most - Math.min(this.#fewRows, most >>> 2);
    let part: PageRow[] = [];
    let weight = 0;
    let before: string | undefined;
    for (const { key, row } of rows) {
      const rowWeight = rowsWeight([row]);
      const isCut = before !== undefined && !this.#table.belongTogether(before, key);
      const isFull =
        part.length >= most || (isCut && part.length >= enough) || weight + rowWeight > this.#limits.weight;
      if (part.length > 0 && isFull) {
        yield part;
        part = [];
        weight = 0;
      }
      part.push(row);
      weight += rowWeight;
      before = key;
    }
    if (part.length > 0) yield part;
  }
}

/** Rows of both, in the order of their keys. Two commits may name the same adopted pack: that row is in both. */
function* merging(some: readonly Keyed[], others: readonly Keyed[]): Steps<Keyed[]> {
  const steps = new StepCounter();
  const rows: Keyed[] = [];
  let at = 0;
  for (const row of some) {
    if (steps.isDue()) yield;
    while (at < others.length && (others[at] as Keyed).key < row.key) rows.push(others[at++] as Keyed);
    // @mutation rows-are-named-once
    if (others[at]?.key === row.key) at++;
    rows.push(row);
  }
  return rows.concat(others.slice(at));
}
