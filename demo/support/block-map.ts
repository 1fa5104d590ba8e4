import type { BlockState, BlockStates } from 'cow-cloud-backup';
import { count } from './figures.ts';
import type { Ink, Terminal } from './terminal.ts';

/** What a cell of the map shows: a block's state, and of stored blocks and those on their way, which way it is. */
type Look = Exclude<BlockState, 'stored'> | 'rescued' | 'intercepted' | 'swept';

interface Appearance {
  readonly ink: Ink;
  /** What a cell is drawn with on terminals without colours. */
  readonly letter: string;
  readonly word: string;
}

const LOOKS: Readonly<Record<Look, Appearance>> = {
  pending: { ink: [238, 90], letter: '.', word: 'pending' },
  preserved: { ink: [221, 93], letter: 'p', word: 'preserved' },
  storing: { ink: [231, 97], letter: '>', word: 'storing' },
  rescued: { ink: [215, 93], letter: '>', word: 'storing' },
  intercepted: { ink: [208, 33], letter: 'I', word: 'intercepted' },
  swept: { ink: [36, 32], letter: 'S', word: 'swept' },
  zero: { ink: [24, 34], letter: '0', word: 'zero' },
  inherited: { ink: [60, 35], letter: '=', word: 'inherited' },
  lost: { ink: [196, 31], letter: '!', word: 'lost' },
};

/** The legend has three entries on a line. */
const ENTRY_COLUMNS = 25;

/** Where blocks of a cell are in different states, the first of these that is there is shown. */
const LOUDEST: readonly Look[] = ['lost', 'storing', 'rescued', 'preserved'];

/** One cell for each range of blocks, coloured by state; two cells a character, one above the other. */
export class BlockMap {
  readonly #terminal: Terminal;
  readonly #states: BlockStates;
  readonly #wasIntercepted: (block: number) => boolean;

  constructor(terminal: Terminal, states: BlockStates, wasIntercepted: (block: number) => boolean) {
    this.#terminal = terminal;
    this.#states = states;
    this.#wasIntercepted = wasIntercepted;
  }

  /** How many blocks one cell stands for in a map of that many columns and lines. */
  blocksPerCell(columns: number, lines: number): number {
    const cells = columns * lines * (this.#terminal.hasColors ? 2 : 1);
    return Math.max(1, Math.ceil(this.#states.blockCount / cells));
  }

  lines(columns: number, maxLines: number): string[] {
    const looks = this.#cells(this.blocksPerCell(columns, maxLines));
    const lines: string[] = [];
    const cellsPerLine = this.#terminal.hasColors ? columns * 2 : columns;
    for (let at = 0; at < looks.length; at += cellsPerLine) {
      const line = looks.slice(at, at + cellsPerLine);
      lines.push(
        this.#terminal.hasColors ? this.#pixels(line, columns) : line.map((look) => LOOKS[look].letter).join(''),
      );
    }
    return lines;
  }

  /** What the colours mean, and how many blocks there are of each. */
  legend(intercepted: number): string[] {
    const { counts } = this.#states;
    const entry = (look: Look, blocks: number, alsoLook?: Look) => {
      const { letter, word } = LOOKS[look];
      const looks = alsoLook === undefined ? [look] : [look, alsoLook];
      const mark = this.#terminal.hasColors
        ? looks.map((look) => this.#terminal.paint('■', LOOKS[look].ink)).join('')
        : letter.padEnd(looks.length);
      return `${mark} ${`${word} ${count(blocks)}`.padEnd(ENTRY_COLUMNS - looks.length - 1)}`;
    };
    const stored = entry('intercepted', intercepted) + entry('swept', Math.max(0, counts.stored - intercepted));
    const other = counts.lost > 0 ? 'lost' : counts.inherited > 0 ? 'inherited' : 'zero';
    return [
      entry('pending', counts.pending) +
        entry('preserved', counts.preserved) +
        entry('rescued', counts.storing, 'storing'),
      stored + entry(other, counts[other]),
    ];
  }

  #cells(blocksPerCell: number): Look[] {
    const cells: Look[] = [];
    const { blockCount } = this.#states;
    for (let first = 0; first < blockCount; first += blocksPerCell) {
      cells.push(this.#lookOf(first, Math.min(blockCount, first + blocksPerCell)));
    }
    return cells;
  }

  #lookOf(first: number, end: number): Look {
    const tally = new Map<Look, number>();
    for (let block = first; block < end; block++) {
      const look = this.#lookOfBlock(block);
      tally.set(look, (tally.get(look) ?? 0) + 1);
    }
    const loudest = LOUDEST.find((look) => tally.has(look));
    if (loudest !== undefined) return loudest;
    return [...tally].reduce((most, entry) => (entry[1] > most[1] ? entry : most))[0];
  }

  #lookOfBlock(block: number): Look {
    const state = this.#states.get(block);
    if (state === 'stored') return this.#wasIntercepted(block) ? 'intercepted' : 'swept';
    return state === 'storing' && this.#wasIntercepted(block) ? 'rescued' : state;
  }

  /** A line of characters shows two lines of cells: the upper one is ink, the lower one the ground under it. */
  #pixels(cells: readonly Look[], columns: number): string {
    let line = '';
    for (let column = 0; column < columns; column++) {
      const upper = cells[column];
      const lower = cells[column + columns];
      if (upper === undefined) break;
      line += this.#terminal.paint('▀', LOOKS[upper].ink, lower === undefined ? undefined : LOOKS[lower].ink);
    }
    return line;
  }
}
