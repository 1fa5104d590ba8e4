/** A pruner of the composed model: it forgets, writes checkpoints and pages, and collects. */
import { foldComposed, isCondemned, numberOf, sessionOf } from './composed-chain.ts';
import {
  become,
  type Checkpoint,
  type ComposedTurn,
  digestOf,
  held,
  letterOf,
  listed,
  type Merge,
  numberOfPage,
  pagesIn,
  type Rows,
  rowsOfPage,
  sorted,
  usable,
  withCheckpoint,
} from './composed-state.ts';
import { plan } from './composed-writer.ts';

export function prune(turn: ComposedTurn): void {
  const { self, role, state } = turn;
  if (self.pc === 'paged') {
    create(turn);
    return;
  }
  if (self.at !== self.confirmed) {
    become(turn, 'looks', { pc: 'look' });
    return;
  }
  if (state.store.log.at(-1) !== self.at) become(turn, 'looks', { pc: 'look' });
  const [oldest] = listed(self.rows);
  if (self.forgets < (role.forgets ?? 0) && oldest !== undefined) {
    plan(turn, `f${oldest}`, { forgets: self.forgets + 1 });
  }
  for (const merge of role.makes?.[self.made] ?? []) make(turn, merge);
  if (self.jobs < (role.jobs ?? 1)) collect(turn);
}

const isNamedOrNewer = (page: string, number: number, named: readonly string[]): boolean =>
  numberOfPage(page) >= number || named.includes(page);

/** The own state, some of its rows in a new page, which is stored first. */
function make(turn: ComposedTurn, merge: Merge): void {
  const { self, state } = turn;
  const { at, rows } = self;
  const { floor, digest, sessions } = foldComposed(at);
  const replaced = merge === 'all' ? rows.pages : [];
  const old = replaced.flatMap(rowsOfPage);
  const taken = merge === 'nothing' ? [] : sorted([...rows.hot, ...old.filter((row) => !rows.forgotten.includes(row))]);
  if (merge !== 'nothing' && taken.length + replaced.length === 0) return;
  if (!replaced.every((page) => state.store.pages.includes(page))) return;
  const page = taken.length === 0 ? [] : [`${numberOf(at)}:${taken.join('.')}:${letterOf(turn)}`];
  const bases = sessions.filter(({ isOpen }) => isOpen).map(({ base }) => base);
  const kept = rows.forgotten.filter((row) => old.includes(row) && bases.includes(row) && turn.keeps('L9.base'));
  const next: Rows = {
    pages: [...rows.pages.filter((each) => !replaced.includes(each)), ...page].sort(),
    hot: merge === 'nothing' ? rows.hot : [],
    forgotten: rows.forgotten.filter((row) => !old.includes(row)),
    pinned: sorted([...rows.pinned, ...kept]),
  };
  const isSafe = next.pages.every((each) => isNamedOrNewer(each, floor, pagesIn(digest)));
  if (!isSafe && turn.keeps('L8.lineage')) return;
  const checkpoint: Checkpoint = { letter: letterOf(turn), chain: at, rows: next };
  const pages = sorted([...state.store.pages, ...page]);
  const label = `stores page ${page[0] ?? '-'} for checkpoint ${numberOf(at)}`;
  become(turn, label, { pc: 'paged', next: checkpoint }, { store: { ...state.store, pages } });
}

function create(turn: ComposedTurn): void {
  const { self, state } = turn;
  const next = self.next!;
  const store = withCheckpoint(state.store, next);
  // Where there is one of this number, it keeps the pages that it had.
  const rows = store === state.store ? self.rows : next.rows;
  const label = `creates checkpoint ${numberOf(next.chain)} of pages ${next.rows.pages.join(' ')}`;
  become(turn, label, { pc: 'idle', next: null, made: self.made + 1, rows }, { store });
}

/** Fences, condemns one session or what nobody needs, drops what is gone, and sets the floor. */
function collect(turn: ComposedTurn): void {
  const { self, role, state } = turn;
  const fold = foldComposed(self.at);
  const { store } = state;
  const isThere = (name: string) => store.packs.some((pack) => pack === name || name === `${sessionOf(pack)}/`);
  const dropped = fold.condemned.filter((name) => !isThere(name));
  const pair = floorOf(turn);
  const floor = pair ? `${numberOf(pair.chain)}|${digestOf(pair)}` : '0|';
  const say = (condemned: readonly string[], fenced: readonly number[]) =>
    plan(turn, `k${floor}|${condemned.join('+')}|${dropped.join('+')}|${fenced.join('+')}`, { jobs: self.jobs + 1 });
  const adopted = fold.sessions.flatMap((session) => (session.isOpen ? session.adopted : []));
  if (role.fences) for (const { number, isOpen } of fold.sessions) if (isOpen) say([], [number]);
  if (role.condemns) {
    for (const { number, isOpen } of fold.sessions) {
      if (!isOpen && (!adopted.includes(number) || !turn.keeps('L12.spared'))) say([`${number}/`], []);
    }
    const spared = [...fold.sessions.map(({ number }) => number), ...(turn.keeps('L12.spared') ? adopted : [])];
    const live = new Set(marked(turn));
    const unneeded = store.packs.filter(
      (pack) => !spared.includes(sessionOf(pack)) && !live.has(pack) && !isCondemned(fold, pack),
    );
    if (unneeded.length > 0) say(unneeded, []);
  }
  if (pair || dropped.length > 0) say([], []);
}

/** The packs of all rows that its state has, and of the bases of open sessions. */
function marked({ self, keeps }: ComposedTurn): string[] {
  const { rows, sessions } = foldComposed(self.at);
  const bases = sessions.filter(({ isOpen }) => isOpen).map(({ base }) => base);
  const pinned = keeps('P3.pin') ? bases.filter((base) => held(self.rows).includes(base)) : [];
  const live = [...listed(self.rows), ...pinned];
  return rows.filter(({ row }) => live.includes(row)).flatMap(({ packs }) => packs);
}

/** L1, L8: the older of the newest two that it has read back, with their pages. */
function floorOf({ self, role, state, keeps }: ComposedTurn): Checkpoint | undefined {
  if (role.raisesFloor === false) return undefined;
  const { floor, digest } = foldComposed(self.at);
  const good = usable(state.store, self.at);
  const isNext = (each: Checkpoint) =>
    numberOf(each.chain) > floor &&
    (floor === 0 ||
      !keeps('L8.candidate') ||
      each.rows.pages.every((page) => isNamedOrNewer(page, floor, pagesIn(digest))));
  const isSecond = (second: Checkpoint, first: Checkpoint) =>
    !keeps('L8.second') ||
    second.rows.pages.every((page) => isNamedOrNewer(page, numberOf(first.chain), first.rows.pages));
  if (!keeps('L1.two')) return good.find(isNext);
  for (const [index, second] of good.entries()) {
    const first = good.slice(index + 1).find((each) => isNext(each) && isSecond(second, each));
    if (first) return first;
  }
  return undefined;
}
