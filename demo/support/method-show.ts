import { setTimeout as delay } from 'node:timers/promises';
import type { BackupPipeline, BlockStates, BlocksAnswer } from 'cow-cloud-backup';
import { describeCounts, samples, WHERE } from './block-words.ts';
import { bytes, count, percent } from './figures.ts';
import type { BackupShow } from './method.ts';
import type { ProgressView } from './progress-view.ts';
import type { RandomWriter } from './random-writer.ts';
import type { DemoParts } from './run-demo.ts';
import { Tally } from './tally.ts';

/** What a backup has taken. */
export interface BackupFigures {
  readonly tally: Tally;
  readonly seconds: number;
  readonly sweepSeconds: number;
  readonly writes: number;
  readonly writtenBytes: number;
}

/** Shows the steps of the method, one after the other, and the map of the blocks. */
export class MethodShow implements BackupShow {
  readonly signal: AbortSignal;
  readonly atInstant: () => void;
  readonly #parts: DemoParts;
  readonly #view: ProgressView;
  readonly #writer: RandomWriter;
  #begun = { ms: 0, writes: 0, bytes: 0 };
  #sweepBegunMs = 0;
  #tally: Tally | undefined;
  #show: (title: string) => void = () => {};

  constructor(parts: DemoParts, view: ProgressView, writer: RandomWriter, atInstant: () => void) {
    this.signal = parts.workspace.signal;
    this.atInstant = atInstant;
    this.#parts = parts;
    this.#view = view;
    this.#writer = writer;
  }

  readonly interception = async (pipeline: BackupPipeline): Promise<void> => {
    const writer = this.#writer;
    const { snapshot, states } = pipeline;
    const { blockSize, frozenAt } = snapshot;
    const tally = new Tally(pipeline);
    this.#begun = { ms: performance.now(), writes: writer.writes, bytes: writer.bytes };
    this.#tally = tally;
    this.#parts.terminal.print();
    this.#step('1', `first instruction: frozen at ${frozenAt.toISOString().slice(11, 23)} UTC`);
    const blocks = `${count(states.blockCount)} blocks of ${bytes(blockSize)}`;
    this.#step('', `baseline record: ${blocks}, ${describeCounts(states.counts)}`);
    this.#step('2', 'writes go on; what they overwrite is preserved first, then goes up');
    this.#show = (title) => this.#view.show({ title: () => title, blockSize, states, tally, writer });
    this.#show('Intercepting');
    const time = delay(this.#parts.line.lazyMs, undefined, { signal: this.signal, ref: false });
    await Promise.race([time, pipeline.done]);
  };

  readonly answer = ({ counts, safeBlocks, blockCount }: BlocksAnswer, states: BlockStates): void => {
    this.#sweepBegunMs = performance.now();
    const safe = percent(safeBlocks, blockCount);
    this.#step('3', `asked after ${this.#seconds.toFixed(1)} s: ${safe} of the blocks are safe by now`);
    this.#step('', describeCounts(counts));
    for (const block of samples(blockCount, (block) => states.get(block))) {
      this.#step('', `block ${count(block)}: ${WHERE[states.get(block)]}`);
    }
    this.#step('4', 'second instruction: sweep what is left, in order; interception goes on');
    this.#show('Sweeping');
  };

  /** The backup is complete. */
  end(): BackupFigures {
    if (this.#tally === undefined) throw new Error('no pipeline was shown');
    const seconds = this.#seconds;
    this.#show('Complete');
    this.#step('5', `complete after ${seconds.toFixed(1)} s: every block stored once, or zero; record saved`);
    return {
      tally: this.#tally,
      seconds,
      sweepSeconds: (performance.now() - this.#sweepBegunMs) / 1000,
      writes: this.#writer.writes - this.#begun.writes,
      writtenBytes: this.#writer.bytes - this.#begun.bytes,
    };
  }

  /** Since the instant. */
  get #seconds(): number {
    return (performance.now() - this.#begun.ms) / 1000;
  }

  #step(number: string, text: string): void {
    const { terminal } = this.#parts;
    terminal.print(`  ${terminal.bold(number.padEnd(3))}${text}`);
  }
}
