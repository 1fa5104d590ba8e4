/** What must hold of pages and checkpoints. */
import {
  type Checkpoint,
  floorAt,
  isSame,
  listed,
  logical,
  newest,
  type PagesLog,
  type PagesState,
  type PagesWorld,
  rowsOfPage,
} from './pages-state.ts';
import { isReadable, isThere } from './pages-store.ts';

/** Of every checkpoint, stored or on its way, and of what everybody has in memory. */
export function wrongRows({ log, store, actors }: PagesState, world: PagesWorld): string | undefined {
  for (const each of store.checkpoints) {
    const wrong = wrongState(each, log, world);
    if (wrong) return wrong;
  }
  for (const { own, next } of actors) {
    const wrong = wrongState(own, log, world) || (next ? wrongState(next, log, world) : '');
    if (wrong) return wrong;
  }
  return undefined;
}

const found = new WeakMap<PagesWorld, WeakMap<Checkpoint, Map<string, string>>>();

/** The same states are met again and again: what was found is remembered, by the entries up to the state's number. */
function wrongState(state: Checkpoint, { words }: PagesLog, world: PagesWorld): string {
  const ofWorld = found.get(world) ?? new WeakMap<Checkpoint, Map<string, string>>();
  found.set(world, ofWorld);
  const ofState = ofWorld.get(state) ?? new Map<string, string>();
  ofWorld.set(state, ofState);
  const entries = words.slice(0, state.number - 1);
  const key = entries.join();
  const known = ofState.get(key);
  if (known !== undefined) return known;
  const wrong = compared(state, entries, world);
  ofState.set(key, wrong);
  return wrong;
}

function compared(state: Checkpoint, entries: readonly string[], world: PagesWorld): string {
  const { live, bases, heads } = logical(entries, world.configuration);
  const rows = listed(state);
  if (rows.join() !== live.join())
    return `state ${state.number} lists ${rows.join(' ')}, and live are ${live.join(' ')}`;
  const there = [...state.hot, ...state.pinned, ...state.pages.flatMap(rowsOfPage)];
  const base = bases.find((row) => !there.includes(row));
  if (base !== undefined) return `state ${state.number} does not have row ${base}, the base of an open session`;
  const own = headsOf(state, world);
  if (own.join() === heads.join()) return '';
  return `in state ${state.number} the newest backups are ${own.join(' ')}, and not ${heads.join(' ')}`;
}

/** Without L9.head the newest backup is the newest one that has a row. */
function headsOf({ heads, hot, pages }: Checkpoint, { configuration, keeps }: PagesWorld): readonly number[] {
  if (keeps('L9.head')) return heads;
  const rows = [...hot, ...pages.flatMap(rowsOfPage)];
  return heads.map((_, volume) => Math.max(0, ...rows.filter((row) => configuration.volumes[row - 1] === volume)));
}

/** Both; one of them if a checkpoint was lost. */
export function lostFloor({ log, store }: PagesState, { configuration }: PagesWorld): string | undefined {
  const last = log.floors.at(-1);
  if (!last) return undefined;
  const problems: string[] = [];
  for (const each of [last.floor, last.second]) {
    const page = each.pages.find((name) => !isThere(store, name));
    if (!store.checkpoints.some((other) => isSame(other, each)) || !isReadable(store, each))
      problems.push(`checkpoint ${each.number} is gone`);
    else if (page !== undefined) problems.push(`page ${page} of checkpoint ${each.number} is gone`);
  }
  const allowed = configuration.accidents ? store.accidents : 0;
  return problems.length > allowed ? problems.join(', ') : undefined;
}

/** L8.lineage: what a checkpoint names that was made of a state with the present floor. */
export function lostPage({ log, store }: PagesState): string | undefined {
  const last = floorAt(log, newest(log));
  if (!last) return undefined;
  for (const { number, pages } of store.checkpoints) {
    const page =
      number >= last.at ? pages.find((name) => !store.pages.some((each) => each.replace('+', '') === name)) : undefined;
    if (page !== undefined) return `page ${page} of checkpoint ${number} is gone`;
  }
  return undefined;
}

export const damageReported = ({ actors }: PagesState): string | undefined =>
  actors.find(({ mistake }) => mistake !== '')?.mistake;
