import { type BlockRange, blockRangeArgument } from '../common/block-range.ts';
import { BackupError } from '../common/errors.ts';
import { yieldToEventLoop } from '../common/yield-to-event-loop.ts';
import { BLOCK_STATES, type BlockState, StateByte } from '../state/block-state.ts';
import { BlockStateMap, type BlockStates, maskOf, nextInStates, type StateRange } from '../state/block-state-map.ts';
import { StateChunks } from '../state/state-chunks.ts';
import type { VolumeSnapshot } from '../volume/volume-snapshot.ts';
import type { PreviousRecord } from './pipeline-record.ts';

/**
 * Where the knowledge of the changes since the earlier run comes from.
 *
 * - `tracked`: the volume's change tracking
 * - `given`: the host's `changes`
 * - `everything`: nothing is known, so everything is stored; the {@link PipelineChangeReason} says why
 *
 * @public
 */
export type PipelineChangeSource = 'tracked' | 'given' | 'everything';

/**
 * Why a pipeline stores everything.
 *
 * - `no-previous`: neither an earlier record nor changes were given
 * - `no-changes`: the record has no `point`, and no changes were given
 * - `another-volume`: the record is of another volume object, or of an earlier process
 * - `previous-newer`: the record is of a later instant than the snapshot
 * - `tracking-lost`: the volume no longer keeps track of changes since that instant
 * - `block-size-changed`: the volume had blocks of another size
 * - `size-changed`: the volume had another size, and no changes were given, or the record has no size
 *
 * @public
 */
export type PipelineChangeReason =
  | 'no-previous'
  | 'no-changes'
  | 'another-volume'
  | 'previous-newer'
  | 'tracking-lost'
  | 'block-size-changed'
  | 'size-changed';

/** What an earlier run has left for this one. */
export interface UnchangedBlocks {
  readonly changeSource: PipelineChangeSource;
  readonly changeReason: PipelineChangeReason | undefined;
  /** `inherited` or `zero` for each block that has not changed since; `pending` for all others. */
  readonly known: StateChunks | undefined;
}

const { pending, inherited, zero } = StateByte;
const INHERITED = maskOf(['inherited', 'zero']);
const TAKEN_UP = maskOf(BLOCK_STATES.filter((state) => state !== 'pending' && state !== 'preserved'));
/** The most blocks that are marked in one step: marking takes time for each pre-image among them. */
const MARKED_AT_ONCE = 2 ** 20;

/** Finds the blocks that an earlier run has stored or found to be zeroes, and that have not changed since. */
export async function findUnchanged(
  snapshot: VolumeSnapshot,
  previous: PreviousRecord | undefined,
  given: Iterable<BlockRange | number> | undefined,
  signal: AbortSignal,
): Promise<UnchangedBlocks> {
  if (previous === undefined && given === undefined) return everything('no-previous');
  const reason = previous === undefined ? undefined : reshaped(snapshot, previous, given !== undefined);
  if (reason !== undefined) return everything(reason);
  const changes = given ?? trackedChanges(snapshot, previous as PreviousRecord);
  if (typeof changes === 'string') return everything(changes);
  const { blockCount } = snapshot.states;
  const known = StateChunks.of(blockCount, previous === undefined ? inherited : pending);
  if (previous !== undefined) await takeOver(known, snapshot, previous, signal);
  // The host's log may still know blocks that the volume had before it was made smaller.
  const limit = Math.max(blockCount, previous?.states.blockCount ?? 0);
  for (const change of changes) {
    const { firstBlock, blockCount: length } = blockRangeArgument('each of options.changes', change);
    if (length > 0 && firstBlock + length > limit) throw outOfRange(firstBlock + length - 1, limit);
    // @mutation changes-override
    known.fill(Math.min(firstBlock, blockCount), Math.min(firstBlock + length, blockCount), pending);
    await yieldToEventLoop();
    signal.throwIfAborted();
  }
  return { changeSource: given === undefined ? 'tracked' : 'given', changeReason: undefined, known };
}

/** Marks what an earlier run has left. Blocks that have been stored or lost in the meantime keep their states. */
export async function markUnchanged(snapshot: VolumeSnapshot, known: StateChunks, signal: AbortSignal): Promise<void> {
  const { states } = snapshot;
  for (let first = 0; ; ) {
    first = known.next(first, known.blockCount, INHERITED);
    if (first === known.blockCount) return;
    const end = Math.min(known.endOfRun(first), first + MARKED_AT_ONCE);
    const state = known.get(first) === zero ? 'zero' : 'inherited';
    for (let block = first; block < end; ) {
      // @mutation taken-up-stays
      const next = nextInStates(states, block, end, TAKEN_UP);
      if (next > block) snapshot.mark({ firstBlock: block, blockCount: next - block }, state);
      block = next;
      while (block < end && TAKEN_UP[StateByte[states.get(block)]] === 1) block++;
      await yieldToEventLoop();
      signal.throwIfAborted();
    }
    first = end;
  }
}

/** Takes over the blocks that the earlier run had stored, inherited or found to be zeroes. */
async function takeOver(
  known: StateChunks,
  snapshot: VolumeSnapshot,
  previous: PreviousRecord,
  signal: AbortSignal,
): Promise<void> {
  const { states, size = snapshot.size } = previous;
  // A block that was short, or is short now, has other bytes than before.
  // @mutation short-block-is-not-taken-over
  const whole =
    size === snapshot.size ? known.blockCount : Math.floor(Math.min(size, snapshot.size) / snapshot.blockSize);
  // @mutation lost-is-stored-again
  const kept = states.ranges('stored', 'inherited', 'zero');
  for (const { firstBlock, blockCount, state } of kept) {
    const end = Math.min(firstBlock + blockCount, whole);
    if (firstBlock < end) known.fill(firstBlock, end, state === 'zero' ? zero : inherited);
    await yieldToEventLoop();
    signal.throwIfAborted();
  }
}

function reshaped(
  snapshot: VolumeSnapshot,
  previous: PreviousRecord,
  isGiven: boolean,
): PipelineChangeReason | undefined {
  const { states, size, blockSize = snapshot.blockSize } = previous;
  if (blockSize !== snapshot.blockSize) return 'block-size-changed';
  // Only the host can know what has changed in a volume that was resized.
  const isSame = size === undefined ? states.blockCount === snapshot.states.blockCount : size === snapshot.size;
  return isSame || (isGiven && size !== undefined) ? undefined : 'size-changed';
}

function trackedChanges(
  { volume, point: now }: VolumeSnapshot,
  { point }: PreviousRecord,
): Iterable<BlockRange> | PipelineChangeReason {
  if (point === undefined) return 'no-changes';
  if (point.trackingId !== volume.trackingId) return 'another-volume';
  // R11: tracking since a later instant does not show what was written between the snapshot and it.
  // @mutation record-is-earlier
  if (now.epoch < point.epoch) return 'previous-newer';
  return volume.changedSince(point) ?? 'tracking-lost';
}

/** A copy of the states, for a record. A block that was lost before it was known to be unchanged is in the earlier run. */
export function recordedStates(states: BlockStates, known: StateChunks | undefined): BlockStateMap {
  if (known === undefined || states.counts.lost === 0) return states.clone();
  const recorded = new BlockStateMap(states.blockCount);
  for (const range of states.ranges()) {
    if (range.state !== 'lost') copyRange(recorded, range, range.state);
    else for (const { state, ...part } of leftTo(known, range)) copyRange(recorded, part, state);
  }
  return recorded;
}

/** `stored` follows `storing` only. */
function copyRange(to: BlockStateMap, range: BlockRange, state: BlockState): void {
  if (state === 'pending') return;
  if (state === 'stored') to.set(range, 'storing');
  to.set(range, state);
}

/** The states, by an earlier run, of blocks that this run has lost. */
function* leftTo(known: StateChunks, { firstBlock, blockCount }: BlockRange): Generator<StateRange> {
  const end = firstBlock + blockCount;
  for (let at = firstBlock; at < end; ) {
    const next = Math.min(end, known.endOfRun(at));
    const left = known.get(at);
    const state = left === pending ? 'lost' : left === zero ? 'zero' : 'inherited';
    yield { firstBlock: at, blockCount: next - at, state };
    at = next;
  }
}

/** Changes beyond the end are most likely bytes instead of blocks. To ignore them would be to miss the changes that were meant. */
function outOfRange(block: number, limit: number): BackupError {
  return new BackupError(
    'OUT_OF_RANGE',
    `options.changes has block ${block}, and the volume has ${limit} blocks; changes are counted in blocks, not bytes`,
  );
}

function everything(changeReason: PipelineChangeReason): UnchangedBlocks {
  return { changeSource: 'everything', changeReason, known: undefined };
}
