import { BackupError } from '../../common/errors.ts';
import { InProcessSealer, type SealRunner, SealThread } from './seal-runner.ts';
import type { SealRequest, SealSetup } from './seal-service.ts';

interface Queued {
  readonly request: SealRequest;
  resolve(): void;
  reject(error: unknown): void;
}

/** One under way and one waiting, so that a thread never idles while its answer travels. */
const TASKS_PER_THREAD = 2;

/**
 * Gives tasks to threads, oldest first. Starts a thread when there is a task that no idle one could take, up to a
 * limit; one that died is replaced in the same way, so a program that can't start does not start over and over.
 */
export class SealScheduler {
  readonly #threads: number;
  readonly #program: URL;
  readonly #setup: SealSetup;
  readonly #runners = new Set<SealRunner>();
  readonly #queue = new Set<Queued>();
  #closed = false;

  /** @param threads - 0 to do the work in process */
  constructor(threads: number, program: URL, setup: SealSetup) {
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
      let runner: SealRunner | undefined;
      try {
        runner = this.#runner();
      } catch (cause) {
        this.#queue.delete(queued);
        queued.reject(
          new BackupError('WORKER_FAILED', 'a worker thread could not be started', { cause, retryable: true }),
        );
        continue;
      }
      if (runner === undefined) return;
      this.#queue.delete(queued);
      runner
        .run(queued.request)
        .then(queued.resolve, queued.reject)
        .finally(() => {
          if (!this.#closed) this.#dispatch();
        });
    }
  }

  /** Whoever has least to do, an additional thread where all have something, `undefined` when all have enough. */
  #runner(): SealRunner | undefined {
    let best: SealRunner | undefined;
    for (const runner of this.#runners) if (best === undefined || runner.load < best.load) best = runner;
    if (best?.load === 0) return best;
    if (this.#runners.size < Math.max(1, this.#threads)) return this.#start();
    return best !== undefined && best.load < TASKS_PER_THREAD ? best : undefined;
  }

  #start(): SealRunner {
    const runner =
      this.#threads === 0
        ? new InProcessSealer(this.#setup)
        : new SealThread(this.#program, this.#setup, (gone) => this.#runners.delete(gone));
    this.#runners.add(runner);
    return runner;
  }
}
