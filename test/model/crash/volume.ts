/**
 * The volume's part of the crash protocol: a device, a journal and slots for pre-images, of which a power loss keeps any of what was
 * not flushed, and a kill keeps all but what was in progress. A process marks, preserves, writes, takes snapshots and ends them, dies
 * between any two steps, and reopens what it left.
 */
import type { Emit, Model } from '../explore.ts';
import type { Rule } from '../rules.ts';
import { settled, written } from './cells.ts';
import { brokenSteps, hostSteps } from './host.ts';
import { journalSteps } from './process.ts';
import { beginJournal, crashSteps, reopen } from './reopening.ts';
import { rotationSteps } from './rotation.ts';
import { sceneOf } from './scene.ts';
import { snapshotSteps } from './snapshots.ts';
import { volumeInvariants } from './volume-invariants.ts';
import {
  initialState,
  type VolumeConfiguration,
  type VolumeState,
  type VolumeWorld,
  volumeCodec,
} from './volume-state.ts';

export function volumeModel(configuration: VolumeConfiguration, without: readonly Rule[] = []): Model<VolumeState> {
  const world: VolumeWorld = { configuration, keeps: (rule) => !without.includes(rule) };
  const codec = volumeCodec();
  const next = (state: VolumeState, emit: Emit<VolumeState>): void => successors(state, world, emit);
  return {
    initial: () => sceneOf(initialState(configuration), configuration.scene ?? OPEN, next),
    successors: next,
    encode: (state) => codec.encode(state),
    decode: (bytes) => codec.decode(bytes),
    // A process that waits in order to write must not wait in vain.
    mayRest: ({ memory, ghost }) =>
      memory?.phase === 'open' && (ghost.writes === configuration.writes || memory.health === 'failed'),
    invariants: volumeInvariants(),
  };
}

/** The labels of the steps before an exploration begins. */
export const OPEN = ['opens', 'syncs', 'the group is written', 'the group is synced'] as const;
const GROUP = ['the group is written', 'the group is synced'] as const;
export const SNAPSHOT = [...OPEN, 'the instant', 'the device has flushed', ...GROUP] as const;
export const MARKED = [...OPEN, 'appends MARK', ...GROUP] as const;
export const MARKED_SNAPSHOT = [...OPEN, 'appends MARK', 'the instant', 'the device has flushed', ...GROUP] as const;

function successors(state: VolumeState, world: VolumeWorld, emit: Emit<VolumeState>): void {
  crashSteps(state, world, emit);
  const { late } = state.ghost;
  if (late && !state.disks.device[late.block]!.isInProgress) {
    const device = state.disks.device.with(late.block, settled(written(state.disks.device[late.block]!, late.value)));
    emit(`write ${late.value} of the dead process lands`, {
      ...state,
      disks: { ...state.disks, device },
      ghost: { ...state.ghost, late: null },
    });
  }
  const { memory } = state;
  if (memory === null) {
    reopen(state, world, emit);
    return;
  }
  const turn = { state, memory, world, emit };
  if (memory.phase === 'found') {
    beginJournal(turn);
    return;
  }
  if (memory.health) {
    brokenSteps(turn);
    return;
  }
  journalSteps(turn);
  if (memory.phase !== 'open') return;
  hostSteps(turn);
  snapshotSteps(turn);
  rotationSteps(turn);
}
