/** A block of the device, or a slot for a pre-image: what is on the medium, and what was written since the last flush. */
export interface Cell {
  readonly durable: number;
  readonly unsynced: readonly number[];
  /** Whether the newest of these writes is still in progress. */
  readonly isInProgress: boolean;
}

export const cellOf = (durable: number): Cell => ({ durable, unsynced: [], isInProgress: false });

export const contentOf = (cell: Cell): number => cell.unsynced.at(-1) ?? cell.durable;

export const written = (cell: Cell, value: number): Cell => ({
  durable: cell.durable,
  unsynced: [...cell.unsynced, value],
  isInProgress: true,
});

export const settled = (cell: Cell): Cell => (cell.isInProgress ? { ...cell, isInProgress: false } : cell);

/** What a flush makes durable at least: the writes that have settled. */
export function flushed(cell: Cell): Cell {
  if (!cell.isInProgress) return cell.unsynced.length > 0 ? cellOf(contentOf(cell)) : cell;
  return { durable: cell.unsynced.at(-2) ?? cell.durable, unsynced: cell.unsynced.slice(-1), isInProgress: true };
}

/** The kernel keeps what was written; a write in progress has happened, has not, or is torn. */
export function afterKill(cell: Cell, torn: number): Cell[] {
  if (!cell.isInProgress) return [cell];
  const without = cell.unsynced.slice(0, -1);
  return [cell.unsynced, without, [...without, torn]].map((unsynced) => ({ ...cell, unsynced, isInProgress: false }));
}

/** Of what was not flushed, anything may be there. */
export function afterPowerLoss(cell: Cell, torn: number): Cell[] {
  if (cell.unsynced.length === 0) return [cell];
  return [...new Set([cell.durable, ...cell.unsynced, torn])].map(cellOf);
}

/** One of the outcomes for each cell, in every combination. */
export function combinations(outcomes: readonly (readonly Cell[])[]): Cell[][] {
  return outcomes.reduce<Cell[][]>(
    (before, choices) => before.flatMap((one) => choices.map((each) => [...one, each])),
    [[]],
  );
}
