import type { NodeRef } from '../../../../src/repository/format/inner-node.ts';
import { packKey } from '../../../../src/repository/format/object-keys.ts';
import type { BlockMap } from '../../../../src/repository/map/block-map.ts';
import { type UsageSink, walkUsage } from '../../../../src/repository/map/map-usage.ts';
import { LocationSet } from '../../../../src/repository/packs/location-set.ts';

/** The packs that a map needs, by key, and how many bytes of each. */
export async function packUsage(map: BlockMap, seen = new LocationSet()): Promise<Map<string, number>> {
  const usage = new Map<string, number>();
  const record: UsageSink['record'] = (pack, bytes) =>
    void usage.set(packKey(pack), (usage.get(packKey(pack)) ?? 0) + bytes);
  await walkUsage(map, { record, blocks: (_leaf, pack, bytes) => record(pack, bytes) }, { seen });
  return usage;
}

/** The nodes above the leaves, each looked up from the root. */
export async function innerNodes({ tree }: BlockMap): Promise<NodeRef[]> {
  const { geometry } = tree;
  const found: NodeRef[] = [];
  for (let level = 1; level <= geometry.rootLevel; level++) {
    for (let index = 0; index * geometry.span(level) < geometry.blockCount; index++) {
      const ref = await tree.ref(level, index);
      if (ref !== undefined) found.push(ref);
    }
  }
  return found;
}
