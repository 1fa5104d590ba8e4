/** What the records of a journal say, one after the other. */
import type { JournalRecord } from './journal.ts';
import type { Handle, Memory, VolumeWorld } from './volume-state.ts';

export interface Fold extends Omit<Memory, 'phase' | 'clearing' | 'freed'> {
  readonly boot: number;
  readonly sealed: readonly number[];
  /** What each slot should hold. */
  readonly checksums: readonly number[];
}

const BEFORE: Omit<Fold, 'epochs' | 'marks' | 'checksums'> = {
  ...{ isFast: false, current: 0, nextSerial: 1, points: [], handles: [], preImages: [], boot: 0, sealed: [] },
};

/** Without C6: a copy of no interval. */
const EVERYBODY = { from: -1, to: 255 };

export function foldOf(records: readonly JournalRecord[], world: VolumeWorld): Fold {
  return records.reduce((fold, record) => applied(fold, record, world), empty(world));
}

function empty({ configuration: { regions, slots } }: VolumeWorld): Fold {
  const marks = Array.from({ length: Math.max(...regions) + 1 }, () => -1 as const);
  return { ...BEFORE, epochs: regions.map(() => 0), marks, checksums: Array(slots).fill(0) };
}

function applied(fold: Fold, record: JournalRecord, world: VolumeWorld): Fold {
  const { keeps } = world;
  switch (record.type) {
    case 'OPENED': {
      const wasFast = (handle: Handle): boolean => handle.wasFast || (record.isFast && keeps('C11.flag'));
      const handles = fold.handles.map((handle) => ({ ...handle, wasFast: wasFast(handle) }));
      return { ...fold, handles, isFast: record.isFast, boot: record.boot };
    }
    case 'MARK':
      return { ...fold, marks: fold.marks.with(record.region, 2) };
    case 'CLEAN': {
      const { regions } = world.configuration;
      const epochs = fold.epochs.map((epoch, block) =>
        regions[block] === record.region ? record.epochs[block]! : epoch,
      );
      return { ...fold, epochs, marks: fold.marks.with(record.region, -1) };
    }
    case 'INSTANT': {
      const { serial, epoch } = record;
      const handle = { ...newHandle(serial, { serial, epoch }, fold.isFast, world), made: 2 as const };
      const points = [...fold.points, { serial, epoch }];
      return { ...fold, points, handles: [...fold.handles, handle], current: epoch, nextSerial: serial + 1 };
    }
    case 'SEAL':
      return { ...fold, sealed: [...fold.sealed, record.serial] };
    case 'HANDLE': {
      const point = fold.points.find(({ serial }) => serial === record.serial)!;
      const handle =
        fold.handles.find(({ id }) => id === record.handle) ?? newHandle(record.handle, point, fold.isFast, world);
      const others = fold.handles.filter(({ id }) => id !== record.handle);
      return { ...fold, handles: [...others, { ...handle, seal: 2, made: 2 }] };
    }
    case 'END':
      return { ...fold, handles: fold.handles.filter(({ id }) => id !== record.handle) };
    case 'RENUM':
      return renumbered(fold, record.kept);
    case 'CHECKPOINT':
      return record.fold;
    default:
      return appliedToBlock(fold, record, world);
  }
}

function appliedToBlock(
  fold: Fold,
  record: Extract<JournalRecord, { type: 'PRE' | 'FREE' | 'STATE' }>,
  world: VolumeWorld,
): Fold {
  if (record.type === 'FREE') {
    return { ...fold, preImages: fold.preImages.filter(({ slot }) => slot !== record.slot) };
  }
  if (record.type === 'PRE') {
    const { block, slot, from, to, checksum } = record;
    const others = fold.preImages.filter((each) => each.slot !== slot);
    return {
      ...fold,
      preImages: [...others, { block, slot, ...(world.keeps('C6.interval') ? { from, to } : EVERYBODY), stage: 2 }],
      checksums: fold.checksums.with(slot, checksum),
    };
  }
  const { handle: id, block, state } = record;
  // The lost blocks of a shared handle stand before it.
  const known = fold.handles.some((handle) => handle.id === id);
  const handles = known ? fold.handles : [...fold.handles, lostBefore(fold, id, world)];
  const next = {
    ...fold,
    handles: handles.map((handle) =>
      handle.id === id ? { ...handle, exempt: handle.exempt.with(block, { state, stage: 2 as const }) } : handle,
    ),
  };
  if (world.keeps('C10.replay') || state === 'lost') return next;
  return { ...next, preImages: next.preImages.filter((each) => each.block !== block) };
}

/** Ids of shared handles are 10 times the serial and more: what a record of the real journal says in another way. */
function lostBefore(fold: Fold, id: number, world: VolumeWorld): Handle {
  return newHandle(id, fold.points.find(({ serial }) => serial === Math.floor(id / 10))!, fold.isFast, world);
}

export function newHandle(
  id: number,
  { serial, epoch }: Memory['points'][number],
  wasFast: boolean,
  world: VolumeWorld,
): Handle {
  const exempt = world.configuration.regions.map(() => null);
  return { id, serial, epoch, wasFast, seal: -1, made: -1, end: -1, exempt };
}

/** Epochs are the ranks among those of the kept serials. */
export function renumbered<T extends Pick<Memory, 'epochs' | 'points' | 'handles' | 'preImages' | 'current'>>(
  memory: T,
  kept: readonly number[],
): T {
  const points = memory.points.filter(({ serial }) => kept.includes(serial));
  const rank = (epoch: number): number => points.filter((point) => point.epoch <= epoch).length;
  const moved = <P extends { readonly epoch: number }>(point: P): P => ({ ...point, epoch: rank(point.epoch) });
  return {
    ...memory,
    epochs: memory.epochs.map(rank),
    points: points.map(moved),
    handles: memory.handles.map(moved),
    preImages: memory.preImages.map((each) => ({ ...each, from: rank(each.from), to: rank(each.to) })),
    current: points.length,
  };
}
