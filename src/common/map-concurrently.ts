/**
 * Applies `work` to the items of `source`, at most `width` at a time, and yields the results in the order of the items. A
 * consumer that stops early does not wait: the work that has begun ends by itself, and its failures are ignored.
 */
export async function* mapConcurrently<T, R>(
  source: AsyncIterable<T> | Iterable<T>,
  work: (item: T) => Promise<R>,
  width: number,
): AsyncGenerator<R> {
  const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  const pending: Promise<R>[] = [];
  let ended = false;
  try {
    for (;;) {
      while (!ended && pending.length < width) {
        const next = await iterator.next();
        if (next.done === true) {
          ended = true;
        } else {
          const result = work(next.value);
          result.catch(() => {}); // The failure is thrown when the consumer reaches this item.
          pending.push(result);
        }
      }
      const first = pending.shift();
      if (first === undefined) return;
      yield await first;
    }
  } finally {
    if (!ended) await iterator.return?.();
  }
}

/**
 * Runs `work` for each of `items`, at most `width` at a time, in any order. After a failure it starts no more, waits for the
 * work that has begun and rejects with the first error.
 */
export async function forEachConcurrently<T>(
  items: Iterable<T> | AsyncIterable<T>,
  work: (item: T) => Promise<unknown>,
  width: number,
): Promise<void> {
  const underWay = new Set<Promise<unknown>>();
  const failures: unknown[] = [];
  try {
    for await (const item of items) {
      if (failures.length > 0) break;
      const watched = work(item)
        .catch((error: unknown) => void failures.push(error))
        .finally(() => underWay.delete(watched));
      underWay.add(watched);
      if (underWay.size >= width) await Promise.race(underWay);
    }
  } finally {
    await Promise.all(underWay);
  }
  if (failures.length > 0) throw failures[0];
}
