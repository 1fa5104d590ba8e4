import { ENTRIES_AT_ONCE, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { packKey } from '../format/object-keys.ts';
import type { Location, PackName } from '../format/record.ts';
import type { BlockMap } from './block-map.ts';

/** By pack key: bytes as stored. */
export type PackUsage = Map<string, number>;

export interface PackUsageOptions {
  readonly signal?: AbortSignal | undefined;
  /**
   * Nodes and runs that were counted already, for the usage of several maps together: give each the same set. What two
   * maps share is then counted once, and read once.
   */
  readonly seen?: Set<string> | undefined;
}

/**
 * Every pack that a map needs, with the stored bytes of the blocks, nodes and runs that it needs there. No leaf is read:
 * their parents say what their blocks take (only a tree that is nothing but a leaf is read).
 *
 * The set of packs is complete. It and the bytes are an over-estimate where runs hide blocks of the tree or of older
 * runs: those count as if they were needed, because which blocks of a leaf stand in which pack only the leaf says, and
 * because another map that shares the run may need them. Merging and folding end it.
 */
export async function packUsage(
  map: BlockMap,
  { signal, seen = new Set() }: PackUsageOptions = {},
): Promise<PackUsage> {
  const usage = new UsageCounter();
  const enter = ({ ref }: { readonly ref: { readonly location: Location } }) => {
    const isNew = firstSeen(seen, ref.location);
    if (isNew) usage.add(ref.location.pack, ref.location.storedLength);
    return isNew;
  };
  const { runs } = await map.runs({ signal });
  for (const [run, refs] of map.descriptor.runs.entries()) {
    for (const [part, ref] of refs.entries()) {
      if (!enter({ ref })) continue;
      const chunk = runs[run]![part]!;
      for (let slot = 0; slot < chunk.count; slot++) {
        if (slot % ENTRIES_AT_ONCE === 0) await yieldToEventLoop();
        usage.addBlock(chunk.entry(slot));
      }
    }
  }
  const { tree } = map;
  for await (const { level, node } of tree.innerNodes(enter, { signal })) {
    await yieldToEventLoop();
    if (level > 1) continue;
    for (const leaf of await node.children()) {
      if (leaf === undefined || !enter({ ref: leaf })) continue;
      for (const { pack, bytes } of leaf.usage ?? []) usage.add(pack, bytes);
    }
  }
  if (tree.root !== undefined && tree.geometry.rootLevel === 0 && enter({ ref: tree.root })) {
    const leaf = await tree.loadLeaf(tree.root, 0, { signal });
    for (let slot = 0; slot < leaf.count; slot++) usage.addBlock(leaf.entry(slot));
  }
  return usage.byKey;
}

/** By place, not by id: records of one id may have stood in several places, with different packs in their location parts. */
function firstSeen(seen: Set<string>, { pack, offset }: Location): boolean {
  const place = `${packKey(pack)}/${offset}`;
  if (seen.has(place)) return false;
  seen.add(place);
  return true;
}

class UsageCounter {
  readonly byKey: PackUsage = new Map();
  #last: PackName | undefined;
  #lastKey = '';

  add(pack: PackName, bytes: number): void {
    if (pack !== this.#last) {
      this.#last = pack;
      this.#lastKey = packKey(pack);
    }
    this.byKey.set(this.#lastKey, (this.byKey.get(this.#lastKey) ?? 0) + bytes);
  }

  addBlock(entry: { readonly location: Location } | undefined): void {
    if (entry !== undefined) this.add(entry.location.pack, entry.location.storedLength);
  }
}
