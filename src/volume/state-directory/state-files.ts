/** Names of the files of a state. */

/** A checkpoint gets its name when it is whole. */
export const SUFFIX_OF_UNFINISHED = '.new';

export function checkpointName(number: number): string {
  return `checkpoint-${number}`;
}

export function journalName(number: number): string {
  return `journal-${number}`;
}

/** The number in a name, of a checkpoint, a file of the journal, or an unfinished checkpoint. */
export function numberOf(name: string): number | undefined {
  const [, digits] = /^(?:checkpoint|journal)-(\d{1,15})(?:\.new)?$/.exec(name) ?? [];
  return digits === undefined ? undefined : Number(digits);
}

export function isCheckpoint(name: string): boolean {
  return /^checkpoint-\d{1,15}$/.test(name);
}
