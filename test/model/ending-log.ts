/**
 * L1 to L7 and L20: a log whose old entries are deleted. A deleted number is free again, so whoever slept may create at it what
 * nobody reads (a stray). Hosts sleep at any step; pruners are repeated and crash; PUTs of entries and checkpoints are lost,
 * late and duplicated; what may be deleted is deleted in any order and at any later time; a checkpoint is lost or damaged; the
 * disk goes away. That an entry or a checkpoint is what it says is authenticated, and no part of the model.
 */
import { fold, follow, numberOf } from './chains.ts';
import {
  chainIn,
  checkpointsOf,
  type EndingConfiguration,
  type EndingState,
  type EndingWorld,
  HOST,
  type Host,
  type HostRole,
  isUsable,
  NOTHING,
  newestOf,
  put,
  type Shared,
  type Store,
  withCheckpoint,
  withEntry,
} from './ending-state.ts';
import type { Emit, Model } from './explore.ts';
import { HostTurn } from './host-turn.ts';
import { Interned } from './interned.ts';
import type { Rule } from './rules.ts';

export function endingLogModel(configuration: EndingConfiguration, without: readonly Rule[] = []): Model<EndingState> {
  const world: EndingWorld = { configuration, keeps: (rule) => !without.includes(rule) };
  const codec = new Interned<EndingState>(
    ({ store, other, shared, hosts }) => [store, other, shared, ...hosts],
    ([store, other, shared, ...hosts]) => ({
      ...{ store: store as Store, other: other as Store },
      ...{ shared: shared as Shared, hosts: hosts as Host[] },
    }),
  );
  return {
    initial: () => start(configuration),
    successors: (state, emit) => {
      land(state, world, emit);
      remove(state, emit);
      harm(state, configuration, emit);
      if (configuration.isSetBack && state.shared.swaps === 0) setBack(state, configuration, emit);
      for (const index of state.hosts.keys()) new HostTurn(world, state, index, emit).step();
    },
    encode: (state) => codec.encode(state),
    decode: (bytes) => codec.decode(bytes),
    mayRest: ({ hosts }) => hosts.every(({ pc }) => pc === 'idle' || pc === 'done' || pc === 'refused'),
    invariants: [
      { name: 'I2: a success that was reported is in the log, and a failure never is', broken: untrue },
      { name: 'I4: a session is committed by its own writer only', broken: stolen },
      { name: 'I6: nobody believes a stray or an old state', broken: misled },
      { name: 'I6: no alarm while nothing has vanished', broken: alarmed },
      {
        name: 'I6: the newest state can be opened',
        broken: (state) => unopenable(state, configuration.isStrict ?? false),
      },
      { name: 'I1: nothing that the newest state needs is deleted', broken: dangling },
    ],
  };
}

function start({ log, checkpoints, roles }: EndingConfiguration): EndingState {
  const truth = log.reduce(follow, '');
  const { through } = fold(truth);
  const stored = checkpoints.reduce<string[]>((list, number) => put(list, number, `i:${through[number]!}`), []);
  const hosts = roles.map((role, index) => asleep(role, index, log, through));
  return {
    store: { log: [...through], checkpoints: stored },
    other: NOTHING,
    shared: {
      ...{ truth, mayDelete: 0, mayDeleteX: false, hasX: true, net: hosts.flatMap(({ sent }) => sent || []) },
      ...{ isGone: false, swaps: 0, losses: 0, garbage: 0, lies: 0 },
    },
    hosts,
  };
}

function asleep(role: HostRole, index: number, log: readonly string[], through: readonly string[]): Host {
  const { at = log.length, session, kind } = role;
  const known = kind === 'reader' || kind === 'copier' || role.isClosed ? '' : through[at]!;
  const own = session === undefined ? '' : `${session}.${log[session - 1]!}`;
  const knownAt = kind === 'writer' && role.refersToX ? numberOf(known) : 0;
  const host = { ...HOST, session: own, at: known, confirmed: known, knownAt };
  if (role.isClosed) return { ...host, pc: 'look' };
  if (!role.isCommitSent) return host;
  return { ...host, pc: 'sent', built: 1, isCommitSent: true, sent: follow(known, `${'abcd'[index]}1c${own}.`) };
}

/** What was on its way arrives. */
function land(state: EndingState, world: EndingWorld, emit: Emit<EndingState>): void {
  for (const late of new Set(state.shared.net)) {
    const net = [...state.shared.net];
    net.splice(net.indexOf(late), 1);
    const rest = { ...state, shared: { ...state.shared, net } };
    const number = numberOf(chainIn(late));
    if (late.includes(':')) {
      emit(`the late checkpoint ${number} lands`, withCheckpoint(rest, late, world.keeps('L1.createOnly')));
    } else emit(`the late entry lands at ${number}`, withEntry(rest, late));
  }
}

/** What may be deleted is: in any order, by anyone, at any time. */
function remove(state: EndingState, emit: Emit<EndingState>): void {
  const { store, shared } = state;
  if (shared.mayDeleteX && shared.hasX) emit('X is deleted', { ...state, shared: { ...shared, hasX: false } });
  if (shared.isGone) return;
  for (let number = 1; number <= shared.mayDelete; number++) {
    if (store.log[number]) {
      emit(`entry ${number} is deleted`, { ...state, store: { ...store, log: put(store.log, number, '') } });
    }
    if (number < shared.mayDelete && store.checkpoints[number]) {
      const checkpoints = put(store.checkpoints, number, '');
      emit(`checkpoint ${number} is deleted`, { ...state, store: { ...store, checkpoints } });
    }
  }
}

function harm(state: EndingState, { losses = 0, swaps = 0 }: EndingConfiguration, emit: Emit<EndingState>): void {
  const { store, shared } = state;
  if (shared.losses < losses) {
    for (const number of checkpointsOf(store, store.checkpoints.length)) {
      const checkpoints = put(store.checkpoints, number, '');
      const lost = { ...state, store: { ...store, checkpoints }, shared: { ...shared, losses: shared.losses + 1 } };
      emit(`checkpoint ${number} is lost`, lost);
    }
  }
  if (shared.swaps < swaps) {
    const swapped = { ...shared, isGone: !shared.isGone, swaps: shared.swaps + 1 };
    emit(shared.isGone ? 'the disk is back' : 'the disk goes away', { ...state, shared: swapped });
  }
}

/** Between two openings. What was reported before is lost, and hosts that have the log open do not know yet. */
function setBack(state: EndingState, configuration: EndingConfiguration, emit: Emit<EndingState>): void {
  if (state.hosts.some(({ shown }) => shown !== null)) return;
  const { store, shared } = start(configuration);
  const hosts = state.hosts.map((host) => ({ ...host, reported: [], failed: [], isStale: true, since: 0 }));
  const rest = { truth: shared.truth, mayDelete: 0, mayDeleteX: false, hasX: true, swaps: 1 };
  emit('the store is set back', { ...state, store, hosts, shared: { ...state.shared, ...rest } });
}

function untrue({ hosts, shared }: EndingState): string | undefined {
  const { words } = fold(shared.truth);
  const isCommitted = (session: string) =>
    words.some((word) => word.charAt(2) === 'c' && word.slice(3).startsWith(`${session}.`));
  for (const { reported, failed } of hosts) {
    const unheard = reported.find((session) => !isCommitted(session));
    if (unheard) return `the backup of session ${unheard} was reported, and the log does not have it`;
    const denied = failed.find((session) => isCommitted(session));
    if (denied) return `the backup of session ${denied} was reported as failed, and the log has it`;
  }
  return undefined;
}

function stolen({ shared }: EndingState): string | undefined {
  const { foreign } = fold(shared.truth);
  return foreign === '' ? undefined : `${foreign} commits a session that another entry opened`;
}

function misled({ hosts, shared }: EndingState): string | undefined {
  for (const { mistake, confirmed, isStale } of hosts) {
    if (mistake !== '') return mistake;
    if (!isStale && !shared.truth.startsWith(confirmed))
      return `${confirmed} counts as confirmed, and the log is ${shared.truth}`;
  }
  return undefined;
}

function alarmed({ hosts, shared }: EndingState): string | undefined {
  if (shared.swaps > 0) return undefined;
  const refused = hosts.find(({ code }) => code !== '');
  return refused && `${refused.code}, and nothing has vanished`;
}

/** Opening in one moment, as `looking.ts` does it in many. After the disk was away, a refusal will do. */
function unopenable({ store, shared }: EndingState, isStrict: boolean): string | undefined {
  const newest = newestOf(store);
  const read = store.log[newest] ?? '';
  const { through } = fold(read);
  const isOpened = [...checkpointsOf(store, newest), 0].some((number) => {
    for (let above = number + 1; above <= newest; above++) if (store.log[above] !== through[above]) return false;
    return number === 0 || isUsable(store.checkpoints[number], read, number);
  });
  if (isOpened && read !== shared.truth) return `${read} is opened, and the log is ${shared.truth}`;
  if (isOpened || (shared.swaps > 0 && !isStrict)) return undefined;
  return `no checkpoint leads to the newest entry, ${read}`;
}

function dangling({ shared }: EndingState): string | undefined {
  return fold(shared.truth).refersToX && !shared.hasX ? 'a live backup refers to pack X, which is deleted' : undefined;
}
