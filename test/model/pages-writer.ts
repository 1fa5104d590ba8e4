/** A writer of checkpoints: it follows the log, merges rows into pages, puts them, and creates the checkpoint that names them. */
import {
  type Checkpoint,
  floorAt,
  followed,
  isSame,
  logical,
  type Merge,
  newest,
  objectsOf,
  type PagesState,
  type PagesWorld,
  rowsOfPage,
  sorted,
} from './pages-state.ts';
import {
  become,
  isNamedOrNewer,
  isReadable,
  isThere,
  openable,
  type PagesTurn,
  withCheckpoint,
  withPage,
} from './pages-store.ts';

export function write(turn: PagesTurn): void {
  const { state, index, role } = turn;
  const { pc, jobs, own } = state.actors[index]!;
  const merges = role.makes?.[jobs];
  if (pc === 'idle') mend(turn);
  if (pc === 'idle' && merges) {
    if (own.number < newest(state.log)) {
      const after = followed(own, state.log, turn.world);
      become(turn, `follows the log to entry ${after.number}`, { own: after });
    }
    if (role.reopens) reopen(turn);
    for (const merge of merges) make(turn, merge);
  }
  if (pc === 'put') put(turn);
  if (pc === 'made') create(turn);
}

/** From any checkpoint: newer ones may be damaged, or not have their pages. */
function reopen(turn: PagesTurn): void {
  const { state, index, world } = turn;
  for (const checkpoint of openable(state)) {
    const own = followed(checkpoint, state.log, world);
    if (isSame(own, state.actors[index]!.own)) continue;
    become(
      turn,
      `opens entry ${own.number} from checkpoint ${checkpoint.number} with pages ${checkpoint.pages.join(' ')}`,
      { own },
    );
  }
}

function make(turn: PagesTurn, merge: Merge): void {
  const { state, index, world } = turn;
  const { own } = state.actors[index]!;
  const made = merged(turn, merge);
  if (!made || !followsFloor(state, made.next, world)) return;
  const { next, page } = made;
  if (page === '' && state.store.checkpoints.some((each) => isSame(each, next))) return;
  const label = page === '' ? 'with no new page' : `with new page ${page}`;
  become(turn, `makes checkpoint ${own.number} of pages ${next.pages.join(' ')}, ${label}`, {
    pc: page === '' ? 'made' : 'put',
    next,
    page,
  });
}

/** L8.lineage, of the floor of its own state; the list of checkpoint F counts as long as it can be read. */
function followsFloor({ log, store }: PagesState, next: Checkpoint, { keeps }: PagesWorld): boolean {
  const floor = floorAt(log, next.number)?.floor;
  if (!floor || !keeps('L8.lineage')) return true;
  const isListed = store.checkpoints.some((each) => isSame(each, floor)) && isReadable(store, floor);
  return next.pages.every((page) => isNamedOrNewer(page, floor.number, isListed ? floor.pages : []));
}

/** The own state with some of its rows in a new page. Undefined if a page of those can't be read, or there is nothing to merge. */
function merged({ state, index, world }: PagesTurn, merge: Merge): { next: Checkpoint; page: string } | undefined {
  const { configuration, keeps } = world;
  const { own } = state.actors[index]!;
  if (merge === 'nothing') return { next: own, page: '' };
  const replaced = merge === 'hot' ? [] : merge === 'oldest' ? own.pages.slice(0, 1) : own.pages;
  if (!replaced.every((page) => isThere(state.store, page))) return undefined;
  const old = replaced.flatMap(rowsOfPage);
  const rows = sorted([...own.hot, ...old.filter((row) => !own.forgotten.includes(row))]);
  const seal = configuration.areAlike ? '' : `:${'abcd'[index]}`;
  const page = rows.length > 0 ? `${own.number}:${rows.join('.')}${seal}` : '';
  if (page === '' && replaced.length === 0) return undefined;
  const { bases } = logical(state.log.words.slice(0, own.number - 1), configuration);
  const kept = own.forgotten.filter((row) => old.includes(row) && bases.includes(row) && keeps('L9.base'));
  const pages = [...own.pages.filter((each) => !replaced.includes(each)), ...(page === '' ? [] : [page])].sort();
  const forgotten = own.forgotten.filter((row) => !old.includes(row));
  return { next: { ...own, pages, hot: [], forgotten, pinned: sorted([...own.pinned, ...kept]) }, page };
}

/** One object after another. */
function put(turn: PagesTurn): void {
  const { state, index, world } = turn;
  const { page } = state.actors[index]!;
  const { store } = state;
  const { lates = 0, garbage = 0 } = world.configuration;
  const second = objectsOf(page, world)[1];
  const after = second && !page.endsWith('+') ? { page: second } : ({ pc: 'made', page: '' } as const);
  become(turn, `puts page ${page}`, after, withPage(store, page));
  if (store.lates < lates) {
    const late = { ...store, late: [...store.late, page], lates: store.lates + 1 };
    become(turn, `puts page ${page}: no answer`, world.keeps('L8.first') ? {} : after, late);
  }
  if (garbage > 0 && store.damaged.every((each) => !each.includes(':')) && !store.pages.includes(page)) {
    become(turn, `puts page ${page}, and it is garbage`, after, withPage(store, page, true));
  }
}

/** An object that is lost is put again, of the other one. */
function mend(turn: PagesTurn): void {
  const { state, index, world } = turn;
  const { store } = state;
  if (!world.configuration.lostPages) return;
  for (const page of state.actors[index]!.own.pages) {
    if (!isThere(store, page)) continue;
    for (const object of objectsOf(page, world)) {
      if (!store.pages.includes(object)) become(turn, `puts page ${object} again`, {}, withPage(store, object));
    }
  }
}

/** Where there is one already, it goes on from its own pages: it makes no difference which. */
function create(turn: PagesTurn): void {
  const { state, index, world } = turn;
  const { next, own, jobs } = state.actors[index]!;
  const { store } = state;
  const done = { pc: 'idle', next: null, jobs: jobs + 1 } as const;
  const after = withCheckpoint(store, next!, world);
  if (after) become(turn, `creates checkpoint ${own.number}`, { ...done, own: next! }, after);
  else {
    become(turn, `finds checkpoint ${own.number} there, and goes on from its own pages`, { ...done, own: next! });
    become(turn, `finds checkpoint ${own.number} there, and keeps the pages that it had`, done);
  }
  if (store.lates < (world.configuration.lates ?? 0)) {
    const late = { ...store, late: [...store.late, next!], lates: store.lates + 1 };
    become(turn, `creates checkpoint ${own.number}: no answer`, {}, late);
    become(turn, `creates checkpoint ${own.number}: no answer, and goes on`, done, late);
  }
}
