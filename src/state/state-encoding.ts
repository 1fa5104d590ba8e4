import { BackupError } from '../common/errors.ts';
import { joinInSteps, PIECE_BYTES } from '../common/long-bytes.ts';
import { decodeMsgpack } from '../common/msgpack.ts';
import { encodeMsgpackInSteps, MsgpackArray, MsgpackBytes } from '../common/msgpack-writer.ts';
import { isBytes } from '../common/realms.ts';
import { StepCounter, type Steps } from '../common/yield-to-event-loop.ts';
import { BLOCK_STATES } from './block-state.ts';

/**
 * The encoded form of a block state map: MessagePack `[1, blockCount, runs]`. `runs` is a byte string with a state byte and a
 * length as LEB128 for each run of equal states, ascending and without gaps. Lengths are at least 1 and neighbours have
 * different states, so that a map has exactly one encoding.
 */
const VERSION = 1;
/** A state byte, and a length of up to 2^32. */
const MAX_RUN_BYTES = 6;
/** Runs are collected in pieces that grow from this length to {@link PIECE_BYTES}, because most maps have few runs. */
const FIRST_PIECE_BYTES = 1024;

/** A decoded run. The lengths of all runs add up to the number of blocks. */
export type StateRun = { readonly stateByte: number; readonly length: number };

/** Encodes the runs of a map, which must not change meanwhile. */
export function* encodingStates(
  blockCount: number,
  runs: Iterable<{ readonly blockCount: number; readonly state: (typeof BLOCK_STATES)[number] }>,
): Steps<Uint8Array<ArrayBuffer>> {
  // Pieces that stay where they are: runs may take hundreds of MB, and copying them to a longer array takes too long for a step.
  const pieces: Uint8Array[] = [];
  let piece = new Uint8Array(FIRST_PIECE_BYTES);
  let used = 0;
  let before = 0;
  const close = () => {
    pieces.push(piece.subarray(0, used));
    before += used;
  };
  const steps = new StepCounter();
  for (const run of runs) {
    if (steps.isDue()) yield;
    if (used + MAX_RUN_BYTES > piece.length) {
      close();
      piece = new Uint8Array(Math.min(piece.length * 2, PIECE_BYTES));
      used = 0;
    }
    piece[used++] = BLOCK_STATES.indexOf(run.state);
    let rest = run.blockCount;
    while (rest >= 0x80) {
      piece[used++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    piece[used++] = rest;
  }
  close();
  return yield* joinInSteps([yield* encodingHead(blockCount, before), ...pieces]);
}

/** What stands before the bytes of the runs, of which there are so many. */
function encodingHead(blockCount: number, runBytes: number): Steps<Uint8Array> {
  const runs = new MsgpackBytes(runBytes, []);
  return encodeMsgpackInSteps(MsgpackArray.of(3, [VERSION, blockCount, runs]));
}

/** Decodes the output of {@link encodingStates}. Everything is checked before the caller allocates memory for the map. */
export function* decodingStates(
  bytes: Uint8Array,
  maxBlocks: number,
): Steps<{ blockCount: number; runs: Iterable<StateRun> }> {
  const value = decodeMsgpack(bytes, 'STATE_CORRUPT');
  if (!Array.isArray(value) || value.length !== 3) throw corrupt('not an encoded map of block states');
  const [version, blockCount, runs] = value as unknown[];
  if (version !== VERSION) throw corrupt(`the version ${String(version)} of the encoded block states is unknown`);
  if (typeof blockCount !== 'number' || !Number.isSafeInteger(blockCount) || blockCount < 0) {
    throw corrupt('the number of blocks is not a natural number');
  }
  if (!isBytes(runs)) throw corrupt('the runs of states are not a byte string');
  if (blockCount > maxBlocks) {
    throw new BackupError('LIMIT_EXCEEDED', `${blockCount} blocks are more than the allowed ${maxBlocks}`);
  }
  let total = 0;
  let previous = -1;
  const steps = new StepCounter();
  for (const { stateByte, length } of readRuns(runs)) {
    if (steps.isDue()) yield;
    if (stateByte >= BLOCK_STATES.length || stateByte === previous || length === 0)
      throw corrupt('a run of states is invalid');
    previous = stateByte;
    total += length;
  }
  if (total !== blockCount) throw corrupt(`the runs cover ${total} of ${blockCount} blocks`);
  // MessagePack has several forms of one number, and only one of them is the encoding of a map.
  const head = yield* encodingHead(blockCount, runs.length);
  if (Buffer.compare(head, bytes.subarray(0, bytes.length - runs.length)) !== 0)
    throw corrupt('the block states are not in their only valid encoding');
  return { blockCount, runs: readRuns(runs) };
}

function* readRuns(bytes: Uint8Array): Generator<StateRun> {
  for (let at = 0; at < bytes.length; ) {
    const stateByte = bytes[at++] as number;
    let length = 0;
    for (let shift = 1; ; shift *= 0x80) {
      const byte = bytes[at++];
      if (byte === undefined || shift > 0x80 ** 5) throw corrupt('a run of states is truncated');
      length += (byte & 0x7f) * shift;
      if (byte < 0x80) {
        if (byte === 0 && shift > 1) throw corrupt('the length of a run is padded');
        break;
      }
    }
    yield { stateByte, length };
  }
}

function corrupt(message: string): BackupError {
  return new BackupError('STATE_CORRUPT', message);
}
