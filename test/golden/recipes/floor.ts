import { createHash } from 'node:crypto';
import { pageKeyOf } from '../../../src/repository/format/catalogue-pages.ts';
import { decodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import { parseLogKey, parsePageKey } from '../../../src/repository/format/object-keys.ts';
import type { Recipe } from '../support/recipe.ts';
import { pages } from './pages.ts';

/**
 * The log of `v1-pages` from its last checkpoint but one on, which is the floor: entries up to it, checkpoints below it and pages
 * that it does not name are gone.
 */
export const floor: Recipe = {
  ...pages,
  name: 'v1-floor',
  losesPast: true,
  has: [
    'log that begins at a floor',
    ...['backups', 'packs'].flatMap((table) => [0, 1].map((level) => `page of ${table}, level ${level}`)),
    ...['forgotten', 'holds', 'dead packs', 'goneThrough'].map((what) => `checkpoint with ${what}`),
    ...['pinned row of a page', 'page that two checkpoints name'],
  ],
  async write(store) {
    const { context, objects } = store;
    const { log } = context;
    const written = await pages.write(store);
    const keys = (await Array.fromAsync(objects.list(''))).map(({ key }) => key);
    const [, floorKey] = keys.filter((key) => key.endsWith('-c')).toSorted() as [string, string];
    const { seq } = parseLogKey(floorKey)!;
    const bytes = await objects.get(floorKey);
    const checkpoint = await decodeCheckpoint(log.reader.source.logKey, seq, bytes);
    const named = new Set([...checkpoint.pages.backups, ...checkpoint.pages.packs].map(pageKeyOf));
    await log.catchUp();
    await log.append(() => ({
      ...{ type: 'collect', session: undefined, newPacks: [], packs: [], sessions: [], fence: [], relocate: [] },
      ...{ gonePacks: [], goneSessions: [], redated: [] },
      floor: { seq, sha256: new Uint8Array(createHash('sha256').update(bytes).digest()) },
    }));
    for (const key of keys) {
      const [ofLog, page] = [parseLogKey(key), parsePageKey(key)];
      const isBelow = ofLog !== undefined && ofLog.seq <= seq && key !== floorKey;
      const isOld = page !== undefined && page.seq < seq && !named.has(page.page);
      if (isBelow || isOld) await objects.delete(key);
    }
    return written;
  },
};
