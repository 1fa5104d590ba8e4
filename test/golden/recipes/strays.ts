import { Disk, Written } from '../support/history.ts';
import type { Recipe } from '../support/recipe.ts';
import { KEY } from '../support/secrets.ts';

/** Objects that mean nothing, among those of an encrypted repository: of later versions, of other programs, of somebody who may only add. */
const STRAYS = [
  'description/readme.txt',
  'cache/content-index/1',
  'probe/0123456789abcdef0123456789abcdef',
  'keys/readme',
  'log/ffffffffffffe-0123456789abcdef0123456789abcdef', // The name of an entry in the other mode.
  'log/fffffffffffff', // Sequence 0.
  'log/0000000000000', // A sequence above the largest.
  'log/fffffffffff00-c', // A checkpoint above the newest entry that can't be read.
  'log/readme',
  'packs/0000000000001/readme',
  'packs/readme',
];

export const strays: Recipe = {
  name: 'v1-strays',
  encryption: { key: KEY },
  secrets: [{ key: Buffer.from(KEY).toString('hex') }],
  has: ['entry of type commit'],
  async write(store) {
    const written = new Written();
    const disk = await Disk.open(store, 'disk', 2 * 4096);
    await disk.write(1);
    await disk.backUp(written);
    await disk.volume.close();
    for (const key of STRAYS) await store.objects.put(key, new Uint8Array(50).fill(0x73));
    return written;
  },
};
