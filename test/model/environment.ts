/** What happens by itself: late requests land, anybody deletes what is condemned, the host forgets. */
import type { Emit } from './explore.ts';
import { packName } from './objects.ts';
import { nameOf } from './send.ts';
import { BUSY, END, IDLE, type State, withClient, withEntry, withPack } from './state.ts';
import { isCondemned } from './view.ts';
import type { OperatorRole, Turn, World } from './world.ts';

/** Condemned is for ever, so a delete that is sent again or lands late is one more of these. */
export function stepEnvironment(world: World, state: State, emit: Emit<State>): void {
  for (const entry of state.net) {
    const { who, type } = world.registry.entry(entry);
    emit(`the late ${type} of ${who} lands at ${state.log.sequence + 1}`, withEntry(state, world.registry, entry));
  }
  const view = state.log.view;
  for (const pack of state.packs) {
    if (pack.isInFlight) {
      emit(`the late ${packName(pack.id)} lands`, withPack(state, { ...pack, isPresent: true, isInFlight: false }));
    }
    // Names are never reused, so whatever was once condemned may be deleted whatever became of it.
    const mayDelete = isCondemned(view, pack.id) || view.condemned[pack.id] === 1;
    if (!pack.isPresent || !mayDelete || isWaitedFor(world, state, pack.id)) continue;
    emit(`${packName(pack.id)} is deleted`, withPack(state, { ...pack, isPresent: false }));
  }
}

/** With grace, a pack stays while somebody reads who began before it was condemned. */
function isWaitedFor(world: World, state: State, pack: number): boolean {
  if (!world.configuration.grace) return false;
  return state.clients.some((client, index) => {
    const isReading = world.configuration.roles[index]!.kind === 'reader' && client.pc === BUSY;
    return isReading && !isCondemned(world.registry.node(client.log).view, pack);
  });
}

export function stepOperator(turn: Turn<OperatorRole>): void {
  const { world, role, state, index, client, emit } = turn;
  if (client.pc !== IDLE) return;
  for (const backup of state.log.view.backups) {
    if (!backup.isLive || !(role.backups?.includes(backup.id) ?? true)) continue;
    const entry = world.registry.entryId({ type: 'forget', who: index, attempt: 0, backups: [backup.id] });
    const rounds = client.rounds + 1;
    const next = withClient(withEntry(state, world.registry, entry), index, {
      rounds,
      pc: rounds >= (role.rounds ?? 1) ? END : IDLE,
    });
    emit(`${nameOf(turn)} forgets backup ${backup.id} at ${state.log.sequence + 1}`, next);
  }
}
