import { bytesArgument, choiceArgument, described, integerArgument, optionsArgument } from '../common/arguments.ts';
import { type BlockRange, blockRangeArgument } from '../common/block-range.ts';
import { BackupError } from '../common/errors.ts';
import { ALLOWED, BLOCK_STATES, type BlockState, StateByte } from './block-state.ts';
import type { StateMask } from './mixed-chunks.ts';
import { StateChunks } from './state-chunks.ts';
import { decodeStates, encodeStates } from './state-encoding.ts';

/** A run of blocks in one state. @public */
export type StateRange = BlockRange & { readonly state: BlockState };

/** A run of blocks that all went from one state to another. @public */
export type StateChange = BlockRange & { readonly from: BlockState; readonly to: BlockState };

/** What can be asked about the states of a snapshot's blocks. @public */
export interface BlockStates {
  readonly blockCount: number;
  /** How many blocks are in each state, as of the call. Costs the same whatever the number of blocks. */
  readonly counts: Readonly<Record<BlockState, number>>;
  /** One block's state. */
  get(block: number): BlockState;
  /** The ascending, coalesced runs of blocks in any of `states`; of all blocks when none is named. */
  ranges(...states: BlockState[]): Iterable<StateRange>;
  /** The states as they are now, independent of what comes later. */
  clone(): BlockStateMap;
  /**
   * Where these states differ from earlier ones, ascending and coalesced. Equal stretches are skipped at memory
   * speed: tens of millions of blocks compare in milliseconds. A block that went on and came back between the two
   * records does not show.
   */
  diff(previous: BlockStates): Iterable<StateChange>;
  /** MessagePack, run-length coded. `BlockStateMap.decode` reads it. */
  encode(): Uint8Array<ArrayBuffer>;
}

/** Options of {@link BlockStateMap.decode}. @public */
export interface DecodeOptions {
  /** Refuse maps of more blocks with `LIMIT_EXCEEDED` before memory is taken. @defaultValue 2^28 (16 TiB of 64 KiB blocks) */
  maxBlocks?: number | undefined;
}

/** The chunks of a map that this copy of the package has made. */
let chunksOf: (states: BlockStates) => StateChunks | undefined;

const DEFAULT_MAX_BLOCKS = 2 ** 28;
const MAX_BLOCKS = 2 ** 32;

/**
 * The state of every block: a byte each where neighbouring blocks are in different states, next to nothing where they are
 * in the same one.
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
    const [pending, preserved, storing, stored, inherited, zero, lost] = this.#chunks.totals as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    return { pending, preserved, storing, stored, inherited, zero, lost };
  }

  get(block: number): BlockState {
    if (!(block >= 0 && block < this.blockCount && Number.isInteger(block))) {
      if (typeof block !== 'number') throw new TypeError(`block must be a number, not ${described(block)}`);
      throw new BackupError('OUT_OF_RANGE', `no block ${block} among ${this.blockCount}`);
    }
    return BLOCK_STATES[this.#chunks.get(block)] as BlockState;
  }

  /**
   * Moves blocks to another state: all of them, or none if one may not go there.
   *
   * @throws `INVALID_TRANSITION` for a step that the states do not allow, also to the state that a block is in already
   */
  set(block: BlockRange | number, to: BlockState): void {
    const toByte = StateByte[choiceArgument('to', to, BLOCK_STATES)];
    // One block is what most steps are about, ten thousand times in some.
    if (typeof block === 'number' && Number.isInteger(block) && block >= 0 && block < this.blockCount) {
      if (ALLOWED[this.#chunks.get(block) * 8 + toByte] === 0) throw this.#refusal(block, to);
      this.#chunks.put(block, toByte);
      return;
    }
    const { firstBlock: first, blockCount } = blockRangeArgument('block', block);
    const end = first + blockCount;
    if (end > this.blockCount) throw new BackupError('OUT_OF_RANGE', `no block ${end - 1} among ${this.blockCount}`);
    const refusing = this.#chunks.firstRefusing(first, end, toByte);
    if (refusing < end) throw this.#refusal(refusing, to);
    this.#chunks.fill(first, end, toByte);
  }

  #refusal(block: number, to: BlockState): BackupError {
    return new BackupError('INVALID_TRANSITION', `block ${block} can not go from ${this.get(block)} to ${to}`);
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
    objectArgument('previous', previous);
    if (previous.blockCount !== this.blockCount) {
      throw new TypeError(`previous: maps of ${previous.blockCount} and ${this.blockCount} blocks can not be compared`);
    }
    return this.#diff(previous);
  }

  *#diff(previous: BlockStates): Generator<StateChange> {
    const after = this.#chunks;
    // Somebody else's states are copied first; our own are compared in place.
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

  encode(): Uint8Array<ArrayBuffer> {
    return encodeStates(this.blockCount, this.ranges());
  }

  /**
   * Reads what {@link BlockStates.encode} made.
   *
   * @throws `STATE_CORRUPT` for anything else, `LIMIT_EXCEEDED` for too many blocks
   */
  static decode(bytes: Uint8Array, options: DecodeOptions = {}): BlockStateMap {
    bytesArgument('bytes', bytes);
    const { maxBlocks = DEFAULT_MAX_BLOCKS } = optionsArgument('options', options, { maxBlocks: true });
    integerArgument('maxBlocks', maxBlocks, 0, MAX_BLOCKS);
    const { blockCount, runs } = decodeStates(bytes, maxBlocks);
    const map = new BlockStateMap(blockCount);
    let at = 0;
    for (const { stateByte, length } of runs) {
      if (stateByte !== StateByte.pending) map.#chunks.fill(at, at + length, stateByte);
      at += length;
    }
    return map;
  }
}

/**
 * The first block from `from` on, and before `end`, that is in any of `states`; `end` if there is none. It costs what the
 * chunks cost that have such blocks.
 */
export function nextInStates(of: BlockStates, from: number, end: number, states: StateMask): number {
  const chunks = chunksOf(of);
  if (chunks !== undefined) return chunks.next(from, end, states);
  // Of another copy of this package.
  for (let block = from; block < end; block++) if (states[StateByte[of.get(block)]] === 1) return block;
  return end;
}

export function maskOf(states: readonly BlockState[]): StateMask {
  const mask = new Uint8Array(8);
  for (const state of states) mask[StateByte[state]] = 1;
  return mask;
}

function copyOf(states: BlockStates): StateChunks {
  const chunks = StateChunks.of(states.blockCount, StateByte.pending);
  for (const { firstBlock, blockCount, state } of states.ranges()) {
    chunks.fill(firstBlock, firstBlock + blockCount, StateByte[state]);
  }
  return chunks;
}

function objectArgument(name: string, value: unknown): void {
  if (typeof value !== 'object' || value === null)
    throw new TypeError(`${name} must be BlockStates, not ${described(value)}`);
}
