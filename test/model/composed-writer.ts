/** What a host of the composed model does with the log, and how a writer opens sessions, adopts and commits. */
import {
  beforeOf,
  foldComposed,
  follow,
  isCondemned,
  kindOf,
  lastWord,
  numberOf,
  sessionOf,
} from './composed-chain.ts';
import { prune } from './composed-pruner.ts';
import {
  become,
  type ComposedHost,
  type ComposedShared,
  type ComposedTurn,
  followedRows,
  letterOf,
  listed,
  newestOf,
  pagesIn,
  sorted,
  usable,
  withEntry,
} from './composed-state.ts';

export function step(turn: ComposedTurn): void {
  const { pc, crashes } = turn.self;
  if (pc === 'end') return;
  const isAtWork = pc !== 'idle' || turn.self.session !== '';
  if (isAtWork && crashes < (turn.role.crashes ?? 0)) {
    become(turn, 'crashes', {
      ...anew(turn),
      pc: 'idle',
      sent: '',
      next: null,
      at: turn.self.confirmed,
      crashes: crashes + 1,
    });
  }
  if (pc === 'planned') send(turn);
  else if (pc === 'created' || pc === 'look') look(turn);
  else if (turn.role.kind === 'pruner') prune(turn);
  else write(turn);
}

/** Entry `word` follows what it believes. It counts once it is sent. */
export function plan(turn: ComposedTurn, rest: string, changes: Partial<ComposedHost> = {}): void {
  const { at, built } = turn.self;
  const word = `${letterOf(turn)}${built + 1}${rest}`;
  become(turn, `prepares ${word}`, { ...changes, pc: 'planned', sent: follow(at, word) });
}

const anew = ({ self, keeps }: ComposedTurn) => ({
  ...{ session: '', hasListed: false, found: [], own: [], commits: [] },
  // Nobody goes by these, but for one without the rule.
  past:
    keeps('L12.listed') || self.session === '' ? self.past : sorted([...self.past, Number.parseInt(self.session, 10)]),
});

const over = (turn: ComposedTurn) => ({ ...anew(turn), jobs: turn.self.jobs + 1 });

function write(turn: ComposedTurn): void {
  const { at, session, jobs } = turn.self;
  if (session === '') {
    if (jobs < (turn.role.jobs ?? 1)) open(turn);
    return;
  }
  const [number = '', word = ''] = session.split('|');
  const listedOne = foldComposed(at).sessions.find(
    (each) => each.number === Number(number) && (each.word === word || !turn.keeps('L6.session')),
  );
  if (listedOne?.isOpen) {
    if (!turn.self.hasListed) listFolders(turn, listedOne.adopted);
    else {
      upload(turn, Number(number));
      commit(turn, Number(number), word, listedOne.adopted, listedOne.base);
    }
  } else conclude(turn, word, listedOne !== undefined);
}

/** It fences the open session of its volume, and adopts it with every one that the log lists as fenced. */
function open(turn: ComposedTurn): void {
  const { at, confirmed, rows, past } = turn.self;
  const own = foldComposed(at).sessions.map(({ number }) => number);
  const all = sorted([...own, ...(turn.keeps('L12.listed') ? [] : past)]);
  const adopted = turn.keeps('L12.all') ? all : all.slice(-1);
  const base = listed(followedRows(rows, confirmed, at, turn.keeps)).at(-1) ?? 0;
  plan(turn, `o${base},${adopted.join('+')}${turn.keeps('L12.fence') ? '' : '!'}`);
}

/** Those of the sessions that its `open` names; without that rule also of those that a named one has adopted. */
function listFolders(turn: ComposedTurn, adopted: readonly number[]): void {
  const { sessions } = foldComposed(turn.self.at);
  const deeper = turn.keeps('L12.all') ? [] : sessions.filter(({ number }) => adopted.includes(number));
  const folders = sorted([...adopted, ...deeper.flatMap((each) => each.adopted)]);
  const found = turn.state.store.packs.filter((pack) => folders.includes(sessionOf(pack)));
  become(turn, `lists folders ${folders.join(' ')}: ${found.join(' ') || 'nothing'}`, { hasListed: true, found });
}

function upload(turn: ComposedTurn, session: number): void {
  const { own, jobs } = turn.self;
  if (own.length > 0) return;
  const { store } = turn.state;
  const pack = `${session}/${letterOf(turn)}${jobs}`;
  become(turn, `uploads ${pack}`, { own: [pack] }, { store: { ...store, packs: sorted([...store.packs, pack]) } });
}

/** P4: no pack that it names is condemned. Those of its base are pinned. */
function commit(turn: ComposedTurn, session: number, word: string, adopted: readonly number[], base: number): void {
  const { at, found, own } = turn.self;
  const state = foldComposed(at);
  const isChecked = (pack: string) => [session, ...adopted].includes(sessionOf(pack)) && turn.keeps('L12.checked');
  const named = [...own, ...found].filter((pack) => !isChecked(pack) || !isCondemned(state, pack));
  if (named.length === 0) return;
  const inherited = state.rows.find(({ row }) => row === base)?.packs ?? [];
  plan(turn, `c${session}|${word}|${sorted([...named, ...inherited]).join('+')}`);
}

/** L2: its session is not open any more. */
function conclude(turn: ComposedTurn, word: string, isFenced: boolean): void {
  const { at, confirmed, commits, reported, failed, own } = turn.self;
  const { store } = turn.state;
  if (isFenced && !turn.keeps('L13.named') && own.length > 0) {
    const packs = store.packs.filter((pack) => !own.includes(pack));
    become(turn, 'has been fenced, and deletes its packs', over(turn), { store: { ...store, packs } });
  }
  if (at !== confirmed) {
    become(turn, 'looks before it gives up', { pc: 'look' });
    return;
  }
  const failure = { ...over(turn), failed: [...failed, ...commits] };
  const isOwn = (of: { session: string; word: string }) =>
    commits.includes(of.word) || (of.session === word && !turn.keeps('P5.wholeBytes'));
  const found = foldComposed(at).backups.find(isOwn);
  if (found) {
    const said = commits.includes(found.word) ? found.word : (commits.at(-1) ?? '');
    become(turn, 'finds its backup: success', { ...over(turn), reported: [...reported, said] });
  } else if (isFenced) become(turn, 'is fenced: failure', failure);
  else if (commits.length === 0) become(turn, 'finds no session of its own: the job starts again', over(turn));
  else if (turn.keeps('L2.unknown')) become(turn, 'finds neither session nor backup: COMMIT_UNKNOWN', over(turn));
  else become(turn, 'finds neither session nor backup: failure', failure);
}

function send(turn: ComposedTurn): void {
  const { state, self, role } = turn;
  const { sent, at, commits } = self;
  const built = self.built + 1;
  const word = lastWord(sent);
  const number = numberOf(sent);
  const isCommit = kindOf(word) === 'c';
  const tried = isCommit ? sorted([...commits, word]) : commits;
  const there = state.store.log[number];
  if (there && there !== sent) {
    if (beforeOf(there) === at) become(turn, `finds another's ${number}`, { pc: 'idle', at: there, sent: '' });
    else become(turn, `finds an entry ${number} that does not follow`, { pc: 'look', commits: tried });
    return;
  }
  const after = withEntry(state, sent);
  if (kindOf(word) === 'o') {
    const session = `${number}|${word}`;
    become(turn, `creates ${number}, ${word}`, { pc: 'idle', at: sent, sent: '', session, built }, after);
  } else if (turn.keeps('L2.confirm'))
    become(turn, `creates ${number}, ${word}`, { pc: 'created', commits: tried, built }, after);
  else believe(turn, { ...after.shared }, after.store);
  if (!isCommit || !role.isLate || state.shared.net.length > 0) return;
  const shared = { ...state.shared, net: [sent] };
  become(turn, `sends ${word} to ${number}: no answer`, { commits: tried, pc: 'look', built }, { shared });
}

/** Not the way: what was created counts as written. */
function believe(turn: ComposedTurn, shared: ComposedShared, store: ComposedTurn['state']['store']): void {
  const { sent, reported, rows, confirmed } = turn.self;
  const word = lastWord(sent);
  const base = { pc: 'idle', at: sent, confirmed: sent, sent: '', built: turn.self.built + 1 } as const;
  const own = { ...base, rows: followedRows(rows, confirmed, sent, turn.keeps) };
  const success = kindOf(word) === 'c' ? { ...over(turn), reported: [...reported, word] } : {};
  become(turn, `creates ${word}, and believes it`, { ...own, ...success }, { store, shared: permitted(shared, sent) });
}

/** In one moment: what happens in between is explored by itself (`looking.ts`). */
function look(turn: ComposedTurn): void {
  const { state, self } = turn;
  const { sent, confirmed, reported, commits } = self;
  const newest = newestOf(state.store);
  const read = state.store.log[newest]!;
  const { through } = foldComposed(read);
  const isFollowed =
    read.startsWith(confirmed) &&
    through.every((each, number) => number <= numberOf(confirmed) || state.store.log[number] === each);
  const [checkpoint] = usable(state.store, read);
  const from = isFollowed ? { chain: confirmed, rows: self.rows } : checkpoint;
  if (!from) {
    become(turn, 'finds no checkpoint', { pc: 'end', mistake: `entry ${newest} can't be opened` });
    return;
  }
  const rows = followedRows(from.rows, from.chain, read, turn.keeps);
  const base = { pc: 'idle', at: read, confirmed: read, sent: '', rows } as const;
  const isOwn = sent !== '' && read === sent;
  const word = lastWord(sent);
  const isSuccess = (isOwn || (sent !== '' && through[numberOf(sent)] === sent && isFollowed)) && kindOf(word) === 'c';
  const isGone = sent !== '' && kindOf(word) === 'c' && !isSuccess && !turn.keeps('L2.state') && !isFollowed;
  const outcome = isSuccess
    ? { ...over(turn), reported: [...reported, word] }
    : isGone
      ? { ...over(turn), failed: [...self.failed, ...commits] }
      : {};
  const label = isOwn ? `lists: its own is the newest` : `opens entry ${newest}`;
  become(turn, label, { ...base, ...outcome }, { shared: permitted(state.shared, read) });
}

/** What anyone may delete who goes by this state. */
function permitted(shared: ComposedShared, chain: string): ComposedShared {
  const { floor, digest, condemned } = foldComposed(chain);
  const isKnown = floor === 0 || shared.floors.some(({ number }) => number === floor);
  const floors = isKnown ? shared.floors : [...shared.floors, { number: floor, pages: pagesIn(digest) }];
  const doomed = sorted([...shared.doomed, ...condemned]);
  return { ...shared, floors, doomed };
}
