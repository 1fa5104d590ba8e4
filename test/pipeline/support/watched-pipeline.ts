import {
  BackupError,
  BackupPipeline,
  type BlockCall,
  type BlockState,
  type PipelineOptions,
  type PipelineProgress,
  type PipelineRecord,
  type PipelineResult,
  type StoreRecord,
  type VolumeSnapshot,
} from '../../../src/index.ts';
import type { StepOf } from './pipeline-steps.ts';

/** What a pipeline is to find out about the changes since the earlier run. */
export type ExpectedChanges = Pick<PipelineResult, 'changeSource' | 'changeReason'>;

/** What the pipelines of one run have in common. */
export interface WatchedRun {
  readonly snapshot: VolumeSnapshot;
  /** Blocks whose `store` has said that they are safe. */
  readonly acknowledged: Set<number>;
  store(block: number, bytes: Uint8Array, call: BlockCall): unknown;
  /** Keeps the record as the last call of a pipeline; `undefined` for a host that keeps that of `done`. */
  readonly storeRecord: StoreRecord | undefined;
  wrong(what: string): void;
}

export type WatchedOptions = Pick<PipelineOptions, 'previous' | 'changes' | 'transforms' | 'concurrency' | 'retry'>;

const MAX_BATCH_BYTES = 1024 * 1024;
const SAFE: readonly BlockState[] = ['stored', 'inherited', 'zero'];

/** A pipeline of which everything is compared with what the store has seen. */
export class WatchedPipeline {
  readonly pipeline: BackupPipeline;
  readonly ended: string[] = [];
  readonly #run: WatchedRun;
  readonly #concurrency: number;
  readonly #expected: ExpectedChanges;
  readonly #signal: AbortController | undefined;
  readonly #attempts = new Map<number, number>();
  readonly #stored = { blocks: 0, bytes: 0, events: 0 };
  #underWay = 0;
  #recordAttempts = 0;
  #progress: PipelineProgress | undefined;
  /** No call of `store` may begin any more. */
  #isOver = false;
  #isAskedToEnd = false;

  constructor(run: WatchedRun, options: WatchedOptions, expected: ExpectedChanges, hasSignal: boolean) {
    this.#run = run;
    this.#concurrency = options.concurrency ?? 16;
    this.#expected = expected;
    this.#signal = hasSignal ? new AbortController() : undefined;
    this.pipeline = BackupPipeline.start(run.snapshot, {
      ...options,
      store: (block, bytes, call) => this.#onStore(block, bytes, call),
      signal: this.#signal?.signal,
      onProgress: (progress) => this.#onProgress(progress),
      storeRecord: run.storeRecord && ((record, call) => this.#onStoreRecord(record, call)),
    });
    this.pipeline.events.on('ended', (status) => this.ended.push(status));
    this.pipeline.events.on('blockStored', (block) => {
      this.#stored.events++;
      const state = run.snapshot.states.get(block);
      if (state !== 'stored' && run.snapshot.status === 'live') run.wrong(`blockStored of ${block}, which is ${state}`);
    });
  }

  get isActive(): boolean {
    return this.ended.length === 0;
  }

  #onStore(block: number, bytes: Uint8Array, call: BlockCall): unknown {
    const { snapshot, acknowledged, wrong } = this.#run;
    const state = snapshot.states.get(block);
    if (this.#isOver) wrong(`block ${block} is being stored after the end`);
    if (state !== 'storing' && snapshot.status === 'live') wrong(`block ${block} is ${state} at its call`);
    if (acknowledged.has(block)) wrong(`block ${block} is stored a second time`);
    const before = this.#attempts.get(block) ?? 0;
    if (call.attempt !== before + 1) wrong(`attempt ${call.attempt} of block ${block} follows attempt ${before}`);
    this.#attempts.set(block, call.attempt);
    if (++this.#underWay > this.#concurrency) wrong(`${this.#underWay} calls are under way`);
    this.#checkMemory();
    const succeeded = () => {
      this.#underWay--;
      acknowledged.add(block);
      this.#stored.blocks++;
      this.#stored.bytes += bytes.length;
    };
    let result: unknown;
    try {
      result = this.#run.store(block, bytes, call);
    } catch (error) {
      this.#underWay--;
      throw error;
    }
    if (result === undefined) return succeeded();
    return (result as Promise<void>).then(succeeded, (error: unknown) => {
      this.#underWay--;
      throw error;
    });
  }

  /** The record comes when all blocks are safe, and nothing is under way. */
  #onStoreRecord(record: PipelineRecord, call: BlockCall): unknown {
    const { wrong, storeRecord } = this.#run;
    if (this.#isOver) wrong('the record is being stored after the end');
    if (this.#underWay > 0) wrong(`the record is being stored beside ${this.#underWay} blocks`);
    if (call.attempt !== ++this.#recordAttempts) wrong(`attempt ${call.attempt} of the record`);
    const { pending, preserved, storing } = record.states.counts;
    if (pending + preserved + storing > 0) wrong('the record that is being stored is incomplete');
    return storeRecord?.(record, call);
  }

  /** Three times as many blocks as are stored at a time are in memory, and the batches that three loops read. */
  #checkMemory(): void {
    const { blockSize, states } = this.#run.snapshot;
    const batch = Math.max(1, Math.min(this.#concurrency, Math.floor(MAX_BATCH_BYTES / blockSize)));
    const { storing } = states.counts;
    if (storing > 3 * this.#concurrency + 4 * batch) this.#run.wrong(`${storing} blocks are in memory`);
  }

  #onProgress(progress: PipelineProgress): void {
    const { wrong, snapshot } = this.#run;
    const before = this.#progress;
    this.#progress = progress;
    const { doneBytes, storedBytes, totalBytes = 0 } = progress;
    if (before !== undefined) {
      if (doneBytes < before.doneBytes) wrong(`progress goes back from ${before.doneBytes} to ${doneBytes}`);
      if (storedBytes < before.storedBytes) wrong(`stored bytes go from ${before.storedBytes} to ${storedBytes}`);
      if (totalBytes > (before.totalBytes ?? 0)) wrong(`the total grows from ${before.totalBytes} to ${totalBytes}`);
    }
    if (storedBytes > this.#stored.bytes) wrong(`${storedBytes} bytes are stored, of ${this.#stored.bytes}`);
    if (doneBytes !== bytesIn(snapshot, 'stored', 'zero', 'lost')) wrong(`${doneBytes} bytes are not what is done`);
    if (totalBytes !== snapshot.size - bytesIn(snapshot, 'inherited')) wrong(`${totalBytes} bytes are not the total`);
  }

  /** What holds at any time. */
  check(): void {
    const { snapshot, wrong } = this.#run;
    if (this.#underWay > 0 && !this.isActive) wrong('a store call is under way after the end');
    if (snapshot.status !== 'live') return;
    if (this.isActive) this.#checkMemory();
    else if (snapshot.states.counts.storing > 0) wrong('blocks are storing, and there is no pipeline');
    this.#onProgress(this.pipeline.progress());
  }

  ask({ at, span }: StepOf<'ask'>): void {
    const { states } = this.#run.snapshot;
    const firstBlock = Math.floor(at * states.blockCount);
    const blockCount = Math.floor(span * (states.blockCount - firstBlock + 1));
    const answers = [
      { answer: this.pipeline.ask(), first: 0, count: states.blockCount },
      { answer: this.pipeline.ask({ firstBlock, blockCount }), first: firstBlock, count: blockCount },
      { answer: this.pipeline.ask(firstBlock), first: firstBlock, count: 1 },
    ];
    for (const { answer, first, count } of answers) {
      const all = Array.from({ length: count }, (_, index) => states.get(first + index));
      const safe = all.filter((state) => SAFE.includes(state)).length;
      const isRight = answer.blockCount === count && answer.safeBlocks === safe && answer.isSafe === (safe === count);
      const isCounted = all.every((state) => answer.counts[state] === all.filter((one) => one === state).length);
      if (!isRight || !isCounted) this.#run.wrong(`of ${count} blocks from ${first}: ${JSON.stringify(answer)}`);
    }
  }

  async abort(by: StepOf<'abort'>['by']): Promise<void> {
    if (!this.isActive || (by === 'signal' && this.#signal === undefined)) return;
    this.#isOver = true;
    if (by === 'signal') this.#signal?.abort(new Error('the host has had enough'));
    else {
      await this.pipeline[by]();
      if (this.#underWay > 0) this.#run.wrong(`${by} resolved while a store call was under way`);
    }
  }

  onComplete(result: PipelineResult): void {
    const { wrong } = this.#run;
    this.#onEnd('complete');
    const { pending, preserved, storing } = result.record.states.counts;
    if (pending + preserved + storing > 0) wrong('it is complete, and blocks are missing');
    const { blocks, bytes } = this.#stored;
    if (result.storedBlocks !== blocks || result.storedBytes !== bytes) wrong('the result counts wrongly');
    const { changeSource, changeReason } = result;
    if (changeSource !== this.#expected.changeSource || changeReason !== this.#expected.changeReason)
      wrong(`${changeSource} (${changeReason}) instead of ${JSON.stringify(this.#expected)}`);
    const { doneBytes, totalBytes = 0 } = this.pipeline.progress();
    if (doneBytes !== totalBytes) wrong(`${doneBytes} of ${totalBytes} bytes are done at the end`);
  }

  /** @param isExcused - whether something has happened after which a pipeline may fail with such a code */
  onFailed(error: unknown, isExcused: (code: string) => boolean): void {
    const isOwnAbort = (error as Partial<Error> | undefined)?.name === 'AbortError' && !BackupError.is(error);
    const isAborted = isOwnAbort || (this.#signal?.signal.aborted === true && error === this.#signal.signal.reason);
    this.#onEnd(isAborted ? 'aborted' : 'failed');
    if (isAborted && !this.#isAskedToEnd) this.#run.wrong('it was aborted, and nobody has asked for that');
    const code = BackupError.is(error) ? error.code : String(error);
    if (!isAborted && !isExcused(code)) this.#run.wrong(`it failed: ${String(error)}`);
  }

  #onEnd(status: string): void {
    const { snapshot, acknowledged, wrong } = this.#run;
    this.#isAskedToEnd = this.#isOver;
    this.#isOver = true;
    const { storing, stored } = snapshot.states.counts;
    if (this.#underWay > 0) wrong(`done settled while ${this.#underWay} store calls were under way`);
    if (this.pipeline.status !== status) wrong(`the status is ${this.pipeline.status} instead of ${status}`);
    if (this.ended.join() !== status) wrong(`ended was emitted as ${this.ended} instead of ${status}`);
    if (this.#stored.events !== this.#stored.blocks) wrong(`${this.#stored.events} events of ${this.#stored.blocks}`);
    if (this.pipeline.progress().storedBytes !== this.#stored.bytes) wrong('storedBytes is not what the store has');
    if (snapshot.status !== 'live') return;
    if (storing > 0) wrong(`${storing} blocks are left storing`);
    if (stored !== acknowledged.size) wrong(`${stored} of ${acknowledged.size} blocks count as stored`);
  }
}

function bytesIn({ blockSize, size, states }: VolumeSnapshot, ...wanted: BlockState[]): number {
  let bytes = 0;
  for (const { firstBlock, blockCount } of states.ranges(...wanted))
    bytes += Math.min(size, (firstBlock + blockCount) * blockSize) - firstBlock * blockSize;
  return bytes;
}
