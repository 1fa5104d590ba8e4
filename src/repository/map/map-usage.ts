import type { AbortOptions } from '../../common/abort.ts';
import { packKey } from '../format/object-keys.ts';
import { type Location, type PackName, RecordKind } from '../format/record.ts';
import type { SortedEntries } from '../format/run-chunk.ts';
import type { BlockMap } from './block-map.ts';
import { eachEntry, type VisitedRecord, visitMap } from './visit.ts';

export interface UsageSink {
  /** A node or a run chunk, each once. */
  record(pack: PackName, bytes: number): void;
  /**
   * Blocks of one leaf's range, as one leaf or run chunk has them. Another version of the leaf, or a run, may name the
   * same blocks again.
   */
  blocks(leaf: number, pack: PackName, bytes: number): void;
}

/** Locations of nodes and runs: `LocationSet` is one. Not ids, since records of one id may name different packs. */
export interface SeenLocations {
  /** Returns whether it is new. */
  add(location: Location): boolean;
}

export interface UsageOptions extends AbortOptions {
  /** Nodes and runs that were walked already. Several maps that have one set are walked once where they share something. */
  readonly seen: SeenLocations;
}

/**
 * Every pack that a map needs, and how much of it. Reads runs and inner nodes, which say what is below them, and of leaves
 * only a root.
 *
 * The set of packs is complete. It and the bytes are an over-estimate where runs hide blocks of the tree or of older runs:
 * only a leaf says which of its blocks are in which pack, and another map that shares the run may need them.
 */
export async function walkUsage(map: BlockMap, sink: UsageSink, { signal, seen }: UsageOptions): Promise<void> {
  const { fanOut } = map.geometry;
  const enter = (at: VisitedRecord) => {
    const { location } = at.ref;
    if (!seen.add(location)) return false;
    sink.record(location.pack, location.storedLength);
    if (at.kind !== RecordKind.leaf || at.ref.usage === undefined) return true;
    for (const { pack, bytes } of at.ref.usage) sink.blocks(at.index, pack, bytes);
    return false;
  };
  const entries = async (table: SortedEntries) => {
    const sums = new LeafSums(sink);
    await eachEntry(table, (block, entry) => sums.add(Math.floor(block / fanOut), entry?.location));
    sums.end();
  };
  await visitMap(map, { enter, entries }, { signal });
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
