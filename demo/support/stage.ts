import { constants, copyFileSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { BackupJob, CloudTarget, CopyOnWriteVolume, Progress } from 'cow-cloud-backup';
import { describeCounts, samples, WHERE } from './block-words.ts';
import type { DemoCommand } from './command-line.ts';
import { compareFiles } from './compare.ts';
import { prepareImage } from './disk-image.ts';
import { bytes, count } from './figures.ts';
import { JobTally } from './job-tally.ts';
import { ProgressView } from './progress-view.ts';
import { RandomWriter } from './random-writer.ts';
import { type DemoParts, refuseUsedTarget, runDemo } from './run-demo.ts';
import { printSteps, type StepCost } from './step-table.ts';

const COMMAND: DemoCommand = {
  script: 'back-up-a-live-image.ts',
  summary: `Backs up an image file to a repository while random writes to it go on, three times, restores, prunes, opens in place,
verifies, and compares all that comes back with copies that were taken at the frozen instants.`,
  canRestore: false,
};
const WRITES_AT_ONCE = 8;
/** Most writes go to a few places, as on most disks: nine of ten, to 2 % of it. */
const HOT = { ofWrites: 0.9, ofDevice: 0.02 };
/** How long the writer has been at it when the first instant comes. */
const WRITES_BEFORE_MS = 500;
const WRITES_BETWEEN_MS = 4000;
const GOOD = [36, 32] as const;
const FAINT = [244, 90] as const;

/** What there is to say of a step's result, in addition to its cost. */
export interface StepResult {
  readonly readBytes?: number;
  readonly remark?: string;
}

type Report = (progress: Progress) => void;

/** Runs `play` on a stage. The exit code is 0 only if all that came back is what it was. */
export function onStage(args: string[], play: (stage: Stage) => Promise<void>): Promise<void> {
  return runDemo(args, COMMAND, async (parts) => {
    const { terminal, line } = parts;
    const view = new ProgressView(terminal);
    terminal.print(`\n  ${terminal.bold('cow-cloud-backup: a repository, from the first backup on')}\n`);
    await refuseUsedTarget(parts);
    const image = await prepareImage(parts, view);
    terminal.print(`  disk    ${image.description}`);
    terminal.print(
      `  writes  ${line.writesPerSecond} a second, 512 B to 256 KiB, unaligned, most of them to a few places, seed ${line.seed}`,
    );
    terminal.print(`  target  ${line.to ?? 'a folder, which goes with the other temporary files'}; encrypted`);
    const stage = new Stage(parts, view, image.path);
    await play(stage).finally(() => view.end());
    stage.takeABow();
  });
}

/** A disk, a writer, a clock, a screen and a comparison: everything that is not the library's. */
export class Stage {
  readonly imagePath: string;
  readonly target: CloudTarget;
  /** Aborts on Ctrl-C, and when the writer fails. */
  readonly signal: AbortSignal;
  readonly #parts: DemoParts;
  readonly #view: ProgressView;
  readonly #costs: StepCost[] = [];
  #writer: RandomWriter | undefined;
  #volumeBytes = 0;
  #comparedBytes = 0;
  /** Time spent on copies for comparing with, which is no part of a backup. */
  #copyMs = 0;
  readonly #referencePaths = new Set<string>();
  /** What is on show in the current step. */
  #job: BackupJob | undefined;

  constructor(parts: DemoParts, view: ProgressView, imagePath: string) {
    this.#parts = parts;
    this.#view = view;
    this.imagePath = imagePath;
    this.target = parts.target;
    this.signal = parts.workspace.signal;
  }

  /** The path of a file that is removed with the others in the end. */
  path(name: string): string {
    return this.#parts.workspace.path(name);
  }

  /** A random writer begins to write to the volume, and goes on until it is disposed of. */
  async startWriting(volume: CopyOnWriteVolume): Promise<AsyncDisposable> {
    const { line, workspace } = this.#parts;
    const { seed, writesPerSecond } = line;
    const writer = new RandomWriter(volume, {
      seed,
      writesPerSecond,
      depth: WRITES_AT_ONCE,
      hot: HOT,
      onError: workspace.fail,
    });
    this.#volumeBytes = volume.size;
    this.#writer = writer;
    await delay(WRITES_BEFORE_MS);
    return writer;
  }

  /** What a snapshot calls at its instant, when nobody writes: copies the disk, for comparing with later. */
  copyAtInstant(name: string): () => void {
    return () => {
      const begunMs = performance.now();
      copyFileSync(this.imagePath, this.#referencePath(name), constants.COPYFILE_FICLONE);
      this.#copyMs += performance.now() - begunMs;
    };
  }

  /** Does `work`, and says what it took. */
  async step<T>(
    title: string,
    work: (onProgress: Report) => Promise<T>,
    describe: (result: T) => StepResult = () => ({}),
  ): Promise<T> {
    const { terminal, traffic } = this.#parts;
    this.signal.throwIfAborted();
    terminal.print(`\n  ${terminal.bold(`${this.#costs.length + 1}`.padEnd(3) + title)}`);
    const { requests, uploadedBytes, downloadedBytes } = traffic;
    const begunMs = performance.now() - this.#copyMs;
    const result = await work(({ phase, doneBytes, totalBytes }) => this.#view.bar(phase, doneBytes, totalBytes ?? 0));
    const seconds = (performance.now() - this.#copyMs - begunMs) / 1000;
    const { readBytes, remark } = describe(result);
    const cost: StepCost = {
      title,
      seconds,
      requests: traffic.requests - requests,
      uploadedBytes: traffic.uploadedBytes - uploadedBytes,
      downloadedBytes: traffic.downloadedBytes - downloadedBytes,
      readBytes,
      contentBytes: this.#job ? this.#job.states.counts.stored * this.#job.snapshot.blockSize : readBytes,
    };
    this.#costs.push(cost);
    if (this.#job === undefined) terminal.draw([]);
    else this.#view.end();
    this.#job = undefined;
    this.#say(inWords(cost));
    if (remark !== undefined) this.#say(remark);
    return result;
  }

  /** Shows a job until its step is over: the map of its blocks, how far it is and how fast it goes. */
  show(job: BackupJob): void {
    const { snapshot, states } = job;
    const { blockSize } = snapshot;
    const writer = this.#writer;
    if (writer === undefined) throw new Error('nobody writes yet');
    this.#say(`frozen at ${snapshot.frozenAt.toISOString().slice(11, 23)} UTC; writes go on`);
    this.#say(`${count(states.blockCount)} blocks of ${bytes(blockSize)}: ${describeCounts(states.counts)}`);
    this.#job = job;
    const tally = new JobTally(job);
    this.#view.show({ title: () => titleOf(job), blockSize, states, tally, writer });
    const ended = () => tally[Symbol.dispose]();
    job.done.then(ended, ended);
  }

  /** Waits for the time between the two instructions. A job may be over before it has passed. */
  async betweenInstructions(job: BackupJob): Promise<void> {
    await Promise.race([this.#wait(this.#parts.line.lazyMs), job.done]);
  }

  /** Prints how much is stored already, and where some block's content is now. */
  showWhere({ states }: BackupJob): void {
    this.#say(`asked meanwhile: ${describeCounts(states.counts)}`);
    for (const block of samples(states.blockCount, (block) => states.get(block))) {
      this.#say(`  block ${count(block)}: ${WHERE[states.get(block)]}`);
    }
  }

  /** Lets the writer write for a while. */
  async letWritesGoOn(): Promise<void> {
    const { terminal } = this.#parts;
    const before = this.#writer?.writes ?? 0;
    const isBrief = this.#parts.line.lazyMs < WRITES_BETWEEN_MS;
    await this.#wait(isBrief ? this.#parts.line.lazyMs : WRITES_BETWEEN_MS);
    const writes = (this.#writer?.writes ?? 0) - before;
    terminal.print(`\n     ${terminal.paint(`(${count(writes)} more writes go by)`, FAINT)}`);
  }

  /** Compares a file with the copy of that name. @throws when they differ */
  async compare(path: string, name: string): Promise<void> {
    const { terminal } = this.#parts;
    const { firstDifference, sha256 } = await compareFiles(path, this.#referencePath(name), (done) => {
      this.signal.throwIfAborted();
      this.#view.bar('comparing byte for byte', done, this.#volumeBytes);
    });
    terminal.draw([]);
    if (firstDifference >= 0)
      throw new Error(`${path} differs from the ${name} instant from ${count(firstDifference)} on`);
    this.#comparedBytes += this.#volumeBytes;
    const mark = terminal.paint('✔', GOOD);
    this.#say(`${mark} byte for byte the disk at the ${name} instant`);
    this.#say(terminal.paint(`  SHA-256 ${sha256}`, FAINT));
  }

  /** Compares a piece of a file in the same way. */
  async compareAt(offset: number, piece: Uint8Array, name: string): Promise<void> {
    await using reference = await open(this.#referencePath(name));
    const expected = Buffer.alloc(piece.length);
    const { bytesRead } = await reference.read(expected, 0, piece.length, offset);
    if (bytesRead !== piece.length || !expected.equals(piece)) {
      throw new Error(`what was read at ${count(offset)} is not the ${name} instant's`);
    }
    this.#comparedBytes += piece.length;
  }

  /** Removes a file that has been compared, and the copies that were taken so far: disks are finite. */
  async clearAway(path: string): Promise<void> {
    await Promise.all([path, ...this.#referencePaths].map((each) => rm(each, { force: true })));
    this.#referencePaths.clear();
  }

  /** Prints the last words, once everything that was restored has been found equal. */
  takeABow(): void {
    const { terminal } = this.#parts;
    terminal.print();
    printSteps(terminal, this.#costs, this.#volumeBytes);
    terminal.print();
    this.#say(terminal.paint('sent: of the volume; packed: content to bytes sent, by dedup and compression', FAINT));
    const verdict = 'all that came back is byte for byte the disk at its frozen instants';
    terminal.print(
      `  ${terminal.paint('✔', GOOD)} ${terminal.bold(verdict)} (${bytes(this.#comparedBytes)} compared)\n`,
    );
  }

  #wait(ms: number): Promise<void> {
    return delay(ms, undefined, { signal: this.signal, ref: false });
  }

  #say(text: string): void {
    this.#parts.terminal.print(`     ${text}`);
  }

  #referencePath(name: string): string {
    const path = this.path(`${name}-instant.img`);
    this.#referencePaths.add(path);
    return path;
  }
}

function titleOf({ status }: BackupJob): string {
  if (status === 'lazy') return 'Intercepting';
  return status === 'sweeping' ? 'Sweeping' : 'Complete';
}

function inWords({ seconds, readBytes, uploadedBytes, downloadedBytes, requests }: StepCost): string {
  return [
    seconds < 1 ? `${Math.ceil(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`,
    ...(readBytes === undefined ? [] : [`${bytes(readBytes)} read`]),
    ...(uploadedBytes === 0 ? [] : [`${bytes(uploadedBytes)} up`]),
    ...(downloadedBytes === 0 ? [] : [`${bytes(downloadedBytes)} down`]),
    `${count(requests)} request${requests === 1 ? '' : 's'}`,
  ].join(' · ');
}
