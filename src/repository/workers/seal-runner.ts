import { SHARE_ENV, Worker } from 'node:worker_threads';
import { BackupError } from '../../common/errors.ts';
import { type SealAnswer, type SealRequest, SealService, type SealSetup } from './seal-service.ts';

/** Something that does tasks for a pool. */
export interface SealRunner {
  /** Tasks that it has been given and not answered. */
  readonly load: number;
  /** Settles once the task is over and the runner no longer touches the slot. */
  run(request: SealRequest): Promise<void>;
  /** Idempotent. Tasks under way reject. */
  close(): Promise<void>;
}

interface Pending {
  resolve(): void;
  reject(error: unknown): void;
}

const closedError = () => new BackupError('CLOSED', 'this seal pool is closed');

/**
 * A worker thread. It keeps the process alive only while it has something to do. When it dies, its tasks are rejected
 * with `WORKER_FAILED` and `onGone` is called; it is not started again.
 */
/** All that it makes is short-lived: by default a thread would let some hundred megabytes of it gather. */
const YOUNG_GENERATION_MB = 2;

export class SealThread implements SealRunner {
  readonly #worker: Worker;
  readonly #pending: Pending[] = [];
  readonly #gone: Promise<void>;
  #crash: unknown;
  #closed = false;

  constructor(program: URL, setup: SealSetup, onGone: (thread: SealThread) => void) {
    // No copy of the environment for a thread that reads none of it.
    this.#worker = new Worker(program, {
      workerData: setup,
      env: SHARE_ENV,
      name: 'cow-cloud-backup seal',
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    });
    this.#worker.on('message', (answer: SealAnswer) => this.#answered(answer));
    this.#worker.on('messageerror', (error) => {
      this.#crash ??= error;
      void this.#worker.terminate();
    });
    this.#worker.on('error', (error) => {
      this.#crash ??= error;
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gone = promise;
    this.#worker.on('exit', (exitCode) => {
      onGone(this);
      const error = this.#closed ? closedError() : workerFailed(this.#crash, exitCode);
      for (const { reject } of this.#pending.splice(0)) reject(error);
      resolve();
    });
  }

  get load(): number {
    return this.#pending.length;
  }

  run(request: SealRequest): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#pending.push({ resolve, reject }) === 1) this.#worker.ref();
      this.#worker.postMessage(request);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#worker.ref(); // Else a process with nothing else to do would end before this is over.
    await this.#worker.terminate();
    await this.#gone;
  }

  #answered(answer: SealAnswer): void {
    const { resolve, reject } = this.#pending.shift() as Pending;
    if (this.#pending.length === 0 && !this.#closed) this.#worker.unref();
    if ('error' in answer) reject(taskFailed(answer.error));
    else resolve();
  }
}

/** Does tasks on the thread that asks, one at a time, and lets its other work run in between. */
export class InProcessSealer implements SealRunner {
  load = 0;
  readonly #service: SealService;
  #closed = false;

  constructor(setup: SealSetup) {
    this.#service = new SealService(setup);
  }

  run(request: SealRequest): Promise<void> {
    this.load++;
    return new Promise((resolve, reject) => {
      setImmediate(() => {
        this.load--;
        if (this.#closed) {
          reject(closedError());
          return;
        }
        try {
          this.#service.run(request);
          resolve();
        } catch (error) {
          reject(taskFailed(error));
        }
      });
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
  }
}

function workerFailed(cause: unknown, exitCode: number): BackupError {
  const message = `a worker thread that seals blocks ended unexpectedly (exit code ${exitCode})`;
  return new BackupError('WORKER_FAILED', message, { cause, retryable: true });
}

function taskFailed(cause: unknown): BackupError {
  return new BackupError('WORKER_FAILED', 'blocks could not be sealed', { cause });
}
