import { Disk, Written } from '../support/history.ts';
import type { Recipe } from '../support/recipe.ts';
import { KEY } from '../support/secrets.ts';
import { storeWithPackTable } from '../support/tabled-backup.ts';
import { storePaged } from './pages.ts';

/**
 * A session whose packs are listed in a table of packs, and in rows of pages: its table, and names of dead packs that only the table
 * or a page may list, stay in the checkpoint.
 */
export const tablesAndPages: Recipe = {
  name: 'v1-tables-and-pages',
  encryption: { key: KEY },
  secrets: [{ key: Buffer.from(KEY).toString('hex') }],
  has: [
    ...['backups', 'packs'].flatMap((table) => [0, 1].map((level) => `page of ${table}, level ${level}`)),
    ...['checkpoint with pages', 'checkpoint with dead packs', 'page that two checkpoints name'],
    ...['pack table', 'session with a pack table and rows in pages', 'dead pack of a pack table'],
  ],
  async write(store) {
    const { repository } = store;
    const written = new Written();
    const disk = await Disk.open(store, 'disk', 4 * 4096);
    const backUp = async () => {
      await disk.write(1);
      return disk.backUp(written);
    };
    const old: string[] = [];
    for (let n = 0; n < 12; n++) old.push(await backUp());
    await storeWithPackTable(store, written, 2);
    await storePaged(store, true);
    // Packs that the table lists, and one with a row in a page, are condemned, and stay for their grace.
    await written.forget(repository, old.slice(0, 1));
    await repository.prune({ repackBelow: 0 });
    for (let n = 0; n < 2; n++) await backUp();
    await repository.hold([old[1]!], { reason: 'in a page' });
    await storePaged(store, false);
    await backUp();
    await disk.volume.close();
    return written;
  },
};
