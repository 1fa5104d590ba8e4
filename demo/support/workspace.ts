import { rmSync } from 'node:fs';
import { mkdtemp, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bytes } from './figures.ts';

const SIGNALS: Readonly<Partial<Record<NodeJS.Signals, number>>> = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 };

/** The reason of an abort by the user. */
export class Interrupted extends Error {
  /** What a shell expects of a process that ended by that signal. */
  readonly exitCode: number;

  constructor(name: NodeJS.Signals) {
    super(`interrupted by ${name}`);
    this.exitCode = 128 + (SIGNALS[name] ?? 0);
  }
}

/**
 * A temporary folder that goes when the work is done, has failed or was interrupted. The first Ctrl-C aborts `signal`,
 * so that the work can unwind; a second one ends the process at once.
 */
export class Workspace implements AsyncDisposable {
  readonly folder: string;
  /** Aborts when the user wants no more, and when the work calls {@link Workspace.fail}. */
  readonly signal: AbortSignal;
  readonly #controller = new AbortController();
  readonly #onSignal = (name: NodeJS.Signals) => {
    const interrupted = new Interrupted(name);
    if (this.signal.reason instanceof Interrupted) process.exit(interrupted.exitCode);
    this.#controller.abort(interrupted);
  };

  private constructor(folder: string) {
    this.folder = folder;
    this.signal = this.#controller.signal;
    // This runs also when the process ends early, and removes what a request that was given up has written since.
    process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
    for (const name of Object.keys(SIGNALS)) process.on(name, this.#onSignal);
  }

  static async make(): Promise<Workspace> {
    return new Workspace(await mkdtemp(join(tmpdir(), 'cow-cloud-backup-')));
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** Refuses to begin what would fill the disk. */
  async requireSpace(wantedBytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.folder);
    if (bavail * bsize >= wantedBytes) return;
    throw new Error(
      `${bytes(wantedBytes)} of temporary files need room in ${tmpdir()}, which has ${bytes(bavail * bsize)}; ` +
        'set TMPDIR to a folder with more',
    );
  }

  /** Ends the work from the side. What failed first is the signal's reason. */
  readonly fail = (error: unknown): void => this.#controller.abort(error);

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
    for (const name of Object.keys(SIGNALS)) process.off(name, this.#onSignal);
  }
}
