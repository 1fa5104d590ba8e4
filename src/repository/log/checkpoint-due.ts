/** What decides when the next checkpoint is due. */
export interface LogWeights {
  /** Bytes of the newest checkpoint; 0 if there is none. */
  readonly checkpointBytes: number;
  /** Bytes of all entries above it. */
  readonly sinceBytes: number;
}

/** A tail has so many entries: each entry repeats them. */
export const TAIL_ENTRIES = 8;
/** Fewer entries than this are in the tail of the newest one, or are that entry. */
const FEWEST = TAIL_ENTRIES;
/** So many entries are read in 8 requests, which are made at the same time. */
const MOST = 64;

/**
 * Whether a checkpoint is due after so many entries: as soon as they weigh as much as the last one, so that checkpoints of a large
 * state take no more room than its entries. Tails, which repeat entries, do not count.
 */
export function isCheckpointDue(entries: number, { checkpointBytes, sinceBytes }: LogWeights): boolean {
  if (entries < FEWEST || entries >= MOST) return entries >= MOST;
  const repeated = TAIL_ENTRIES * (entries - TAIL_ENTRIES) + (TAIL_ENTRIES * (TAIL_ENTRIES - 1)) / 2;
  return sinceBytes * (entries / (entries + repeated)) >= checkpointBytes;
}
