/** A log that ends, with adoption and pages: the store, the hosts, and what nobody sees. */
import { foldComposed, numberOf } from './composed-chain.ts';
import type { Emit } from './explore.ts';
import type { Rule } from './rules.ts';

/** How a state has its rows. A page is `NUMBER:ROWS:LETTER`, its rows joined by dots. */
export interface Rows {
  readonly pages: readonly string[];
  readonly hot: readonly number[];
  /** Of rows that still lie in a page. */
  readonly forgotten: readonly number[];
  /** Forgotten rows that lie in no page, and are bases of open sessions. */
  readonly pinned: readonly number[];
}

export interface Checkpoint {
  readonly letter: string;
  readonly chain: string;
  readonly rows: Rows;
}

export interface ComposedStore {
  /** By number, from 0 on; '' where there is none. */
  readonly log: readonly string[];
  readonly checkpoints: readonly Checkpoint[];
  readonly pages: readonly string[];
  readonly packs: readonly string[];
}

export interface ComposedShared {
  /** The log as it should be: nobody sees it. */
  readonly truth: string;
  /** Floors that somebody has confirmed, with the pages of their checkpoints. */
  readonly floors: readonly { readonly number: number; readonly pages: readonly string[] }[];
  /** Packs, and whole sessions as `S/`, that somebody has confirmed to be condemned. */
  readonly doomed: readonly string[];
  /** Entries that are on their way. */
  readonly net: readonly string[];
}

export interface ComposedHost {
  readonly pc: 'idle' | 'planned' | 'created' | 'look' | 'paged' | 'end';
  /** The chain that it goes by; own entries in it may be strays. And what it has confirmed, with its rows. */
  readonly at: string;
  readonly confirmed: string;
  readonly rows: Rows;
  readonly sent: string;
  /** `NUMBER|WORD` of its `open`; whether it has listed the folders that it adopts, and what it found there. */
  readonly session: string;
  readonly hasListed: boolean;
  readonly found: readonly string[];
  readonly own: readonly string[];
  /** Words of commits that it has ever sent for this session. */
  readonly commits: readonly string[];
  /** Sessions of its own that it remembers. */
  readonly past: readonly number[];
  /** A pruner's next checkpoint. */
  readonly next: Checkpoint | null;
  readonly jobs: number;
  readonly built: number;
  readonly made: number;
  readonly forgets: number;
  readonly crashes: number;
  readonly reported: readonly string[];
  readonly failed: readonly string[];
  readonly mistake: string;
}

export interface ComposedState {
  readonly store: ComposedStore;
  readonly shared: ComposedShared;
  readonly hosts: readonly ComposedHost[];
}

/** Which rows a checkpoint takes into a new page. */
export type Merge = 'nothing' | 'hot' | 'all';

export interface ComposedRole {
  readonly kind: 'writer' | 'pruner';
  /** How much of the log it has read when it falls asleep. @default all of it */
  readonly at?: number | undefined;
  /** Backups, or collections. @default 1 */
  readonly jobs?: number | undefined;
  /** The number of an `open` in the first log that is its own, and the packs that it has stored for it. */
  readonly session?: number | undefined;
  readonly own?: readonly string[] | undefined;
  readonly crashes?: number | undefined;
  /** Its commits may go unanswered, and land later. */
  readonly isLate?: boolean | undefined;
  /** The pages that it goes by, if they are not those of the newest checkpoint. */
  readonly pages?: readonly string[] | undefined;
  /** A pruner's: which merges each of its checkpoints may be, what its collections do, how many backups it forgets. */
  readonly makes?: readonly (readonly Merge[])[] | undefined;
  readonly fences?: boolean | undefined;
  readonly condemns?: boolean | undefined;
  readonly raisesFloor?: boolean | undefined;
  readonly forgets?: number | undefined;
}

export interface ComposedConfiguration {
  /** The words of the first entries. */
  readonly log: readonly string[];
  /** The first checkpoints, with their pages. */
  readonly checkpoints: readonly { readonly number: number; readonly pages?: readonly string[] }[];
  readonly packs: readonly string[];
  readonly roles: readonly ComposedRole[];
}

export interface ComposedTurn {
  readonly configuration: ComposedConfiguration;
  readonly keeps: (rule: Rule) => boolean;
  readonly state: ComposedState;
  readonly index: number;
  readonly self: ComposedHost;
  readonly role: ComposedRole;
  readonly emit: Emit<ComposedState>;
}

export const letterOf = ({ index }: ComposedTurn): string => 'abcd'[index]!;

export function become(
  turn: ComposedTurn,
  label: string,
  changes: Partial<ComposedHost>,
  rest: Partial<ComposedState> = {},
): void {
  const hosts = turn.state.hosts.with(turn.index, { ...turn.self, ...changes });
  turn.emit(`${turn.role.kind} ${letterOf(turn)} ${label}`, { ...turn.state, ...rest, hosts });
}

export const put = (list: readonly string[], number: number, object: string): string[] => {
  const next = [...list];
  while (next.length < number) next.push('');
  next[number] = object;
  while (next.at(-1) === '') next.pop();
  return next;
};

export const newestOf = ({ log }: ComposedStore): number => log.length - 1;
export const numberOfPage = (page: string): number => Number.parseInt(page, 10);
export const rowsOfPage = (page: string): number[] => page.split(':')[1]!.split('.').map(Number);
export const sorted = <T extends string | number>(those: Iterable<T>): T[] =>
  [...new Set(those)].sort((a, b) => (a < b ? -1 : 1));

export const listed = ({ pages, hot, forgotten }: Rows): number[] =>
  sorted([...hot, ...pages.flatMap(rowsOfPage)]).filter((row) => !forgotten.includes(row));
export const held = ({ pages, hot, pinned }: Rows): number[] => [...hot, ...pinned, ...pages.flatMap(rowsOfPage)];

/** The rows of a later state, as a process folds them: pages stay what they are. */
export function followedRows(rows: Rows, from: string, to: string, keeps: (rule: Rule) => boolean): Rows {
  const { through, words } = foldComposed(to);
  let state = rows;
  for (let number = numberOf(from) + 1; number <= words.length; number++) {
    const word = words[number - 1]!;
    const row = Number(word.slice(3));
    const { sessions } = foldComposed(through[number]!);
    const bases = sessions.filter(({ isOpen }) => isOpen).map(({ base }) => base);
    const pinned = state.pinned.filter((each) => bases.includes(each));
    if (word.charAt(2) === 'c') state = { ...state, pinned, hot: [...state.hot, number] };
    else if (word.charAt(2) === 'f' && state.hot.includes(row)) {
      const hot = state.hot.filter((each) => each !== row);
      state = { ...state, hot, pinned: bases.includes(row) && keeps('L9.base') ? sorted([...pinned, row]) : pinned };
    } else if (word.charAt(2) === 'f') state = { ...state, pinned, forgotten: sorted([...state.forgotten, row]) };
    else state = { ...state, pinned };
  }
  return state;
}

/** Names the checkpoint itself, with the pages that it names. */
export const digestOf = ({ letter, rows }: Checkpoint): string => [letter, ...rows.pages].join('_');
export const pagesIn = (digest: string): string[] => digest.split('_').slice(1);

/** Checkpoints that the state of a chain can be opened from, newest first; that of the floor by its digest too. */
export function usable({ checkpoints, pages }: ComposedStore, chain: string): Checkpoint[] {
  const { through, floor, digest } = foldComposed(chain);
  return checkpoints
    .filter((each) => {
      const number = numberOf(each.chain);
      if (number < floor || each.chain !== through[number]) return false;
      return number > floor || digestOf(each) === digest;
    })
    .filter((each) => each.rows.pages.every((page) => pages.includes(page)))
    .toReversed();
}

export function withCheckpoint(store: ComposedStore, checkpoint: Checkpoint): ComposedStore {
  const number = numberOf(checkpoint.chain);
  if (store.checkpoints.some(({ chain }) => numberOf(chain) === number)) return store;
  const checkpoints = [...store.checkpoints, checkpoint].sort((a, b) => numberOf(a.chain) - numberOf(b.chain));
  return { ...store, checkpoints };
}

/** What is stored after an entry has arrived, and what of that is the log. */
export function withEntry(state: ComposedState, chain: string): ComposedState {
  const number = numberOf(chain);
  if (state.store.log[number]) return state;
  const store = { ...state.store, log: put(state.store.log, number, chain) };
  const isNext = foldComposed(chain).through.at(-2) === state.shared.truth;
  return { ...state, store, shared: isNext ? { ...state.shared, truth: chain } : state.shared };
}
