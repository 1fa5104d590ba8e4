import { BackupError } from '../common/errors.ts';
import { decodeMsgpack, encodeMsgpack } from '../common/msgpack.ts';
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

/** A decoded run. The lengths of all runs add up to the number of blocks. */
export type StateRun = { readonly stateByte: number; readonly length: number };

/** Encodes the runs of a map, which must not change meanwhile. */
export function* encodingStates(
  blockCount: number,
  runs: Iterable<{ readonly blockCount: number; readonly state: (typeof BLOCK_STATES)[number] }>,
): Steps<Uint8Array<ArrayBuffer>> {
  let bytes = new Uint8Array(1024);
  let length = 0;
  const steps = new StepCounter();
  for (const run of runs) {
    if (steps.isDue()) yield;
    if (length + MAX_RUN_BYTES > bytes.length) {
      const larger = new Uint8Array(bytes.length * 2);
      larger.set(bytes);
      bytes = larger;
    }
    bytes[length++] = BLOCK_STATES.indexOf(run.state);
    let rest = run.blockCount;
    while (rest >= 0x80) {
      bytes[length++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    bytes[length++] = rest;
  }
  return encodeMsgpack([VERSION, blockCount, bytes.subarray(0, length)]);
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
  if (Buffer.compare(encodeMsgpack([VERSION, blockCount, runs]), bytes) !== 0)
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
