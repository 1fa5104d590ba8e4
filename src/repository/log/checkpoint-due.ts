/** What decides when the next checkpoint is due. */
export interface LogWeights {
  /** Bytes of the newest checkpoint; 0 if there is none. */
  readonly checkpointBytes: number;
  /** Bytes of all entries above it. */
  readonly sinceBytes: number;
}

/** No checkpoint is due after fewer entries. */
export const FEWEST_ENTRIES = 8;
/** One is due after so many entries, whatever they weigh: no tail is longer. */
const MOST_ENTRIES = 64;
/** A checkpoint that takes no more costs as much as its request does. */
const LIGHT_BYTES = 2048;
/** After a heavier one, the entries have to weigh so many times as much before the next one is due. */
const WEIGHT_FACTOR = 4;
/** Tails reach down to multiples of these. */
const STEPS = [3, 9, 27, 81];

/** Whether a checkpoint is due after so many entries: as soon as the last one weighs little, at least beside them. */
export function isCheckpointDue(entries: number, { checkpointBytes, sinceBytes }: LogWeights): boolean {
  if (entries < FEWEST_ENTRIES || entries >= MOST_ENTRIES) return entries >= MOST_ENTRIES;
  return checkpointBytes <= LIGHT_BYTES || sinceBytes >= WEIGHT_FACTOR * checkpointBytes;
}

/**
 * How many entries the tail of an entry repeats, if no checkpoint is nearer: it reaches down to the multiple of 3 below; where its
 * number is a multiple of 3 itself, to the multiple of 9, and so on. So at most five requests reach a checkpoint, which are made
 * at the same time, and an entry is repeated three times on average (decision 148).
 */
export function tailLength(seq: number): number {
  const step = STEPS.find((each) => seq % each !== 0);
  return step === undefined ? MOST_ENTRIES - 1 : Math.min(seq % step, MOST_ENTRIES) - 1;
}
