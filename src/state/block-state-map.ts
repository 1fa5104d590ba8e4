import { bytesArgument, choiceArgument, described, integerArgument, optionsArgument } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';
import { type BlockRange, blockRangeArgument } from './block-range.ts';
import { ALLOWED, BLOCK_STATES, type BlockState, StateByte } from './block-state.ts';
import { skipEqual } from './skip-equal.ts';
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

const DEFAULT_MAX_BLOCKS = 2 ** 28;
const MAX_BLOCKS = 2 ** 32;

/**
 * The state of every block, a byte each.
 *
 * @public
 */
export class BlockStateMap implements BlockStates {
  readonly blockCount: number;
  readonly #bytes: Uint8Array;
  /** By state byte. */
  readonly #counts = [0, 0, 0, 0, 0, 0, 0];

  constructor(blockCount: number, initial: BlockState = 'pending') {
    this.blockCount = integerArgument('blockCount', blockCount, 0, MAX_BLOCKS);
    const byte = StateByte[choiceArgument('initial', initial, BLOCK_STATES)];
    // A multiple of eight bytes, so that `diff` may compare words; the rest stays 0 in every map.
    this.#bytes = memoryFor(blockCount);
    if (byte !== 0) this.#bytes.fill(byte, 0, blockCount);
    this.#counts[byte] = blockCount;
  }

  get counts(): Readonly<Record<BlockState, number>> {
    const [pending, preserved, storing, stored, inherited, zero, lost] = this.#counts as [
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
    const byte = typeof block === 'number' && block < this.blockCount ? this.#bytes[block] : undefined;
    if (byte === undefined) {
      if (typeof block !== 'number') throw new TypeError(`block must be a number, not ${described(block)}`);
      throw new BackupError('OUT_OF_RANGE', `no block ${block} among ${this.blockCount}`);
    }
    return BLOCK_STATES[byte] as BlockState;
  }

  /**
   * Moves blocks to another state: all of them, or none if one may not go there.
   *
   * @throws `INVALID_TRANSITION` for a step that the states do not allow, also to the state that a block is in already
   */
  set(block: BlockRange | number, to: BlockState): void {
    const { firstBlock: first, blockCount } = blockRangeArgument('block', block);
    const end = first + blockCount;
    const toByte = StateByte[choiceArgument('to', to, BLOCK_STATES)];
    if (end > this.blockCount) throw new BackupError('OUT_OF_RANGE', `no block ${end - 1} among ${this.blockCount}`);
    const bytes = this.#bytes;
    const left = new Array<number>(BLOCK_STATES.length).fill(0);
    for (let at = first; at < end; ) {
      const from = bytes[at] as number;
      if (ALLOWED[from * 8 + toByte] === 0) {
        throw new BackupError('INVALID_TRANSITION', `block ${at} can not go from ${BLOCK_STATES[from]} to ${to}`);
      }
      const next = endOfRun(bytes, at, end);
      left[from]! += next - at;
      at = next;
    }
    bytes.fill(toByte, first, end);
    for (const [state, count] of left.entries()) this.#counts[state]! -= count;
    this.#counts[toByte]! += end - first;
  }

  ranges(...states: BlockState[]): Generator<StateRange> {
    const wanted = new Uint8Array(8).fill(states.length === 0 ? 1 : 0);
    for (const state of states) wanted[StateByte[choiceArgument('a state', state, BLOCK_STATES)]] = 1;
    return this.#ranges(wanted);
  }

  *#ranges(wanted: Uint8Array): Generator<StateRange> {
    const bytes = this.#bytes;
    for (let at = 0; at < this.blockCount; ) {
      const byte = bytes[at] as number;
      const firstBlock = at;
      at = endOfRun(bytes, at, this.blockCount);
      if (wanted[byte] === 1) {
        yield { firstBlock, blockCount: at - firstBlock, state: BLOCK_STATES[byte] as BlockState };
      }
    }
  }

  clone(): BlockStateMap {
    const copy = new BlockStateMap(this.blockCount);
    copy.#bytes.set(this.#bytes);
    for (let byte = 0; byte < this.#counts.length; byte++) copy.#counts[byte] = this.#counts[byte] as number;
    return copy;
  }

  diff(previous: BlockStates): Generator<StateChange> {
    objectArgument('previous', previous);
    if (previous.blockCount !== this.blockCount) {
      throw new TypeError(`maps of ${previous.blockCount} and ${this.blockCount} blocks can not be compared`);
    }
    return this.#diff(previous);
  }

  *#diff(previous: BlockStates): Generator<StateChange> {
    // Somebody else's states are copied first; our own are compared in place.
    const before = #bytes in previous ? previous.#bytes : copyOf(previous);
    const after = this.#bytes;
    const words = { before: wordsOf(before), after: wordsOf(after) };
    for (let at = 0; at < this.blockCount; ) {
      at = skipEqual(words.before, words.after, before, after, at);
      if (at >= this.blockCount) return;
      const from = before[at];
      const to = after[at];
      const firstBlock = at;
      do at++;
      while (at < this.blockCount && before[at] === from && after[at] === to);
      yield {
        firstBlock,
        blockCount: at - firstBlock,
        from: BLOCK_STATES[from as number] as BlockState,
        to: BLOCK_STATES[to as number] as BlockState,
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
    map.#counts[0] = 0;
    let at = 0;
    for (const { stateByte, length } of runs) {
      map.#bytes.fill(stateByte, at, at + length);
      map.#counts[stateByte]! += length;
      at += length;
    }
    return map;
  }
}

function objectArgument(name: string, value: unknown): void {
  if (typeof value !== 'object' || value === null)
    throw new TypeError(`${name} must be BlockStates, not ${described(value)}`);
}

function memoryFor(blockCount: number): Uint8Array {
  try {
    return new Uint8Array(Math.ceil(blockCount / 8) * 8);
  } catch (cause) {
    throw new BackupError('LIMIT_EXCEEDED', `this system gives no memory for the states of ${blockCount} blocks`, {
      cause,
    });
  }
}

/** As many as are compared natively at a time. */
const CHUNK = 64 * 1024;
const uniform = new Uint8Array(CHUNK);

/** Where the run of equal bytes that begins at `at` ends, or `end`; long runs at memory speed. */
function endOfRun(bytes: Uint8Array, at: number, end: number): number {
  const byte = bytes[at] as number;
  let next = at + 1;
  const near = Math.min(end, at + 64);
  while (next < near && bytes[next] === byte) next++;
  if (next < near || next === end) return next;
  if (uniform[0] !== byte) uniform.fill(byte);
  while (next + CHUNK <= end && Buffer.compare(bytes.subarray(next, next + CHUNK), uniform) === 0) next += CHUNK;
  while (next < end && bytes[next] === byte) next++;
  return next;
}

function wordsOf(bytes: Uint8Array): Float64Array {
  return new Float64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8);
}

function copyOf(states: BlockStates): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(states.blockCount / 8) * 8);
  for (const { firstBlock, blockCount, state } of states.ranges()) {
    bytes.fill(StateByte[state], firstBlock, firstBlock + blockCount);
  }
  return bytes;
}
