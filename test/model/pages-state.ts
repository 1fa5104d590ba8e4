/**
 * What a log says, and how a checkpoint represents it: rows lie in pages or in the hot part, and the hot part also says which rows
 * of pages are forgotten. Numbers are those of log entries. A page is `NUMBER:ROWS`, with a letter where two hosts seal it unlike, and a
 * plus for its second object.
 */
import type { Rule } from './rules.ts';

export interface Checkpoint {
  readonly number: number;
  readonly pages: readonly string[];
  readonly hot: readonly number[];
  /** Rows that still lie in a page. */
  readonly forgotten: readonly number[];
  /** Forgotten rows that a merge has dropped from their page, while a session has them as its base. */
  readonly pinned: readonly number[];
  /** By volume, the newest backup, forgotten or not. */
  readonly heads: readonly number[];
}

/** What the entry `at` has made of two checkpoints. */
export interface Floor {
  readonly at: number;
  readonly floor: Checkpoint;
  readonly second: Checkpoint;
}

/** An entry: `n` nothing, `cROW` a commit, `fROW` a forget, `oROW` a session with that base, `eROW` its end, `k` a collection. */
export interface PagesLog {
  readonly words: readonly string[];
  readonly floors: readonly Floor[];
}

export interface PagesStore {
  readonly pages: readonly string[];
  readonly checkpoints: readonly Checkpoint[];
  /** Names of pages and numbers of checkpoints that are there, and can't be read. */
  readonly damaged: readonly string[];
  /** Requests that were not answered: they take effect at any later time, or never. */
  readonly late: readonly (string | Checkpoint)[];
  /** Where pages have no numbers: what somebody has decided to delete. */
  readonly doomed: readonly string[];
  readonly lates: number;
  readonly accidents: number;
}

export interface PagesActor {
  readonly pc: 'idle' | 'put' | 'made' | 'read' | 'open' | 'end';
  readonly jobs: number;
  /** The newest confirmed state, as this process represents it. */
  readonly own: Checkpoint;
  /** A writer's next checkpoint, and the page of it that is not put yet. */
  readonly next: Checkpoint | null;
  readonly page: string;
  /** A pruner's two. */
  readonly two: readonly [Checkpoint, Checkpoint] | null;
  /** A reader's pages that it has not read, and those that it has missed. */
  readonly unread: readonly string[];
  readonly missed: readonly string[];
  readonly doubts: number;
  readonly mistake: string;
}

export interface PagesState {
  readonly log: PagesLog;
  readonly store: PagesStore;
  readonly actors: readonly PagesActor[];
}

/** Which rows a checkpoint takes into a new page: none, those of the hot part, those of the oldest page too, or all. */
export type Merge = 'nothing' | 'hot' | 'oldest' | 'all';

export interface PagesRole {
  readonly kind: 'writer' | 'pruner' | 'reader';
  /** Of a pruner: how often it collects. @default 1 */
  readonly jobs?: number | undefined;
  /** Of a writer: its checkpoints, one after another, and which merges each may be. */
  readonly makes?: readonly (readonly Merge[])[] | undefined;
  /** What a writer starts with, if it is not the newest checkpoint. */
  readonly pages?: readonly string[] | undefined;
  /** May forget what it has in memory and open the log from any checkpoint. */
  readonly reopens?: boolean | undefined;
}

export interface PagesConfiguration {
  /** The volume of each row, the first being row 1. */
  readonly volumes: readonly number[];
  /** The rows of the first checkpoint, which has number 1, page by page. */
  readonly pages: readonly (readonly number[])[];
  /** The pages of the checkpoints 2, 3 and so on, with entries that mean nothing. */
  readonly checkpoints?: readonly (readonly string[])[] | undefined;
  /** The entries that others append, in this order. */
  readonly entries: readonly string[];
  readonly roles: readonly PagesRole[];
  /** How many requests may take effect late. */
  readonly lates?: number | undefined;
  /** How many checkpoints are lost or damaged. */
  readonly accidents?: number | undefined;
  /** How many objects of pages are garbage from the beginning. */
  readonly garbage?: number | undefined;
  /** How many objects of pages are lost. */
  readonly lostPages?: number | undefined;
  /** Whether pages are two objects here: all other rules are explored as well with one. */
  readonly areTwice?: boolean | undefined;
  /** Two hosts that seal the same rows make the same bytes. */
  readonly areAlike?: boolean | undefined;
  /** Nothing is create-only, and the key of a checkpoint ends in its digest. */
  readonly isSingleWriter?: boolean | undefined;
}

export interface PagesWorld {
  readonly configuration: PagesConfiguration;
  readonly keeps: (rule: Rule) => boolean;
}

/** The objects of a page. */
export const objectsOf = (page: string, { configuration, keeps }: PagesWorld): string[] =>
  configuration.areTwice && keeps('L8.twice') ? [page, `${page}+`] : [page];

export const numberOfPage = (page: string): number => Number.parseInt(page, 10);
export const rowsOfPage = (page: string): number[] => page.split(':')[1]!.split('.').map(Number);
export const sorted = (numbers: Iterable<number>): number[] => [...new Set(numbers)].sort((a, b) => a - b);

export const floorAt = ({ floors }: PagesLog, number: number): Floor | undefined =>
  floors.findLast(({ at }) => at <= number);

export const isSame = (a: Checkpoint, b: Checkpoint): boolean =>
  a === b || (a.number === b.number && JSON.stringify(a) === JSON.stringify(b));

/** What is live, which bases are pinned, and the newest backup of each volume, from the entries alone. */
export function logical(words: readonly string[], { volumes, pages }: PagesConfiguration) {
  const live = new Set(pages.flat());
  const bases: number[] = [];
  const heads: number[] = volumes.map(() => 0);
  for (const row of live) heads[volumes[row - 1]!] = Math.max(heads[volumes[row - 1]!]!, row);
  for (const word of words) {
    const row = Number(word.slice(1));
    if (word.startsWith('c')) {
      live.add(row);
      heads[volumes[row - 1]!] = row;
    }
    if (word.startsWith('f')) live.delete(row);
    if (word.startsWith('o')) bases.push(row);
    if (word.startsWith('e')) bases.splice(bases.indexOf(row), 1);
  }
  return { live: sorted(live), bases, heads };
}

export const listed = ({ pages, hot, forgotten }: Checkpoint): number[] =>
  sorted([...hot, ...pages.flatMap(rowsOfPage)]).filter((row) => !forgotten.includes(row));

/** One more entry, as a process folds it: pages stay what they are. */
function withEntry(own: Checkpoint, words: readonly string[], { configuration, keeps }: PagesWorld): Checkpoint {
  const number = own.number + 1;
  const word = words[own.number - 1]!;
  const row = Number(word.slice(1));
  const { bases } = logical(words.slice(0, number - 1), configuration);
  const pinned = own.pinned.filter((each) => bases.includes(each));
  const isPinned = bases.includes(row) && keeps('L9.base');
  if (word.startsWith('c')) {
    const heads = own.heads.with(configuration.volumes[row - 1]!, row);
    return { ...own, number, pinned, hot: sorted([...own.hot, row]), heads };
  }
  if (word.startsWith('f') && own.hot.includes(row)) {
    const hot = own.hot.filter((each) => each !== row);
    return { ...own, number, hot, pinned: isPinned ? sorted([...pinned, row]) : pinned };
  }
  if (word.startsWith('f')) return { ...own, number, pinned, forgotten: sorted([...own.forgotten, row]) };
  return { ...own, number, pinned };
}

/** The state at the newest entry, from one at an older entry. The first checkpoint has number 1, so entry 2 is the first word. */
export function followed(own: Checkpoint, { words }: PagesLog, world: PagesWorld): Checkpoint {
  let state = own;
  while (state.number < words.length + 1) state = withEntry(state, words, world);
  return state;
}

export const newest = ({ words }: PagesLog): number => words.length + 1;

export function start(world: PagesWorld): PagesState {
  const { configuration } = world;
  const pages = configuration.pages.map((rows) => `1:${rows.join('.')}`).sort();
  const { heads } = logical([], configuration);
  const first: Checkpoint = { number: 1, pages, hot: [], forgotten: [], pinned: [], heads };
  const others = (configuration.checkpoints ?? []).map((names, index) => ({
    ...{ ...first, number: index + 2, pages: names },
  }));
  const checkpoints = [first, ...others];
  const actors = configuration.roles.map((role): PagesActor => {
    const own = { ...checkpoints.at(-1)!, ...(role.pages ? { pages: role.pages } : {}) };
    const rest = { next: null, page: '', two: null, unread: [], missed: [], doubts: 0, mistake: '' };
    return { pc: 'idle', jobs: 0, own, ...rest };
  });
  const named = checkpoints.flatMap((each) => each.pages);
  const all = [...new Set(named.flatMap((page) => objectsOf(page, world)))].sort();
  return {
    log: { words: others.map(() => 'n'), floors: [] },
    store: { pages: all, checkpoints, damaged: [], late: [], doomed: [], lates: 0, accidents: 0 },
    actors,
  };
}
