import type { AbortOptions } from '../../common/abort.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { ENTRIES_AT_ONCE, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { EntryTable } from '../format/entry-table.ts';
import type { NodeRef } from '../format/inner-node.ts';
import { packKey } from '../format/object-keys.ts';
import type { Location, PackName } from '../format/record.ts';
import type { BlockMap } from './block-map.ts';

/** What a collector asks of maps: where they need something, without reading more of them than it takes. */

/** Told of what a map needs. */
export interface UsageSink {
  /** A node or a run chunk, each once. */
  record(pack: PackName, bytes: number): void;
  /**
   * Blocks of one leaf's range, as one leaf or run chunk has them. Another version of the leaf, or a run, may name the
   * same blocks again.
   */
  blocks(leaf: number, pack: PackName, bytes: number): void;
}

/** Where nodes and runs stand: `PlaceSet` is one. By place and not by id, since records of one id may name different packs. */
export interface SeenPlaces {
  /** Returns whether it is new. */
  add(place: Location): boolean;
}

export interface WalkOptions extends AbortOptions {
  /** Nodes and runs that were walked already: give several maps the same one. What they share is then walked once. */
  readonly seen: SeenPlaces;
}

const LEAVES_AT_A_TIME = 32;

/** Every pack that a map needs, and how much. Reads runs and inner nodes, and of leaves only a root. */
export async function walkUsage(map: BlockMap, sink: UsageSink, { signal, seen }: WalkOptions): Promise<void> {
  const { tree } = map;
  const { fanOut } = tree.geometry;
  const enter = ({ location }: { readonly location: Location }) => {
    const isNew = seen.add(location);
    if (isNew) sink.record(location.pack, location.storedLength);
    return isNew;
  };
  const { runs } = await map.runs({ signal });
  for (const [run, refs] of map.descriptor.runs.entries()) {
    for (const [part, ref] of refs.entries()) {
      if (!enter(ref)) continue;
      const chunk = runs[run]![part]!;
      const byLeaf = new LeafSums(sink);
      for (let slot = 0; slot < chunk.count; slot++) {
        if (slot % ENTRIES_AT_ONCE === 0) await yieldToEventLoop();
        byLeaf.add(Math.floor(chunk.block(slot) / fanOut), chunk.entry(slot)?.location);
      }
      byLeaf.end();
    }
  }
  for await (const { level, index, node } of tree.innerNodes(({ ref }) => enter(ref), { signal, keep: false })) {
    await yieldToEventLoop();
    if (level > 1) continue;
    for (const [slot, leaf] of (await node.children()).entries()) {
      if (leaf === undefined || !enter(leaf)) continue;
      for (const { pack, bytes } of leaf.usage ?? []) sink.blocks(index * fanOut + slot, pack, bytes);
    }
  }
  if (tree.root !== undefined && tree.geometry.rootLevel === 0 && enter(tree.root)) {
    const leaf = await tree.loadLeaf(tree.root, 0, { signal });
    const sums = new LeafSums(sink);
    for (let slot = 0; slot < leaf.count; slot++) sums.add(0, leaf.entry(slot)?.location);
    sums.end();
  }
}

/**
 * Every place in some packs that a map needs: of blocks (those too that its newer runs hide), nodes and runs. Of the
 * leaves it reads those that have something there.
 *
 * @param wanted - keys of packs
 * @param found - may be told of a place several times
 */
export async function walkPlaces(
  map: BlockMap,
  wanted: ReadonlySet<string>,
  found: (location: Location) => void,
  { signal, seen }: WalkOptions,
): Promise<void> {
  const { tree } = map;
  const { fanOut } = tree.geometry;
  const isWanted = wantedPacks(wanted);
  const enter = ({ location }: { readonly location: Location }) => {
    const isNew = seen.add(location);
    if (isNew && isWanted(location.pack)) found(location);
    return isNew;
  };
  const note = (location: Location | undefined) => {
    if (location !== undefined && isWanted(location.pack)) found(location);
  };
  const noteAll = (leaf: EntryTable) => {
    for (let slot = 0; slot < leaf.count; slot++) note(leaf.entry(slot)?.location);
  };
  const { runs } = await map.runs({ signal });
  for (const [run, refs] of map.descriptor.runs.entries()) {
    for (const [part, ref] of refs.entries()) {
      if (!enter(ref)) continue;
      const chunk = runs[run]![part]!;
      for (let slot = 0; slot < chunk.count; slot++) {
        if (slot % ENTRIES_AT_ONCE === 0) await yieldToEventLoop();
        note(chunk.entry(slot)?.location);
      }
    }
  }
  for await (const { level, index, node } of tree.innerNodes(({ ref }) => enter(ref), { signal, keep: false })) {
    await yieldToEventLoop();
    if (level > 1) continue;
    const leaves: { readonly leaf: NodeRef; readonly index: number }[] = [];
    for (const [slot, leaf] of (await node.children()).entries()) {
      if (leaf !== undefined && enter(leaf) && leaf.usage?.some(({ pack }) => isWanted(pack))) {
        leaves.push({ leaf, index: index * fanOut + slot });
      }
    }
    const load = (at: (typeof leaves)[number]) => tree.loadLeaf(at.leaf, at.index, { signal, keep: false });
    for await (const leaf of mapConcurrently(leaves, load, LEAVES_AT_A_TIME)) {
      await yieldToEventLoop();
      noteAll(leaf);
    }
  }
  if (tree.root !== undefined && tree.geometry.rootLevel === 0 && enter(tree.root)) {
    noteAll(await tree.loadLeaf(tree.root, 0, { signal }));
  }
}

/** A test for packs by name; entries that follow each other mostly name one pack. */
function wantedPacks(wanted: ReadonlySet<string>): (pack: PackName) => boolean {
  let last: PackName | undefined;
  let answer = false;
  return (pack) => {
    if (pack !== last) {
      last = pack;
      answer = wanted.has(packKey(pack));
    }
    return answer;
  };
}

/** Adds up entries that come in the order of their leaves. */
class LeafSums {
  readonly #sink: UsageSink;
  readonly #sums = new Map<string, { readonly pack: PackName; bytes: number }>();
  #leaf = -1;

  constructor(sink: UsageSink) {
    this.#sink = sink;
  }

  add(leaf: number, location: Location | undefined): void {
    if (leaf !== this.#leaf) this.end();
    this.#leaf = leaf;
    if (location === undefined) return;
    const key = packKey(location.pack);
    const sum = this.#sums.get(key);
    if (sum === undefined) this.#sums.set(key, { pack: location.pack, bytes: location.storedLength });
    else sum.bytes += location.storedLength;
  }

  end(): void {
    for (const { pack, bytes } of this.#sums.values()) this.#sink.blocks(this.#leaf, pack, bytes);
    this.#sums.clear();
  }
}
