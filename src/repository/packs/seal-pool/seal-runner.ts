import { SHARE_ENV, Worker } from 'node:worker_threads';
import { BackupError } from '../../../common/errors.ts';
import { READY, type SealAnswer, type SealRequest, SealService, type SealSetup } from './seal-service.ts';

/**
 * Where the worker's program is: in the sources, or in `dist/` beside the chunk of which this module is part
 * (`tsup.config.ts` builds it as `dist/seal-worker.js`). `undefined` in a CommonJS bundle, which does not know where it
 * is.
 */
export function sealWorkerUrl(): URL | undefined {
  const own: string | undefined = import.meta.url;
  if (own === undefined) return undefined;
  // Bundlers that follow `new URL(...)` must not take what they find there for an asset of the program's.
  return new URL(own.endsWith('.ts') ? '../../../seal-worker.ts' : './seal-worker.js', own);
}

/**
 * Where this library looks for the program of its worker threads, unless `workerUrl` says otherwise: the package's
 * `cow-cloud-backup/seal-worker`. `undefined` in a CommonJS bundle. Bundlers have to be shown it: see `docs/guides/bundlers.md`.
 *
 * @public
 */
export const SEAL_WORKER_URL: URL | undefined = sealWorkerUrl();

/** Does tasks for a pool: a thread, or the calling thread itself. */
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

export const closedError = () => new BackupError('CLOSED', 'this seal pool is closed');

/** All objects of a thread are short-lived: by default some hundred megabytes of them would gather. */
const YOUNG_GENERATION_MB = 2;
/** How long a program may take to start, in milliseconds. A program that is silent by then is not this library's. */
const START_MS = 30_000;

/** The thread of a task never came up, so the task was not begun: another runner can do it. */
export class NeverStarted extends Error {
  constructor(cause: unknown) {
    super('a worker thread could not be started', { cause });
  }
}

/**
 * A worker thread. It keeps the process alive only while it has something to do. When it dies, its tasks are rejected
 * with `WORKER_FAILED`, or with {@link NeverStarted} if it had not come up, and `onGone` is called; it is not started
 * again.
 */
export class SealThread implements SealRunner {
  readonly #worker: Worker;
  readonly #pending: Pending[] = [];
  readonly #gone: Promise<void>;
  readonly #startTimer: NodeJS.Timeout;
  #hasStarted = false;
  #crash: unknown;
  #closed = false;

  constructor(program: URL, setup: SealSetup, onGone: (thread: SealThread) => void) {
    this.#worker = new Worker(program, {
      workerData: setup,
      // The thread does not read the environment, so it needs no copy.
      env: SHARE_ENV,
      // Flags of the process are not meant for this program: `--input-type` alone would keep it from starting.
      ...(program.pathname.endsWith('.ts') ? {} : { execArgv: [] }),
      name: 'cow-cloud-backup seal',
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    });
    this.#startTimer = setTimeout(() => this.#die(new Error(`no answer in ${START_MS} ms`)), START_MS).unref();
    this.#worker.on('message', (answer: SealAnswer | typeof READY) => this.#said(answer));
    this.#worker.on('messageerror', (error) => this.#die(error));
    this.#worker.on('error', (error) => {
      this.#crash ??= error;
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gone = promise;
    this.#worker.on('exit', (exitCode) => {
      clearTimeout(this.#startTimer);
      onGone(this);
      for (const { reject } of this.#pending.splice(0)) reject(this.#ending(exitCode));
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
    this.#worker.ref(); // Otherwise a process that has nothing else to do would end before this is over.
    await this.#worker.terminate();
    await this.#gone;
  }

  #said(answer: SealAnswer | typeof READY): void {
    if (answer === READY) {
      this.#hasStarted = true;
      clearTimeout(this.#startTimer);
    } else if (!this.#hasStarted) this.#die(new Error('it is another program'));
    else this.#answered(answer);
  }

  #answered(answer: SealAnswer): void {
    const { resolve, reject } = this.#pending.shift() as Pending;
    if (this.#pending.length === 0 && !this.#closed) this.#worker.unref();
    if ('error' in answer) reject(taskFailed(answer.error));
    else resolve();
  }

  #die(error: unknown): void {
    this.#crash ??= error;
    void this.#worker.terminate();
  }

  #ending(exitCode: number): Error {
    if (this.#closed) return closedError();
    const cause = this.#crash ?? new Error(`it ended with exit code ${exitCode}`);
    return this.#hasStarted ? workerFailed(this.#crash, exitCode) : new NeverStarted(cause);
  }
}

/** How long tasks occupy the calling thread before its other work has a turn, in milliseconds. */
const TURN_MS = 8;

/** Does tasks on the calling thread, one at a time, and lets its other work run in between. */
export class InProcessSealer implements SealRunner {
  load = 0;
  readonly #service: SealService;
  #last: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(setup: SealSetup) {
    this.#service = new SealService(setup);
  }

  run(request: SealRequest): Promise<void> {
    this.load++;
    const done = this.#last.then(() => this.#run(request)).finally(() => this.load--);
    this.#last = done.catch(() => {});
    return done;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#last;
  }

  async #run(request: SealRequest): Promise<void> {
    const steps = this.#service.steps(request);
    for (let isOver = false; !isOver; ) {
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#closed) throw closedError();
      try {
        const turnEnds = performance.now() + TURN_MS;
        do isOver = steps.next().done === true;
        while (!isOver && performance.now() < turnEnds);
      } catch (error) {
        throw taskFailed(error);
      }
    }
  }
}

function workerFailed(cause: unknown, exitCode: number): BackupError {
  const message = `a worker thread that seals blocks ended unexpectedly (exit code ${exitCode})`;
  return new BackupError('WORKER_FAILED', message, { cause, retryable: true });
}

function taskFailed(cause: unknown): BackupError {
  return new BackupError('WORKER_FAILED', 'a worker thread could not compress and encrypt blocks', { cause });
}
