import { abortable } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { report } from '../../common/report.ts';
import { encodeCheckpoint } from '../format/checkpoint-codec.ts';
import { checkpointKey } from '../format/object-keys.ts';
import type { LogReader } from './log-reader.ts';

/** From so many entries on a checkpoint is due. */
export const CHECKPOINT_EVERY = 32;
/** An append waits for its checkpoint as long as this: a store that answers has taken it by then. */
const COURTESY_MS = 1_000;
/** A put of a checkpoint that takes longer is given up, and the next entry brings another try. */
const LONGEST_WRITE_MS = 5 * 60 * 1000;
/** Closing the log waits as long as this. */
const LONGEST_GOODBYE_MS = 5_000;

/**
 * Writes checkpoints (P11): caches of the state, which make opening the log cheap. The entry that makes one due is in the log
 * by then, so a store that is slow or silent holds up neither it nor the next one: the write goes on beside them, and there is
 * one at a time. Decision 107.
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
   * Writes one of the state as it is now, which has to be confirmed. Never rejects: resolves when it is written or has failed,
   * after a moment, or when `signal` aborts.
   */
  async writeIfDue(signal: AbortSignal | undefined): Promise<void> {
    const { state, checkpoint } = this.#reader;
    if (this.#writing !== undefined || state.seq - checkpoint < CHECKPOINT_EVERY) return;
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
    // An abort ends the wait, and not the write.
    await abortable(Promise.race([over, moment.promise]), signal).catch(() => {});
    clearTimeout(courtesy);
  }

  /** Resolves when none is being written, after some seconds at most. */
  async settled(): Promise<void> {
    if (this.#writing === undefined) return;
    const { over, abort } = this.#writing;
    const timer = setTimeout(() => abort.abort(givenUp('the log was closed meanwhile')), LONGEST_GOODBYE_MS);
    await over;
    clearTimeout(timer);
  }

  async #write(signal: AbortSignal): Promise<void> {
    const { source, state } = this.#reader;
    const bytes = await encodeCheckpoint(source.logKey, state);
    // Once it is given up the key may be zeroed.
    signal.throwIfAborted();
    if (bytes === undefined) return;
    await abortable(source.target.put(checkpointKey(state.seq), bytes, { signal }), signal);
    this.#reader.noteCheckpoint(state.seq);
  }
}

function givenUp(why: string): BackupError {
  return new BackupError('TARGET_TIMEOUT', `a checkpoint of the log was not written: ${why}`);
}
