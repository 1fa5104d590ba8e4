/** Reading the files of a state directory: which groups are believed, and what they say. */
import { contentOf } from './cells.ts';
import { type Fold, foldOf } from './fold.ts';
import type { Group } from './journal.ts';
import {
  type Handle,
  type Memory,
  type Mode,
  serves,
  type VolumeState,
  type VolumeWorld,
  wants,
} from './volume-state.ts';

/** How many groups are believed, and what a process makes of them. */
export function replay(
  state: VolumeState,
  mode: Mode,
  world: VolumeWorld,
): { readonly count: number; readonly memory: Memory } {
  const count = believed(state, world);
  const all = state.journal.groups.slice(0, count).flatMap(({ records }) => records);
  return { count, memory: judged(foldOf(all, world), state, mode, world) };
}

/** The last group is not known to be acknowledged: it counts only if its slots hold what it says. */
function believed({ journal: { groups }, disks, ghost }: VolumeState, world: VolumeWorld): number {
  const { keeps } = world;
  const last = foldOf(
    groups.flatMap(({ records }) => records),
    world,
  );
  const willEnd = last.isFast && last.boot !== ghost.boot && keeps('C14.ended');
  if (!keeps('C14.checked') || willEnd) return groups.length;
  const isWhole = ({ records }: Group): boolean =>
    records.every((record) => record.type !== 'PRE' || contentOf(disks.slots[record.slot]!) === record.checksum);
  const first = keeps('C14.acknowledged') ? groups.length - 1 : 0;
  const broken = groups.findIndex((group, index) => index >= first && !isWhole(group));
  return broken < 0 ? groups.length : broken;
}

/** Which handles go on, what is lost, and which epochs the blocks of marked regions have. */
function judged(fold: Fold, { disks, ghost }: VolumeState, mode: Mode, world: VolumeWorld): Memory {
  const { keeps, configuration } = world;
  const isSealed = ({ serial }: { readonly serial: number }): boolean =>
    !keeps('C4.seal') || fold.sealed.includes(serial);
  const isOver = ({ wasFast }: Handle): boolean => wasFast && fold.boot !== ghost.boot && keeps('C11.ends');
  const checked = fold.handles
    .filter((handle) => handle.made === 2 && isSealed(handle) && !isOver(handle))
    .map((handle) => ({ ...handle, seal: 2 as const }));
  const isRotten = (slot: number): boolean => contentOf(disks.slots[slot]!) !== fold.checksums[slot];
  const preImages = fold.preImages.filter(({ slot }) => !isRotten(slot));
  const rotten = fold.preImages.filter(({ slot }) => isRotten(slot));
  const handles = checked.map((handle) => ({
    ...handle,
    exempt: handle.exempt.map((exemption, block) => {
      const isLost = rotten.some((each) => each.block === block && serves(each, handle)) && exemption === null;
      return isLost ? ({ state: 'lost', stage: 2 } as const) : exemption;
    }),
  }));
  const sealed = fold.points.filter(isSealed);
  const current = keeps('C4.number') ? fold.current : Math.max(0, ...sealed.map(({ epoch }) => epoch));
  const memory: Memory = {
    ...{ phase: 'found', isFast: mode === 'fast', current, nextSerial: fold.nextSerial, epochs: fold.epochs },
    ...{
      marks: fold.marks,
      clearing: fold.marks.map(() => -1 as const),
      points: sealed,
      handles,
      preImages,
      freed: [],
    },
  };
  const epochs = configuration.regions.map((region, block) =>
    memory.marks[region] === 2 ? epochOfMarked(memory, block, world) : memory.epochs[block]!,
  );
  return { ...memory, epochs };
}

/** By C5 the block was not overwritten since the instant of a handle that wants it and has no copy of it. */
function epochOfMarked(memory: Memory, block: number, { keeps }: VolumeWorld): number {
  if (!keeps('C3.least')) return memory.current;
  const epochs = memory.handles
    .filter((handle) => wants(handle, block, memory, keeps))
    .filter((handle) => !memory.preImages.some((each) => each.block === block && serves(each, handle)))
    .map(({ epoch }) => epoch - 1);
  return epochs.length > 0 ? Math.min(...epochs) : memory.current;
}
