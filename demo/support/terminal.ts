import type { WriteStream } from 'node:tty';

/** A colour for terminals of 256 colours, and the nearest one for those of 16. */
export type Ink = readonly [of256: number, of16: number];

/** Lines are made for that many; on narrower terminals nothing is redrawn in place. */
const COLUMNS = 80;
const SHOW_CURSOR = '\x1b[?25h';
const HIDE_CURSOR = '\x1b[?25l';
/** Terminals that know it draw what is between the two at once; others ignore it. */
const BEGIN_DRAWING = '\x1b[?2026h';
const END_DRAWING = '\x1b[?2026l';

/**
 * Lines that stay, and below them a few that are redrawn in place. On anything but a terminal there are only lines
 * that stay. `NO_COLOR` and its like are heeded through `getColorDepth`.
 */
export class Terminal {
  /** Whether lines can be redrawn in place. */
  readonly isLive: boolean;
  readonly #stream: WriteStream;
  readonly #colorDepth: number;
  #drawn: readonly string[] = [];

  constructor(stream: WriteStream = process.stdout) {
    this.#stream = stream;
    this.isLive = stream.isTTY === true && stream.columns >= COLUMNS && process.env.TERM !== 'dumb';
    this.#colorDepth = this.isLive ? stream.getColorDepth() : 1;
    // The cursor is shown again, however the process ends.
    if (this.isLive) process.on('exit', () => this.#stream.write(SHOW_CURSOR));
  }

  get hasColors(): boolean {
    return this.#colorDepth > 1;
  }

  /** How wide lines may be: one column is left free, since some terminals wrap after the last one. */
  get columns(): number {
    return COLUMNS - 1;
  }

  get rows(): number {
    return this.#stream.rows ?? 24;
  }

  /** `text` in a colour, on a second one if it is given. */
  paint(text: string, ink: Ink, ground?: Ink): string {
    if (!this.hasColors) return text;
    return `\x1b[${this.#code(ink, 38, 0)}${ground === undefined ? '' : `;${this.#code(ground, 48, 10)}`}m${text}\x1b[0m`;
  }

  bold(text: string): string {
    return this.hasColors ? `\x1b[1m${text}\x1b[0m` : text;
  }

  /** A line that stays. */
  print(line = ''): void {
    if (!this.isLive) this.#stream.write(`${line}\n`);
    else this.#redraw([line], this.#drawn);
  }

  /** Replaces the lines that are redrawn in place. */
  draw(lines: readonly string[]): void {
    if (this.isLive) this.#redraw([], lines);
  }

  /** What is drawn now stays. */
  keep(): void {
    this.#drawn = [];
    if (this.isLive) this.#stream.write(SHOW_CURSOR);
  }

  #redraw(staying: readonly string[], lines: readonly string[]): void {
    const up = this.#drawn.length === 0 ? '' : `\x1b[${this.#drawn.length}A`;
    const text = [...staying, ...lines].map((line) => `${line}\x1b[K\n`).join('');
    const cursor = lines.length === 0 ? '' : HIDE_CURSOR;
    this.#stream.write(`${BEGIN_DRAWING}${cursor}${up}\r${text}\x1b[J${END_DRAWING}`);
    this.#drawn = lines;
  }

  #code([of256, of16]: Ink, extended: number, shift: number): string {
    return this.#colorDepth >= 8 ? `${extended};5;${of256}` : String(of16 + shift);
  }
}
