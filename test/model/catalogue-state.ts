/** What the log says of a state in two parts, as entries change it. */
import type { Rule } from './rules.ts';

export interface Backup {
  readonly id: number;
  readonly volume: number;
  readonly parent: number;
  readonly packs: readonly number[];
}

export interface Page {
  readonly pack: number;
  readonly rows: readonly number[];
}

/** A page that an entry names: what it took from the hot part, and which pages it replaces. */
export interface NewPage extends Page {
  readonly taken: readonly number[];
  readonly replaced: readonly number[];
}

export interface Session {
  readonly writer: number;
  readonly volume: number;
  readonly parent: number;
  /** 0 for none. */
  readonly base: number;
  /** The page in its packs; 0 for none. */
  readonly page: number;
}

export interface Condemned {
  readonly pack: number;
  readonly at: number;
}

/** What the fold of the log says. */
export interface Catalogue {
  readonly number: number;
  readonly hot: readonly number[];
  readonly pages: readonly Page[];
  /** Rows that are still in a page. */
  readonly forgotten: readonly number[];
  /** By volume, the newest backup, forgotten or not. */
  readonly heads: readonly number[];
  readonly sessions: readonly Session[];
  readonly condemned: readonly Condemned[];
  readonly goneThrough: number;
}

/** What is stored, and what nobody sees. */
export interface Facts {
  readonly backups: readonly Backup[];
  readonly live: readonly number[];
  readonly present: readonly number[];
  readonly pages: number;
  readonly forgets: number;
  readonly collections: number;
  readonly mistake: string;
}

export interface Actor {
  readonly pc: 'start' | 'open' | 'made' | 'end';
  readonly jobs: number;
  readonly page: NewPage | null;
  /** The packs that it knew of when it opened its session, and when that was. */
  readonly known: readonly number[];
  readonly knownAt: number;
  /** A reader's pages that it has not read yet, of the state that it saw. */
  readonly unread: readonly number[];
}

export interface CatalogueState {
  readonly catalogue: Catalogue;
  readonly facts: Facts;
  readonly actors: readonly Actor[];
}

export interface CatalogueRole {
  readonly kind: 'writer' | 'reader';
  /** @default 0 */
  readonly volume?: number | undefined;
  /** @default 1 */
  readonly jobs?: number | undefined;
  /** Its backups share the pack of their base. */
  readonly isIncremental?: boolean | undefined;
  /** Its commits bring a page: of the rows in the hot part, or of all pages too. */
  readonly merges?: 'rows' | 'all' | undefined;
  /**
   * Its page is made of a state with a stray of its own: the row of a backup that is not in the log, and whose number
   * another one gets. Such a row has the number with a minus.
   */
  readonly hasStray?: boolean | undefined;
  /** A pack that it would like to refer to. */
  readonly wants?: number | undefined;
}

export interface CatalogueConfiguration {
  /** The volumes of the first backups, which are numbered from 1 on. */
  readonly backups: readonly number[];
  /** Which of them are in pages. */
  readonly pages: readonly (readonly number[])[];
  readonly roles: readonly CatalogueRole[];
  /** Which backups may be forgotten. */
  readonly forgets?: readonly number[] | undefined;
  readonly collections?: number | undefined;
}

export const IDLE: Actor = { pc: 'start', jobs: 0, page: null, known: [], knownAt: 0, unread: [] };
export const FIRST_PAGE = 100;

export function start({ backups, pages, roles }: CatalogueConfiguration): CatalogueState {
  const all: Backup[] = [];
  const heads: number[] = [];
  for (const [index, volume] of backups.entries()) {
    all.push({ id: index + 1, volume, parent: heads[volume] ?? 0, packs: [index + 1] });
    while (heads.length <= volume) heads.push(0);
    heads[volume] = index + 1;
  }
  for (const { volume = 0 } of roles) while (heads.length <= volume) heads.push(0);
  const ids = all.map(({ id }) => id);
  const listed = pages.map((rows, index) => ({ pack: FIRST_PAGE + index, rows }));
  return {
    catalogue: {
      ...{ number: 1, hot: ids.filter((id) => !pages.flat().includes(id)), pages: listed, forgotten: [] },
      ...{ heads, sessions: [], condemned: [], goneThrough: 0 },
    },
    facts: {
      ...{ backups: all, live: ids, present: [...ids, ...listed.map(({ pack }) => pack)] },
      ...{ pages: pages.length, forgets: 0, collections: 0, mistake: '' },
    },
    actors: roles.map(() => IDLE),
  };
}

export const rowsOf = ({ hot, pages }: Catalogue): number[] => [...hot, ...pages.flatMap(({ rows }) => rows)];
export const sorted = (numbers: Iterable<number>): number[] => [...new Set(numbers)].sort((a, b) => a - b);

/** What the catalogue says is there. */
export const listedRows = (catalogue: Catalogue): number[] =>
  sorted(rowsOf(catalogue)).filter((id) => !catalogue.forgotten.includes(id));

export const isCondemned = ({ condemned }: Catalogue, pack: number): boolean =>
  condemned.some((each) => each.pack === pack);

export type Keeps = (rule: Rule) => boolean;

/** L9: the newest backup of a volume keeps a short row. */
function headsOf(catalogue: Catalogue, facts: Facts, keeps: Keeps): readonly number[] {
  if (keeps('L9.head')) return catalogue.heads;
  const rows = listedRows(catalogue);
  return catalogue.heads.map((_, volume) => {
    const own = facts.backups.filter((backup) => backup.volume === volume && rows.includes(backup.id));
    return own.at(-1)?.id ?? 0;
  });
}

export function forget(state: CatalogueState, id: number, keeps: Keeps): CatalogueState {
  const { catalogue, facts } = state;
  const isHot = catalogue.hot.includes(id);
  const after = {
    ...{ ...catalogue, number: catalogue.number + 1, hot: catalogue.hot.filter((row) => row !== id) },
    forgotten: isHot ? catalogue.forgotten : sorted([...catalogue.forgotten, id]),
  };
  const live = facts.live.filter((row) => row !== id);
  return { ...state, catalogue: { ...after, heads: headsOf(after, facts, keeps) }, facts: { ...facts, live } };
}

/** Undefined when a page can't be read: nothing is condemned then. */
export function collect(state: CatalogueState, keeps: Keeps): CatalogueState | undefined {
  const { catalogue, facts } = state;
  const { sessions, pages } = catalogue;
  if (pages.some(({ pack }) => !facts.present.includes(pack))) return undefined;
  // A session keeps its base's row; otherwise it has to be found.
  const found = rowsOf(catalogue);
  const bases = sessions.map(({ base }) => base).filter((base) => keeps('L9.base') || found.includes(base));
  const marked = new Set([...listedRows(catalogue), ...bases].flatMap((id) => facts.backups[id - 1]?.packs ?? []));
  if (keeps('L8.live')) for (const { pack } of pages) marked.add(pack);
  for (const { page } of sessions) marked.add(page);
  const number = catalogue.number + 1;
  const isGone = ({ pack }: Condemned) => !facts.present.includes(pack);
  const dropped = catalogue.condemned.filter(isGone);
  const fresh = facts.present.filter((pack) => !marked.has(pack) && !isCondemned(catalogue, pack));
  const condemned = [
    ...catalogue.condemned.filter((each) => !isGone(each)),
    ...fresh.map((pack) => ({ pack, at: number })),
  ].sort((a, b) => a.pack - b.pack);
  const goneThrough = Math.max(catalogue.goneThrough, ...dropped.map(({ at }) => at));
  return {
    ...state,
    catalogue: { ...catalogue, number, condemned, goneThrough },
    facts: { ...facts, collections: facts.collections + 1 },
  };
}

/** L8: the fold takes a page if what it was made of is still there. */
export function isPageTaken({ pages, hot }: Catalogue, page: NewPage, keeps: Keeps): boolean {
  const areListed = page.replaced.every((pack) => pages.some((each) => each.pack === pack));
  const numbers = hot.map(Math.abs);
  const isThere = (id: number) => (keeps('L8.identity') ? hot.includes(id) : numbers.includes(Math.abs(id)));
  const areThere = page.taken.every(isThere);
  return (areListed || !keeps('L8.listed')) && (areThere || !keeps('L8.rows'));
}

export function withPage(catalogue: Catalogue, { pack, rows, taken, replaced }: NewPage): Catalogue {
  const pages = [...catalogue.pages.filter((page) => !replaced.includes(page.pack)), { pack, rows }];
  const numbers = taken.map(Math.abs);
  const hot = catalogue.hot.filter((id) => !numbers.includes(Math.abs(id)));
  const inPages = pages.flatMap((page) => page.rows);
  return { ...catalogue, pages, hot, forgotten: catalogue.forgotten.filter((id) => inPages.includes(id)) };
}
