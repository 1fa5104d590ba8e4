/**
 * The times of one volume's backups, in the order of the log, with those corrected that the log contradicts.
 *
 * The order is the log's; a time is only what some host's clock said. The longest series of times that agrees with the
 * order is believed. What stands between two believed times and outside of them was stamped by a clock that was wrong for a
 * while, and gets the nearer of the two. Before the first and after the last believed time nothing says which clock was
 * wrong, and the times stay as they are: a clock that was put right for good must not make one period of everything before.
 *
 * @param times - milliseconds since 1970, oldest commit first
 */
export function timesByLog(times: readonly number[]): number[] {
  const believed = longestAscending(times);
  const corrected = [...times];
  for (let index = 1; index < believed.length; index++) {
    const [from, to] = [believed[index - 1] as number, believed[index] as number];
    for (let at = from + 1; at < to; at++) {
      corrected[at] = Math.min(times[to] as number, Math.max(times[from] as number, times[at] as number));
    }
  }
  return corrected;
}

/** Indexes of a longest series that never descends, by patience sorting: O(n log n). */
function longestAscending(values: readonly number[]): number[] {
  /** By length less one: the index of the least value that ends a series of that length. */
  const ends: number[] = [];
  const before: (number | undefined)[] = [];
  for (const [index, value] of values.entries()) {
    let low = 0;
    let high = ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((values[ends[middle] as number] as number) <= value) low = middle + 1;
      else high = middle;
    }
    before[index] = ends[low - 1];
    ends[low] = index;
  }
  const series: number[] = [];
  for (let at = ends.at(-1); at !== undefined; at = before[at]) series.push(at);
  return series.reverse();
}
