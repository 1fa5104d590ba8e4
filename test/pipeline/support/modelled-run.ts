import { MemoryDevice } from '../../../src/device/memory-device.ts';
import {
  BackupError,
  BackupPipeline,
  type BlockCall,
  type BlockTransform,
  type PipelineChangeReason,
  type PipelineOptions,
  type PipelineRecord,
  type PipelineResult,
  restoreBlocks,
  type VolumeSnapshot,
} from '../../../src/index.ts';
import { turn } from '../../support/turn.ts';
import type { Instant, ModelledDisk } from './modelled-disk.ts';
import type { OwnRun } from './own-format-host.ts';
import type { StepOf } from './pipeline-steps.ts';
import { TroubledStore } from './troubled-store.ts';
import { type ExpectedChanges, WatchedPipeline, type WatchedRun } from './watched-pipeline.ts';

type Incremental = Pick<PipelineOptions, 'previous' | 'changes'>;

/** A snapshot, what its instant was, and the run that stores it, with one pipeline or several in a row. */
export class ModelledRun implements WatchedRun {
  readonly disk: ModelledDisk;
  readonly snapshot: VolumeSnapshot;
  readonly instant: Instant;
  readonly acknowledged = new Set<number>();
  /** What the host keeps of it, once its first pipeline has begun. */
  own: OwnRun | undefined;
  watched: WatchedPipeline | undefined;
  isComplete = false;
  /** The process that makes this run has ended: nothing that it does arrives any more. */
  isDead = false;
  hasRecordFailed = false;
  troubled: TroubledStore | undefined;
  readonly storeRecord: WatchedRun['storeRecord'];
  readonly #transforms: readonly BlockTransform[];
  readonly #seed: number;
  #ending: Promise<void> = Promise.resolve();

  constructor(
    disk: ModelledDisk,
    snapshot: VolumeSnapshot,
    instant: Instant,
    { transforms, seed }: { readonly transforms: readonly BlockTransform[]; readonly seed: number },
  ) {
    this.disk = disk;
    this.snapshot = snapshot;
    this.instant = instant;
    this.#transforms = transforms;
    this.#seed = seed;
    if (seed % 2 === 0) this.storeRecord = (record, { attempt }) => this.#storeRecord(record, attempt);
  }

  get isActive(): boolean {
    return this.watched?.isActive === true;
  }

  /** Resolves when what the host does at the end of a pipeline is done. */
  get ending(): Promise<void> {
    return this.#ending;
  }

  readonly wrong = (what: string): void => {
    this.disk.violations.push(`run ${this.own?.number} of instant ${this.instant.index}: ${what}`);
  };

  store(block: number, bytes: Uint8Array, call: BlockCall): unknown {
    return this.troubled?.store(block, bytes, call);
  }

  /** @param chooseBase - the run that this one is to build on */
  async start(step: StepOf<'start'>, chooseBase: () => Promise<ModelledRun | undefined>): Promise<void> {
    if (this.isActive || this.snapshot.status !== 'live') {
      this.#mustRefuse();
      return;
    }
    await this.#ending;
    const base = await chooseBase();
    this.own ??= this.disk.host.begin(base?.own);
    const { own } = this;
    const { options, expected } = await this.#incremental(step, base);
    // Writes may have broken the snapshot in the meantime.
    if (this.snapshot.status !== 'live') return;
    this.troubled ??= new TroubledStore(this.#seed, step.temper, (block, bytes) => {
      if (this.isDead) throw new Error('the process has ended');
      own.append(block, bytes);
    });
    this.troubled.temper = step.temper;
    const { concurrency, attempts, isSwept, hasSignal } = step;
    const retry = { attempts, baseDelayMs: 1, maxDelayMs: 2 };
    const common = { transforms: this.#transforms, concurrency, retry };
    const watched = new WatchedPipeline(this, { ...options, ...common }, expected, hasSignal);
    this.watched = watched;
    this.#ending = watched.pipeline.done.then(
      (result) => this.#onComplete(watched, result),
      (error: unknown) => this.#onFailed(watched, error),
    );
    if (isSwept) watched.pipeline.sweep();
  }

  /** Only one pipeline at a time works on a snapshot, and only on one that can be read. */
  #mustRefuse(): void {
    const { status } = this.snapshot;
    const expected = { live: /^VOLUME_BUSY$/, broken: /^SNAPSHOT_BROKEN$/, closed: /^(CLOSED|SNAPSHOT_BROKEN)$/ };
    try {
      BackupPipeline.start(this.snapshot, { store: () => this.wrong('a refused pipeline has stored') });
    } catch (error) {
      const code = BackupError.is(error) ? error.code : String(error);
      if (!expected[status].test(code)) this.wrong(`a pipeline over a ${status} snapshot was refused with ${code}`);
      return;
    }
    this.wrong('a pipeline was started that had to be refused');
  }

  /** How the host says what has changed, and what must come of it. */
  async #incremental(
    { changes }: StepOf<'start'>,
    base: ModelledRun | undefined,
  ): Promise<{ readonly options: Incremental; readonly expected: ExpectedChanges }> {
    const everything = (options: Incremental, changeReason: PipelineChangeReason) => ({
      options,
      expected: { changeSource: 'everything', changeReason } as const,
    });
    const knowing = (options: Incremental, changeSource: 'given' | 'tracked') => ({
      options,
      expected: { changeSource, changeReason: undefined },
    });
    const previous = await base?.own?.record();
    if (base === undefined || previous === undefined) return everything({}, 'no-previous');
    const { size, blockSize, point } = this.snapshot;
    // What lay beyond both sizes in between is of no interest, and would be refused.
    const limit = Math.max(Math.ceil(size / blockSize), previous.states.blockCount);
    const changed = this.disk.changesBetween(base.instant, this.instant);
    const given = changed.filter(({ firstBlock }) => firstBlock < limit);
    // Without a record, blocks that were zeroes count as stored, and this host has no entries for them.
    const hasAll = previous.isWhole && previous.states.counts.zero === 0;
    const isSameShape = previous.size === size && previous.blockSize === blockSize;
    if (changes === 'only' && hasAll && isSameShape) return knowing({ changes: given }, 'given');
    const options = changes === 'tracked' ? { previous } : { previous, changes: given };
    if (previous.blockSize !== blockSize) return everything(options, 'block-size-changed');
    if (changes !== 'tracked') return knowing(options, 'given');
    if (previous.size !== size) return everything(options, 'size-changed');
    if (previous.point.trackingId !== point.trackingId) return everything(options, 'another-volume');
    if (previous.point.epoch > point.epoch) return everything(options, 'previous-newer');
    return knowing(options, 'tracked');
  }

  async #onComplete(watched: WatchedPipeline, result: PipelineResult): Promise<void> {
    watched.onComplete(result);
    this.isComplete =
      this.storeRecord !== undefined || (await this.own?.keepRecord(result.record, () => !this.isDead)) === true;
    await this.restoreAndCompare();
  }

  async #onFailed(watched: WatchedPipeline, error: unknown): Promise<void> {
    const { status } = this.snapshot;
    const excuses: Record<string, boolean> = {
      STORE_FAILED: this.troubled?.hasFailed === true || this.hasRecordFailed,
      SNAPSHOT_BROKEN: status !== 'live',
      CLOSED: status === 'closed',
      DEVICE_IO: this.disk.hadDeviceFaults,
      SHORT_READ: this.disk.hadDeviceFaults,
    };
    watched.onFailed(error, (code) => excuses[code] === true);
    const record = watched.pipeline.record();
    // Not every host keeps the record of a run that failed.
    if (this.#seed % 4 !== 0) await this.own?.keepRecord(record, () => !this.isDead);
    const { pending, preserved, storing } = record.states.counts;
    if (pending + preserved + storing === 0) return; // Only the record itself was missing.
    const refused: unknown = await this.#restored(record).catch((reason: unknown) => reason);
    if (!BackupError.is(refused, 'BACKUP_INCOMPLETE')) this.wrong(`an incomplete run was restored: ${String(refused)}`);
  }

  async #storeRecord(record: PipelineRecord, attempt: number): Promise<void> {
    await turn();
    const isLost = attempt === 1 && this.#seed % 3 === 0;
    if (isLost && this.#seed % 5 === 0) throw this.#recordFailed();
    if (!(await this.own?.keepRecord(record, () => !this.isDead))) throw new Error('the process has ended');
    if (isLost) throw this.#recordFailed();
  }

  #recordFailed(): Error {
    this.hasRecordFailed = true;
    return new Error('the host could not keep the record');
  }

  /** What holds at any time. */
  check(): void {
    if (this.snapshot.status === 'live') {
      for (const { firstBlock, blockCount } of this.snapshot.states.ranges('stored')) {
        for (let block = firstBlock; block < firstBlock + blockCount; block++)
          if (!this.acknowledged.has(block)) this.wrong(`block ${block} is stored, and the store has not said so`);
      }
    }
    this.watched?.check();
  }

  /** Lets nothing be in the way any more, and waits until the run is complete or can't become so. */
  async complete(start: () => Promise<void>): Promise<void> {
    for (let tries = 0; this.snapshot.status === 'live' && !this.isComplete; tries++) {
      if (tries === 4) return this.wrong('it does not become complete');
      if (!this.isActive) await start();
      this.troubled?.calm();
      this.watched?.pipeline.resume();
      this.watched?.pipeline.sweep();
      await this.#ending;
    }
  }

  /** Restores the run from the host's files, and compares it with a copy of the device at the instant. */
  async restoreAndCompare(): Promise<void> {
    if (this.own === undefined || !this.isComplete) return;
    const record = await this.own.record();
    const { lost } = record.states.counts;
    if (lost > 0) {
      const refused: unknown = await this.#restored(record).catch((error: unknown) => error);
      if (!BackupError.is(refused, 'BLOCK_LOST')) this.wrong('lost blocks were restored');
    }
    const restored = await this.#restored(record, lost > 0);
    for (const { firstBlock, blockCount, state } of record.states.ranges()) {
      for (let block = firstBlock; block < firstBlock + blockCount; block++) {
        const [from, to] = [block * record.blockSize, Math.min(record.size, (block + 1) * record.blockSize)];
        const was = state === 'lost' ? new Uint8Array(to - from) : this.instant.bytes.subarray(from, to);
        if (Buffer.compare(restored.subarray(from, to), was) !== 0) this.wrong(`block ${block}, ${state}, is wrong`);
      }
    }
  }

  async #restored(record: PipelineRecord, allowLost = false): Promise<Uint8Array> {
    const device = new MemoryDevice(new Uint8Array(record.size).fill(0xaa));
    const { own } = this;
    let last = 0;
    await restoreBlocks(record, device, {
      allowLost,
      transforms: this.#transforms,
      concurrency: 1 + (this.#seed % 5),
      retry: { attempts: 2, baseDelayMs: 1, maxDelayMs: 1 },
      load: async (block, { attempt }) => {
        if ((block + this.#seed) % 7 === 0) await turn();
        if ((block + this.#seed) % 11 === 0 && attempt === 1) throw new Error('the host is busy');
        return (own as OwnRun).load(block);
      },
      onProgress: ({ doneBytes }) => {
        if (doneBytes < last) this.wrong('the progress of a restore goes back');
        last = doneBytes;
      },
    });
    if (last !== record.size) this.wrong(`a restore ended at ${last} of ${record.size} bytes`);
    return device.bytes;
  }
}
