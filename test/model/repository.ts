/** The repository protocol as a model: joins the roles, the environment and the invariants. */
import { stepCollector } from './collector.ts';
import { stepEnvironment, stepOperator } from './environment.ts';
import type { Emit, Model } from './explore.ts';
import { invariants } from './invariants.ts';
import { Registry } from './log.ts';
import { stepReader } from './reader.ts';
import { stepRepacker } from './repacker.ts';
import type { Rule } from './rules.ts';
import { decodeState, END, encodeState, IDLE, NEW_CLIENT, type State, withEntry } from './state.ts';
import type { Configuration, Turn, World } from './world.ts';
import { stepWriter } from './writer.ts';

export function repositoryModel(configuration: Configuration, without: readonly Rule[] = []): Model<State> {
  const registry = new Registry(configuration.volumes);
  const world: World = { configuration, registry, keeps: (rule) => !without.includes(rule) };
  const { rescuer } = configuration;
  return {
    initial: () => initial(world),
    successors: (state, emit) => successors(world, state, emit),
    encode: encodeState,
    decode: (bytes) => decodeState(bytes, registry),
    invariants: invariants(world),
    mayRest: (state) => state.clients.every((client) => client.pc === END || client.pc === IDLE),
    goal: rescuer === undefined ? undefined : (state) => hasCommitted(state, rescuer),
  };
}

function hasCommitted({ log: { view } }: State, who: number): boolean {
  return view.sessions.some((session) => session?.who === who && session.state === 'committed');
}

function initial(world: World): State {
  const { configuration, registry } = world;
  const packs = configuration.packs.map((contents, id) => {
    return { id, contents: registry.contentsId(contents), isPresent: true, isInFlight: false };
  });
  const empty: State = { log: registry.root, net: [], packs, clients: configuration.roles.map(() => NEW_CLIENT) };
  const genesis = registry.entryId({
    type: 'commit',
    who: 255,
    attempt: 0,
    session: 0,
    backups: configuration.backups,
    packs: packs.map((pack) => pack.id),
    partial: false,
  });
  return withEntry(empty, registry, genesis);
}

function successors(world: World, state: State, emit: Emit<State>): void {
  stepEnvironment(world, state, emit);
  for (const [index, role] of world.configuration.roles.entries()) {
    const turn: Turn = { world, role, state, index, client: state.clients[index]!, emit };
    const { kind } = role;
    if (kind === 'writer') stepWriter({ ...turn, role });
    else if (kind === 'collector') stepCollector({ ...turn, role });
    else if (kind === 'repacker') stepRepacker({ ...turn, role });
    else if (kind === 'reader') stepReader({ ...turn, role });
    else stepOperator({ ...turn, role });
  }
}
