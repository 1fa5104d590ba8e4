import { InProcessSealer, NeverStarted, type SealRunner, SealThread } from './seal-runner.ts';
import type { SealRequest, SealSetup } from './seal-service.ts';

interface Queued {
  readonly request: SealRequest;
  isWanted(): boolean;
  resolve(): void;
  reject(error: unknown): void;
}

/** One task under way and one waiting, so that a thread is never idle while its answer travels. */
const TASKS_PER_THREAD = 2;

/**
 * Gives tasks to threads, oldest first. Starts a thread when there is a task that no idle one could take, up to a
 * limit; a thread that died is replaced in the same way. If none can be started, the work is done on the calling thread.
 */
export class SealScheduler {
  readonly #program: URL | undefined;
  readonly #setup: SealSetup;
  readonly #runners = new Set<SealRunner>();
  readonly #queue = new Set<Queued>();
  /** The most threads; 0 to do the work in process. */
  #threads: number;
  #closed = false;

  /** @param threads - 0 to do the work in process */
  constructor(threads: number, program: URL | undefined, setup: SealSetup) {
    this.#threads = threads;
    this.#program = program;
    this.#setup = setup;
  }

  /**
   * Settles when the task is over, or has been taken out of the queue by `signal`. A task under way is not
   * interrupted: until this has settled, its slot is not to be touched.
   */
  run(request: SealRequest, signal: AbortSignal | undefined): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const withdraw = () => {
        if (this.#queue.delete(queued)) reject(signal?.reason);
      };
      const done = () => signal?.removeEventListener('abort', withdraw);
      const queued: Queued = {
        request,
        isWanted: () => signal?.aborted !== true,
        resolve: () => {
          done();
          resolve();
        },
        reject: (error) => {
          done();
          reject(error);
        },
      };
      signal?.addEventListener('abort', withdraw, { once: true });
      this.#queue.add(queued);
      this.#dispatch();
    });
  }

  async close(error: unknown): Promise<void> {
    this.#closed = true;
    for (const { reject } of this.#queue) reject(error);
    this.#queue.clear();
    await Promise.all([...this.#runners].map((runner) => runner.close()));
  }

  #dispatch(): void {
    for (const queued of this.#queue) {
      const runner = this.#runner();
      if (runner === undefined) return;
      this.#queue.delete(queued);
      runner
        .run(queued.request)
        .then(queued.resolve, (error: unknown) => this.#failed(queued, error))
        .finally(() => {
          if (!this.#closed) this.#dispatch();
        });
    }
  }

  #failed(queued: Queued, error: unknown): void {
    const neverStarted = error instanceof NeverStarted;
    if (neverStarted) this.#noMoreThreads(error.cause);
    // Its slot has not been touched: another runner does it.
    if (neverStarted && !this.#closed && queued.isWanted()) this.#queue.add(queued);
    else queued.reject(error);
  }

  /** The runner with the least to do, a new thread if all are busy, or `undefined` if all have enough to do. */
  #runner(): SealRunner | undefined {
    let best: SealRunner | undefined;
    for (const runner of this.#runners) if (best === undefined || runner.load < best.load) best = runner;
    if (best?.load === 0) return best;
    if (this.#runners.size < Math.max(1, this.#threads)) return this.#start();
    return best !== undefined && best.load < TASKS_PER_THREAD ? best : undefined;
  }

  #start(): SealRunner {
    const runner = this.#startThread() ?? new InProcessSealer(this.#setup);
    this.#runners.add(runner);
    return runner;
  }

  #startThread(): SealThread | undefined {
    if (this.#threads === 0) return undefined;
    try {
      if (this.#program === undefined) throw new Error('the program of the worker is not known');
      return new SealThread(this.#program, this.#setup, (gone) => this.#runners.delete(gone));
    } catch (cause) {
      this.#noMoreThreads(cause);
      return undefined;
    }
  }

  /** The existing threads go on; if there are none, the work is done in process from now on. */
  #noMoreThreads(cause: unknown): void {
    this.#threads = Math.min(this.#threads, this.#runners.size);
    if (this.#threads === 0) warnOfNoThreads(cause);
  }
}

let hasWarned = false;

/** Warns once in a process. The backups are as good, but slower, and they delay the host's other work. */
function warnOfNoThreads(cause: unknown): void {
  if (hasWarned) return;
  hasWarned = true;
  const reason = String((cause as Error | undefined)?.message ?? cause).split('\n')[0];
  process.emitWarning(
    `worker threads could not be started (${reason}): blocks are compressed and encrypted on the calling thread. ` +
      'In a bundle give workerUrl, see docs/guides/bundlers.md; threads: 0 does it without this warning',
    { code: 'COW_WORKER_UNAVAILABLE' },
  );
}
