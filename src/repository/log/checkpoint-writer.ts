import { abortable } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { sha256InSteps } from '../../common/long-bytes.ts';
import { report } from '../../common/report.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import { NO_PAGES, type PageRef, pageKeys, unsafePages } from '../format/catalogue-pages.ts';
import { encodeCheckpoint } from '../format/checkpoint-codec.ts';
import { knowsWriterFeatures } from '../format/features.ts';
import type { LogState } from '../format/log-state.ts';
import { encodePage } from '../format/page-codec.ts';
import type { LogReader } from './log-reader.ts';
import { floorCheckpoint, keyOfCheckpoint, type LogSource } from './log-source.ts';
import { PAGE_LIMITS } from './pages/page-limits.ts';
import { isHeavy, type PageFiles, pageOut } from './pages/page-out.ts';

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
  /** Keys of the pages that the floor's checkpoint names. */
  #ofFloor: { readonly seq: number; readonly keys: ReadonlySet<string> } | undefined;
  #writing: { readonly seq: number; readonly over: Promise<void>; readonly abort: AbortController } | undefined;

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
    // The look that confirmed an entry of this process may have shown one of a newer program above it, and a checkpoint of a state
    // that this program does not fully know might lack something.
    // @mutation features-stop-checkpoints
    if (!knowsWriterFeatures(state.features)) return;
    const abort = new AbortController();
    const giveUp = () => abort.abort(givenUp(state.seq, `the store did not take it within ${LONGEST_WRITE_MS} ms`));
    const timer = setTimeout(giveUp, LONGEST_WRITE_MS).unref();
    const over = this.#write(abort.signal)
      .catch((error: unknown) => report('onCheckpointFailed', this.#onFailed, error))
      .finally(() => {
        clearTimeout(timer);
        this.#writing = undefined;
      });
    this.#writing = { seq: state.seq, over, abort };
    const moment = Promise.withResolvers<void>();
    const courtesy = setTimeout(moment.resolve, COURTESY_MS);
    // An abort ends the wait and not the write.
    await abortable(Promise.race([over, moment.promise]), signal).catch(() => {});
    clearTimeout(courtesy);
  }

  /** Resolves when no checkpoint is being written, after some seconds at most. */
  async settled(): Promise<void> {
    if (this.#writing === undefined) return;
    const { seq, over, abort } = this.#writing;
    const timer = setTimeout(() => abort.abort(givenUp(seq, 'the log was closed')), LONGEST_CLOSE_MS);
    await over;
    clearTimeout(timer);
  }

  /**
   * L8: a checkpoint names no page that a prune may delete because of the floor. The rows of such pages are put again, in pages of
   * this checkpoint's own number.
   */
  async #withSafePages(state: LogState, signal: AbortSignal): Promise<LogState> {
    const { floor, pages } = state;
    if (floor === undefined || unsafePages(pages, floor.seq, new Set()).length === 0) return state;
    const { source, pages: store } = this.#reader;
    if (this.#ofFloor?.seq !== floor.seq) {
      const keys = pageKeys((await floorCheckpoint(source, floor, { signal }))?.pages ?? NO_PAGES);
      this.#ofFloor = { seq: floor.seq, keys };
    }
    const renamed = new Map<PageRef, PageRef>();
    for (const { table, ref } of unsafePages(pages, floor.seq, this.#ofFloor.keys)) {
      const rows = await store.rows(table, ref, { signal });
      const page = await encodePage(source.logKey, table, { seq: state.seq, level: ref.level }, rows);
      await abortable(store.put(page.ref, page.bytes, source.mode === 'shared', { signal }), signal);
      store.keep(page.ref, rows);
      renamed.set(ref, page.ref);
    }
    const now = (ref: PageRef) => renamed.get(ref) ?? ref;
    // @mutation checkpoints-name-safe-pages
    return { ...state, pages: { backups: pages.backups.map(now), packs: pages.packs.map(now) } };
  }

  async #write(signal: AbortSignal): Promise<void> {
    const { source, pages } = this.#reader;
    const createOnly = source.mode === 'shared';
    const { seq } = this.#reader.state;
    let state = await this.#withSafePages(this.#reader.state, signal);
    if (isHeavy(state, PAGE_LIMITS)) {
      const files: PageFiles = {
        rows: (table, ref) => pages.rows(table, ref, { signal }),
        put: async (ref, bytes, rows) => {
          await abortable(pages.put(ref, bytes, createOnly, { signal }), signal);
          pages.keep(ref, rows);
        },
      };
      state = await pageOut(state, files, { logKey: source.logKey, everything: false, limits: PAGE_LIMITS });
    }
    const bytes = await encodeCheckpoint(source.logKey, state);
    // After it was given up, the key may have been zeroed.
    signal.throwIfAborted();
    if (bytes === undefined) return;
    const isOurs = await abortable(createCheckpoint(source, seq, bytes, signal), signal);
    this.#reader.noteCheckpoint(seq);
    // Not waited for: the append that waits for this checkpoint has the turn.
    if (isOurs) this.#reader.rebaseOn(state).catch(() => {});
  }
}

/**
 * Creates a checkpoint. One that is there stays, even a damaged one (L1): the floor of the log may rest on it, and a later number
 * gets another. In single-writer mode its key ends in its digest, so no put replaces another one, however late it is (P13).
 *
 * @returns whether it was not there
 */
async function createCheckpoint(
  source: LogSource,
  seq: number,
  bytes: Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
): Promise<boolean> {
  const { target, mode } = source;
  const key = keyOfCheckpoint(source, seq, await runInSteps(sha256InSteps(bytes)));
  try {
    // @mutation checkpoints-are-created
    await target.put(key, bytes, { createOnly: mode === 'shared', signal });
    return true;
  } catch (error) {
    if (!BackupError.is(error, 'OBJECT_EXISTS')) throw error;
    return false;
  }
}

function givenUp(seq: number, why: string): BackupError {
  return new BackupError('TARGET_TIMEOUT', `checkpoint ${seq} of the log was not written: ${why}`);
}
