import type { BlockStates } from 'cow-cloud-backup';
import { BlockMap } from './block-map.ts';
import { bytes, count, megabytesPerSecond, percent } from './figures.ts';
import type { RandomWriter } from './random-writer.ts';
import type { Ink, Terminal } from './terminal.ts';

const FRAME_MS = 80;
const PLAIN_LINE_MS = 2000;
/** Rates are of the last second or so. */
const RATE_MS = 1000;
const MAX_MAP_LINES = 14;
/** Lines around the map: title, legend, bar, rates and what separates them. */
const OTHER_LINES = 9;
const MARGIN = '  ';
const BAR: Ink = [36, 32];
const REST: Ink = [238, 90];
const FAINT: Ink = [244, 90];

/** What has been stored, and which way it went. */
export interface Moved {
  readonly storedBytes: number;
  readonly interceptedBlocks: number;
  isIntercepted(block: number): boolean;
}

/** What is on show. */
export interface Subject {
  readonly title: () => string;
  readonly blockSize: number;
  readonly states: BlockStates;
  readonly tally: Moved;
  readonly writer: RandomWriter;
}

/** Shows a backup under way: the map of its blocks, what the colours mean, how far it is and how fast it goes. */
export class ProgressView {
  readonly #terminal: Terminal;
  #subject: Subject | undefined;
  #timer: NodeJS.Timeout | undefined;
  #startedMs = 0;
  #drawnMs = 0;
  #samples: { ms: number; stored: number; writes: number; written: number }[] = [];

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** Shows `subject` from now on. */
  show(subject: Subject): void {
    if (this.#subject === undefined) this.#startedMs = performance.now();
    this.#subject = subject;
    const { isLive } = this.#terminal;
    this.#timer ??= setInterval(() => this.#draw(), isLive ? FRAME_MS : PLAIN_LINE_MS);
    this.#draw();
  }

  /** Leaves the last state on the screen. */
  end(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.#terminal.isLive) this.#draw();
    this.#subject = undefined;
    this.#samples = [];
    this.#terminal.keep();
  }

  /** One bar, for work that has no map. */
  bar(title: string, done: number, total: number): void {
    const now = performance.now();
    if (!this.#terminal.isLive || (done < total && now < this.#drawnMs + FRAME_MS)) return;
    this.#drawnMs = now;
    const width = this.#width;
    const share = percent(done, total).padStart(6);
    const label = title.padEnd(24);
    const line = this.#barLine(done, total, width - label.length - share.length);
    this.#terminal.draw([`${MARGIN}${label}${line}${share}`]);
  }

  get #width(): number {
    return this.#terminal.columns - 2 * MARGIN.length + 1;
  }

  #draw(): void {
    const subject = this.#subject;
    if (subject === undefined) return;
    if (this.#terminal.isLive) this.#terminal.draw(this.#frame(subject).map((line) => (line ? MARGIN + line : line)));
    else this.#terminal.print(this.#plainLine(subject));
  }

  #frame(subject: Subject): string[] {
    const { blockSize, states, tally } = subject;
    const width = this.#width;
    const mapLines = Math.max(2, Math.min(MAX_MAP_LINES, this.#terminal.rows - OTHER_LINES - 1));
    const map = new BlockMap(this.#terminal, states, (block) => tally.isIntercepted(block));
    const elapsed = `${((performance.now() - this.#startedMs) / 1000).toFixed(1)} s`;
    const perCell = map.blocksPerCell(width, mapLines);
    const title = subject.title();
    const done = doneBlocks(states);
    const share = percent(done, states.blockCount).padStart(6);
    return [
      '',
      this.#terminal.bold(title) + elapsed.padStart(width - title.length),
      '',
      ...map.lines(width, mapLines),
      '',
      ...map.legend(tally.interceptedBlocks),
      '',
      this.#barLine(done, states.blockCount, width - share.length) + share,
      this.#terminal.paint(`${this.#rates(subject)} · a cell is ${bytes(perCell * blockSize)}`, FAINT),
    ];
  }

  #barLine(done: number, total: number, width: number): string {
    const full = total === 0 ? width : Math.floor((done / total) * width);
    if (!this.#terminal.hasColors) return `[${'#'.repeat(Math.max(0, full - 2)).padEnd(width - 2, '.')}]`;
    return this.#terminal.paint('━'.repeat(full), BAR) + this.#terminal.paint('─'.repeat(width - full), REST);
  }

  #plainLine(subject: Subject): string {
    const { pending, preserved, storing, stored, zero, inherited } = subject.states.counts;
    const { blockCount } = subject.states;
    return [
      `${subject.title()}: ${percent(doneBlocks(subject.states), blockCount)}`,
      `${count(pending)} pending, ${count(preserved)} preserved, ${count(storing)} storing`,
      `${count(stored)} stored (${count(subject.tally.interceptedBlocks)} intercepted), ${count(zero)} zero`,
      ...(inherited > 0 ? [`${count(inherited)} inherited`] : []),
      this.#rates(subject),
    ].join(' · ');
  }

  #rates({ tally, writer }: Subject): string {
    const now = { ms: performance.now(), stored: tally.storedBytes, writes: writer.writes, written: writer.bytes };
    // The base is the newest sample of a second ago or more, where there is one.
    const old = this.#samples.findLastIndex(({ ms }) => ms <= now.ms - RATE_MS);
    this.#samples = [...this.#samples.slice(Math.max(0, old)), now];
    const since = this.#samples[0] as typeof now;
    const seconds = (now.ms - since.ms) / 1000;
    const writes = seconds > 0 ? (now.writes - since.writes) / seconds : 0;
    return [
      `${megabytesPerSecond(now.stored - since.stored, seconds)} up`,
      `${count(writes)} writes/s go on, ${megabytesPerSecond(now.written - since.written, seconds)}`,
    ].join(' · ');
  }
}

function doneBlocks({ counts }: BlockStates): number {
  return counts.stored + counts.zero + counts.inherited;
}
