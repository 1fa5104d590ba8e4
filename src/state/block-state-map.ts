import { bytesArgument, choiceArgument, described, integerArgument, optionsArgument } from '../common/arguments.ts';
import { type BlockRange, blockRangeArgument } from '../common/block-range.ts';
import { BackupError } from '../common/errors.ts';
import { ownCopy } from '../common/long-bytes.ts';
import { runInSteps, StepCounter, type Steps } from '../common/yield-to-event-loop.ts';
import { ALLOWED, BLOCK_STATES, type BlockState, StateByte } from './block-state.ts';
import type { StateMask } from './mixed-chunks.ts';
import { StateChunks } from './state-chunks.ts';
import { decodingStates, encodingStates, type StateRun } from './state-encoding.ts';

/** A run of blocks in one state. @public */
export type StateRange = BlockRange & { readonly state: BlockState };

/** A run of blocks that all went from one state to another. @public */
export type StateChange = BlockRange & { readonly from: BlockState; readonly to: BlockState };

/** The states of a snapshot's blocks, for reading. @public */
export interface BlockStates {
  readonly blockCount: number;
  /** How many blocks are in each state at the time of the call. The cost does not depend on the number of blocks. */
  readonly counts: Readonly<Record<BlockState, number>>;
  /** How many blocks of a range are in each state. */
  countsIn(blocks: BlockRange): Readonly<Record<BlockState, number>>;
  /** One block's state. */
  get(block: number): BlockState;
  /** The ascending, coalesced runs of blocks in any of `states`, or of all blocks if no state is named. */
  ranges(...states: BlockState[]): Iterable<StateRange>;
  /** An independent copy of the states as they are now. */
  clone(): BlockStateMap;
  /**
   * The blocks whose states differ from earlier ones, ascending and coalesced. Equal ranges are skipped at memory speed:
   * tens of millions of blocks are compared in milliseconds. A block that changed and changed back does not show.
   */
  diff(previous: BlockStates): Iterable<StateChange>;
  /** Encodes the states as they are at the call, in MessagePack, run-length coded. `BlockStateMap.decode` reads the result. */
  encode(): Promise<Uint8Array<ArrayBuffer>>;
}

/** Options of {@link BlockStateMap.decode}. @public */
export interface DecodeOptions {
  /** Maps of more blocks are refused with `LIMIT_EXCEEDED` before memory is allocated. @defaultValue 2^28 (16 TiB of 64 KiB blocks) */
  maxBlocks?: number | undefined;
}

/** The chunks of a map, if this copy of the package created it. */
let chunksOf: (states: BlockStates) => StateChunks | undefined;

const DEFAULT_MAX_BLOCKS = 2 ** 28;
const MAX_BLOCKS = 2 ** 32;

/**
 * The state of every block. It takes one byte for a block among blocks in different states, and hardly any memory for blocks
 * that are in the same state as their neighbours.
 *
 * @example
 * ```ts
 * const states = new BlockStateMap(1000);
 * states.set({ firstBlock: 0, blockCount: 600 }, 'inherited');
 * states.set(600, 'storing');
 * const earlier = states.clone();
 * states.set(600, 'stored');
 *
 * console.log(states.counts.pending); // 399
 * for (const { firstBlock, blockCount, state } of states.ranges()) console.log(firstBlock, blockCount, state);
 * for (const change of states.diff(earlier)) console.log(change); // Block 600 went from `storing` to `stored`.
 * ```
 *
 * @public
 */
export class BlockStateMap implements BlockStates {
  readonly blockCount: number;
  #chunks: StateChunks;

  constructor(blockCount: number, initial: BlockState = 'pending') {
    this.blockCount = integerArgument('blockCount', blockCount, 0, MAX_BLOCKS);
    this.#chunks = StateChunks.of(blockCount, StateByte[choiceArgument('initial', initial, BLOCK_STATES)]);
  }

  static {
    chunksOf = (states) => (#chunks in states ? states.#chunks : undefined);
  }

  get counts(): Readonly<Record<BlockState, number>> {
    return namedCounts(this.#chunks.totals);
  }

  countsIn(blocks: BlockRange): Readonly<Record<BlockState, number>> {
    const { firstBlock, blockCount } = this.#ownRange('blocks', blocks);
    return namedCounts(this.#chunks.totalsIn(firstBlock, firstBlock + blockCount));
  }

  get(block: number): BlockState {
    if (!(block >= 0 && block < this.blockCount && Number.isInteger(block))) {
      if (typeof block !== 'number') throw new TypeError(`block must be a number, not ${described(block)}`);
      throw new BackupError('OUT_OF_RANGE', `block ${block} is not one of the ${this.blockCount} blocks of the map`);
    }
    return BLOCK_STATES[this.#chunks.get(block)] as BlockState;
  }

  /**
   * Moves blocks to another state: all of them, or none if one of them may not go there.
   *
   * @throws `INVALID_TRANSITION` for a transition that is not allowed, including one to the state that a block is in already
   */
  set(block: BlockRange | number, to: BlockState): void {
    const toByte = StateByte[choiceArgument('to', to, BLOCK_STATES)];
    // Most calls are about one block, and some callers make ten thousand of them in a row.
    if (typeof block === 'number' && Number.isInteger(block) && block >= 0 && block < this.blockCount) {
      if (ALLOWED[this.#chunks.get(block) * 8 + toByte] === 0) throw this.#refusal(block, to);
      this.#chunks.put(block, toByte);
      return;
    }
    const { firstBlock: first, blockCount } = this.#ownRange('block', block);
    const end = first + blockCount;
    const refusing = this.#chunks.firstRefusing(first, end, toByte);
    if (refusing < end) throw this.#refusal(refusing, to);
    this.#chunks.fill(first, end, toByte);
  }

  #ownRange(name: string, value: BlockRange | number): BlockRange {
    const range = blockRangeArgument(name, value);
    const end = range.firstBlock + range.blockCount;
    if (end <= this.blockCount) return range;
    throw new BackupError('OUT_OF_RANGE', `block ${end - 1} is not one of the ${this.blockCount} blocks of the map`);
  }

  #refusal(block: number, to: BlockState): BackupError {
    return new BackupError('INVALID_TRANSITION', `block ${block} can't go from ${this.get(block)} to ${to}`);
  }

  ranges(...states: BlockState[]): Generator<StateRange> {
    for (const state of states) choiceArgument('states', state, BLOCK_STATES);
    return this.#ranges(maskOf(states.length === 0 ? BLOCK_STATES : states));
  }

  *#ranges(wanted: StateMask): Generator<StateRange> {
    const chunks = this.#chunks;
    for (let at = 0; ; ) {
      const firstBlock = chunks.next(at, this.blockCount, wanted);
      if (firstBlock === this.blockCount) return;
      at = chunks.endOfRun(firstBlock);
      yield { firstBlock, blockCount: at - firstBlock, state: this.get(firstBlock) };
    }
  }

  clone(): BlockStateMap {
    const copy = new BlockStateMap(0);
    (copy as { blockCount: number }).blockCount = this.blockCount;
    copy.#chunks = this.#chunks.clone();
    return copy;
  }

  diff(previous: BlockStates): Generator<StateChange> {
    if (typeof previous !== 'object' || previous === null) {
      throw new TypeError(`previous must be BlockStates, not ${described(previous)}`);
    }
    if (previous.blockCount !== this.blockCount) {
      throw new TypeError(`previous: maps of ${previous.blockCount} and ${this.blockCount} blocks can't be compared`);
    }
    return this.#diff(previous);
  }

  *#diff(previous: BlockStates): Generator<StateChange> {
    const after = this.#chunks;
    // States of another implementation are copied first, and those of this class are compared in place.
    const before = #chunks in previous ? previous.#chunks : copyOf(previous);
    for (let at = 0; ; ) {
      const firstBlock = after.nextDifference(before, at);
      if (firstBlock === this.blockCount) return;
      at = after.endOfChange(before, firstBlock);
      yield {
        firstBlock,
        blockCount: at - firstBlock,
        from: BLOCK_STATES[before.get(firstBlock)] as BlockState,
        to: BLOCK_STATES[after.get(firstBlock)] as BlockState,
      };
    }
  }

  encode(): Promise<Uint8Array<ArrayBuffer>> {
    return runInSteps(encodingStates(this.blockCount, this.clone().ranges()));
  }

  *#filling(runs: Iterable<StateRun>): Steps<void> {
    const steps = new StepCounter();
    let at = 0;
    for (const { stateByte, length } of runs) {
      if (steps.isDue()) yield;
      if (stateByte !== StateByte.pending) this.#chunks.fill(at, at + length, stateByte);
      at += length;
    }
  }

  /**
   * Decodes the output of {@link BlockStates.encode}. Up to 8 MiB of bytes are copied at the call; longer ones must not be changed
   * before the promise settles.
   *
   * @throws `STATE_CORRUPT` for anything else, `LIMIT_EXCEEDED` for too many blocks
   */
  static async decode(bytes: Uint8Array, options: DecodeOptions = {}): Promise<BlockStateMap> {
    bytesArgument('bytes', bytes);
    const { maxBlocks = DEFAULT_MAX_BLOCKS } = optionsArgument('options', options, { maxBlocks: true });
    integerArgument('maxBlocks', maxBlocks, 0, MAX_BLOCKS);
    const { blockCount, runs } = await runInSteps(decodingStates(await ownCopy(bytes), maxBlocks));
    const map = new BlockStateMap(blockCount);
    await runInSteps(map.#filling(runs));
    return map;
  }
}

/** The first block from `from` on, and before `end`, that is in any of `states`; `end` if there is none. */
export function nextInStates(of: BlockStates, from: number, end: number, states: StateMask): number {
  const chunks = chunksOf(of);
  if (chunks !== undefined) return chunks.next(from, end, states);
  // The states are of another copy of this package.
  for (let block = from; block < end; block++) if (states[StateByte[of.get(block)]] === 1) return block;
  return end;
}

export function maskOf(states: readonly BlockState[]): StateMask {
  const mask = new Uint8Array(8);
  for (const state of states) mask[StateByte[state]] = 1;
  return mask;
}

function namedCounts(totals: readonly number[]): Readonly<Record<BlockState, number>> {
  const [pending = 0, preserved = 0, storing = 0, stored = 0, inherited = 0, zero = 0, lost = 0] = totals;
  return { pending, preserved, storing, stored, inherited, zero, lost };
}

function copyOf(states: BlockStates): StateChunks {
  const chunks = StateChunks.of(states.blockCount, StateByte.pending);
  for (const { firstBlock, blockCount, state } of states.ranges()) {
    chunks.fill(firstBlock, firstBlock + blockCount, StateByte[state]);
  }
  return chunks;
}
