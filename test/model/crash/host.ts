/** What a process does while it is open: the host's writes and what must precede them. */
import { contentOf, settled, written } from './cells.ts';
import type { JournalRecord } from './journal.ts';
import { appended, type Turn } from './process.ts';
import { type Handle, isEffective, type PreImage, serves, wants } from './volume-state.ts';

export function hostSteps(turn: Turn): void {
  const { state, world } = turn;
  const { configuration } = world;
  for (const block of state.disks.device.keys()) {
    if (state.disks.device[block]!.isInProgress) settle(turn, block);
    if (state.ghost.writes === configuration.writes) continue;
    if (!(configuration.blocks?.includes(block) ?? true)) continue;
    mark(turn, block);
    preserve(turn, block);
    issue(turn, block);
  }
  if (state.ghost.clears < (configuration.clears ?? 0)) {
    for (const region of turn.memory.marks.keys()) clear(turn, region);
  }
}

/** The journal can't be written, and C17 could not replace it: what needs no record goes on, or all is voided. */
export function brokenSteps(turn: Turn): void {
  const { state, memory, emit } = turn;
  for (const block of state.disks.device.keys()) {
    if (state.disks.device[block]!.isInProgress) settle(turn, block);
    if (state.ghost.writes < turn.world.configuration.writes) issue(turn, block);
  }
  if (memory.health === 'void') return;
  emit('voids the state durably', {
    ...state,
    journal: { ...state.journal, groups: [], before: 0, tail: [], gathering: [], checkpoint: null },
    memory: { ...memory, health: 'void', handles: [], preImages: [] },
    ghost: { ...state.ghost, points: [], handles: [] },
  });
}

function settle({ state, emit }: Turn, block: number): void {
  const device = state.disks.device.with(block, settled(state.disks.device[block]!));
  emit(`the write to block ${block} is acknowledged`, { ...state, disks: { ...state.disks, device } });
}

function mark(turn: Turn, block: number): void {
  const region = turn.world.configuration.regions[block]!;
  if (turn.memory.marks[region] !== -1) return;
  const changes = { marks: turn.memory.marks.with(region, 0) };
  turn.emit(`appends MARK of region ${region}`, appended(turn, [{ type: 'MARK', region }], changes));
}

/** The handles for which an overwrite needs a copy. */
function needing({ memory, world }: Turn, block: number): Handle[] {
  return memory.handles.filter(
    (handle) => handle.epoch > memory.epochs[block]! && wants(handle, block, memory, world.keeps),
  );
}

/** Whether a copy counts for a handle, as the process sees it. */
function isServed(
  { memory, world }: Turn,
  handle: Handle,
  block: number,
  isEnough: (each: PreImage) => boolean,
): boolean {
  const isFor = (each: PreImage): boolean => serves(each, handle) || !world.keeps('C6.wider');
  return memory.preImages.some((each) => each.block === block && isFor(each) && isEnough(each));
}

function preserve(turn: Turn, block: number): void {
  const { state, memory } = turn;
  if (needing(turn, block).every((handle) => isServed(turn, handle, block, () => true))) return;
  const from = memory.epochs[block]!;
  const narrower = memory.preImages.findLast((each) => each.block === block && each.from === from);
  const slot = narrower?.slot ?? freeSlot(turn);
  if (slot === undefined) return;
  const checksum = contentOf(state.disks.device[block]!);
  const interval = { block, slot, from, to: memory.current };
  const slots = narrower
    ? state.disks.slots
    : state.disks.slots.with(slot, written(state.disks.slots[slot]!, checksum));
  const preImages = [...memory.preImages, { ...interval, stage: 0 as const }];
  const records: JournalRecord[] = [{ type: 'PRE', ...interval, checksum }];
  const rest = { disks: { ...state.disks, slots } };
  const label = `preserves block ${block} for ${from} to ${memory.current} in slot ${slot}, appends PRE`;
  turn.emit(label, appended(turn, records, { preImages }, rest));
}

function freeSlot({ memory, world }: Turn): number | undefined {
  const isFree = (slot: number): boolean =>
    memory.preImages.every((each) => each.slot !== slot) &&
    (!world.keeps('C10.effective') || memory.freed.every((each) => each.slot !== slot));
  return Array.from({ length: world.configuration.slots }, (_, slot) => slot).find(isFree);
}

function issue(turn: Turn, block: number): void {
  const { state, memory, world } = turn;
  const { keeps, configuration } = world;
  if (state.disks.device[block]!.isInProgress) return;
  const needsNoRecord = memory.health === 'void' || (memory.health === 'failed' && !keeps('C8.refused'));
  if (needsNoRecord) {
    emitIssue(turn, block);
    return;
  }
  const marked = memory.marks[configuration.regions[block]!]!;
  if (keeps('C1.first') && marked < (keeps('C1.synced') || !memory.isFast ? 2 : 1)) return;
  const isEnough = ({ stage }: PreImage): boolean => isEffective(stage, memory.isFast) || !keeps('C5.effective');
  if (!needing(turn, block).every((handle) => isServed(turn, handle, block, isEnough))) return;
  emitIssue(turn, block);
}

function emitIssue({ state, memory, emit }: Turn, block: number): void {
  const value = state.ghost.writes + 1;
  emit(`issues write ${value} to block ${block}`, {
    ...state,
    disks: { ...state.disks, device: state.disks.device.with(block, written(state.disks.device[block]!, value)) },
    memory: { ...memory, epochs: memory.epochs.with(block, memory.current) },
    ghost: { ...state.ghost, writes: value },
  });
}

function clear(turn: Turn, region: number): void {
  const { state, memory, world } = turn;
  const { keeps } = world;
  if (memory.marks[region]! < 0 || memory.clearing[region]! >= 0) return;
  const epochs = keeps('C2.bytes') ? memory.epochs : memory.epochs.map(() => 0);
  const changes = keeps('C2.step')
    ? { marks: memory.marks.with(region, -1) }
    : { clearing: memory.clearing.with(region, 0) };
  const rest = { ghost: { ...state.ghost, clears: state.ghost.clears + 1 } };
  turn.emit(`appends CLEAN of region ${region}`, appended(turn, [{ type: 'CLEAN', region, epochs }], changes, rest));
}
