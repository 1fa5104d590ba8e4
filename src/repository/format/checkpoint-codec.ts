import { MsgpackReader } from '../../common/msgpack-reader.ts';
import { encodeMsgpackInSteps } from '../../common/msgpack-writer.ts';
import { runInSteps, type Steps } from '../../common/yield-to-event-loop.ts';
import { logCorrupt } from './decode-values.ts';
import { openingObject, sealingObject } from './log-object.ts';
import type { LogState } from './log-state.ts';
import { CONTENT_HEAD_BYTES, compressedContent, contentOf } from './packed-content.ts';
import { stateFrom } from './state-decoding.ts';
import { statePlain } from './state-encoding.ts';
import { mostWeight, stateWeight } from './state-weight.ts';

/** Checkpoints: `docs/FORMAT.md`, section 9. They are caches: where one is missing or not valid, the log is read instead. */

/** Most bytes of a checkpoint's object. */
export const MAX_CHECKPOINT_BYTES = 16 * 1024 * 1024;
/** Most bytes of what it holds, decompressed. */
export const MAX_CHECKPOINT_RAW_BYTES = 64 * 1024 * 1024;
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
  const body = await compressedContent(raw, isLight);
  if (body.length > MAX_CHECKPOINT_BYTES) return undefined;
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
  const raw = await contentOf(body, 'a checkpoint', MAX_CHECKPOINT_RAW_BYTES);
  const most = mostWeight(body.length - CONTENT_HEAD_BYTES);
  const state = await runInSteps(stateFrom(new MsgpackReader(raw, 'LOG_CORRUPT'), most));
  if (state.seq !== seq) throw logCorrupt(`checkpoint ${seq} says that it is of ${state.seq}`);
  return state;
}

function* encodingState(state: LogState): Steps<Uint8Array> {
  return yield* encodeMsgpackInSteps(yield* statePlain(state));
}
