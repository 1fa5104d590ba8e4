import { ENTRIES_AT_ONCE, runInSteps, type Steps } from './yield-to-event-loop.ts';

/** Sorts items, of which there may be millions, and yields to the event loop meanwhile. The sort is stable. */
export function sortInSteps<T>(items: Iterable<T>, compare: (a: T, b: T) => number): Promise<T[]> {
  return runInSteps(sorting(items, compare));
}

/** As {@link sortInSteps}, step by step. */
export function* sorting<T>(items: Iterable<T>, compare: (a: T, b: T) => number): Steps<T[]> {
  let parts: T[][] = [[]];
  for (const item of items) {
    let part = parts.at(-1) as T[];
    if (part.length === ENTRIES_AT_ONCE) {
      yield;
      part.sort(compare);
      part = [];
      parts.push(part);
    }
    part.push(item);
  }
  (parts.at(-1) as T[]).sort(compare);
  while (parts.length > 1) {
    const merged: T[][] = [];
    for (let at = 0; at < parts.length; at += 2) {
      merged.push(yield* merging(parts[at] as T[], parts[at + 1] ?? [], compare));
    }
    parts = merged;
  }
  return parts[0] as T[];
}

function* merging<T>(a: readonly T[], b: readonly T[], compare: (a: T, b: T) => number): Steps<T[]> {
  const merged: T[] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    const takesA = j === b.length || (i < a.length && compare(a[i] as T, b[j] as T) <= 0);
    merged.push((takesA ? a[i++] : b[j++]) as T);
    if (merged.length % ENTRIES_AT_ONCE === 0) yield;
  }
  return merged;
}
