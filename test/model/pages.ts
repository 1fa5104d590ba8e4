/**
 * L8, L9 and L11: a state whose rows lie in pages that belong to checkpoints. Entries are appended in order here (L2: what is not
 * seen in the log has no consequence), but everybody sleeps between looking, putting pages, creating a checkpoint, reading two of
 * them back and saying so. What was once deletable stays deletable: that is a late, a repeated and a crashed prune in one.
 */
import type { Emit, Model } from './explore.ts';
import { Interned } from './interned.ts';
import { damageReported, lostFloor, lostPage, wrongRows } from './pages-invariants.ts';
import { readOn } from './pages-reader.ts';
import {
  type Checkpoint,
  floorAt,
  isSame,
  logical,
  newest,
  numberOfPage,
  objectsOf,
  type PagesActor,
  type PagesConfiguration,
  type PagesLog,
  type PagesState,
  type PagesStore,
  type PagesWorld,
  start,
} from './pages-state.ts';
import {
  isNamedOrNewer,
  isObjectThere,
  isReadable,
  isThere,
  type PagesTurn,
  withCheckpoint,
  withPage,
} from './pages-store.ts';
import { write } from './pages-writer.ts';
import type { Rule } from './rules.ts';

export function pagesModel(configuration: PagesConfiguration, without: readonly Rule[] = []): Model<PagesState> {
  const world: PagesWorld = { configuration, keeps: (rule) => !without.includes(rule) };
  const codec = new Interned<PagesState>(
    ({ log, store, actors }) => [log, store, ...actors],
    ([log, store, ...actors]) => ({
      ...{ log: log as PagesLog, store: store as PagesStore, actors: actors as PagesActor[] },
    }),
  );
  return {
    initial: () => start(world),
    successors: (state, emit) => {
      appendNext(state, configuration, emit);
      land(state, world, emit);
      remove(state, world, emit);
      lose(state, configuration, emit);
      for (const [index, role] of configuration.roles.entries()) {
        const turn: PagesTurn = { state, index, role, world, emit };
        if (role.kind === 'writer') write(turn);
        else if (role.kind === 'pruner') prune(turn);
        else readOn(turn);
      }
    },
    encode: (state) => codec.encode(state),
    decode: (bytes) => codec.decode(bytes),
    // Everybody may die anywhere.
    mayRest: () => true,
    invariants: [
      { name: 'the state is what was committed and not forgotten', broken: (state) => wrongRows(state, world) },
      { name: 'checkpoint F, the second one and their pages are there', broken: (state) => lostFloor(state, world) },
      { name: 'a checkpoint of a state with the present floor has its pages', broken: lostPage },
      { name: 'I8: no damage is reported that is not there', broken: damageReported },
    ],
  };
}

/** The next entry. What a pruner has read was for the one before: its `collect` would be refused, or nobody would see it. */
function appended(state: PagesState, word: string): PagesState {
  const log = { ...state.log, words: [...state.log.words, word] };
  const actors = state.actors.map((actor) =>
    actor.pc === 'read' ? { ...actor, pc: 'idle' as const, two: null } : actor,
  );
  return { ...state, log, actors };
}

function appendNext(state: PagesState, configuration: PagesConfiguration, emit: Emit<PagesState>): void {
  const { words } = state.log;
  const before = configuration.checkpoints?.length ?? 0;
  const word = configuration.entries[words.filter((each) => each !== 'k').length - before];
  if (word === undefined) return;
  const row = Number(word.slice(1));
  if ('fo'.includes(word.charAt(0)) && !logical(words, configuration).live.includes(row)) return;
  emit(`entry ${newest(state.log) + 1}: ${word}`, appended(state, word));
}

function land(state: PagesState, world: PagesWorld, emit: Emit<PagesState>): void {
  for (const [index, put] of state.store.late.entries()) {
    const store = { ...state.store, late: state.store.late.toSpliced(index, 1) };
    if (typeof put === 'string') emit(`a late PUT of page ${put} lands`, { ...state, store: withPage(store, put) });
    else {
      const label = `a late PUT of checkpoint ${put.number} with pages ${put.pages.join(' ')} lands`;
      emit(label, { ...state, store: withCheckpoint(store, put, world) ?? store });
    }
  }
}

function remove(state: PagesState, world: PagesWorld, emit: Emit<PagesState>): void {
  const { log, store } = state;
  for (const page of store.pages) {
    if (!isDeletable(state, page, world)) continue;
    const pages = store.pages.filter((each) => each !== page);
    const damaged = store.damaged.filter((each) => each !== page);
    emit(`page ${page} is deleted`, { ...state, store: { ...store, pages, damaged } });
  }
  const last = log.floors.at(-1);
  for (const checkpoint of store.checkpoints) {
    if (!last || checkpoint.number >= last.floor.number) continue;
    emit(`checkpoint ${checkpoint.number} is deleted`, { ...state, store: withoutCheckpoint(store, checkpoint) });
  }
}

function withoutCheckpoint(store: PagesStore, checkpoint: Checkpoint): PagesStore {
  const checkpoints = store.checkpoints.filter((each) => each !== checkpoint);
  const damaged = store.damaged.filter((each) => each !== `${checkpoint.number}`);
  return { ...store, checkpoints, damaged };
}

/** By any floor that was ever confirmed. */
function isDeletable({ log, store }: PagesState, object: string, { keeps }: PagesWorld): boolean {
  if (!keeps('L8.number')) return store.doomed.includes(object);
  const page = object.replace('+', '');
  return log.floors.some(({ floor }) => {
    if (numberOfPage(page) >= floor.number) return false;
    if (!floor.pages.includes(page)) return true;
    if (keeps('L8.digest')) return false;
    return store.checkpoints.some(({ number, pages }) => number === floor.number && !pages.includes(page));
  });
}

/** One checkpoint, or one page, by accident. */
function lose(state: PagesState, configuration: PagesConfiguration, emit: Emit<PagesState>): void {
  const { store } = state;
  const { accidents = 0, lostPages = 0 } = configuration;
  if (store.accidents >= accidents + lostPages) return;
  const counted = { ...store, accidents: store.accidents + 1 };
  for (const checkpoint of accidents > 0 ? store.checkpoints : []) {
    emit(`checkpoint ${checkpoint.number} is lost`, { ...state, store: withoutCheckpoint(counted, checkpoint) });
    const damaged = [...store.damaged, `${checkpoint.number}`];
    if (isReadable(store, checkpoint))
      emit(`checkpoint ${checkpoint.number} is damaged`, { ...state, store: { ...counted, damaged } });
  }
  for (const page of lostPages > 0 ? store.pages : []) {
    emit(`page ${page} is lost`, {
      ...state,
      store: { ...counted, pages: store.pages.filter((each) => each !== page) },
    });
  }
}

function prune({ state, index, role, world, emit }: PagesTurn): void {
  const { log, store } = state;
  const actor = state.actors[index]!;
  const name = `pruner ${'abcd'[index]}`;
  const become = (label: string, changes: Partial<PagesActor>, rest: Partial<PagesState> = {}) => {
    const next = { ...state, ...rest };
    emit(`${name} ${label}`, { ...next, actors: next.actors.with(index, { ...actor, ...changes }) });
  };
  if (actor.pc === 'idle' && actor.jobs < (role.jobs ?? 1)) {
    for (const floor of store.checkpoints) {
      for (const second of store.checkpoints) {
        if (!mayBeFloor(state, floor, second, world)) continue;
        const label = `reads back checkpoints ${floor.number} with pages ${floor.pages.join(' ')}, ${second.number} with pages ${second.pages.join(' ')}`;
        become(label, { pc: 'read', two: [floor, second] });
      }
    }
  }
  if (actor.pc === 'read') {
    const [floor, second] = actor.two!;
    const after = appended(state, 'k');
    const floors = [...log.floors, { at: newest(after.log), floor, second }];
    const changes = { pc: 'idle', two: null, jobs: actor.jobs + 1 } as const;
    become(`collects: entry ${newest(after.log)} with floor ${floor.number}`, changes, {
      ...after,
      log: { ...after.log, floors },
    });
  }
  if (!world.keeps('L8.number') && log.floors.length > 0) {
    const { number } = log.floors.at(-1)!.floor;
    const named = store.checkpoints.filter((each) => each.number >= number).flatMap(({ pages }) => pages);
    const doomed = store.pages.filter((page) => !named.includes(page));
    if (doomed.some((page) => !store.doomed.includes(page))) {
      const all = [...new Set([...store.doomed, ...doomed])].sort();
      become(`lists, and is going to delete ${doomed.join(' ')}`, {}, { store: { ...store, doomed: all } });
    }
  }
}

/** Of the present floor 0 there is no condition: nothing was ever deleted. */
function mayBeFloor({ log, store }: PagesState, floor: Checkpoint, second: Checkpoint, world: PagesWorld): boolean {
  const { keeps } = world;
  const pages = [...floor.pages, ...second.pages];
  const present = floorAt(log, newest(log))?.floor;
  if (floor.number <= (present?.number ?? 0) || second.number <= floor.number) return false;
  if (!isReadable(store, floor) || !isReadable(store, second)) return false;
  if (keeps('L8.readBack') && !pages.every((page) => isThere(store, page))) return false;
  const objects = pages.flatMap((page) => objectsOf(page, world));
  if (keeps('L8.readBack') && keeps('L8.readBoth') && !objects.every((each) => isObjectThere(store, each)))
    return false;
  const hasList = present && store.checkpoints.some((each) => isSame(each, present)) && isReadable(store, present);
  const named = hasList ? present.pages : [];
  if (present && keeps('L8.candidate') && !floor.pages.every((page) => isNamedOrNewer(page, present.number, named)))
    return false;
  return !keeps('L8.second') || second.pages.every((page) => isNamedOrNewer(page, floor.number, floor.pages));
}
