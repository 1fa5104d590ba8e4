import { Disk, type Store, text, Written } from '../support/history.ts';
import type { Recipe } from '../support/recipe.ts';
import { INVERTING } from '../support/secrets.ts';

/** The smallest and the largest fan-out, and what unlocks a repository whose key a service keeps. */

const BLOCK = 4096;

/** Some blocks far apart, all of the same text, and then changes that a run keeps. */
async function writeSparse(store: Store, blocks: number): Promise<Written> {
  const written = new Written();
  const disk = await Disk.open(store, 'disk', blocks * BLOCK - 96);
  const same = text(store.random, BLOCK);
  for (let block = 1; block < blocks; block += 37) await disk.writeBytes(block, same);
  await disk.backUp(written);
  await disk.write(0, blocks - 1);
  await disk.writeBytes(1, new Uint8Array(BLOCK));
  await disk.backUp(written);
  await disk.volume.close();
  return written;
}

export const smallFanOut: Recipe = {
  name: 'v1-fan-out-8',
  encryption: 'none',
  secrets: [],
  fanOut: 8,
  has: ['tree of level 3', 'run', 'run entry of zeroes'],
  write: (store) => writeSparse(store, 8 ** 3 + 50),
};

export const largeFanOut: Recipe = {
  name: 'v1-provider',
  encryption: { provider: INVERTING },
  secrets: [{ provider: INVERTING.id }],
  fanOut: 248,
  has: ['slot of kind provider', 'tree of level 1', 'run'],
  write: (store) => writeSparse(store, 248 + 130),
};
