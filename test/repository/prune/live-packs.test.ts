import { describe, expect, test } from 'vitest';
import { openMap } from '../../../src/repository/context/repository-context.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import type { Location } from '../../../src/repository/format/record.ts';
import type { BlockMap } from '../../../src/repository/map/block-map.ts';
import { LocationSet } from '../../../src/repository/packs/location-set.ts';
import { collectorRecords, LiveLocations, LivePacks } from '../../../src/repository/prune/live-packs.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { seededRandom } from '../../../src/testing/seeded-random.ts';
import { testSeed } from '../../support/randomness.ts';
import { innerNodes, packUsage } from '../map/support/map-nodes.ts';
import { Backups, type Content, freshBlock, openHost, secrets } from './support/repository.ts';

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

/** Every location that a map names, found by looking it up and not by walking. */
async function everyLocation(map: BlockMap, need: (location: Location) => void) {
  for (const { location } of map.descriptor.runs.flat()) need(location);
  for (const { location } of await innerNodes(map)) need(location);
  for await (const { ref } of map.tree.leafRefs(0, 1000)) need(ref.location);
  for await (const { entry } of map.entries()) need(entry.location);
}

/** Three levels, two, and nothing but a leaf. */
describe.each([{ blocks: 150 }, { blocks: 30 }, { blocks: 8 }])('maps of $blocks blocks', ({ blocks }) => {
  test('are marked in full: every pack that they need is named, with no fewer bytes than are needed', async () => {
    const seed = testSeed();
    const { context, maps } = await manyMaps(seed, blocks);
    const packs = new LivePacks(context, collectorRecords(context));
    await packs.mark([...context.log.state.backups.values()]);
    const needed = new Map<string, Set<number>>();
    const bytes = new Map<string, number>();
    const need = ({ pack, offset, storedLength }: Location) => {
      const key = packKey(pack);
      const offsets = needed.get(key) ?? new Set();
      needed.set(key, offsets);
      if (!offsets.has(offset)) bytes.set(key, (bytes.get(key) ?? 0) + storedLength);
      offsets.add(offset);
    };
    for (const map of maps) await everyLocation(map, need);
    expect(bytes.size).toBeGreaterThan(blocks / 4);
    for (const [key, least] of bytes) expect(packs.named.get(key), `seed ${seed}`).toBeGreaterThanOrEqual(least);
    // What is marked twice is counted once, and a map alone names no more than all together.
    const before = new Map(packs.named);
    await packs.mark([...context.log.state.backups.values()]);
    expect(packs.named).toEqual(before);
    const seen = new LocationSet();
    for (const map of maps) for (const key of (await packUsage(map, seen)).keys()) expect(before.has(key)).toBe(true);
  });

  test('are walked in full: every location is found, and of a few packs exactly the same ones', async () => {
    const seed = testSeed();
    const { context, maps } = await manyMaps(seed, blocks);
    const backups = [...context.log.state.backups.values()];
    const all = new Set<string>();
    for (const map of maps) for (const key of (await packUsage(map)).keys()) all.add(key);
    const found = new LiveLocations(context, collectorRecords(context), all);
    await found.walk(backups, {});
    const need = ({ pack, offset }: Location) => {
      expect(found.in(packKey(pack)).has(offset), `seed ${seed}`).toBe(true);
    };
    for (const map of maps) await everyLocation(map, need);
    // From fewer leaves.
    const some = new Set([...all].filter((_, index) => index % 7 === 0));
    const few = new LiveLocations(context, collectorRecords(context), some);
    await few.walk(backups, {});
    for (const key of all) expect(few.in(key)).toEqual(some.has(key) ? found.in(key) : new Set());
  });
});
