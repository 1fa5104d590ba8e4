/** Reopening, and what ends a process: a kill, a power loss. */
import type { Emit } from '../explore.ts';
import { afterKill, afterPowerLoss, type Cell, combinations, contentOf, flushed, settled } from './cells.ts';
import { foldOf } from './fold.ts';
import { type JournalRecord, journalsAfterKill, journalsAfterPowerLoss, withTail } from './journal.ts';
import type { Turn } from './process.ts';
import { replay } from './replay.ts';
import { tornBlock, tornSlot, type VolumeState, type VolumeWorld } from './volume-state.ts';

/** Reads the files. Nothing is synced yet, and nothing is relied on. */
export function reopen(state: VolumeState, world: VolumeWorld, emit: Emit<VolumeState>): void {
  const { modes } = world.configuration;
  const { crashes } = state.ghost;
  for (const mode of modes?.[Math.min(crashes, modes.length - 1)] ?? ['crash-safe']) {
    const journal = readJournal(state, world);
    const { count, memory } = replay({ ...state, journal }, mode, world);
    const tail = journal.groups.slice(count);
    emit(`${crashes > 0 ? 're' : ''}opens it ${mode}${tail.length > 0 ? ', and cuts the last group' : ''}`, {
      ...state,
      journal: {
        ...journal,
        groups: journal.groups.slice(0, count),
        before: count,
        tail,
        gathering: [],
        checkpoint: null,
      },
      memory,
    });
  }
}

/** A new file says where the one before it ends. Without this, a tail that checks by now is gone on with. */
function readJournal(state: VolumeState, world: VolumeWorld): VolumeState['journal'] {
  const { journal } = state;
  if (world.keeps('C13.head') || journal.tail.length === 0) return withTail(journal);
  const old = { ...journal, groups: [...journal.groups.slice(0, journal.before), ...journal.tail], tail: [] };
  const { count } = replay({ ...state, journal: old }, 'crash-safe', world);
  return count === old.groups.length ? old : withTail(journal);
}

/** Syncs what it has read, and begins a new file with what has ended and been opened. */
export function beginJournal({ state, memory, world, emit }: Turn): void {
  const { keeps } = world;
  const { journal, disks, ghost } = state;
  const isSynced = keeps('C15.synced');
  const groups = journal.groups.map((group) => (isSynced ? { ...group, isSynced } : group));
  const slots = disks.slots.map((cell) =>
    isSynced && memory.handles.every(({ wasFast }) => !wasFast) ? flushed(cell) : cell,
  );
  const opened: JournalRecord = { type: 'OPENED', boot: ghost.boot, isFast: memory.isFast };
  const ended = keeps('C11.recorded') ? endedAtReopening(state, world) : [];
  const handles = memory.handles.map((handle) => ({ ...handle, wasFast: handle.wasFast || memory.isFast }));
  const records = [...ended, opened];
  const lived = ghost.handles.map((each) => ({ ...each, wasFast: each.wasFast || memory.isFast }));
  emit(`syncs what it has read, and begins a journal with ${records.map(({ type }) => type).join(', ')}`, {
    ...state,
    disks: { ...disks, slots },
    journal: { ...journal, groups, gathering: records },
    memory: { ...memory, phase: 'begun', handles },
    ghost: { ...ghost, handles: lived },
  });
}

/** ENDs of the handles that the files have and the process does not go on with. */
function endedAtReopening({ journal, memory }: VolumeState, world: VolumeWorld): JournalRecord[] {
  const { handles } = foldOf(
    journal.groups.flatMap(({ records }) => records),
    world,
  );
  const ended = handles.filter(({ id }) => !memory!.handles.some((handle) => handle.id === id));
  return ended.map(({ id }) => ({ type: 'END', handle: id }));
}

export function crashSteps(state: VolumeState, { configuration, keeps }: VolumeWorld, emit: Emit<VolumeState>): void {
  const { disks, journal, memory, ghost } = state;
  if (ghost.crashes === configuration.crashes) return;
  const crashes = ghost.crashes + 1;
  const outcomes = (
    device: Cell[][],
    slots: Cell[][],
    journals: VolumeState['journal'][],
    label: string,
    isBoot: boolean,
  ): void => {
    const handles = isBoot ? ghost.handles.filter(({ wasFast }) => !wasFast) : ghost.handles;
    const after = { ...ghost, crashes, handles, boot: ghost.boot + (isBoot ? 1 : 0) };
    for (const blocks of combinations(device)) {
      for (const each of combinations(slots)) {
        for (const left of journals) {
          const what = `${label}: the device has ${show(blocks)}, the slots ${show(each)}, the journal ${left.groups.length} groups`;
          emit(what, { disks: { device: blocks, slots: each }, journal: left, memory: null, ghost: after });
        }
      }
    }
  };
  if (memory && configuration.kinds.includes('kill')) {
    const device = disks.device.map((cell) => afterKill(cell, tornBlock(crashes)));
    const slots = disks.slots.map((cell) => afterKill(cell, tornSlot(crashes)));
    const block = disks.device.findIndex(({ isInProgress }) => isInProgress);
    if (block >= 0 && !keeps('C21.landed')) {
      const late = { block, value: contentOf(disks.device[block]!) };
      const left = { ...state, memory: null, journal: { ...journal, gathering: [], checkpoint: null } };
      const was = {
        ...disks.device[block]!,
        unsynced: disks.device[block]!.unsynced.slice(0, -1),
        isInProgress: false,
      };
      emit('kill, a write is on its way', {
        ...left,
        disks: { device: disks.device.with(block, was), slots: disks.slots.map(settled) },
        ghost: { ...ghost, crashes, late },
      });
    }
    outcomes(device, slots, journalsAfterKill(journal, memory.isFast), 'kill', false);
  }
  if (configuration.kinds.includes('power loss') && (memory || ghost.crashes > 0)) {
    const device = disks.device.map((cell) => afterPowerLoss(cell, tornBlock(crashes)));
    const slots = disks.slots.map((cell) => afterPowerLoss(cell, tornSlot(crashes)));
    outcomes(device, slots, journalsAfterPowerLoss(journal, memory?.isFast ?? false), 'power loss', true);
  }
}

const show = (cells: readonly Cell[]): string =>
  cells.map(({ unsynced, durable }) => unsynced.at(-1) ?? durable).join(' ');
