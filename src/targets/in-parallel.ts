/**
 * Works on items as they come, so many at once. Where one fails it starts no more, waits for those under way and rejects
 * with the first error.
 */
export async function inParallel<T>(
  items: Iterable<T> | AsyncIterable<T>,
  concurrency: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const underWay = new Set<Promise<void>>();
  const failures: unknown[] = [];
  try {
    for await (const item of items) {
      if (failures.length > 0) break;
      const watched = work(item)
        .catch((error: unknown) => void failures.push(error))
        .finally(() => underWay.delete(watched));
      underWay.add(watched);
      if (underWay.size >= concurrency) await Promise.race(underWay);
    }
  } finally {
    await Promise.all(underWay);
  }
  if (failures.length > 0) throw failures[0];
}
