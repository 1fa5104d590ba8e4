/**
 * Entries of a log that ends, whose sessions adopt one another and whose rows lie in pages, as text. As in `chains.ts` a chain is the list of
 * all words through an entry, and stands for its hash.
 *
 * A word is a writer's letter, a count of its own and a letter for the kind: `oBASE,ADOPTED` opens a session of the one volume,
 * `cS|OPEN|PACKS` commits the session that the word OPEN opened at number S, `fROW` forgets, `kF|DIGEST|CONDEMNED|DROPPED|FENCED`
 * collects, `n` is anything else. Lists are joined by `+`. A row is a backup, by the number of its commit.
 */
export interface ComposedSession {
  readonly number: number;
  readonly word: string;
  readonly isOpen: boolean;
  readonly base: number;
  readonly adopted: readonly number[];
}

export interface Backup {
  readonly row: number;
  readonly session: string;
  /** The whole word of its commit. */
  readonly word: string;
  readonly packs: readonly string[];
}

export interface Composed {
  readonly count: number;
  readonly words: readonly string[];
  readonly through: readonly string[];
  readonly sessions: readonly ComposedSession[];
  /** Packs, and whole sessions as `S/`. */
  readonly condemned: readonly string[];
  readonly backups: readonly Backup[];
  /** Of all that was ever committed. */
  readonly rows: readonly Backup[];
  readonly floor: number;
  readonly digest: string;
  readonly foreign: string;
}

const EMPTY: Composed = {
  ...{ count: 0, words: [], through: [''], sessions: [], condemned: [], backups: [], rows: [] },
  ...{ floor: 0, digest: '', foreign: '' },
};

const folded = new Map<string, Composed>([['', EMPTY]]);

export function foldComposed(chain: string): Composed {
  const known = folded.get(chain);
  if (known) return known;
  const end = chain.lastIndexOf(' ', chain.length - 2) + 1;
  const state = next(foldComposed(chain.slice(0, end)), chain.slice(end, -1), chain);
  folded.set(chain, state);
  return state;
}

export const follow = (chain: string, word: string): string => `${chain}${word} `;
export const numberOf = (chain: string): number => foldComposed(chain).count;
export const lastWord = (chain: string): string => foldComposed(chain).words.at(-1) ?? '';
export const beforeOf = (chain: string): string => foldComposed(chain).through.at(-2) ?? '';
export const kindOf = (word: string): string => word.charAt(2);
export const listIn = (text: string): string[] => (text === '' ? [] : text.split('+'));
export const sessionOf = (pack: string): number => Number(pack.slice(0, pack.indexOf('/')));

/** By its name, or with those of its session that no backup ever had. */
export const isCondemned = ({ condemned, rows }: Composed, pack: string): boolean =>
  condemned.includes(pack) ||
  (condemned.includes(`${sessionOf(pack)}/`) && !rows.some(({ packs }) => packs.includes(pack)));

function next(state: Composed, word: string, chain: string): Composed {
  const count = state.count + 1;
  const after = { ...state, count, words: [...state.words, word], through: [...state.through, chain] };
  const details = word.slice(3);
  switch (kindOf(word)) {
    case 'o':
      return opened(after, word, details);
    case 'c':
      return committed(after, word, details);
    case 'f':
      return { ...after, backups: state.backups.filter(({ row }) => row !== Number(details)) };
    case 'k':
      return collected(after, details);
    default:
      return after;
  }
}

/** Whom it adopts, it fences. */
function opened(after: Composed, word: string, details: string): Composed {
  const [base = '', list = ''] = details.split(',');
  const adopted = listIn(list.replace('!', '')).map(Number);
  const sessions = after.sessions.map((each) =>
    adopted.includes(each.number) && !list.endsWith('!') ? { ...each, isOpen: false } : each,
  );
  const session = { number: after.count, word, isOpen: true, base: Number(base), adopted };
  return { ...after, sessions: [...sessions, session] };
}

/** What it has adopted ends with it. */
function committed(after: Composed, word: string, details: string): Composed {
  const [number = '', session = '', packs = ''] = details.split('|');
  const own = after.sessions.find((each) => each.isOpen && each.number === Number(number));
  const foreign = own?.word === session ? after.foreign : word;
  const sessions = after.sessions.filter((each) => each !== own && !own?.adopted.includes(each.number));
  const backup: Backup = { row: after.count, session, word, packs: listIn(packs) };
  return { ...after, sessions, foreign, backups: [...after.backups, backup], rows: [...after.rows, backup] };
}

function collected(after: Composed, details: string): Composed {
  const [first = '', digest = '', condemned = '', dropped = '', fenced = ''] = details.split('|');
  const gone = listIn(dropped);
  const ended = listIn(condemned);
  const floor = Math.max(after.floor, Number(first));
  return {
    ...after,
    sessions: after.sessions
      .filter(({ number }) => !ended.includes(`${number}/`))
      .map((each) => (listIn(fenced).includes(`${each.number}`) ? { ...each, isOpen: false } : each)),
    condemned: [...after.condemned.filter((name) => !gone.includes(name)), ...ended].sort(),
    floor,
    digest: floor > after.floor ? digest : after.digest,
  };
}
