import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { Disk, Written } from '../support/history.ts';
import type { Recipe } from '../support/recipe.ts';
import { KEY } from '../support/secrets.ts';

/**
 * An encrypted repository in single-writer mode that two hosts wrote to: both wrote an entry of the same number. Before the fork
 * there is a backup, and a stray object that has the name of an entry and is none.
 */
export const fork: Recipe = {
  name: 'v1-fork',
  mode: 'single-writer',
  encryption: { key: KEY },
  secrets: [{ key: Buffer.from(KEY).toString('hex') }],
  has: [],
  async write(store) {
    const { repository, context, objects } = store;
    const written = new Written();
    const disk = await Disk.open(store, 'disk', 3 * 4096);
    await disk.write(0, 2);
    const kept = await disk.backUp(written);
    await disk.volume.close();
    await objects.put(`log/ffffffffffffe-${'ab'.repeat(16)}`, new Uint8Array(100));
    await context.log.catchUp();
    const { seq } = context.log.state;
    const other = await copyOf(objects);
    await using elsewhere = await BackupRepository.open(other, {
      unlock: { key: KEY },
      singleWriter: true,
      threads: 0,
    });
    await repository.hold([kept], { reason: 'here' });
    await elsewhere.hold([kept], { reason: 'elsewhere' });
    for await (const { key } of other.list('log/')) {
      if ((await objects.stat(key)) === undefined) await objects.put(key, Uint8Array.from(await other.get(key)));
    }
    written.damage = { code: 'LOG_FORKED', openedAsOf: seq, newestListed: seq + 1 };
    return written;
  },
};

async function copyOf(objects: MemoryTarget): Promise<MemoryTarget> {
  const copy = new MemoryTarget({ createOnly: false });
  for await (const { key } of objects.list('')) await copy.put(key, Uint8Array.from(await objects.get(key)));
  return copy;
}
