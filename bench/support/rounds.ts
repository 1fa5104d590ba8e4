/**
 * Two ways of doing the same, compared within one run. Rounds are short and take turns (A B, B A, A B ...), so that
 * whatever else the machine does befalls both; every pair of rounds gives one ratio, and what counts is the median.
 */

/** Does one round's work. The time that it takes is what is measured. */
export type Round = () => Promise<void> | void;

export interface Comparison {
  /** What is compared with. */
  readonly base: Round;
  readonly candidate: Round;
  /** Units of work in one round. */
  readonly unitsPerRound: number;
  /** Done before each round, untimed. */
  readonly before?: Round;
  readonly pairs: number;
  readonly warmUpPairs: number;
}

export interface Outcome {
  /** Median microseconds a unit. */
  readonly baseUs: number;
  readonly candidateUs: number;
  /** Throughput of the candidate, with the base's as 1: of all pairs the least, the median, the greatest. */
  readonly ratios: { readonly min: number; readonly median: number; readonly max: number };
}

export async function compare(comparison: Comparison): Promise<Outcome> {
  const { base, candidate, unitsPerRound, before, pairs, warmUpPairs } = comparison;
  const time = async (round: Round): Promise<number> => {
    await before?.();
    const started = performance.now();
    await round();
    return performance.now() - started;
  };
  const baseTimes: number[] = [];
  const candidateTimes: number[] = [];
  const ratios: number[] = [];
  for (let pair = -warmUpPairs; pair < pairs; pair++) {
    let baseMs: number;
    let candidateMs: number;
    if (pair % 2 === 0) {
      baseMs = await time(base);
      candidateMs = await time(candidate);
    } else {
      candidateMs = await time(candidate);
      baseMs = await time(base);
    }
    if (pair < 0) continue;
    baseTimes.push(baseMs);
    candidateTimes.push(candidateMs);
    ratios.push(baseMs / candidateMs);
  }
  return {
    baseUs: (median(baseTimes) * 1000) / unitsPerRound,
    candidateUs: (median(candidateTimes) * 1000) / unitsPerRound,
    ratios: { min: Math.min(...ratios), median: median(ratios), max: Math.max(...ratios) },
  };
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** Prints rows of text under their headings, numbers to the right. */
export function printTable(headings: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0] as number) : cell.padStart(widths[column] as number),
      )
      .join('  ');
  console.log(line(headings));
  console.log(widths.map((width) => '-'.repeat(width)).join('  '));
  for (const row of rows) console.log(line(row));
}

export function percent(ratio: number): string {
  return `${(ratio * 100).toFixed(1)} %`;
}
