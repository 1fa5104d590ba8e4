/**
 * The repository's part of the crash protocol: a snapshot that survives its process is gone on with. A job records INTENT, opens a session,
 * records JOB, stores, commits, records COMMITTED and END, and dies between any two; machines are copied and set back, the log is rolled
 * back, and a collector condemns what seems dead.
 */
import type { Emit, Model } from '../explore.ts';
import type { Rule } from '../rules.ts';
import { entryOf, jobSteps } from './job-steps.ts';
import {
  type JobsConfiguration,
  type JobsState,
  type JobsWorld,
  jobsCodec,
  type Machine,
  NO_DIRECTORY,
} from './jobs-state.ts';
import { sceneOf } from './scene.ts';

export function jobsModel(configuration: JobsConfiguration, without: readonly Rule[] = []): Model<JobsState> {
  const world: JobsWorld = { configuration, keeps: (rule) => !without.includes(rule) };
  const machine: Machine = {
    directory: NO_DIRECTORY,
    block: 0,
    pc: 'idle',
    session: null,
    goesOn: false,
    draws: 0,
    mayLose: false,
  };
  const codec = jobsCodec();
  const start: JobsState = {
    ...{ machines: [machine], log: [], packs: {}, saved: null, late: null, next: 1, writes: 0, snapshots: 0, opens: 0 },
    ...{ kills: 0, collects: 0, mayLose: false, wasReverted: false, wasRolledBack: false, mistake: '' },
  };
  const next = (state: JobsState, emit: Emit<JobsState>): void => {
    for (const who of state.machines.keys()) machineSteps(state, who, world, emit);
    environment(state, world, emit);
  };
  return {
    initial: () => sceneOf(start, configuration.scene ?? [], next),
    successors: next,
    encode: (state) => codec.encode(state),
    decode: (bytes) => codec.decode(bytes),
    mayRest: ({ machines, opens }) =>
      machines.every(({ directory }) => directory.snapshot === null || opens === configuration.opens),
    invariants: [
      { name: 'J1: a backup holds what its instant held', broken: wrongBackup },
      { name: 'J2: a backup has its packs', broken: missingPack },
      { name: 'J3: what the host was shown is true', broken: ({ mistake }) => mistake || undefined },
    ],
  };
}

function wrongBackup({ log }: JobsState): string | undefined {
  const commits = log.filter(({ type }) => type === 'commit');
  const wrong = commits.find(({ pack, content, truth }) => pack !== 0 && content !== truth);
  if (wrong)
    return `the backup of snapshot ${wrong.serial} holds ${wrong.content}, and its instant held ${wrong.truth}`;
  const lost = commits.find(({ pack, isExcused }) => pack === 0 && !isExcused);
  return lost ? `the backup of snapshot ${lost.serial} has lost its block without need` : undefined;
}

function missingPack({ log, packs }: JobsState): string | undefined {
  const entry = log.find(({ type, pack }) => type === 'commit' && pack !== 0 && packs[pack] === undefined);
  return entry && `the backup of snapshot ${entry.serial} names a pack of session ${entry.pack}, which is not there`;
}

function machineSteps(state: JobsState, who: number, world: JobsWorld, emit: Emit<JobsState>): void {
  const machine = state.machines[who]!;
  const become = (label: string, changes: Partial<Machine>, rest: Partial<JobsState> = {}): void =>
    emit(`${state.machines.length > 1 ? `machine ${who} ` : ''}${label}`, {
      ...state,
      ...rest,
      machines: (rest.machines ?? state.machines).with(who, { ...machine, ...changes }),
    });
  const gone = { session: null, goesOn: false };
  if (machine.pc === 'closed') {
    const { stamp } = machine.directory;
    const isOther = world.keeps('C22.stamp') && stamp !== 0 && stamp !== machine.block + 1;
    const directory = isOther
      ? { ...NO_DIRECTORY, current: machine.directory.current }
      : { ...machine.directory, stamp: 0 };
    become(isOther ? 'opens, and discards the state: the device is another one' : 'opens', { pc: 'idle', directory });
    return;
  }
  volumeSteps(state, machine, world, become);
  jobSteps({ state, who, machine, world, become });
  if (state.kills === world.configuration.kills) return;
  const kills = state.kills + 1;
  become('is killed', { ...gone, pc: 'closed' }, { kills });
  if (world.configuration.reverts === 'one') {
    const directory = { ...machine.directory, stamp: machine.block + 1 };
    become('closes', { ...gone, pc: 'closed', directory }, { kills });
  }
}

export type Become = (label: string, changes: Partial<Machine>, rest?: Partial<JobsState>) => void;

function volumeSteps(state: JobsState, machine: Machine, { configuration }: JobsWorld, become: Become): void {
  const { directory } = machine;
  const { snapshot, current } = directory;
  if (state.writes < configuration.writes) {
    const block = state.writes + 1;
    const isFirst = snapshot && snapshot.serial > directory.written;
    const hasCopy = snapshot?.hasCopy || (isFirst && snapshot.state === 'pending');
    const changed = snapshot && { ...snapshot, hasCopy: hasCopy ?? false };
    const next = { ...directory, written: current, snapshot: changed };
    become(`writes ${block}`, { block, directory: next }, { writes: block });
  }
  if (snapshot && machine.pc === 'idle' && configuration.closes) {
    become(`closes snapshot ${snapshot.serial}`, { directory: { ...directory, snapshot: null } });
  }
  if (snapshot || state.snapshots === configuration.snapshots) return;
  const next: Machine['directory']['snapshot'] = {
    ...{ serial: current + 1, held: machine.block, written: directory.written, hasCopy: false, state: 'pending' },
    ...{ from: null, nonce: '', job: directory.early },
  };
  const taken = { ...directory, current: current + 1, snapshot: next, early: null };
  const pc = directory.early && machine.session ? ('working' as const) : machine.pc;
  become(`takes snapshot ${current + 1}`, { directory: taken, pc }, { snapshots: state.snapshots + 1 });
}

function environment(state: JobsState, { configuration }: JobsWorld, emit: Emit<JobsState>): void {
  const { log, machines, saved, late } = state;
  if (late && late.after === log.at(-1)?.id) {
    emit('the late commit lands', { ...state, log: [...log, late.entry], late: null });
  }
  if (state.collects < (configuration.collects ?? 0)) collect(state, emit);
  const [first] = machines;
  if (configuration.isCopied && machines.length < 2) {
    emit('the running machine is copied', { ...state, machines: [first!, { ...first!, draws: first!.draws + 10 }] });
  }
  if (configuration.rollsBack && !state.wasRolledBack) {
    // A copy from before a deletion would have what was deleted.
    const first = log.findLastIndex(({ type }) => type === 'collect') + 1;
    for (let kept = first; kept < log.length; kept++) {
      const packs = Object.fromEntries(Object.entries(state.packs).filter(([session]) => Number(session) <= kept));
      const rest = { log: log.slice(0, kept), packs, wasRolledBack: true, mayLose: true };
      emit(`the repository is rolled back to ${kept} entries`, { ...state, ...rest });
    }
  }
  if (configuration.reverts === undefined || state.wasReverted) return;
  if (saved === null) emit('the machine is saved', { ...state, saved: first! });
  else revert(state, first!, saved, configuration, emit);
}

function revert(
  state: JobsState,
  now: Machine,
  saved: Machine,
  { reverts }: JobsConfiguration,
  emit: Emit<JobsState>,
): void {
  // Nonces are random: a machine that is set back draws others.
  const closed = { ...now, pc: 'closed' as const, session: null, goesOn: false };
  const to = (label: string, changes: Partial<Machine>): void =>
    emit(label, {
      ...state,
      wasReverted: true,
      mayLose: true,
      machines: state.machines.with(0, { ...closed, ...changes }),
    });
  if (reverts === 'both') {
    to('state and device are set back together', { directory: saved.directory, block: saved.block });
    return;
  }
  if (now.pc !== 'closed' || now.directory.stamp === 0) return;
  to('the device is set back', { block: saved.block });
  if (saved.directory.stamp !== 0) to('the state is set back', { directory: saved.directory });
}

/** Somebody takes a session for dead. */
function collect(state: JobsState, emit: Emit<JobsState>): void {
  const { log } = state;
  for (const [index, { type }] of log.entries()) {
    const session = index + 1;
    const isOver = log.some((entry, at) => at > index && entry.type !== 'open' && entry.session === session);
    const committed = log.filter((entry) => entry.type === 'commit').map(({ pack }) => pack);
    if (type !== 'open' || isOver || committed.includes(session)) continue;
    const packs = Object.fromEntries(Object.entries(state.packs).filter(([key]) => Number(key) !== session));
    const entry = entryOf(state, { type: 'collect', session });
    emit(`a collector condemns session ${session} and deletes its packs`, {
      ...{ ...state, log: [...log, entry], packs, next: state.next + 1 },
      ...{ collects: state.collects + 1, mayLose: true },
    });
  }
}
