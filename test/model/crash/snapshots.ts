/** Instants, seals, handles, and what ends the wanting of a block. */
import { contentOf, flushed } from './cells.ts';
import { newHandle, renumbered } from './fold.ts';
import type { JournalRecord } from './journal.ts';
import { appended, type Turn, withShown } from './process.ts';
import { type Handle, isEffective, type Memory, serves, type VolumeState, wants } from './volume-state.ts';

export function snapshotSteps(turn: Turn): void {
  instant(turn);
  const { memory, world, state } = turn;
  const { configuration } = world;
  const isKnown = ({ id }: Handle): boolean => state.ghost.handles.some((each) => each.id === id);
  for (const handle of memory.handles) {
    if (handle.seal < 0) seal(turn, handle);
    if (!isKnown(handle)) continue;
    for (const block of configuration.stores ?? []) store(turn, handle, block);
    if (configuration.loses) for (const block of configuration.regions.keys()) lose(turn, handle, block);
    if (configuration.closes) close(turn, handle);
    if (state.ghost.shares < (configuration.shares ?? 0)) share(turn, handle);
  }
  for (const { slot } of memory.preImages) forget(turn, slot);
}

function instant(turn: Turn): void {
  const { state, world } = turn;
  const { keeps, configuration } = world;
  const { truth, instants } = state.ghost;
  if (instants === configuration.snapshots || state.disks.device.some((cell) => cell.isInProgress)) return;
  const { memory, records, ghost } = renumberedIfNeeded(turn);
  if (records.length > 0 && state.journal.checkpoint && keeps('C12.waits')) return;
  const point = { serial: memory.nextSerial, epoch: memory.current + 1 };
  const handle = { ...newHandle(point.serial, point, memory.isFast, world), made: 0 as const };
  const recorded = keeps('C12.recorded') ? records : [];
  const made: JournalRecord = { type: 'INSTANT', ...point };
  const changes = {
    ...memory,
    ...{ current: point.epoch, nextSerial: point.serial + 1 },
    ...{ points: [...memory.points, point], handles: [...memory.handles, handle] },
  };
  const held = [...truth.slice(0, point.serial - 1), state.disks.device.map(contentOf), ...truth.slice(point.serial)];
  turn.emit(
    `the instant of snapshot ${point.serial}, appends ${records.length > 0 ? 'RENUM and ' : ''}INSTANT`,
    appended(turn, [...recorded, made], changes, { ghost: { ...ghost, truth: held, instants: ghost.instants + 1 } }),
  );
}

/** Where one byte has no number left, the points of live handles are kept. */
function renumberedIfNeeded({ state, memory, world }: Turn): {
  memory: Memory;
  records: JournalRecord[];
  ghost: VolumeState['ghost'];
} {
  const { ghost } = state;
  if (memory.current + 1 <= (world.configuration.maxEpoch ?? 254)) return { memory, records: [], ghost };
  const kept = [...new Set(memory.handles.map(({ serial }) => serial))];
  const points = ghost.points.filter((serial) => kept.includes(serial));
  return { memory: renumbered(memory, kept), records: [{ type: 'RENUM', kept }], ghost: { ...ghost, points } };
}

/** A flush that was begun after the instant, and settles. */
function seal(turn: Turn, { serial }: Handle): void {
  const { state, memory, world } = turn;
  const { keeps } = world;
  const handles = memory.handles.map((handle) => (handle.serial === serial ? { ...handle, seal: 0 as const } : handle));
  const device = keeps('C4.flush') ? state.disks.device.map(flushed) : state.disks.device;
  const isResolved = (handle: Handle): boolean => handle.serial === serial && !keeps('C4.resolve');
  const rest = { disks: { ...state.disks, device }, ghost: withShown(state.ghost, { ...memory, handles }, isResolved) };
  const label = keeps('C4.flush') ? 'the device has flushed, ' : '';
  turn.emit(
    `${label}appends SEAL of snapshot ${serial}`,
    appended(turn, [{ type: 'SEAL', serial }], { handles }, rest),
  );
}

const withHandle = ({ handles }: Memory, id: number, changes: Partial<Handle>): Handle[] =>
  handles.map((handle) => (handle.id === id ? { ...handle, ...changes } : handle));

/** What the handle reads of the block: undefined where it is nowhere. */
export function readBy(handle: Handle, block: number, { disks }: VolumeState, memory: Memory): number | undefined {
  const copy = memory.preImages.find((each) => each.block === block && serves(each, handle));
  if (copy) return contentOf(disks.slots[copy.slot]!);
  return memory.epochs[block]! < handle.epoch ? contentOf(disks.device[block]!) : undefined;
}

function store(turn: Turn, handle: Handle, block: number): void {
  const { state, memory, world } = turn;
  if (handle.exempt[block] || handle.end >= 0) return;
  const key = `${handle.id}/${block}`;
  const exempt = handle.exempt.with(block, { state: 'stored', stage: 0 });
  const records: JournalRecord[] = [{ type: 'STATE', handle: handle.id, block, state: 'stored' }];
  const ghost = { ...state.ghost, stored: [...new Set([...state.ghost.stored, key])].sort() };
  const handles = withHandle(memory, handle.id, { exempt });
  const label = `handle ${handle.id} appends STATE stored of block ${block}`;
  turn.emit(`the pack with block ${block} is acknowledged, ${label}`, appended(turn, records, { handles }, { ghost }));
  if (!world.keeps('C7.acknowledged'))
    turn.emit(`${label}, its pack is on its way`, appended(turn, records, { handles }));
}

/** The deadline of a block that the host wants to overwrite. */
function lose(turn: Turn, handle: Handle, block: number): void {
  const { state, memory, world } = turn;
  if (state.ghost.writes === world.configuration.writes) return;
  const hasCopy = memory.preImages.some((each) => each.block === block && serves(each, handle));
  const isNeeded = handle.epoch > memory.epochs[block]! && !hasCopy;
  if (handle.exempt[block] || handle.end >= 0 || !isNeeded) return;
  const exempt = handle.exempt.with(block, { state: 'lost', stage: 0 });
  const records: JournalRecord[] = [{ type: 'STATE', handle: handle.id, block, state: 'lost' }];
  const givenUp = [...new Set([...state.ghost.givenUp, `${handle.id}/${block}`])].sort();
  const rest = { ghost: { ...state.ghost, givenUp } };
  const label = `the deadline: handle ${handle.id} appends STATE lost of block ${block}`;
  turn.emit(label, appended(turn, records, { handles: withHandle(memory, handle.id, { exempt }) }, rest));
}

function close(turn: Turn, { id, end }: Handle): void {
  if (end >= 0) return;
  const { ghost } = turn.state;
  const handles = withHandle(turn.memory, id, { end: 0 });
  const rest = { ghost: { ...ghost, handles: ghost.handles.filter((each) => each.id !== id) } };
  turn.emit(`handle ${id} is closed, appends END`, appended(turn, [{ type: 'END', handle: id }], { handles }, rest));
}

/** A second handle of the same instant. What is nowhere any more is lost for it from the beginning. */
function share(turn: Turn, handle: Handle): void {
  const { state, memory, world } = turn;
  if (handle.end >= 0) return;
  const id = handle.serial * 10 + state.ghost.shares;
  const exempt = handle.exempt.map((_, block) =>
    readBy(handle, block, state, memory) === undefined ? ({ state: 'lost', stage: 0 } as const) : null,
  );
  const lost = exempt.flatMap((each, block): JournalRecord[] =>
    each ? [{ type: 'STATE', handle: id, block, state: 'lost' }] : [],
  );
  const isRecorded = world.keeps('C7.shared');
  const made: JournalRecord = { type: 'HANDLE', handle: id, serial: handle.serial };
  const shared = { ...newHandle(id, handle, memory.isFast, world), seal: 2 as const, made: 0 as const, exempt };
  const keys = exempt.flatMap((each, block) => (each ? [`${id}/${block}`] : []));
  const ghost = { ...state.ghost, shares: state.ghost.shares + 1, givenUp: [...state.ghost.givenUp, ...keys].sort() };
  const changes = { handles: [...memory.handles, shared] };
  const label = `shares snapshot ${handle.serial} as handle ${id}, appends ${lost.length > 0 && isRecorded ? 'STATE lost and ' : ''}HANDLE`;
  turn.emit(label, appended(turn, [...(isRecorded ? lost : []), made], changes, { ghost }));
}

/** A copy that no handle wants. */
function forget(turn: Turn, slot: number): void {
  const { memory, world } = turn;
  const { keeps } = world;
  const copies = memory.preImages.filter((each) => each.slot === slot);
  const isWanted = copies.some((copy) =>
    memory.handles.some((handle) => serves(copy, handle) && wants(handle, copy.block, memory, keeps)),
  );
  if (isWanted || copies.some(({ stage }) => !isEffective(stage, memory.isFast))) return;
  const preImages = memory.preImages.filter((each) => each.slot !== slot);
  if (!keeps('C10.free')) {
    turn.emit(`forgets slot ${slot}`, appended(turn, [], { preImages }));
    return;
  }
  const freed = [...memory.freed, { slot, stage: 0 as const }];
  turn.emit(`forgets slot ${slot}, appends FREE`, appended(turn, [{ type: 'FREE', slot }], { preImages, freed }));
}
