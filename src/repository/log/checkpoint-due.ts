/** What decides when the next checkpoint is due. */
export interface LogWeights {
  /** Bytes of the newest checkpoint; 0 if there is none. */
  readonly checkpointBytes: number;
  /** Bytes of all entries above it. */
  readonly sinceBytes: number;
}

/** No checkpoint is due after fewer entries. */
export const FEWEST_ENTRIES = 8;
/** A checkpoint is always due after this many entries, and no tail is longer. */
const MOST_ENTRIES = 64;
/** Writing a checkpoint of this size costs no more than the request itself, so entries need not outweigh it. */
const LIGHT_BYTES = 2048;
/** After a heavier checkpoint, the entries have to weigh this many times as much before the next one is due. */
const WEIGHT_FACTOR = 4;

/** Whether a checkpoint is due after this many entries: the last one is light, or weighs little compared with them. */
export function isCheckpointDue(entries: number, { checkpointBytes, sinceBytes }: LogWeights): boolean {
  if (entries < FEWEST_ENTRIES || entries >= MOST_ENTRIES) return entries >= MOST_ENTRIES;
  return checkpointBytes <= LIGHT_BYTES || sinceBytes >= WEIGHT_FACTOR * checkpointBytes;
}

/**
 * How many entries the tail of an entry repeats, if no checkpoint is nearer: those above the number that is left when the lowest
 * 1 of the entry's number in binary becomes 0, as in a Fenwick tree. So at most seven requests, which are made at the same time,
 * reach a checkpoint, and an entry is repeated twice on average (decision 148).
 */
export function tailLength(seq: number): number {
  let lowest = 1;
  while (lowest < MOST_ENTRIES && seq % (2 * lowest) === 0) lowest *= 2;
  return lowest - 1;
}
