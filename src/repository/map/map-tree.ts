import type { AbortOptions } from '../../common/abort.ts';
import { ownBytes } from '../../common/bytes.ts';
import { LruCache } from '../../common/lru-cache.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { SharedWork } from '../../common/shared-work.ts';
import { decodeLeaf, type EntryTable } from '../format/entry-table.ts';
import { InnerNode, type NodeRef } from '../format/inner-node.ts';
import type { MapRoot } from '../format/map-descriptor.ts';
import type { MapGeometry } from '../format/map-geometry.ts';
import { type RecordIds, RecordKind, type RecordReader } from '../format/record.ts';
import { mapCorrupt } from '../format/record-parts.ts';

export interface RecordSource {
  readonly records: RecordReader;
  readonly ids: RecordIds;
}

interface LoadOptions extends AbortOptions {
  /** Whether to keep it in memory, which a walk over everything should not. @defaultValue true */
  readonly keep?: boolean | undefined;
}

/** A node of a tree. */
export interface TreeNode {
  readonly level: number;
  readonly index: number;
  readonly ref: NodeRef;
}

interface OpenNode extends TreeNode {
  readonly node: InnerNode;
}

/** What is held for each node in addition to its bytes, roughly. */
const NODE_OVERHEAD_BYTES = 400;
const INNER_WIDTH = 4;

/** The tree of one block map: loads nodes, checks each against its id, keeps some. */
export class MapTree {
  readonly geometry: MapGeometry;
  readonly root: NodeRef | undefined;
  readonly #source: RecordSource;
  readonly #cache: LruCache<number, InnerNode | EntryTable>;
  readonly #loading = new Map<number, SharedWork<InnerNode | EntryTable>>();

  /** @throws `MAP_CORRUPT` if the root doesn't fit the geometry */
  constructor(geometry: MapGeometry, root: MapRoot | undefined, source: RecordSource, cacheBytes: number) {
    this.geometry = geometry;
    this.#source = source;
    this.#cache = new LruCache(cacheBytes);
    if (root === undefined) return;
    if (root.level !== geometry.rootLevel) throw mapCorrupt(`a root of level ${root.level}, not ${geometry.rootLevel}`);
    if (root.location.rawLength > geometry.maxNodeBytes(root.level)) throw mapCorrupt('no node is as long as the root');
    this.root = { id: root.id, location: root.location, usage: undefined };
  }

  /** The leaf of blocks index * fanOut and so on; `undefined` where all of them read as zeroes. */
  async leaf(index: number, options: LoadOptions = {}): Promise<EntryTable | undefined> {
    const known = this.#cache.get(key(0, index));
    if (known !== undefined) return known as EntryTable;
    const ref = await this.ref(0, index, options);
    return ref === undefined ? undefined : this.loadLeaf(ref, index, options);
  }

  /** The reference to a node, by its level and index; `undefined` if the tree has none there. */
  async ref(level: number, index: number, { signal }: AbortOptions = {}): Promise<NodeRef | undefined> {
    const { fanOut, rootLevel } = this.geometry;
    if (level > rootLevel || index >= fanOut ** (rootLevel - level)) return undefined;
    let ref = this.root;
    for (let above = rootLevel; above > level && ref !== undefined; above--) {
      const node = await this.loadInner(ref, above, Math.floor(index / fanOut ** (above - level)), { signal });
      ref = node.child(Math.floor(index / fanOut ** (above - level - 1)) % fanOut);
    }
    return ref;
  }

  loadLeaf(ref: NodeRef, index: number, options: LoadOptions = {}): Promise<EntryTable> {
    return this.#load(ref, 0, index, options) as Promise<EntryTable>;
  }

  loadInner(ref: NodeRef, level: number, index: number, options: LoadOptions = {}): Promise<InnerNode> {
    return this.#load(ref, level, index, options) as Promise<InnerNode>;
  }

  /** The leaves from `first` to before `end`, ascending, not loaded. */
  async *leafRefs(first: number, end: number, options: LoadOptions = {}): AsyncGenerator<TreeNode> {
    if (this.root === undefined || first >= end) return;
    const root = { level: this.geometry.rootLevel, index: 0, ref: this.root };
    if (root.level === 0) yield root;
    else yield* this.#leavesBelow(await this.#open(root, options), first, end, options);
  }

  async *#leavesBelow(at: OpenNode, first: number, end: number, options: LoadOptions): AsyncGenerator<TreeNode> {
    const leavesEach = this.geometry.span(at.level - 1) / this.geometry.fanOut;
    const children = (await this.#children(at.node, at.index)).filter(
      ({ index }) => (index + 1) * leavesEach > first && index * leavesEach < end,
    );
    if (at.level === 1) {
      yield* children;
      return;
    }
    // The next nodes are being loaded while the current one is walked.
    const opened = mapConcurrently(children, (child) => this.#open(child, options), INNER_WIDTH);
    for await (const child of opened) yield* this.#leavesBelow(child, first, end, options);
  }

  async #open(at: TreeNode, options: LoadOptions): Promise<OpenNode> {
    return { ...at, node: await this.loadInner(at.ref, at.level, at.index, options) };
  }

  async #children(node: InnerNode, index: number): Promise<TreeNode[]> {
    const children: TreeNode[] = [];
    for (const [slot, ref] of (await node.children()).entries()) {
      if (ref !== undefined) children.push({ level: node.level - 1, index: index * this.geometry.fanOut + slot, ref });
    }
    return children;
  }

  #load(ref: NodeRef, level: number, index: number, options: LoadOptions): Promise<InnerNode | EntryTable> {
    const at = key(level, index);
    const known = this.#cache.get(at);
    if (known !== undefined) return Promise.resolve(known);
    options.signal?.throwIfAborted();
    let loading = this.#loading.get(at);
    if (loading === undefined || loading.isAbandoned) {
      const keep = options.keep !== false;
      const begun = new SharedWork(async (signal) => {
        try {
          return await this.#read(ref, level, index, { keep, signal });
        } finally {
          if (this.#loading.get(at) === begun) this.#loading.delete(at);
        }
      });
      this.#loading.set(at, begun);
      loading = begun;
    }
    return loading.wait(options.signal);
  }

  async #read(ref: NodeRef, level: number, index: number, options: LoadOptions): Promise<InnerNode | EntryTable> {
    const { keep } = options;
    const kind = level === 0 ? RecordKind.leaf : RecordKind.inner;
    const raw = ownBytes(await this.#source.records.read(kind, ref.id, ref.location, options));
    if (raw.length !== ref.location.rawLength) throw mapCorrupt('a node has not its length');
    const node = level === 0 ? decodeLeaf(raw, index, this.geometry) : new InnerNode(raw, level, index, this.geometry);
    const found = this.#source.ids.recordId(kind, raw.subarray(0, node.identityLength));
    if (Buffer.compare(found, ref.id) !== 0)
      throw mapCorrupt(`node ${index} of level ${level} is not what its id says`);
    if (keep !== false) this.#cache.set(key(level, index), node, raw.length + NODE_OVERHEAD_BYTES);
    return node;
  }
}

/** Level and index identify a node within one map. */
function key(level: number, index: number): number {
  return level * 2 ** 33 + index;
}
