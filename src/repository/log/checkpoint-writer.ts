import { abortable } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { report } from '../../common/report.ts';
import { encodeCheckpoint } from '../format/checkpoint-codec.ts';
import { knowsWriterFeatures } from '../format/features.ts';
import { checkpointKey } from '../format/object-keys.ts';
import type { LogReader } from './log-reader.ts';
import type { LogSource } from './log-source.ts';

/** How long an append waits for its checkpoint: a store that answers has taken it by then. */
const COURTESY_MS = 1_000;
/** How long writing a checkpoint may take. The next entry tries again. */
const LONGEST_WRITE_MS = 5 * 60 * 1000;
/** How long closing the log waits for a checkpoint. */
const LONGEST_CLOSE_MS = 5_000;

/**
 * Writes checkpoints (P11): copies of the state that make opening the log cheap. By then the entry that makes one due is in the
 * log. A store that is slow or silent delays neither that entry nor the next one, because checkpoints are written in the
 * background, one at a time (decision 107).
 */
export class CheckpointWriter {
  readonly #reader: LogReader;
  readonly #onFailed: ((error: unknown) => void) | undefined;
  #writing: { readonly over: Promise<void>; readonly abort: AbortController } | undefined;

  constructor(reader: LogReader, onFailed: ((error: unknown) => void) | undefined) {
    this.#reader = reader;
    this.#onFailed = onFailed;
  }

  /**
   * Writes a checkpoint of the present state, which must be confirmed, if one is due. Never rejects. Resolves when the
   * checkpoint was written or has failed, after {@link COURTESY_MS}, or when `signal` aborts.
   */
  async writeIfDue(signal: AbortSignal | undefined): Promise<void> {
    if (this.#reader.isCheckpointDue()) await this.write(signal);
  }

  /** As {@link CheckpointWriter.writeIfDue}, unless there is a checkpoint of the present state, or one is being written. */
  async write(signal: AbortSignal | undefined): Promise<void> {
    const { state, checkpoint, isConfirmed } = this.#reader;
    if (this.#writing !== undefined || state.seq === checkpoint || !isConfirmed) return;
    // The look that confirmed an own entry may have shown one of a newer program above it: what is missing here, nobody knows.
    // @mutation features-stop-checkpoints
    if (!knowsWriterFeatures(state.features)) return;
    const abort = new AbortController();
    const giveUp = () => abort.abort(givenUp(`the store did not take it within ${LONGEST_WRITE_MS} ms`));
    const timer = setTimeout(giveUp, LONGEST_WRITE_MS).unref();
    const over = this.#write(abort.signal)
      .catch((error: unknown) => report('onCheckpointFailed', this.#onFailed, error))
      .finally(() => {
        clearTimeout(timer);
        this.#writing = undefined;
      });
    this.#writing = { over, abort };
    const moment = Promise.withResolvers<void>();
    const courtesy = setTimeout(moment.resolve, COURTESY_MS);
    // An abort ends the wait and not the write.
    await abortable(Promise.race([over, moment.promise]), signal).catch(() => {});
    clearTimeout(courtesy);
  }

  /** Resolves when no checkpoint is being written, after some seconds at most. */
  async settled(): Promise<void> {
    if (this.#writing === undefined) return;
    const { over, abort } = this.#writing;
    const timer = setTimeout(() => abort.abort(givenUp('the log was closed')), LONGEST_CLOSE_MS);
    await over;
    clearTimeout(timer);
  }

  async #write(signal: AbortSignal): Promise<void> {
    const { source, state } = this.#reader;
    const bytes = await encodeCheckpoint(source.logKey, state);
    // After it was given up, the key may have been zeroed.
    signal.throwIfAborted();
    if (bytes === undefined) return;
    await abortable(createCheckpoint(source, state.seq, bytes, signal), signal);
    this.#reader.noteCheckpoint(state.seq);
  }
}

/**
 * Creates a checkpoint. One that is there stays, even a damaged one (L1): the floor of the log may rest on it, and a later number
 * gets another.
 */
async function createCheckpoint(
  { target, mode }: LogSource,
  seq: number,
  bytes: Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
): Promise<void> {
  try {
    // @mutation checkpoints-are-created
    await target.put(checkpointKey(seq), bytes, { createOnly: mode === 'shared', signal });
  } catch (error) {
    if (!BackupError.is(error, 'OBJECT_EXISTS')) throw error;
  }
}

function givenUp(why: string): BackupError {
  return new BackupError('TARGET_TIMEOUT', `a checkpoint of the log was not written: ${why}`);
}
