/**
 * Which base change tracking is believed against. A volume of two blocks counts its instants; its machine is set back with
 * the volume, cloned, or (a limit) set back in its memory alone. Every write has a value of its own.
 */
import { type Emit, jsonCodec, type Model } from './explore.ts';
import type { Rule } from './rules.ts';

interface Instant {
  readonly blocks: readonly number[];
  readonly epoch: number;
}

interface Machine {
  readonly blocks: readonly number[];
  readonly epoch: number;
  /** By block: the epoch in which it was written last. */
  readonly written: readonly number[];
  readonly snapshots: readonly Instant[];
  /** The newest commit that it has seen: the record, and the instant that it was made of. */
  readonly seen: { readonly record: string; readonly epoch: number } | null;
}

interface Backup {
  readonly blocks: readonly number[];
  readonly epoch: number;
  /** Nobody sees this: what the instant held. */
  readonly truth: readonly number[];
}

interface TrackingState {
  readonly machines: readonly Machine[];
  readonly backups: readonly Backup[];
  readonly writes: number;
  readonly saved: Machine | null;
  /** How many backups there were then. */
  readonly savedAt: number;
  readonly wasSetBack: boolean;
}

export interface TrackingConfiguration {
  readonly writes: number;
  readonly backups: number;
  readonly isCloned?: boolean | undefined;
  /** Whether the volume goes back with the memory; alone, where the log shows it or also where nothing does. */
  readonly setBack?: 'with-volume' | 'alone-with-a-trace' | 'alone' | undefined;
}

export function trackingModel(
  configuration: TrackingConfiguration,
  without: readonly Rule[] = [],
): Model<TrackingState> {
  const keeps = (rule: Rule): boolean => !without.includes(rule);
  const machine: Machine = { blocks: [0, 0], epoch: 0, written: [0, 0], snapshots: [], seen: null };
  return {
    initial: () => ({ machines: [machine], backups: [], writes: 0, saved: null, savedAt: 0, wasSetBack: false }),
    successors: (state, emit) => {
      replace(state, configuration, emit);
      for (const who of state.machines.keys()) step(state, who, configuration, keeps, emit);
    },
    ...jsonCodec,
    decode: (bytes) => jsonCodec.decode(bytes),
    mayRest: () => true,
    invariants: [{ name: 'I1: a backup holds what its instant held', broken: wrong }],
  };
}

function replace(state: TrackingState, configuration: TrackingConfiguration, emit: Emit<TrackingState>): void {
  const [first] = state.machines;
  const { isCloned, setBack } = configuration;
  if (isCloned && state.machines.length < 2) emit('the machine is cloned', { ...state, machines: [first!, first!] });
  if (setBack === undefined || state.wasSetBack) return;
  const { saved, backups } = state;
  if (saved === null) {
    emit('the machine is saved', { ...state, saved: first!, savedAt: backups.length });
    return;
  }
  if (setBack === 'alone-with-a-trace' && backups.length === state.savedAt) return;
  const memory = setBack === 'with-volume' ? saved : { ...saved, blocks: first!.blocks, snapshots: [] };
  emit(`the machine is set back (${setBack})`, {
    ...state,
    machines: state.machines.with(0, memory),
    wasSetBack: true,
  });
}

function step(
  state: TrackingState,
  who: number,
  configuration: TrackingConfiguration,
  keeps: (rule: Rule) => boolean,
  emit: Emit<TrackingState>,
): void {
  const self = state.machines[who]!;
  const become = (label: string, changes: Partial<Machine>, rest: Partial<TrackingState> = {}): void =>
    emit(`machine ${who} ${label}`, { ...state, ...rest, machines: state.machines.with(who, { ...self, ...changes }) });
  if (state.writes < configuration.writes) {
    for (const block of self.blocks.keys()) {
      const value = state.writes + 1;
      const changes = { blocks: self.blocks.with(block, value), written: self.written.with(block, self.epoch) };
      become(`writes ${value} to block ${block}`, changes, { writes: value });
    }
  }
  if (state.backups.length >= configuration.backups) return;
  if (self.snapshots.length < 2) {
    const epoch = self.epoch + 1;
    become(`takes snapshot ${epoch}`, { epoch, snapshots: [...self.snapshots, { blocks: self.blocks, epoch }] });
  }
  for (const instant of self.snapshots) backUp(state, self, instant, keeps, become);
}

function backUp(
  state: TrackingState,
  self: Machine,
  instant: Instant,
  keeps: (rule: Rule) => boolean,
  become: (label: string, changes: Partial<Machine>, rest: Partial<TrackingState>) => void,
): void {
  const base = baseOf(state, self, instant, keeps);
  const changed = (block: number): boolean => self.written[block]! >= base!.epoch;
  const blocks = instant.blocks.map((value, block) => (!base || changed(block) ? value : base.blocks[block]!));
  const backup: Backup = { blocks, epoch: instant.epoch, truth: instant.blocks };
  const backups = [...state.backups, backup];
  const snapshots = self.snapshots.filter((each) => each !== instant);
  const what = `backs up snapshot ${instant.epoch}, ${base ? `believing change tracking since ${base.epoch}` : 'comparing'}`;
  become(what, { snapshots, seen: { record: recordOf(backup), epoch: instant.epoch } }, { backups });
  become(`${what}: no answer`, { snapshots }, { backups });
}

const recordOf = ({ blocks, epoch }: Backup): string => JSON.stringify([blocks, epoch]);

/** The base against which change tracking is believed; undefined to compare contents. */
function baseOf(
  { backups }: TrackingState,
  { seen, epoch }: Machine,
  instant: Instant,
  keeps: (rule: Rule) => boolean,
): Backup | undefined {
  const newest = backups.at(-1);
  const isEarlier = (point: number): boolean => keeps('P3.earlier') && instant.epoch < point;
  // The tracking id is the same for all that have this memory.
  if (!keeps('P3.witnessed')) return newest && newest.epoch <= epoch && !isEarlier(newest.epoch) ? newest : undefined;
  const base = keeps('P3.newest') ? newest : backups.findLast((each) => recordOf(each) === seen?.record);
  return base && seen && recordOf(base) === seen.record && !isEarlier(seen.epoch) ? base : undefined;
}

function wrong({ backups }: TrackingState): string | undefined {
  const index = backups.findIndex(({ blocks, truth }) => String(blocks) !== String(truth));
  return index < 0 ? undefined : `backup ${index + 1} holds ${backups[index]!.blocks}, not ${backups[index]!.truth}`;
}
