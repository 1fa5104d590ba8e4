import type { AbortOptions } from '../common/abort.ts';
import { integerArgument } from '../common/arguments.ts';
import type { CloudTarget } from './cloud-target.ts';

/** Options of {@link deleteAll}. @public */
export interface DeleteAllOptions extends AbortOptions {
  /** How many requests are under way at once, from 1. @defaultValue 8 */
  concurrency?: number | undefined;
  /** How many keys go into one `deleteMany`. @defaultValue 1000, the most that S3 takes */
  batchSize?: number | undefined;
}

/**
 * Deletes many objects: in batches where the target has `deleteMany`, else one by one, several at once. Where one
 * fails it starts no more, waits for those under way and rejects with the first error.
 *
 * @throws The first error of `target` (see {@link CloudTarget}), `signal.reason`, or `TypeError` for an option that is
 * out of range.
 * @param keys - read as they are needed, so a listing may be passed through
 * @public
 */
export async function deleteAll(
  target: CloudTarget,
  keys: Iterable<string> | AsyncIterable<string>,
  options: DeleteAllOptions = {},
): Promise<void> {
  const { signal } = options;
  const concurrency = integerArgument('concurrency', options.concurrency ?? 8, 1);
  const batchSize = integerArgument('batchSize', options.batchSize ?? 1000, 1);
  const underWay = new Set<Promise<void>>();
  const failures: unknown[] = [];
  const launch = async (work: Promise<void>) => {
    const watched = work.catch((error: unknown) => void failures.push(error)).finally(() => underWay.delete(watched));
    underWay.add(watched);
    if (underWay.size >= concurrency) await Promise.race(underWay);
  };
  try {
    signal?.throwIfAborted();
    const batched = target.deleteMany !== undefined;
    let batch: string[] = [];
    for await (const key of keys) {
      if (failures.length > 0) break;
      signal?.throwIfAborted();
      if (!batched) {
        await launch(target.delete(key, { signal }));
        continue;
      }
      batch.push(key);
      if (batch.length === batchSize) {
        await launch((target as Required<CloudTarget>).deleteMany(batch, { signal }));
        batch = [];
      }
    }
    if (batch.length > 0 && failures.length === 0) {
      await launch((target as Required<CloudTarget>).deleteMany(batch, { signal }));
    }
  } finally {
    await Promise.all(underWay);
  }
  if (failures.length > 0) throw failures[0];
}
