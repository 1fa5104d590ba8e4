/** What must hold in every state. */
import type { Invariant } from './explore.ts';
import { packOf, placeName } from './objects.ts';
import { FAILURE, FORGOTTEN, isPresent, PACK_MISSING, type State, SUCCESS } from './state.ts';
import { placesOf, resolve } from './view.ts';
import type { World } from './world.ts';

export function invariants(world: World): Invariant<State>[] {
  return [
    { name: 'the log is sound (I2, I3, I4, I7)', broken: (state) => state.log.view.faults[0] },
    { name: 'I1: every live backup can be read in full', broken: dangling },
    { name: 'I2: what the host was told is true', broken: (state) => untrue(world, state) },
    { name: 'I8: a reader gets its data or a documented code', broken: (state) => misread(world, state) },
  ];
}

/** I1 by what exists, I5 by what the log says, whether it was deleted already or not. */
function dangling(state: State): string | undefined {
  const view = state.log.view;
  for (const backup of view.backups) {
    if (!backup.isLive) continue;
    for (const at of placesOf(backup)) {
      const found = resolve(view, at);
      const where = `live backup ${backup.id} refers to ${placeName(at)}`;
      if (!found) return `I5: ${where}, which is condemned or unknown and not relocated`;
      if (!isPresent(state, packOf(found.at))) return `I1: ${where}, which does not exist`;
      if (found.table >= 0 && !isPresent(state, found.table)) return `I1: ${where}, whose table does not exist`;
    }
  }
  return undefined;
}

function untrue(world: World, state: State): string | undefined {
  for (const [index, client] of state.clients.entries()) {
    if (world.configuration.roles[index]!.kind !== 'writer' || client.toldSession === 0) continue;
    const isCommitted = state.log.view.backups.some((backup) => backup.session === client.toldSession);
    if (client.told === SUCCESS && !isCommitted) return `writer ${index} was told of a success that is not`;
    if (client.told === FAILURE && isCommitted) return `writer ${index} was told of a failure, and its commit won`;
  }
  return undefined;
}

function misread(world: World, state: State): string | undefined {
  for (const client of state.clients) {
    if (client.told === PACK_MISSING) return 'a reader reports damage where there is none';
    if (client.told === FORGOTTEN && world.configuration.grace) return 'a reader within the grace was not served';
  }
  return undefined;
}
