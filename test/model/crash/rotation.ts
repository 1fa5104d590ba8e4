/** A new journal and a checkpoint of all before it; also where an fsync has failed. */
import { type Cell, flushed, settled } from './cells.ts';
import { foldOf } from './fold.ts';
import { groupOf, isAtWork, withCheckpoint } from './journal.ts';
import { advanced, shown, type Turn } from './process.ts';

export function rotationSteps(turn: Turn): void {
  if (turn.state.journal.checkpoint) writeCheckpoint(turn);
  else beginCheckpoint(turn);
  failFsync(turn);
  const { state, memory, world, emit } = turn;
  if (world.configuration.breaks)
    emit('the journal fails, and so does a new one', { ...state, memory: { ...memory, health: 'failed' } });
}

/** The journal is synced, and a new one begins. What it has gathered goes into the new one. */
function beginCheckpoint({ state, world, emit }: Turn): void {
  const { journal, ghost } = state;
  if (ghost.checkpoints === (world.configuration.checkpoints ?? 0)) return;
  if (isAtWork(journal, false) || journal.groups.length === journal.before) return;
  // Epochs are copied as memory has them from here on: renumbered ones must not be renumbered again.
  if (world.keeps('C12.gathered') && journal.gathering.some(({ type }) => type === 'RENUM')) return;
  const fold = foldOf(
    journal.groups.flatMap(({ records }) => records),
    world,
  );
  const at = journal.groups.length;
  emit('begins a new journal, and a checkpoint of all before it', {
    ...state,
    journal: { ...journal, before: at, tail: [], checkpoint: { at, fold, copied: [] } },
    ghost: { ...ghost, checkpoints: ghost.checkpoints + 1 },
  });
}

/** Epochs are copied one after the other, while writes go on. */
function writeCheckpoint({ state, memory, world, emit }: Turn): void {
  const { journal } = state;
  const { at, fold, copied } = journal.checkpoint!;
  const next = copied.length;
  if (next < memory.epochs.length) {
    const checkpoint = { at, fold, copied: [...copied, memory.epochs[next]!] };
    emit(`copies the epoch of block ${next}`, { ...state, journal: { ...journal, checkpoint } });
    return;
  }
  const marks = world.keeps('C16.marks') ? fold.marks : memory.marks.map((stage) => (stage < 0 ? -1 : 2));
  const after = withCheckpoint(journal, at, { ...fold, epochs: copied, marks });
  emit('the checkpoint is renamed and synced, older files are unlinked', { ...state, journal: after });
}

/** A failed fsync drops what it should have synced. */
function failFsync({ state, memory, world, emit }: Turn): void {
  const { journal, ghost } = state;
  if (ghost.failures === (world.configuration.failures ?? 0) || !isAtWork(journal, false)) return;
  const failed = { ...ghost, failures: ghost.failures + 1 };
  const next = shown({ ...state, ghost: failed }, advanced(advanced(memory, 0, 1), 1, 2));
  if (world.keeps('C17.anew')) {
    const records = [...journal.groups.flatMap((group) => group.records), ...journal.gathering];
    const fold = { ...foldOf(records, world), epochs: memory.epochs };
    // The copies that memory knows are in their slots first.
    const synced = (cell: Cell): Cell => (memory.isFast ? settled(cell) : flushed(settled(cell)));
    emit('an fsync fails: a new journal and checkpoint are made from memory', {
      ...next,
      disks: { ...state.disks, slots: state.disks.slots.map(synced) },
      journal: { ...withCheckpoint(journal, journal.groups.length, fold), gathering: [] },
    });
    return;
  }
  const groups = journal.groups.map((group, index) =>
    index < journal.before || group.isSynced ? group : { ...groupOf(group.records, false), isDropped: true },
  );
  const slots = state.disks.slots.map(memory.isFast ? settled : flushed);
  emit('an fsync fails and drops the group, the next one succeeds', {
    ...shown({ ...state, ghost: failed }, advanced(memory, 1, 2)),
    disks: { ...state.disks, slots },
    journal: { ...journal, groups },
  });
}
