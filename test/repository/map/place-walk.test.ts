import { describe, expect, test } from 'vitest';
import { openMap } from '../../../src/repository/context/repository-context.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { type UsageSink, walkPlaces, walkUsage } from '../../../src/repository/map/place-walk.ts';
import { PlaceSet } from '../../../src/repository/packs/location-set.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { seededRandom } from '../../../src/testing/seeded-random.ts';
import { testSeed } from '../../support/randomness.ts';
import { Backups, type Content, freshBlock, openHost, secrets } from '../prune/support/repository.ts';

/** Backups with runs, merged runs and folded trees; small packs, so that much depends on the last entry of everything. */
async function manyMaps(seed: number, blocks: number) {
  const random = seededRandom(seed);
  const context = await openHost(new MemoryTarget(), secrets(false));
  const backups = new Backups();
  let content: Content = Array.from({ length: blocks }, () => (random() < 0.9 ? freshBlock() : undefined));
  for (let version = 0; version < 14; version++) {
    await backups.store(context, content, { packBytes: 9000 });
    const share = random() ** 4;
    content = content.map((bytes) => (random() < share ? (random() < 0.9 ? freshBlock() : undefined) : bytes));
  }
  return {
    context,
    maps: [...context.log.state.backups.values()].map((backup) => openMap(context, backup.descriptor)),
  };
}

/** Three levels, two, and nothing but a leaf. */
describe.each([{ blocks: 150 }, { blocks: 30 }, { blocks: 8 }])('maps of $blocks blocks', ({ blocks }) => {
  test('are walked in full: every pack that they need is named', async () => {
    const seed = testSeed();
    const { maps } = await manyMaps(seed, blocks);
    const seen = new PlaceSet();
    const known = new Set<string>();
    const total = new Map<string, number>();
    for (const map of maps) {
      const named = new Map<string, number>();
      const add = (pack: Parameters<UsageSink['record']>[0], bytes: number) =>
        named.set(packKey(pack), (named.get(packKey(pack)) ?? 0) + bytes);
      await walkUsage(map, { record: add, blocks: (_leaf, pack, bytes) => add(pack, bytes) }, { seen });
      // The one that was there before, which counts every version of a leaf.
      expect(named, `seed ${seed}`).toEqual(await map.packUsage({ seen: known }));
      for (const [key, bytes] of named) total.set(key, (total.get(key) ?? 0) + bytes);
    }
    expect(total.size).toBeGreaterThan(blocks / 4);
  });

  test('are walked in full: every place is found, and read once', async () => {
    const seed = testSeed();
    const { maps } = await manyMaps(seed, blocks);
    const all = new Set<string>();
    for (const map of maps) for (const key of (await map.packUsage()).keys()) all.add(key);
    const found = new Map<string, Set<number>>();
    const seen = new PlaceSet();
    for (const map of maps) {
      await walkPlaces(
        map,
        all,
        ({ pack, offset }) => found.set(packKey(pack), (found.get(packKey(pack)) ?? new Set()).add(offset)),
        { seen },
      );
    }
    const has = ({ pack, offset }: { pack: Parameters<typeof packKey>[0]; offset: number }) =>
      found.get(packKey(pack))?.has(offset) === true;
    for (const map of maps) {
      const { root, runs } = map.descriptor;
      if (root !== undefined) expect(has(root.location)).toBe(true);
      for (const { location } of runs.flat()) expect(has(location)).toBe(true);
      for await (const { ref } of map.tree.innerNodes(() => true)) expect(has(ref.location)).toBe(true);
      for await (const { ref } of map.tree.leafRefs(0, 1000)) expect(has(ref.location)).toBe(true);
      for await (const { entry } of map.entries()) expect(has(entry.location), `seed ${seed}`).toBe(true);
    }
    // Of a few packs exactly the same places, from fewer leaves.
    const some = new Set([...all].filter((_, index) => index % 7 === 0));
    const few = new Map<string, Set<number>>();
    const again = new PlaceSet();
    for (const map of maps) {
      await walkPlaces(
        map,
        some,
        ({ pack, offset }) => few.set(packKey(pack), (few.get(packKey(pack)) ?? new Set()).add(offset)),
        { seen: again },
      );
    }
    expect(few).toEqual(new Map([...found].filter(([key]) => some.has(key))));
  });
});
