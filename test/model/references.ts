/** Which places a map may refer to at a point of the log (P4, P9, P10), and what lies below a place. */
import { type Contents, packName, packOf, place, SLOTS, sessionOf, slotOf } from './objects.ts';
import { isPresent, packAt, type State } from './state.ts';
import { isCondemned, ownSessions, resolve, type View } from './view.ts';
import type { World } from './world.ts';

export function contentsOf(world: World, state: State, pack: number): Contents | undefined {
  const found = packAt(state, pack);
  return found && world.registry.contents(found.contents);
}

export const childrenOf = (world: World, state: State, at: number): readonly number[] =>
  contentsOf(world, state, packOf(at))?.slots[slotOf(at)] ?? [];

/** Everything below these places, themselves left out. */
export function closureOf(world: World, state: State, items: readonly number[]): number[] {
  const seen = new Set<number>();
  const stack = [...items];
  for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
    for (const child of childrenOf(world, state, at)) {
      if (seen.has(child)) continue;
      seen.add(child);
      stack.push(child);
    }
  }
  return [...seen].filter((at) => !items.includes(at)).sort((a, b) => a - b);
}

/** P4's test of one place, for a session (0 for nobody's). */
export function isAcceptable(world: World, state: State, view: View, session: number, at: number): boolean {
  const { keeps } = world;
  const pack = packOf(at);
  if (session > 0 && ownSessions(view, session).includes(sessionOf(pack))) {
    if (view.known[pack] || !keeps('P1.looked')) return true;
    const isForgottenInFold = !keeps('P6.adoptListed') && !view.lastCondemnedSessions.includes(sessionOf(pack));
    return isForgottenInFold || !isCondemned(view, pack);
  }
  if (resolve(view, at)) return true;
  if (!keeps('P4.known') && !view.lastCondemned.includes(pack)) return true;
  if (!keeps('P10.dedup') && !isCondemned(view, pack) && isPresent(state, pack)) return true;
  if (!keeps('P7.forEver') && isPresent(state, pack)) return true;
  if (!keeps('P9.location') && movedFrom(view, pack)) return true;
  return false;
}

function movedFrom(view: View, pack: number): boolean {
  for (let slot = 0; slot < SLOTS; slot++) if (resolve(view, place(pack, slot))) return true;
  return false;
}

/** Places that live backups and pinned bases need, followed through the tables, and the tables' packs. */
export function marks(world: World, view: View, unread?: number): { places: Set<number>; packs: Set<number> } {
  const places = new Set<number>();
  const packs = new Set<number>();
  const pinned = new Set(
    world.keeps('P3.pin') ? view.sessions.flatMap((s) => (s?.state === 'open' ? [...s.bases] : [])) : [],
  );
  for (const backup of view.backups) {
    if ((!backup.isLive && !pinned.has(backup.id)) || backup.id === unread) continue;
    for (const at of [...backup.items, ...backup.closure]) {
      const found = world.keeps('P9.marks') ? resolve(view, at) : { at, table: -1 };
      if (!found) continue;
      places.add(found.at);
      packs.add(packOf(found.at));
      if (found.table >= 0) packs.add(found.table);
    }
  }
  return { places, packs };
}

export const packNames = (packs: readonly number[]): string => packs.map(packName).join(' ') || 'nothing';
