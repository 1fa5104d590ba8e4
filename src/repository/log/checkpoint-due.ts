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
/** Each tail reaches down to a multiple of one of these. All are so small that no tail gets longer than {@link MOST_ENTRIES}. */
const STEPS = [3, 9, 27, 81];

/** Whether a checkpoint is due after this many entries: the last one is light, or weighs little compared with them. */
export function isCheckpointDue(entries: number, { checkpointBytes, sinceBytes }: LogWeights): boolean {
  if (entries < FEWEST_ENTRIES || entries >= MOST_ENTRIES) return entries >= MOST_ENTRIES;
  return checkpointBytes <= LIGHT_BYTES || sinceBytes >= WEIGHT_FACTOR * checkpointBytes;
}

/**
 * How many entries the tail of an entry repeats, if no checkpoint is nearer: the tail reaches down to the next lower multiple of 3;
 * where the entry's number is a multiple of 3 itself, to that of 9, and so on. So at most five requests, which are made at the same
 * time, reach a checkpoint, and an entry is repeated three times on average (decision 148).
 */
export function tailLength(seq: number): number {
  const step = STEPS.find((each) => seq % each !== 0);
  return (step === undefined ? MOST_ENTRIES : seq % step) - 1;
}
