/**
 * Applies `work` to what `source` gives, up to `width` at a time, and yields the results in order. Whoever stops early
 * waits for nothing: work under way is left to end by itself.
 */
export async function* readAhead<T, R>(
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
          result.catch(() => {}); // It is reported when its turn comes.
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
