import { type BackupError, isDamage } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { isError } from '../../common/realms.ts';
import { ENTRIES_AT_ONCE, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { EntryTable } from '../format/entry-table.ts';
import type { InnerNode, NodeRef } from '../format/inner-node.ts';
import { decodeLeaf } from '../format/leaf.ts';
import type { BlockEntry, RunChunkRef } from '../format/map-descriptor.ts';
import { type Location, type PackName, RecordKind } from '../format/record.ts';
import type { RunChunk } from '../format/run-chunk.ts';
import type { BlockMap } from '../map/block-map.ts';
import { loadRuns } from '../map/runs.ts';
import type { PlaceSet } from '../packs/location-set.ts';
import type { FreshRecords } from './fresh-records.ts';

/** Told of what a walk comes to. What it returns is waited for. */
export interface MapSink {
  /** A node or run chunk, before it is read. */
  record(kind: RecordKind, id: Uint8Array, location: Location): Promise<void> | void;
  /** What a leaf or run chunk has. */
  blocks(entries: readonly BlockEntry[]): Promise<void> | void;
  /** Packs in which a leaf that is not read has its blocks. */
  usage(packs: readonly PackName[]): Promise<void> | void;
  /** A node or run chunk that can't be read, twice. */
  failed(location: Location, error: BackupError): Promise<void> | void;
}

export interface MapWalkOptions {
  /** Nodes and runs that were walked already: what maps share is read once. */
  readonly seen: PlaceSet;
  /** Whether leaves are read; without, their parents say what their blocks take. */
  readonly readsLeaves: boolean;
  readonly signal: AbortSignal | undefined;
}

const NODES_AT_A_TIME = 4;

/** Reads one map in full, around what is damaged. */
export async function walkMap(
  map: BlockMap,
  records: FreshRecords,
  sink: MapSink,
  options: MapWalkOptions,
): Promise<void> {
  const walk = new MapWalk(map, records, sink, options);
  await walk.runs();
  const { root } = map.tree;
  if (root !== undefined) await walk.nodes([{ ref: root, index: 0 }], map.geometry.rootLevel);
}

export interface NodeAt {
  readonly ref: NodeRef;
  readonly index: number;
}

class MapWalk {
  readonly #map: BlockMap;
  readonly #records: FreshRecords;
  readonly #sink: MapSink;
  readonly #options: MapWalkOptions;

  constructor(map: BlockMap, records: FreshRecords, sink: MapSink, options: MapWalkOptions) {
    this.#map = map;
    this.#records = records;
    this.#sink = sink;
    this.#options = options;
  }

  async runs(): Promise<void> {
    const refs = this.#map.descriptor.runs.flat().filter(({ location }) => this.#options.seen.add(location));
    for (const { id, location } of refs) await this.#sink.record(RecordKind.runChunk, id, location);
    const load = async (ref: (typeof refs)[number]) => ({
      ref,
      chunk: await readTwice(() => loadChunk(this.#map, this.#records, ref)),
    });
    for await (const { ref, chunk } of mapConcurrently(refs, load, NODES_AT_A_TIME)) {
      this.#options.signal?.throwIfAborted();
      if ('error' in chunk) await this.#sink.failed(ref.location, chunk.error);
      else await this.#sink.blocks(await entriesOf(chunk.value));
    }
  }

  /** Siblings: nodes of one level. */
  async nodes(siblings: readonly NodeAt[], level: number): Promise<void> {
    const fresh = siblings.filter(({ ref }) => this.#options.seen.add(ref.location));
    const kind = level === 0 ? RecordKind.leaf : RecordKind.inner;
    for (const { ref } of fresh) await this.#sink.record(kind, ref.id, ref.location);
    if (level === 0) return this.#leaves(fresh);
    const visit = (at: NodeAt) => this.#inner(at, level);
    for await (const _ of mapConcurrently(fresh, visit, NODES_AT_A_TIME)) this.#options.signal?.throwIfAborted();
  }

  async #inner({ ref, index }: NodeAt, level: number): Promise<void> {
    const loaded = await readTwice(() => this.#map.tree.loadInner(ref, level, index, { keep: false }));
    if ('error' in loaded) return this.#sink.failed(ref.location, loaded.error);
    await this.nodes(await childrenOf(loaded.value, index, this.#map.geometry.fanOut), level - 1);
  }

  async #leaves(leaves: readonly NodeAt[]): Promise<void> {
    // A root that is a leaf has no parent that could say it.
    if (!this.#options.readsLeaves && this.#map.geometry.rootLevel > 0) {
      for (const { ref } of leaves) await this.#sink.usage((ref.usage ?? []).map(({ pack }) => pack));
      return;
    }
    for (const { at, leaf } of await readLeaves(this.#map, this.#records, leaves)) {
      if ('error' in leaf) await this.#sink.failed(at.ref.location, leaf.error);
      else await this.#sink.blocks(await entriesOf(leaf.value));
    }
  }
}

/** What was read, or what is wrong with it. */
export type Outcome<T> = { readonly value: T } | { readonly error: BackupError };

/** A second time before damage is believed: a bad answer is not bad data. */
export async function readTwice<T>(read: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await read() };
  } catch (error) {
    if (!isDamage(error)) throw error;
  }
  try {
    return { value: await read() };
  } catch (error) {
    if (!isDamage(error)) throw error;
    return { error };
  }
}

export async function loadChunk({ geometry }: BlockMap, records: FreshRecords, ref: RunChunkRef): Promise<RunChunk> {
  const [[chunk]] = (await loadRuns([[ref]], geometry, { records, ids: records.ids })) as [[RunChunk]];
  return chunk;
}

/** Leaves of one parent, those that stand side by side with one request. */
export async function readLeaves(
  map: BlockMap,
  records: FreshRecords,
  leaves: readonly NodeAt[],
): Promise<{ at: NodeAt; leaf: Outcome<EntryTable> }[]> {
  const wanted = leaves.map(({ ref }) => ({ kind: RecordKind.leaf, id: ref.id, location: ref.location }));
  const answers = await records.readAll(wanted);
  return Promise.all(
    leaves.map(async (at, index) => {
      const answer = answers[index] as Uint8Array | BackupError;
      if (isError(answer)) return { at, leaf: { error: answer } };
      const { id, location } = at.ref;
      let raw: Uint8Array | undefined = answer;
      const leaf = await readTwice(async () => {
        const bytes = raw ?? (await records.read(RecordKind.leaf, id, location));
        raw = undefined;
        return decodeLeaf(bytes, at.index, map.geometry);
      });
      return { at, leaf };
    }),
  );
}

export async function childrenOf(node: InnerNode, index: number, fanOut: number): Promise<NodeAt[]> {
  const children: NodeAt[] = [];
  for (const [slot, ref] of (await node.children()).entries()) {
    if (ref !== undefined) children.push({ ref, index: index * fanOut + slot });
  }
  return children;
}

/** Of a run chunk they may be 65,536: others run in between. */
async function entriesOf(table: EntryTable | RunChunk): Promise<BlockEntry[]> {
  const entries: BlockEntry[] = [];
  for (let slot = 0; slot < table.count; slot++) {
    if (slot % ENTRIES_AT_ONCE === 0) await yieldToEventLoop();
    const entry = table.entry(slot);
    if (entry !== undefined) entries.push(entry);
  }
  return entries;
}
