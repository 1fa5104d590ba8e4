import type { AbortOptions } from '../common/abort.ts';
import { described, integerArgument, optionsArgument, signalArgument } from '../common/arguments.ts';
import type { CloudTarget } from './cloud-target.ts';
import { inParallel } from './in-parallel.ts';
import { targetArgument } from './target-arguments.ts';

/** Options of {@link deleteAll}. @public */
export interface DeleteAllOptions extends AbortOptions {
  /** How many requests are under way at once, from 1. @defaultValue 8 */
  concurrency?: number | undefined;
  /** How many keys go into one `deleteMany`. @defaultValue 1000, the most that S3 takes */
  batchSize?: number | undefined;
}

const KNOWN = { concurrency: true, batchSize: true, signal: true } as const;

/**
 * Deletes many objects: in batches where the target has `deleteMany`, else one by one, several at once. Where one
 * fails it starts no more, waits for those under way and rejects with the first error.
 *
 * @throws The first error of `target` (see {@link CloudTarget}), `signal.reason`, or `TypeError` for an option that is
 * unknown or out of range.
 * @param keys - read as they are needed, so a listing may be passed through
 * @public
 */
export async function deleteAll(
  target: CloudTarget,
  keys: Iterable<string> | AsyncIterable<string>,
  options: DeleteAllOptions = {},
): Promise<void> {
  const { concurrency = 8, batchSize = 1000, signal } = optionsArgument('options', options, KNOWN);
  integerArgument('options.concurrency', concurrency, 1);
  integerArgument('options.batchSize', batchSize, 1);
  signalArgument('options.signal', signal);
  targetArgument('target', target);
  // A text is iterable, and each of its letters would be a key.
  if (typeof keys !== 'object' || keys === null || !(Symbol.iterator in keys || Symbol.asyncIterator in keys)) {
    throw new TypeError(`keys must be an iterable of keys, not ${described(keys)}`);
  }
  signal?.throwIfAborted();
  const { deleteMany } = target;
  if (deleteMany === undefined) {
    await inParallel(unlessAborted(keys, signal), concurrency, (key) => target.delete(key, { signal }));
  } else {
    const batches = batchesOf(unlessAborted(keys, signal), batchSize);
    await inParallel(batches, concurrency, (batch) => deleteMany.call(target, batch, { signal }));
  }
}

async function* unlessAborted<T>(
  items: Iterable<T> | AsyncIterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T> {
  for await (const item of items) {
    signal?.throwIfAborted();
    yield item;
  }
}

async function* batchesOf<T>(items: AsyncIterable<T>, size: number): AsyncGenerator<T[]> {
  let batch: T[] = [];
  for await (const item of items) {
    batch.push(item);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}
