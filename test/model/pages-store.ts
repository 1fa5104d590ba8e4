/** What is stored of pages and checkpoints, and a turn of somebody who works with them. */
import type { Emit } from './explore.ts';
import {
  type Checkpoint,
  floorAt,
  isSame,
  newest,
  numberOfPage,
  type PagesActor,
  type PagesRole,
  type PagesState,
  type PagesStore,
  type PagesWorld,
} from './pages-state.ts';

export interface PagesTurn {
  readonly state: PagesState;
  readonly index: number;
  readonly role: PagesRole;
  readonly world: PagesWorld;
  readonly emit: Emit<PagesState>;
}

export function become(
  { state, index, role, emit }: PagesTurn,
  label: string,
  changes: Partial<PagesActor>,
  store: PagesStore = state.store,
): void {
  const actors = state.actors.with(index, { ...state.actors[index]!, ...changes });
  emit(`${role.kind} ${'abcd'[index]} ${label}`, { ...state, store, actors });
}

export const isObjectThere = ({ pages, damaged }: PagesStore, object: string): boolean =>
  pages.includes(object) && !damaged.includes(object);

export const isThere = (store: PagesStore, page: string): boolean =>
  isObjectThere(store, page) || isObjectThere(store, `${page}+`);

export const isReadable = ({ damaged }: PagesStore, { number }: Checkpoint): boolean => !damaged.includes(`${number}`);

export const isNamedOrNewer = (page: string, number: number, named: readonly string[]): boolean =>
  numberOfPage(page) >= number || named.includes(page);

/** From which checkpoints the newest state can be opened: those from the floor on, newest first. That of the floor has its digest. */
export function openable({ log, store }: PagesState): Checkpoint[] {
  const floor = floorAt(log, newest(log))?.floor;
  return store.checkpoints
    .filter((each) => isReadable(store, each) && each.number >= (floor?.number ?? 0))
    .filter((each) => !floor || each.number > floor.number || isSame(each, floor))
    .toReversed();
}

/** Create-only; a page that is there has the same bytes. */
export function withPage(store: PagesStore, page: string, isGarbage = false): PagesStore {
  if (store.pages.includes(page)) return store;
  const damaged = isGarbage ? [...store.damaged, page].sort() : store.damaged;
  return { ...store, pages: [...store.pages, page].sort(), damaged };
}

/** Undefined where there is one already. */
export function withCheckpoint(store: PagesStore, checkpoint: Checkpoint, world: PagesWorld): PagesStore | undefined {
  const { checkpoints } = store;
  const other = checkpoints.find((each) => each.number === checkpoint.number);
  const { isSingleWriter } = world.configuration;
  const areBoth = isSingleWriter && world.keeps('P13.checkpointKeys');
  const isCreateOnly = !isSingleWriter && world.keeps('L1.createOnly');
  if (areBoth ? checkpoints.some((each) => isSame(each, checkpoint)) : other && isCreateOnly) return undefined;
  const rest = areBoth ? checkpoints : checkpoints.filter((each) => each !== other);
  const text = (each: Checkpoint) => `${each.number + 100} ${each.pages.join(' ')}`;
  const all = [...rest, checkpoint].sort((a, b) => (text(a) < text(b) ? -1 : 1));
  return { ...store, checkpoints: all };
}
