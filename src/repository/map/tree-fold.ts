import { mapConcurrently } from '../../common/map-concurrently.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import { type EncodedRecord, EntryColumns } from '../format/entry-columns.ts';
import { type EntryTable, encodeLeaf } from '../format/entry-table.ts';
import { encodingInnerNode, type NodeRef, type PackBytes } from '../format/inner-node.ts';
import type { MapRoot } from '../format/map-descriptor.ts';
import type { MapGeometry } from '../format/map-geometry.ts';
import { type RecordIds, RecordKind, type RecordWriter } from '../format/record.ts';
import { sameLocation } from '../format/record-parts.ts';
import type { Change } from './changes.ts';
import type { MapTree } from './map-tree.ts';

interface FoldOptions {
  readonly geometry: MapGeometry;
  /** The tree that the changes are put into; without it a tree is built from nothing. */
  readonly previous: MapTree | undefined;
  readonly writer: RecordWriter;
  readonly ids: RecordIds;
  readonly signal: AbortSignal | undefined;
}

/** Old leaves to load at a time. */
const LEAVES_AHEAD = 32;

/** All changes of one leaf, with what it was before. */
interface LeafEdit {
  readonly index: number;
  readonly changes: readonly Change[];
}
type LoadedEdit = LeafEdit & { readonly ref: NodeRef | undefined; readonly leaf: EntryTable | undefined };

/**
 * Puts changes into a tree, or builds one: a single pass over the leaves from left to right. Only touched leaves and
 * their ancestors are written, and only those that come out different; everything else is shared. Memory is bounded by
 * one open node a level. Records are written in an order that depends on the changes alone.
 */
export async function foldTree(
  batches: AsyncIterable<readonly Change[]>,
  options: FoldOptions,
): Promise<MapRoot | undefined> {
  const { geometry, previous, signal } = options;
  if (geometry.blockCount === 0) return undefined;
  const builder = new TreeBuilder(options);
  const load = async (edit: LeafEdit): Promise<LoadedEdit> => {
    const ref = await previous?.ref(0, edit.index, { signal });
    // A leaf that is replaced as a whole is not needed.
    if (edit.changes.length === geometry.slots(0, edit.index)) return { ...edit, ref, leaf: undefined };
    return { ...edit, ref, leaf: ref && (await previous?.loadLeaf(ref, edit.index, { signal, keep: false })) };
  };
  for await (const edit of mapConcurrently(leafEdits(batches, geometry, previous), load, LEAVES_AHEAD)) {
    signal?.throwIfAborted();
    await builder.edit(edit);
  }
  return builder.finish();
}

/** Groups changes by leaf, and adds leaves that a change of the volume's size touches. */
async function* leafEdits(
  batches: AsyncIterable<readonly Change[]>,
  geometry: MapGeometry,
  previous: MapTree | undefined,
): AsyncGenerator<LeafEdit> {
  const { fanOut } = geometry;
  // A tree that grows in height gets nodes above its old root; they are made on the way to its first leaf.
  const grows = previous?.root !== undefined && geometry.rootLevel > previous.geometry.rootLevel;
  // A tree that shrinks loses what is past the end, which is cut off on the way to the last leaf.
  const shrinks = previous?.root !== undefined && geometry.blockCount < previous.geometry.blockCount;
  const lastLeaf = Math.ceil(geometry.blockCount / fanOut) - 1;
  let current: { index: number; changes: Change[] } | undefined = grows ? { index: 0, changes: [] } : undefined;
  for await (const batch of batches) {
    for (const change of batch) {
      const index = Math.floor(change[0] / fanOut);
      if (current?.index !== index) {
        if (current !== undefined) yield current;
        current = { index, changes: [] };
      }
      current.changes.push(change);
    }
  }
  if (current !== undefined) yield current;
  if (shrinks && current?.index !== lastLeaf) yield { index: lastLeaf, changes: [] };
}

/** A promise while its record is being stored. */
type Child = NodeRef | Promise<NodeRef> | undefined;

/** A node above the leaves that is being put together. */
interface OpenNode {
  readonly level: number;
  readonly index: number;
  /** What the old tree has at this level and index. */
  readonly old: NodeRef | undefined;
  readonly children: Child[];
  changed: boolean;
}

class TreeBuilder {
  readonly #options: FoldOptions;
  /** By level, from 1 on: the path to the current leaf. */
  readonly #open: (OpenNode | undefined)[] = [];
  readonly #columns: EntryColumns;
  #root: Child;
  #touched = false;

  constructor(options: FoldOptions) {
    this.#options = options;
    this.#columns = new EntryColumns(options.geometry.fanOut);
  }

  /** Leaves must come in ascending order. */
  async edit(edit: LoadedEdit): Promise<void> {
    const { fanOut, rootLevel } = this.#options.geometry;
    this.#touched = true;
    await this.#closeThrough(this.#highestLeft(edit.index));
    for (let level = rootLevel; level >= 1; level--) {
      this.#open[level] ??= await this.#openNode(level, Math.floor(edit.index / fanOut ** level));
    }
    this.#put(0, edit.index, this.#editLeaf(edit));
  }

  async finish(): Promise<MapRoot | undefined> {
    const { previous, geometry } = this.#options;
    await this.#closeThrough(geometry.rootLevel);
    const root = this.#touched ? await this.#root : previous?.root;
    return root && { level: geometry.rootLevel, id: root.id, location: root.location };
  }

  /** The highest level whose open node doesn't cover a leaf; 0 if there is none. */
  #highestLeft(leaf: number): number {
    const { fanOut, rootLevel } = this.#options.geometry;
    for (let level = rootLevel; level >= 1; level--) {
      const node = this.#open[level];
      if (node !== undefined && node.index !== Math.floor(leaf / fanOut ** level)) return level;
    }
    return 0;
  }

  async #closeThrough(highest: number): Promise<void> {
    for (let level = 1; level <= highest; level++) {
      const node = this.#open[level];
      if (node === undefined) continue;
      this.#open[level] = undefined;
      this.#put(level, node.index, node.changed ? await this.#storeNode(node) : node.old);
    }
  }

  /** Puts a reference into the new tree. It is a change if it is another object than the parent's old reference. */
  #put(level: number, index: number, now: Child): void {
    const { fanOut, rootLevel } = this.#options.geometry;
    if (level === rootLevel) {
      this.#root = now;
      return;
    }
    const parent = this.#open[level + 1] as OpenNode;
    if (now === parent.children[index % fanOut]) return;
    parent.children[index % fanOut] = now;
    parent.changed = true;
  }

  async #openNode(level: number, index: number): Promise<OpenNode> {
    const { geometry, previous, signal } = this.#options;
    const children: Child[] = new Array(geometry.fanOut).fill(undefined);
    // Nothing has been put there yet, so what the parent has there is the old node.
    const inParent = this.#open[level + 1]?.children[index % geometry.fanOut] as NodeRef | undefined;
    const old = level === geometry.rootLevel ? await previous?.ref(level, index, { signal }) : inParent;
    const node: OpenNode = { level, index, old, children, changed: false };
    if (previous?.root === undefined) return node;
    const oldLevel = previous.geometry.rootLevel;
    if (level > oldLevel) {
      if (index > 0) return node;
      if (level === oldLevel + 1) children[0] = await this.#oldRootAsChild(previous, previous.root);
      node.changed = true;
    } else if (old !== undefined) {
      const end = geometry.slots(level, index);
      const oldNode = await previous.loadInner(old, level, index, { signal });
      for (const [slot, child] of (await oldNode.children()).entries()) {
        if (slot < end) children[slot] = child;
        else if (child !== undefined) node.changed = true;
      }
    }
    return node;
  }

  /** A root that is a leaf has no parent that says which packs its blocks are in. */
  async #oldRootAsChild(previous: MapTree, root: NodeRef): Promise<NodeRef> {
    if (previous.geometry.rootLevel > 0) return root;
    const leaf = await previous.loadLeaf(root, 0, { signal: this.#options.signal });
    this.#fill(leaf, previous.geometry.blockCount);
    return { ...root, usage: this.#columns.usage(leaf.count) };
  }

  #fill(leaf: EntryTable | undefined, end: number): void {
    this.#columns.clear();
    leaf?.copyTo(this.#columns, Math.min(leaf.count, end));
  }

  /** The leaf after the changes: the old one if they change nothing. */
  #editLeaf({ index, changes, ref, leaf }: LoadedEdit): Child {
    const { geometry } = this.#options;
    const { fanOut } = geometry;
    const columns = this.#columns;
    const end = geometry.slots(0, index);
    this.#fill(leaf, end);
    let changed = leaf === undefined && ref !== undefined; // Replaced as a whole, unread.
    for (let slot = end; leaf !== undefined && slot < fanOut; slot++) changed ||= leaf.has(slot);
    for (const [block, entry] of changes) {
      const slot = block - index * fanOut;
      changed ||= !sameEntry(leaf?.entry(slot), entry);
      columns.set(slot, entry);
    }
    if (!changed) return this.#childRefOf(ref, index);
    let present = 0;
    for (let slot = 0; slot < end; slot++) if (columns.has(slot)) present++;
    if (present === 0) return undefined;
    const record = encodeLeaf(columns, fanOut);
    return this.#store(RecordKind.leaf, record, index * fanOut, columns.usage(fanOut));
  }

  /** The very object that the parent already holds, so that it counts as unchanged. */
  #childRefOf(ref: NodeRef | undefined, index: number): Child {
    const { fanOut, rootLevel } = this.#options.geometry;
    return rootLevel === 0 ? ref : (this.#open[1] as OpenNode).children[index % fanOut];
  }

  async #storeNode({ level, index, children }: OpenNode): Promise<NodeRef | undefined> {
    const placed = await Promise.all(children);
    if (placed.every((child) => child === undefined)) return undefined;
    const record = await runInSteps(encodingInnerNode(level, placed));
    return this.#store(RecordKind.inner, record, index * this.#options.geometry.span(level), undefined);
  }

  #store(
    kind: RecordKind,
    { raw, identityLength }: EncodedRecord,
    hint: number,
    usage: readonly PackBytes[] | undefined,
  ): Promise<NodeRef> {
    const { ids, writer } = this.#options;
    const id = ids.recordId(kind, raw.subarray(0, identityLength));
    const stored = writer.write(kind, id, raw, hint).then((location): NodeRef => ({ id, location, usage }));
    stored.catch(() => {}); // The parent waits for it, and reports it.
    return stored;
  }
}

function sameEntry(a: Change[1], b: Change[1]): boolean {
  if (a === undefined || b === undefined) return a === b;
  return Buffer.compare(a.id, b.id) === 0 && sameLocation(a.location, b.location);
}
