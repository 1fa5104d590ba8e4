/**
 * Entries of a log that ends, as text. The hash of an entry is the list of all entries through it: a chain. A chain of n words
 * is entry n, and whose chain begins with another one follows from it.
 *
 * A word is a writer's letter, a count of its own and a letter for the kind: `o` opens a session, `c<S>.<open>.<X?>` commits the
 * session that the word <open> opened at number S, and may refer to pack X; `k<F>.<digest>.<X?><F?>` collects: a floor with
 * the digest of its checkpoint, whether X is condemned (X) or dropped as gone (D), and whether open sessions are fenced (F); `f` forgets all backups; `n` is
 * anything else.
 */
export interface Session {
  readonly number: number;
  /** The word of its `open`, which stands for that entry's hash. */
  readonly word: string;
  readonly isOpen: boolean;
}

export interface Folded {
  readonly count: number;
  readonly words: readonly string[];
  /** The chain through each number; the one of 0 is empty. */
  readonly through: readonly string[];
  /** Open ones, and fenced ones. */
  readonly sessions: readonly Session[];
  /** Words of the sessions that they were committed by. */
  readonly backups: readonly string[];
  readonly refersToX: boolean;
  readonly isXCondemned: boolean;
  /** X was deleted, and the state has dropped it: nothing but `goneThrough` is left of that. */
  readonly isXDropped: boolean;
  readonly condemnedAt: number;
  readonly goneThrough: number;
  readonly floor: number;
  readonly digest: string;
  /** A commit that names a session which another entry opened. */
  readonly foreign: string;
}

export const EMPTY: Folded = {
  count: 0,
  words: [],
  through: [''],
  sessions: [],
  backups: [],
  refersToX: false,
  isXCondemned: false,
  isXDropped: false,
  condemnedAt: 0,
  goneThrough: 0,
  floor: 0,
  digest: '',
  foreign: '',
};

const folded = new Map<string, Folded>([['', EMPTY]]);

/** The state through an entry. */
export function fold(chain: string): Folded {
  const known = folded.get(chain);
  if (known) return known;
  const end = chain.lastIndexOf(' ', chain.length - 2) + 1;
  const state = next(fold(chain.slice(0, end)), chain.slice(end, -1), chain);
  folded.set(chain, state);
  return state;
}

export const follow = (chain: string, word: string): string => `${chain}${word} `;
export const numberOf = (chain: string): number => fold(chain).count;
export const lastWord = (chain: string): string => fold(chain).words.at(-1) ?? '';
export const beforeOf = (chain: string): string => fold(chain).through.at(-2) ?? '';
export const kindOf = (word: string): string => word.charAt(2);

function next(state: Folded, word: string, chain: string): Folded {
  const count = state.count + 1;
  const after = { ...state, count, words: [...state.words, word], through: [...state.through, chain] };
  const [first = '', second = '', third = ''] = word.slice(3).split('.');
  switch (kindOf(word)) {
    case 'o':
      return { ...after, sessions: [...state.sessions, { number: count, word, isOpen: true }] };
    case 'f':
      return { ...after, backups: [], refersToX: false };
    case 'c': {
      const own = state.sessions.find(({ number, isOpen }) => isOpen && number === Number(first));
      const sessions = state.sessions.filter((session) => session !== own);
      const refersToX = state.refersToX || third === 'X';
      const foreign = own?.word === second || first === '0' ? state.foreign : word;
      return { ...after, sessions, backups: [...state.backups, second], refersToX, foreign };
    }
    case 'k':
      return collected(state, after, Number(first), second, third);
    default:
      return after;
  }
}

function collected(state: Folded, after: Folded, first: number, digest: string, what: string): Folded {
  const { count, sessions } = after;
  const floor = Math.max(state.floor, first);
  const isDropped = what.includes('D');
  return {
    ...after,
    sessions: what.includes('F') ? sessions.map((session) => ({ ...session, isOpen: false })) : sessions,
    isXCondemned: (state.isXCondemned || what.includes('X')) && !isDropped,
    condemnedAt: what.includes('X') ? count : state.condemnedAt,
    isXDropped: state.isXDropped || isDropped,
    goneThrough: isDropped ? state.condemnedAt : state.goneThrough,
    floor,
    digest: floor > state.floor ? digest : state.digest,
  };
}
