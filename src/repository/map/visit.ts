import { type AbortOptions, abortable } from '../../common/abort.ts';
import type { BackupError } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { type Outcome, readTwice } from '../../common/read-twice.ts';
import { ENTRIES_AT_ONCE, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { EntryTable } from '../format/entry-table.ts';
import type { InnerNode, NodeRef } from '../format/inner-node.ts';
import type { BlockEntry, RunChunkRef } from '../format/map-descriptor.ts';
import { RecordKind } from '../format/record.ts';
import type { SortedEntries } from '../format/run-chunk.ts';
import type { BlockMap } from './block-map.ts';

/**
 * The one walk over all of a map. It serves the collector, a repack, a verification, and a backup against a base in quarantine,
 * which need to know what records and packs a map names. A {@link MapVisitor} decides what is read, and is called with it.
 *
 * First come the runs, then the tree from its root, parents before their children. Nodes of one parent are read together, so
 * that those which are near each other in a pack share a request; nothing is kept in memory. What several maps share is
 * skipped by visitors that remember it.
 */

/** A chunk of a run. */
export interface VisitedChunk {
  readonly kind: typeof RecordKind.runChunk;
  readonly ref: RunChunkRef;
  /** Which run it belongs to; 0 is the newest. */
  readonly run: number;
}

/** A node of the tree. */
export interface VisitedNode {
  readonly kind: typeof RecordKind.leaf | typeof RecordKind.inner;
  readonly ref: NodeRef;
  /** 0 for leaves. */
  readonly level: number;
  readonly index: number;
  readonly parent: VisitedNode | undefined;
}

export type VisitedRecord = VisitedChunk | VisitedNode;

/** Decides how a map is walked. What a method returns is awaited. No method is called once the walk has failed. */
export interface MapVisitor<R extends VisitedRecord = VisitedRecord> {
  /**
   * Called for each record before it is read. The parent of a leaf says which packs the leaf's blocks are in: `ref.usage`,
   * which is `undefined` only for a root that is a leaf.
   *
   * @returns whether the record is read. What is below one that is not read is not visited
   */
  enter(at: R): Promise<boolean> | boolean;
  /** Called with the entries of a leaf or chunk that was read: ascending, `undefined` for a block of zeroes. */
  entries(entries: SortedEntries, at: R): Promise<void> | void;
  /** Called once everything below an inner node has been visited. */
  leave?(at: VisitedNode): void;
  /** Called for a record that can't be read twice; the walk goes on. Without it the walk fails at the first damage. */
  damaged?(at: R, error: BackupError): Promise<void> | void;
}

const CHUNKS_AT_A_TIME = 8;
const NODES_AT_A_TIME = 4;
/** Siblings that are loaded together take about so many bytes. */
const SIBLING_BYTES = 4 * 1024 * 1024;
/** While some siblings are visited, the next ones are on their way. */
const LOADS_AT_A_TIME = 2;

/** @throws what reading the map throws, unless the visitor takes damage */
export async function visitMap(map: BlockMap, visitor: MapVisitor, options: AbortOptions = {}): Promise<void> {
  await visitRuns(map, visitor, options);
  await visitTree(map, visitor, options);
}

/** Only the runs. Chunks of one run come in their order. */
export async function visitRuns(
  map: BlockMap,
  visitor: MapVisitor<VisitedChunk>,
  { signal }: AbortOptions,
): Promise<void> {
  const entered: VisitedChunk[] = [];
  for (const [run, refs] of map.descriptor.runs.entries()) {
    for (const ref of refs) {
      const at: VisitedChunk = { kind: RecordKind.runChunk, ref, run };
      if (await visitor.enter(at)) entered.push(at);
    }
  }
  const read = (ref: RunChunkRef) => attempt(visitor, () => abortable(map.loadChunk(ref, { signal }), signal));
  const load = async (at: VisitedChunk) => ({ at, chunk: await read(at.ref) });
  for await (const { at, chunk } of mapConcurrently(entered, load, CHUNKS_AT_A_TIME)) {
    signal?.throwIfAborted();
    if ('error' in chunk) await visitor.damaged?.(at, chunk.error);
    else await visitor.entries(chunk.value, at);
  }
}

/** Only the tree. */
export async function visitTree(
  map: BlockMap,
  visitor: MapVisitor<VisitedNode>,
  { signal }: AbortOptions,
): Promise<void> {
  const { root: ref, geometry } = map.tree;
  if (ref === undefined) return;
  const level = geometry.rootLevel;
  const visit = new TreeVisit(map, visitor, signal);
  try {
    await visit.siblings([{ kind: kindOf(level), ref, level, index: 0, parent: undefined }]);
  } finally {
    visit.hasEnded = true;
  }
}

/** Calls `visit` for each entry; there may be 65,536 of them and more, so others run in between. */
export async function eachEntry(
  entries: SortedEntries,
  visit: (block: number, entry: BlockEntry | undefined) => Promise<void> | void,
): Promise<void> {
  for (let slot = 0; slot < entries.count; slot++) {
    if (slot % ENTRIES_AT_ONCE === 0) await yieldToEventLoop();
    const visiting = visit(entries.block(slot), entries.entry(slot));
    if (visiting !== undefined) await visiting;
  }
}

interface Loaded {
  readonly at: VisitedNode;
  readonly node: Outcome<InnerNode | EntryTable>;
}

class TreeVisit {
  /** Branches that go on behind a failure must not call the visitor any more: see {@link MapVisitor}. */
  hasEnded = false;
  readonly #map: BlockMap;
  readonly #visitor: MapVisitor<VisitedNode>;
  readonly #signal: AbortSignal | undefined;

  constructor(map: BlockMap, visitor: MapVisitor<VisitedNode>, signal: AbortSignal | undefined) {
    this.#map = map;
    this.#visitor = visitor;
    this.#signal = signal;
  }

  /** Nodes of one parent. */
  async siblings(nodes: readonly VisitedNode[]): Promise<void> {
    const entered: VisitedNode[] = [];
    for (const at of nodes) {
      this.#check();
      if (await this.#visitor.enter(at)) entered.push(at);
    }
    const load = (slice: VisitedNode[]) => Promise.all(slice.map((at) => this.#load(at)));
    const visit = (loaded: Loaded) => this.#visit(loaded);
    for await (const slice of mapConcurrently(slicesOf(entered), load, LOADS_AT_A_TIME)) {
      // Leaves come one after the other.
      const width = slice[0]?.at.level === 0 ? 1 : NODES_AT_A_TIME;
      for await (const _ of mapConcurrently(slice, visit, width)) this.#check();
    }
  }

  async #load(at: VisitedNode): Promise<Loaded> {
    const { ref, level, index } = at;
    const { tree } = this.#map;
    const options = { signal: this.#signal, keep: false };
    const load = () => (level === 0 ? tree.loadLeaf(ref, index, options) : tree.loadInner(ref, level, index, options));
    return { at, node: await attempt<InnerNode | EntryTable>(this.#visitor, load) };
  }

  async #visit({ at, node }: Loaded): Promise<void> {
    await yieldToEventLoop();
    this.#check();
    if ('error' in node) await this.#visitor.damaged?.(at, node.error);
    else if (at.level === 0) await this.#visitor.entries(this.#entriesOf(node.value as EntryTable, at), at);
    else {
      await this.siblings(await this.#childrenOf(node.value as InnerNode, at));
      this.#check();
      this.#visitor.leave?.(at);
    }
  }

  async #childrenOf(node: InnerNode, parent: VisitedNode): Promise<VisitedNode[]> {
    const level = parent.level - 1;
    const first = parent.index * this.#map.geometry.fanOut;
    const children: VisitedNode[] = [];
    for (const [slot, ref] of (await node.children()).entries()) {
      if (ref !== undefined) children.push({ kind: kindOf(level), ref, level, index: first + slot, parent });
    }
    return children;
  }

  #entriesOf(leaf: EntryTable, { index }: VisitedNode): SortedEntries {
    const first = index * this.#map.geometry.fanOut;
    return {
      count: leaf.count,
      block: (slot) => first + slot,
      has: (slot) => leaf.has(slot),
      id: (slot) => leaf.id(slot),
      entry: (slot) => leaf.entry(slot),
    };
  }

  #check(): void {
    this.#signal?.throwIfAborted();
    if (this.hasEnded) throw new Error('the walk has failed');
  }
}

function kindOf(level: number): VisitedNode['kind'] {
  return level === 0 ? RecordKind.leaf : RecordKind.inner;
}

function* slicesOf(nodes: readonly VisitedNode[]): Generator<VisitedNode[]> {
  let slice: VisitedNode[] = [];
  let bytes = 0;
  for (const at of nodes) {
    const { rawLength } = at.ref.location;
    if (slice.length > 0 && bytes + rawLength > SIBLING_BYTES) {
      yield slice;
      slice = [];
      bytes = 0;
    }
    slice.push(at);
    bytes += rawLength;
  }
  if (slice.length > 0) yield slice;
}

/** A walk that takes damage believes it only after a second read. */
async function attempt<T>({ damaged }: Pick<MapVisitor, 'damaged'>, load: () => Promise<T>): Promise<Outcome<T>> {
  return damaged === undefined ? { value: await load() } : readTwice(load);
}
