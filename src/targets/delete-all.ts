import type { AbortOptions } from '../common/abort.ts';
import { described, integerArgument, optionsArgument, signalArgument } from '../common/arguments.ts';
import { forEachConcurrently } from '../common/map-concurrently.ts';
import type { CloudTarget } from './cloud-target.ts';
import { targetArgument } from './target-arguments.ts';

/** Options of {@link deleteAll}. @public */
export interface DeleteAllOptions extends AbortOptions {
  /** The number of requests that are under way at once, from 1. @defaultValue 8 */
  concurrency?: number | undefined;
  /** The number of keys in one `deleteMany`. @defaultValue 1000, the most that S3 takes */
  batchSize?: number | undefined;
}

const KNOWN = { concurrency: true, batchSize: true, signal: true } as const;

/**
 * Deletes many objects: in batches if the target has `deleteMany`, or else one by one, several at once. After a failure it starts
 * no more requests, waits for those under way and rejects with the first error.
 *
 * @param keys - the keys, which are read as they are needed, so a listing may be passed
 * @throws The first error of `target` (see {@link CloudTarget}), `signal.reason`, or `TypeError` for an option that is unknown or out
 * of range.
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
  // A string is iterable, too: each of its characters would be a key.
  if (typeof keys !== 'object' || keys === null || !(Symbol.iterator in keys || Symbol.asyncIterator in keys)) {
    throw new TypeError(`keys must be an iterable of keys, not ${described(keys)}`);
  }
  signal?.throwIfAborted();
  const { deleteMany } = target;
  if (deleteMany === undefined) {
    await forEachConcurrently(unlessAborted(keys, signal), (key) => target.delete(key, { signal }), concurrency);
  } else {
    const batches = batchesOf(unlessAborted(keys, signal), batchSize);
    await forEachConcurrently(batches, (batch) => deleteMany.call(target, batch, { signal }), concurrency);
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
