import { compressOffThread, decompressOffThread } from '../../common/compression.ts';
import { MsgpackReader } from '../../common/msgpack-reader.ts';
import { encodeMsgpackInSteps } from '../../common/msgpack-writer.ts';
import { runInSteps, type Steps } from '../../common/yield-to-event-loop.ts';
import { logCorrupt } from './decode-values.ts';
import { openingObject, sealingObject } from './log-object.ts';
import type { LogState } from './log-state.ts';
import { Codec } from './record.ts';
import { stateFrom } from './state-decoding.ts';
import { statePlain } from './state-encoding.ts';
import { mostWeight, stateWeight } from './state-weight.ts';

/** Checkpoints: `docs/FORMAT.md`, section 9. They are caches: where one is missing or not valid, the log is read instead. */

/** Most bytes of a checkpoint's object. */
export const MAX_CHECKPOINT_BYTES = 16 * 1024 * 1024;
/** Most bytes of what it holds, decompressed. */
export const MAX_CHECKPOINT_RAW_BYTES = 64 * 1024 * 1024;
/** The most bytes that each compressed byte may give beyond the first 64 KiB: a few KB must not become 64 MiB. */
const MAX_RATIO = 128;
const HEAD_BYTES = 5;
/** Backups of one volume have most runs in common, and names of fields repeat: it pays to look a bit further. */
const LEVEL = 3;

/**
 * The checkpoint's object, `undefined` where it would be too large to be one. It is made in turns with the rest of the process.
 *
 * @param logKey - of an encrypted repository
 */
export async function encodeCheckpoint(
  logKey: Uint8Array | undefined,
  state: LogState,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const weight = await runInSteps(stateWeight(state));
  const isLight = ({ length }: Uint8Array) => weight <= mostWeight(length);
  const raw = await runInSteps(encodingState(state));
  if (raw.length > MAX_CHECKPOINT_RAW_BYTES || !isLight(raw)) return undefined;
  const compressed = await compressOffThread(raw, LEVEL);
  const isFrame = compressed !== undefined && raw.length <= longestOf(compressed) && isLight(compressed);
  const frame = isFrame ? compressed : undefined;
  const content = frame ?? raw;
  if (content.length > MAX_CHECKPOINT_BYTES) return undefined;
  const body = new Uint8Array(HEAD_BYTES + content.length);
  body[0] = frame === undefined ? Codec.raw : Codec.zstd;
  new DataView(body.buffer).setUint32(1, raw.length, true);
  body.set(content, HEAD_BYTES);
  const bytes = await runInSteps(sealingObject(logKey, 'cow1 checkpoint', state.seq, body));
  return bytes.length > MAX_CHECKPOINT_BYTES ? undefined : bytes;
}

/**
 * Reads a checkpoint, in turns with the rest of the process.
 *
 * @throws `LOG_CORRUPT` unless this is the checkpoint of entry `seq`, whole and valid in every field; `REPOSITORY_UNSUPPORTED`
 */
export async function decodeCheckpoint(
  logKey: Uint8Array | undefined,
  seq: number,
  bytes: Uint8Array,
): Promise<LogState> {
  if (bytes.length > MAX_CHECKPOINT_BYTES) throw logCorrupt(`checkpoint ${seq} is larger than it may be`);
  const body = await runInSteps(openingObject(logKey, 'cow1 checkpoint', seq, bytes));
  const raw = await rawOf(body);
  const most = mostWeight(body.length - HEAD_BYTES);
  const state = await runInSteps(stateFrom(new MsgpackReader(raw, 'LOG_CORRUPT'), most));
  if (state.seq !== seq) throw logCorrupt(`checkpoint ${seq} says that it is of ${state.seq}`);
  return state;
}

function* encodingState(state: LogState): Steps<Uint8Array> {
  return yield* encodeMsgpackInSteps(yield* statePlain(state));
}

async function rawOf(body: Uint8Array): Promise<Uint8Array> {
  if (body.length < HEAD_BYTES) throw logCorrupt('a checkpoint is cut short');
  const length = new DataView(body.buffer, body.byteOffset).getUint32(1, true);
  const content = body.subarray(HEAD_BYTES);
  if (length > MAX_CHECKPOINT_RAW_BYTES) throw logCorrupt('a checkpoint is larger than it may be');
  if (body[0] === Codec.raw && content.length === length) return content;
  if (body[0] !== Codec.zstd || content.length >= length || length > longestOf(content))
    throw logCorrupt("a checkpoint's head is wrong");
  try {
    return await decompressOffThread(content, length);
  } catch (cause) {
    throw logCorrupt('a checkpoint does not decompress', cause);
  }
}

/** The longest content that a frame may hold. */
function longestOf(frame: Uint8Array): number {
  return 65_536 + MAX_RATIO * frame.length;
}
