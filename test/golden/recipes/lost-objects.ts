import { Disk, type Store, Written } from '../support/history.ts';
import type { Recipe } from '../support/recipe.ts';
import { KEY } from '../support/secrets.ts';

/** Repositories that lack `format`, of which there are copies, and one to which somebody added an object in the place of the next entry. */

async function writeLittle(store: Store): Promise<Written> {
  const written = new Written();
  const disk = await Disk.open(store, 'disk', 2 * 4096 + 9);
  await disk.write(1, 2);
  await disk.backUp(written, { kept: 'yes' });
  await disk.volume.close();
  return written;
}

async function withoutFormat(store: Store): Promise<Written> {
  const written = await writeLittle(store);
  await store.objects.delete('format');
  return written;
}

export const plainWithoutFormat: Recipe = {
  name: 'v1-plain-without-format',
  encryption: 'none',
  secrets: [],
  has: ['copy of format in an entry'],
  write: withoutFormat,
};

export const encryptedWithoutFormat: Recipe = {
  name: 'v1-encrypted-without-format',
  encryption: { key: KEY },
  secrets: [{ key: Buffer.from(KEY).toString('hex') }],
  has: ['copy of format in a slot'],
  write: withoutFormat,
};

export const strayAtTheNextNumber: Recipe = {
  name: 'v1-stray-next-entry',
  encryption: { key: KEY },
  secrets: [{ key: Buffer.from(KEY).toString('hex') }],
  has: [],
  async write(store) {
    const written = await writeLittle(store);
    await store.objects.put('log/ffffffffffffc', new Uint8Array(300).fill(0x73));
    written.damage = { code: 'LOG_CORRUPT', openedAsOf: 2, newestListed: 3 };
    return written;
  },
};
