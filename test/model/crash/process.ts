/** A process and its journal: records are gathered, written as a group, and synced with their slots. */
import type { Emit } from '../explore.ts';
import { flushed, settled } from './cells.ts';
import { groupOf, isAtWork, type JournalRecord } from './journal.ts';
import { isEffective, type Memory, type Stage, type VolumeState, type VolumeWorld } from './volume-state.ts';

/** One turn of the process in a state. */
export interface Turn {
  readonly state: VolumeState;
  readonly memory: Memory;
  readonly world: VolumeWorld;
  readonly emit: Emit<VolumeState>;
}

/** The state in which the process has appended these records, and knows `changes`. */
export function appended(
  { state, memory }: Turn,
  records: readonly JournalRecord[],
  changes: Partial<Memory>,
  rest: Partial<VolumeState> = {},
): VolumeState {
  const journal = { ...state.journal, gathering: [...state.journal.gathering, ...records] };
  return { ...state, ...rest, journal, memory: { ...memory, ...changes } };
}

/** Every record that was at `from` is at `to`, except where `spares` says so. */
export function advanced(memory: Memory, from: Stage, to: Stage, sparesPreImages = false): Memory {
  const next = (stage: Stage): Stage => (stage === from ? to : stage);
  return {
    ...memory,
    marks: memory.marks.map(next),
    clearing: memory.clearing.map(next),
    handles: memory.handles.map((handle) => ({
      ...handle,
      ...{ seal: next(handle.seal), made: next(handle.made), end: next(handle.end) },
      exempt: handle.exempt.map((each) => each && { ...each, stage: next(each.stage) }),
    })),
    preImages: sparesPreImages
      ? memory.preImages
      : memory.preImages.map((each) => ({ ...each, stage: next(each.stage) })),
    freed: memory.freed.map((each) => ({ ...each, stage: next(each.stage) })),
  };
}

/** What is effective and needs no more looking at: ended handles, freed slots, narrower copies. */
function settledMemory(memory: Memory): Memory {
  const { isFast } = memory;
  const done = (stage: Stage): Stage => (isEffective(stage, isFast) ? 2 : stage);
  const preImages = memory.preImages.map((each) => ({ ...each, stage: done(each.stage) }));
  const isNarrower = (index: number): boolean =>
    preImages.some((other, at) => at > index && other.slot === preImages[index]!.slot && other.stage === 2);
  return {
    ...memory,
    preImages: preImages.filter((_, index) => !isNarrower(index)),
    handles: memory.handles
      .filter(({ end }) => !isEffective(end, isFast))
      .map((handle) => ({
        ...handle,
        exempt: handle.exempt.map((each) => each && { ...each, stage: done(each.stage) }),
      })),
    freed: memory.freed.filter(({ stage }) => !isEffective(stage, isFast)),
    marks: memory.marks.map((stage, region) => (memory.clearing[region] === 2 ? -1 : stage)),
    clearing: memory.clearing.map((stage) => (stage === 2 ? -1 : stage)),
  };
}

export function journalSteps({ state, memory, world, emit }: Turn): void {
  const { journal } = state;
  const { keeps } = world;
  const isAllSynced = !isAtWork(journal, false);
  if (journal.gathering.length > 0 && !isAtWork(journal, memory.isFast)) {
    const groups = [...journal.groups, groupOf(journal.gathering, false)];
    const slots = state.disks.slots.map(settled);
    emit('the group is written', {
      ...state,
      disks: { ...state.disks, slots },
      journal: { ...journal, groups, gathering: [] },
      memory: settledMemory(advanced(memory, 0, 1)),
    });
  }
  if (isAllSynced) {
    if (keeps('C14.together') || memory.isFast || memory.preImages.every(({ stage }) => stage !== 1)) return;
    const late = { ...state.disks, slots: state.disks.slots.map(flushed) };
    emit('the slots are synced', { ...state, disks: late, memory: settledMemory(advanced(memory, 1, 2)) });
    return;
  }
  const groups = journal.groups.map((group, index) =>
    index < journal.before || group.isDropped ? group : groupOf(group.records, true),
  );
  const slots = memory.isFast || !keeps('C5.slot') ? state.disks.slots : state.disks.slots.map(flushed);
  const begins = memory.phase === 'begun';
  emit('the group is synced', {
    ...shown(state, advanced(memory, 1, 2)),
    disks: { ...state.disks, slots },
    journal: { ...journal, groups, ...(begins && keeps('C13.head') ? { tail: [] } : {}) },
  });
  if (!keeps('C14.together') && !memory.isFast && !begins) {
    emit('the group is synced, its slots not yet', {
      ...shown(state, advanced(memory, 1, 2, true)),
      journal: { ...journal, groups },
    });
  }
}

/** What the host learns once records are effective, and that the process lets writes in. */
export function shown(state: VolumeState, memory: Memory): VolumeState {
  const now = { ...settledMemory(memory), phase: memory.phase === 'begun' ? ('open' as const) : memory.phase };
  const { ghost } = state;
  const isShown = ({ seal, made }: Memory['handles'][number]): boolean => seal === 2 && isEffective(made, now.isFast);
  return { ...state, memory: now, ghost: now.phase === 'open' ? withShown(ghost, now, isShown) : ghost };
}

export function withShown(
  ghost: VolumeState['ghost'],
  { handles }: Memory,
  isShown: (handle: Memory['handles'][number]) => boolean,
): VolumeState['ghost'] {
  const before = handles.filter(({ id }) => ghost.handles.every((each) => each.id !== id));
  const fresh = before.filter((handle) => isShown(handle) && handle.end < 0);
  return {
    ...ghost,
    handles: [...ghost.handles, ...fresh.map(({ id, wasFast }) => ({ id, wasFast }))].sort((a, b) => a.id - b.id),
    points: [...new Set([...ghost.points, ...fresh.map(({ serial }) => serial)])].sort((a, b) => a - b),
  };
}
