/** A state of the model of one volume's state directory, and who takes part. */
import { Interned } from '../interned.ts';
import type { Rule } from '../rules.ts';
import { type Cell, cellOf } from './cells.ts';
import type { Exempt, Group, Interval, Journal } from './journal.ts';

/** How far a record is: not appended, in the gathering group, written, synced. */
export type Stage = -1 | 0 | 1 | 2;

export interface Exemption {
  readonly state: Exempt;
  readonly stage: Stage;
}

export interface Handle {
  readonly id: number;
  readonly serial: number;
  readonly epoch: number;
  /** Whether it ever lived under `fast`. */
  readonly wasFast: boolean;
  readonly seal: Stage;
  /** Of the record that makes it: INSTANT or HANDLE. */
  readonly made: Stage;
  readonly end: Stage;
  /** By block: null while it is pending or preserved. */
  readonly exempt: readonly (Exemption | null)[];
}

export interface Point {
  readonly serial: number;
  readonly epoch: number;
}

export interface PreImage extends Interval {
  readonly stage: Stage;
}

/** What the process knows. */
export interface Memory {
  /** found: the files were read. begun: they were synced, and a new journal is on its way. */
  readonly phase: 'found' | 'begun' | 'open';
  readonly isFast: boolean;
  /** failed: the journal can't be written any more. void: nothing of it is to be believed. */
  readonly health?: 'failed' | 'void' | undefined;
  readonly current: number;
  readonly nextSerial: number;
  /** By block. */
  readonly epochs: readonly number[];
  /** By region: whether it is marked, and how far this record is; and how far a CLEAN is that has not taken effect. */
  readonly marks: readonly Stage[];
  readonly clearing: readonly Stage[];
  readonly points: readonly Point[];
  readonly handles: readonly Handle[];
  readonly preImages: readonly PreImage[];
  readonly freed: readonly { readonly slot: number; readonly stage: Stage }[];
}

export interface Disks {
  readonly device: readonly Cell[];
  readonly slots: readonly Cell[];
}

/** What nobody sees, and what has been used up. */
export interface Ghost {
  /** By serial, from 1 on: what the instant held. */
  readonly truth: readonly (readonly number[])[];
  /** Serials that the host was shown, and whose points are kept. */
  readonly points: readonly number[];
  /** Handles that the host was shown and has not closed. */
  readonly handles: readonly { readonly id: number; readonly wasFast: boolean }[];
  /** `handle/block` whose content is in the store, or that a policy has given up. */
  readonly stored: readonly string[];
  readonly givenUp: readonly string[];
  readonly boot: number;
  readonly writes: number;
  readonly instants: number;
  readonly crashes: number;
  readonly clears: number;
  readonly shares: number;
  readonly failures: number;
  readonly checkpoints: number;
  /** A write of a process that was killed, which lands later. */
  readonly late: { readonly block: number; readonly value: number } | null;
}

export interface VolumeState {
  readonly disks: Disks;
  readonly journal: Journal;
  readonly memory: Memory | null;
  readonly ghost: Ghost;
}

export type Mode = 'crash-safe' | 'fast';
export type Crash = 'kill' | 'power loss';

export interface VolumeConfiguration {
  /** By block: its region. */
  readonly regions: readonly number[];
  /** Which blocks the host writes. @default all */
  readonly blocks?: readonly number[] | undefined;
  readonly slots: number;
  readonly writes: number;
  readonly snapshots: number;
  readonly crashes: number;
  readonly kinds: readonly Crash[];
  /** Modes in which the first and each later process may open it. @default crash-safe */
  readonly modes?: readonly (readonly Mode[])[] | undefined;
  /** Blocks that a handle stores. @default none */
  readonly stores?: readonly number[] | undefined;
  readonly closes?: boolean | undefined;
  /** How often a handle is shared. @default 0 */
  readonly shares?: number | undefined;
  /** How often a region is cleared. @default 0 */
  readonly clears?: number | undefined;
  /** Whether the policy is `lose-block`. */
  readonly loses?: boolean | undefined;
  /** Whether the journal and its replacement may fail for good. */
  readonly breaks?: boolean | undefined;
  /** How often an fsync of the journal fails. @default 0 */
  readonly failures?: number | undefined;
  /** How often the journal is rotated. @default 0 */
  readonly checkpoints?: number | undefined;
  /** Steps that have been done before it begins, by the beginnings of their labels. @default it is open */
  readonly scene?: readonly string[] | undefined;
  /** The newest epoch that one byte can hold. @default no limit is met */
  readonly maxEpoch?: number | undefined;
}

export interface VolumeWorld {
  readonly configuration: VolumeConfiguration;
  readonly keeps: (rule: Rule) => boolean;
}

/** Contents: what the blocks hold at first, what a slot holds at first, and what a crash tears. Writes have 1, 2, 3 ... */
const first = (block: number): number => 100 + block;
const EMPTY = 0;
export const tornBlock = (crash: number): number => -crash;
export const tornSlot = (crash: number): number => -10 - crash;

export function initialState({ regions, slots }: VolumeConfiguration): VolumeState {
  return {
    disks: { device: regions.map((_, block) => cellOf(first(block))), slots: Array(slots).fill(cellOf(EMPTY)) },
    journal: { groups: [], before: 0, tail: [], gathering: [], checkpoint: null },
    memory: null,
    ghost: {
      ...{ truth: [], points: [], handles: [], stored: [], givenUp: [], boot: 0 },
      ...{ writes: 0, instants: 0, crashes: 0, clears: 0, shares: 0, failures: 0, checkpoints: 0, late: null },
    },
  };
}

/** Groups are parts of their own: most of them stay what they are from state to state. */
export const volumeCodec = (): Interned<VolumeState> =>
  new Interned<VolumeState>(
    ({ disks, journal: { groups, ...journal }, memory, ghost }) => [
      ...[disks.device, disks.slots, journal, memory ?? NO_MEMORY, ghost],
      ...groups,
    ],
    ([device, slots, journal, memory, ghost, ...groups]) => ({
      disks: { device: device as Disks['device'], slots: slots as Disks['slots'] },
      journal: { ...(journal as Journal), groups: groups as Group[] },
      memory: 'phase' in memory! ? (memory as Memory) : null,
      ghost: ghost as Ghost,
    }),
  );

const NO_MEMORY = {};

/** Effective means synced; under `fast` written, for what the rules name. */
export const isEffective = (stage: Stage, isFast: boolean): boolean => stage === 2 || (isFast && stage === 1);

export const serves = ({ from, to }: Interval, { epoch }: Point): boolean => from < epoch && epoch <= to;

/** Whether the handle asks for the block as of its instant. */
export function wants(handle: Handle, block: number, { isFast }: Memory, keeps: (rule: Rule) => boolean): boolean {
  const exemption = handle.exempt[block];
  const isOut = (stage: Stage, rule: Rule): boolean => isEffective(stage, isFast) || (stage >= 0 && !keeps(rule));
  if (isOut(handle.end, 'C9.end')) return false;
  return !exemption || !isOut(exemption.stage, exemption.state === 'stored' ? 'C7.effective' : 'C8.record');
}
