import { floorOf } from '../../../src/repository/format/log-state.ts';
import { entryKey } from '../../../src/repository/format/object-keys.ts';
import { Disk, Written } from '../support/history.ts';
import type { Recipe } from '../support/recipe.ts';
import { KEY } from '../support/secrets.ts';

/**
 * A log whose old entries were deleted, with an entry of that time that arrived late, and one that a process has created which
 * slept meanwhile.
 */
async function writePruned(store: Parameters<Recipe['write']>[0]): Promise<Written> {
  const { repository, objects, context } = store;
  const written = new Written();
  const disk = await Disk.open(store, 'disk', 4 * 4096);
  const old = new Map<string, Uint8Array<ArrayBuffer>>();
  for (let n = 0; n < 40; n++) {
    await disk.write(1);
    const id = await disk.backUp(written);
    if (n === 3)
      for await (const { key } of objects.list('log/')) old.set(key, Uint8Array.from(await objects.get(key)));
    if (n % 4 !== 0 && n < 36) await written.forget(repository, [id]);
  }
  await disk.volume.close();
  for (let n = 0; n < 3; n++) await repository.prune({ graceMs: 0, keepFencedMs: 0, reserveBytes: 0 });
  await context.log.catchUp();
  if (floorOf(context.log.state) < 60) throw new Error('the log was not pruned');
  for (const key of [...old.keys()].slice(0, 2)) await objects.put(key, old.get(key) as Uint8Array<ArrayBuffer>);
  if ((await objects.stat(entryKey(20))) !== undefined) throw new Error('an old entry is there');
  return written;
}

const shared = { has: [], losesPast: true, write: writePruned } as const;

export const pruned: Recipe = {
  name: 'v1-pruned',
  encryption: { key: KEY },
  secrets: [{ key: Buffer.from(KEY).toString('hex') }],
  ...shared,
};

export const prunedSingleWriter: Recipe = {
  name: 'v1-pruned-single-writer',
  mode: 'single-writer',
  encryption: 'none',
  secrets: [],
  ...shared,
};
