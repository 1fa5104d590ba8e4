import { deepStrictEqual } from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  BackupError,
  type BlockTransform,
  CopyOnWriteVolume,
  checksum,
  compression,
  encryption,
  type VolumeSnapshot,
} from '../../../src/index.ts';
import { turn } from '../../support/turn.ts';
import { type Instant, ModelledDisk } from './modelled-disk.ts';
import { ModelledRun } from './modelled-run.ts';
import type { Shape, Step, StepOf } from './pipeline-steps.ts';

const MAX_LIVE_RUNS = 4;
/** Nothing takes so long: a history that is not over by then hangs. */
const HANGS_AFTER_MS = 10_000;

/** Runs one history. After it, every complete run restores as its instant. */
export async function runHistory(shape: Shape, steps: readonly Step[]): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'cow-test-'));
  const run = new HistoryRun(shape, folder);
  let timer: NodeJS.Timeout | undefined;
  const hangs = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the history hangs: ${run.describe()}`)), HANGS_AFTER_MS);
  });
  try {
    await Promise.race([run.all(steps), hangs]);
  } finally {
    clearTimeout(timer);
    await run.abandon();
    rmSync(folder, { recursive: true, force: true });
  }
}

class HistoryRun {
  readonly #shape: Shape;
  readonly #folder: string;
  readonly #transforms: readonly BlockTransform[];
  readonly #violations: string[] = [];
  readonly #disks: ModelledDisk[] = [];
  readonly #runs: ModelledRun[] = [];
  #at = 'the beginning';

  constructor(shape: Shape, folder: string) {
    this.#shape = shape;
    this.#folder = folder;
    const all = [compression(), encryption(new Uint8Array(32).fill(7), { context: 'disk' }), checksum(), inverted()];
    this.#transforms = shape.transforms.map((index) => all[index] as BlockTransform);
  }

  describe(): string {
    const runs = this.#live.map(
      ({ snapshot, watched }) =>
        `${snapshot.status} ${watched?.pipeline.status} ${JSON.stringify(snapshot.states.counts)}`,
    );
    return [this.#at, ...this.#violations, ...runs].join('\n');
  }

  async all(steps: readonly Step[]): Promise<void> {
    for (let number = 0; number < (this.#shape.isGroup ? 2 : 1); number++) {
      const folder = join(this.#folder, String(number));
      this.#disks.push(await ModelledDisk.open(this.#shape, number, folder, this.#violations));
    }
    for (const [index, step] of steps.entries()) {
      this.#at = `step ${index}, ${step.do}`;
      await this.#step(step);
      await turn();
      this.#check();
    }
    this.#at = 'the end';
    await this.#finish();
  }

  /** Ends what a history that failed has left under way, so that the next one is not disturbed. */
  async abandon(): Promise<void> {
    for (const run of this.#runs) {
      run.isDead = true;
      run.troubled?.calm();
      void run.watched?.pipeline.abort();
    }
    await Promise.race([Promise.all(this.#runs.map(({ ending }) => ending)), turns(100)]);
    for (const disk of this.#disks) await Promise.race([disk.close(), turns(100)]);
  }

  #check(): void {
    for (const run of this.#runs) run.check();
    deepStrictEqual(this.#violations, [], this.#at);
  }

  get #live(): ModelledRun[] {
    return this.#runs.filter(({ snapshot }) => snapshot.status === 'live');
  }

  #pick(pick: number): ModelledRun | undefined {
    // Runs of snapshots that have ended are picked now and then, too.
    const among = pick === 7 ? this.#runs : this.#live;
    return among[pick % Math.max(1, among.length)];
  }

  #disk(pick: number): ModelledDisk {
    return this.#disks[pick % this.#disks.length] as ModelledDisk;
  }

  async #step(step: Step): Promise<void> {
    switch (step.do) {
      case 'write':
      case 'writeSync':
        return this.#disk(step.disk).write(step);
      case 'discard':
      case 'writeZeroes':
        return this.#disk(step.disk).discard(step);
      case 'snapshot':
        return this.#snapshot([this.#disk(step.disk)], step.isSync);
      case 'group':
        return this.#snapshot(this.#disks, false);
      case 'share':
        return await this.#share(step.pick);
      case 'start':
        return this.#start(step);
      case 'turns':
        return turns(step.times);
      case 'deviceFault':
        return this.#disk(step.disk).fault(step);
      case 'restart':
      case 'crash':
        return this.#restart(step);
      default:
        return this.#onRun(step, this.#pick(step.pick));
    }
  }

  async #onRun(step: Extract<Step, { readonly pick: number }>, run: ModelledRun | undefined): Promise<void> {
    if (run === undefined) return;
    if (step.do === 'sweep' || step.do === 'pause' || step.do === 'resume') run.watched?.pipeline[step.do]();
    else if (step.do === 'ask') run.watched?.ask(step);
    else if (step.do === 'abort') await run.watched?.abort(step.by);
    else if (step.do === 'release') run.troubled?.release(step.call, step.how);
    else if (step.do === 'closeSnapshot') await run.snapshot.close();
  }

  async #snapshot(disks: readonly ModelledDisk[], isSync: boolean): Promise<void> {
    if (this.#live.length + disks.length > MAX_LIVE_RUNS) return;
    let instants: Instant[] = [];
    const atInstant = () => {
      instants = disks.map((disk) => disk.instant());
    };
    const volumes = disks.map(({ volume }) => volume);
    let snapshots: VolumeSnapshot[];
    try {
      snapshots = isSync
        ? volumes.map((volume) => volume.createSnapshotSync({ atInstant }))
        : await CopyOnWriteVolume.createSnapshots(volumes, { atInstant });
    } catch (error) {
      if (!isSync || !BackupError.is(error, 'WRITES_IN_FLIGHT')) throw error;
      return;
    }
    for (const [index, snapshot] of snapshots.entries())
      this.#add(disks[index] as ModelledDisk, snapshot, instants[index] as Instant);
  }

  #add(disk: ModelledDisk, snapshot: VolumeSnapshot, instant: Instant): void {
    const seed = (this.#shape.seed + this.#runs.length * 7919) >>> 0;
    this.#runs.push(new ModelledRun(disk, snapshot, instant, { transforms: this.#transforms, seed }));
  }

  async #share(pick: number): Promise<void> {
    const run = this.#pick(pick);
    if (run?.snapshot.status !== 'live' || this.#live.length >= MAX_LIVE_RUNS) return;
    this.#add(run.disk, await run.snapshot.share(), run.instant);
  }

  async #start(step: StepOf<'start'>): Promise<void> {
    const run = this.#pick(step.pick);
    await run?.start(step, () => this.#chooseBase(run, step));
  }

  /** A run that has begun keeps its base, because that is where its other blocks are. */
  async #chooseBase(run: ModelledRun, { base, basePick }: StepOf<'start'>): Promise<ModelledRun | undefined> {
    if (base === 'none') return undefined;
    const earlier = this.#runs.filter((one) => one.disk === run.disk && one.own !== undefined && one !== run);
    for (const { own, watched } of earlier) {
      // The record of a run that is under way, as it is now.
      if (watched?.isActive) await own?.keepRecord(watched.pipeline.record(), () => watched.isActive);
    }
    const known = earlier.filter(({ own }) => own?.hasRecord);
    if (run.own !== undefined) return known.find(({ own }) => own === run.own?.base);
    return base === 'newest' ? known.at(-1) : known[basePick % Math.max(1, known.length)];
  }

  /** A crash: what the old process has under way never arrives. A restart ends its pipelines first. */
  async #restart(step: StepOf<'restart'> | StepOf<'crash'>): Promise<void> {
    const disk = this.#disk(step.disk);
    const runs = this.#runs.filter((run) => run.disk === disk);
    for (const run of runs) {
      if (step.do === 'crash') run.isDead = true;
      await run.watched?.abort('abort');
      await run.ending;
      // Between the last block and the record of a run there is nothing that a crash could take.
      if (step.do === 'crash' && run.own !== undefined && run.snapshot.status === 'live')
        run.own.appendTorn(new Uint8Array(9));
    }
    await disk.restart({ ...step, do: 'restart' });
    for (const run of runs) {
      run.isDead = true;
      run.own = disk.host.runs.find(({ number }) => number === run.own?.number);
    }
  }

  async #finish(): Promise<void> {
    for (const disk of this.#disks) disk.calm();
    // However stuck the stores are, the host's writes go on.
    for (const disk of this.#disks) await Promise.all(disk.outstanding.keys());
    this.#check();
    for (const run of this.#live)
      await run.complete(() => run.start(LAST_START, () => this.#chooseBase(run, LAST_START)));
    for (const run of this.#runs) await run.ending;
    this.#check();
    for (const run of this.#runs) await run.restoreAndCompare();
    for (const run of this.#runs) await run.snapshot.close();
    for (const { volume } of this.#disks) {
      // The device may still be reading for a write that no longer needs it.
      for (let waited = 0; volume.preimages.heldBytes > 0 && waited < 5000; waited++) await turn();
      deepStrictEqual(volume.preimages.heldBytes, 0, 'pre-images are left');
    }
    for (const disk of this.#disks) await disk.close();
    this.#check();
  }
}

const LAST_START: StepOf<'start'> = {
  do: 'start',
  pick: 0,
  base: 'newest',
  changes: 'tracked',
  basePick: 0,
  concurrency: 4,
  attempts: 3,
  temper: 'calm',
  isSwept: true,
  hasSignal: false,
};

async function turns(times: number): Promise<void> {
  for (let done = 0; done < times; done++) await turn();
}

/** A transform of the host's own, which takes its time. */
function inverted(): BlockTransform {
  const invert = (bytes: Uint8Array) => bytes.map((byte) => ~byte);
  return {
    name: 'inverted',
    async apply(bytes, { block }) {
      if (block % 3 === 0) await turn();
      return invert(bytes);
    },
    undo: invert,
  };
}
