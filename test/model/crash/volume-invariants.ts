/** What must hold of a volume with a state directory, whenever a process is open. */
import type { Invariant } from '../explore.ts';
import { contentOf } from './cells.ts';
import { readBy } from './snapshots.ts';
import type { Handle, Memory, VolumeState } from './volume-state.ts';

type Check = (state: VolumeState, memory: Memory) => string | undefined;

export function volumeInvariants(): Invariant<VolumeState>[] {
  const whileOpen = (name: string, check: Check): Invariant<VolumeState> => ({
    name,
    broken: (state) => (state.memory?.phase === 'open' ? check(state, state.memory) : undefined),
  });
  return [
    whileOpen('V1: a snapshot reads as its instant, and no block is lost without need', misread),
    whileOpen('V2: the changes since a point have every block that differs from it', missed),
    whileOpen('V3: what the host was shown is there', gone),
    whileOpen('V4: what a record calls stored is in the store', notStored),
  ];
}

function misread(state: VolumeState, memory: Memory): string | undefined {
  for (const handle of memory.handles) {
    if (handle.end >= 0) continue;
    for (const block of handle.exempt.keys()) {
      const message = misreadBlock(handle, block, state, memory);
      if (message) return `snapshot ${handle.serial} by handle ${handle.id}: block ${block} ${message}`;
    }
  }
  return undefined;
}

function misreadBlock(handle: Handle, block: number, state: VolumeState, memory: Memory): string | undefined {
  const exemption = handle.exempt[block];
  if (exemption?.state === 'stored') return undefined;
  const isGivenUp = state.ghost.givenUp.includes(`${handle.id}/${block}`);
  if (exemption) return isGivenUp ? undefined : 'is lost';
  const held = readBy(handle, block, state, memory);
  const truth = state.ghost.truth[handle.serial - 1]![block];
  if (held === undefined) return 'is lost';
  return held === truth ? undefined : `reads ${held}, and held ${truth}`;
}

function missed({ disks, ghost }: VolumeState, memory: Memory): string | undefined {
  for (const { serial, epoch } of memory.points) {
    for (const [block, cell] of disks.device.entries()) {
      if (memory.epochs[block]! >= epoch || contentOf(cell) === ghost.truth[serial - 1]![block]) continue;
      return `block ${block} has changed since ${serial}, and does not count as changed`;
    }
  }
  return undefined;
}

function gone({ ghost }: VolumeState, { handles, points }: Memory): string | undefined {
  const handle = ghost.handles.find(({ id }) => handles.every((each) => each.id !== id));
  if (handle) return `handle ${handle.id} was shown, and is gone`;
  const point = ghost.points.find((serial) => points.every((each) => each.serial !== serial));
  return point === undefined ? undefined : `snapshot ${point} was shown, and its point is not known`;
}

function notStored({ ghost }: VolumeState, { handles }: Memory): string | undefined {
  for (const { id, exempt } of handles) {
    const block = exempt.findIndex(
      (each, at) => each?.state === 'stored' && each.stage === 2 && !ghost.stored.includes(`${id}/${at}`),
    );
    if (block >= 0) return `block ${block} of handle ${id} counts as stored, and is not in the store`;
  }
  return undefined;
}
