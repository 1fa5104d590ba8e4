import { type BlockRange, Coalescer, clipRanges, unionRanges } from '../../common/block-range.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { EntryTable } from '../format/entry-table.ts';
import type { InnerNode, NodeRef } from '../format/inner-node.ts';
import type { BlockMap, ReadOptions } from './block-map.ts';
import type { MapTree } from './map-tree.ts';
import type { Overlay } from './overlay.ts';

export interface DiffOptions extends ReadOptions {
  /**
   * Whether a block that only one map's runs name is looked up in the tree. Otherwise only differing subtrees are read, and
   * blocks that were rewritten with the same content are reported too.
   *
   * @defaultValue true
   */
  readonly exact?: boolean | undefined;
}

/**
 * The ranges of blocks whose content differs between two maps of one block size, ascending and coalesced.
 *
 * Subtrees of one id are skipped unread. Blocks that only one of the maps has, whose lengths differ (the last one of a
 * volume that was resized), or that are lost in either, count as different, because nothing says that they are the same.
 */
export async function* diffMaps(a: BlockMap, b: BlockMap, options: DiffOptions = {}): AsyncGenerator<BlockRange> {
  if (a.geometry.blockSize !== b.geometry.blockSize || a.geometry.fanOut !== b.geometry.fanOut) {
    throw new TypeError('only maps of one block size and one fan-out can be compared');
  }
  const common = commonBlocks(a, b);
  const most = Math.max(a.geometry.blockCount, b.geometry.blockCount);
  const unknown = unionRanges(
    clipRanges(a.descriptor.lost, 0, common),
    clipRanges(b.descriptor.lost, 0, common),
    most > common ? [{ firstBlock: common, blockCount: most - common }] : [],
  );
  const coalescer = new Coalescer();
  let next = 0;
  for await (const blocks of differingBlocks(a, b, common, options)) {
    for (const block of blocks) {
      for (; next < unknown.length && unknown[next]!.firstBlock <= block; next++) {
        const complete = coalescer.add(unknown[next]!.firstBlock, unknown[next]!.blockCount);
        if (complete !== undefined) yield complete;
      }
      const complete = coalescer.add(block, 1);
      if (complete !== undefined) yield complete;
    }
  }
  for (; next < unknown.length; next++) {
    const complete = coalescer.add(unknown[next]!.firstBlock, unknown[next]!.blockCount);
    if (complete !== undefined) yield complete;
  }
  const last = coalescer.end();
  if (last !== undefined) yield last;
}

/** The number of blocks, from 0 on, that both maps have in equal length. */
function commonBlocks(a: BlockMap, b: BlockMap): number {
  const least = Math.min(a.geometry.blockCount, b.geometry.blockCount);
  if (least === 0 || a.geometry.blockLength(least - 1) === b.geometry.blockLength(least - 1)) return least;
  return least - 1;
}

/** A leaf's worth of blocks to compare. */
interface Job {
  readonly index: number;
  /** What the trees have there, if they differ. */
  readonly differing: DifferingLeaf | undefined;
  /** Whether the leaf, which is the same in both trees, is needed for blocks that only one map's runs name. */
  readonly needsLeaf: boolean;
}

/** Blocks before `common` that differ, ascending, in groups. */
async function* differingBlocks(
  a: BlockMap,
  b: BlockMap,
  common: number,
  options: DiffOptions,
): AsyncGenerator<number[]> {
  const { signal, readAhead: width = 32, exact = true } = options;
  const loading = { signal, keep: false };
  const [{ overlay: overA }, { overlay: overB }] = await Promise.all([a.runs({ signal }), b.runs({ signal })]);
  const load = async (job: Job) => {
    const { index, differing, needsLeaf } = job;
    const [leafA, leafB] = await Promise.all([
      differing?.a === undefined ? undefined : a.tree.loadLeaf(differing.a, index, loading),
      differing?.b === undefined ? undefined : b.tree.loadLeaf(differing.b, index, loading),
    ]);
    if (!needsLeaf) return { job, leafA, leafB };
    const shared = await a.tree.leaf(index, loading);
    return { job, leafA: shared, leafB: shared };
  };
  const jobs = mergeJobs(a, b, common, { signal, exact }, overA, overB);
  for await (const { job, leafA, leafB } of mapConcurrently(jobs, load, width)) {
    await yieldToEventLoop();
    const sideA = { overlay: overA, leaf: leafA };
    yield compareLeaf(job, common, a.geometry.fanOut, sideA, { overlay: overB, leaf: leafB });
  }
}

/** Leaves to compare: those where the trees differ, and those of blocks that runs name. */
async function* mergeJobs(
  a: BlockMap,
  b: BlockMap,
  common: number,
  { signal, exact }: { signal: AbortSignal | undefined; exact: boolean },
  overA: Overlay,
  overB: Overlay,
): AsyncGenerator<Job> {
  const named = namedLeaves(overA, overB, common, a.geometry.fanOut);
  let next = named.next();
  for await (const differing of differingLeaves(a.tree, b.tree, common, signal)) {
    for (; next.done !== true && next.value.index < differing.index; next = named.next()) {
      yield { index: next.value.index, differing: undefined, needsLeaf: exact && next.value.byOne };
    }
    if (next.done !== true && next.value.index === differing.index) next = named.next();
    yield { index: differing.index, differing, needsLeaf: false };
  }
  for (; next.done !== true; next = named.next()) {
    yield { index: next.value.index, differing: undefined, needsLeaf: exact && next.value.byOne };
  }
}

/** The leaves of blocks that runs name, and whether only one map's runs name one of them. */
function* namedLeaves(
  a: Overlay,
  b: Overlay,
  common: number,
  fanOut: number,
): Generator<{ index: number; byOne: boolean }> {
  let atA = 0;
  let atB = 0;
  let current: { index: number; byOne: boolean } | undefined;
  for (;;) {
    const blockA = atA < a.count ? a.block(atA) : common;
    const blockB = atB < b.count ? b.block(atB) : common;
    const block = Math.min(blockA, blockB);
    if (block >= common) break;
    if (blockA === block) atA++;
    if (blockB === block) atB++;
    const index = Math.floor(block / fanOut);
    if (current?.index !== index) {
      if (current !== undefined) yield current;
      current = { index, byOne: false };
    }
    if (blockA !== blockB) current.byOne = true;
  }
  if (current !== undefined) yield current;
}

/** One map within one leaf. */
type Side = { readonly overlay: Overlay; readonly leaf: EntryTable | undefined };

/** The id of the block of a slot. @param at - the index of its entry in the runs, -1 if they don't name it */
function idIn({ overlay, leaf }: Side, slot: number, at: number): Uint8Array | undefined {
  if (at >= 0) return overlay.has(at) ? overlay.id(at) : undefined;
  return leaf?.has(slot) === true ? leaf.id(slot) : undefined;
}

function compareLeaf({ index, differing, needsLeaf }: Job, common: number, fanOut: number, a: Side, b: Side): number[] {
  const first = index * fanOut;
  const end = Math.min(common, first + fanOut);
  const differ: number[] = [];
  let atA = a.overlay.from(first);
  let atB = b.overlay.from(first);
  for (let block = first; block < end; block++) {
    const blockA = atA < a.overlay.count ? a.overlay.block(atA) : end;
    const blockB = atB < b.overlay.count ? b.overlay.block(atB) : end;
    if (differing === undefined) block = Math.min(blockA, blockB); // The trees are equal: only what runs name can differ.
    if (block >= end) break;
    const byA = block === blockA;
    const byB = block === blockB;
    const known = differing !== undefined || needsLeaf || byA === byB;
    const slot = block - first;
    if (!known || !isSame(slot, a, byA ? atA : -1, b, byB ? atB : -1)) differ.push(block);
    if (byA) atA++;
    if (byB) atB++;
  }
  return differ;
}

function isSame(slot: number, a: Side, atA: number, b: Side, atB: number): boolean {
  if (atA < 0 && atB < 0 && a.leaf !== undefined && b.leaf !== undefined) return a.leaf.hasSameId(slot, b.leaf);
  const idA = idIn(a, slot, atA);
  const idB = idIn(b, slot, atB);
  if (idA === undefined || idB === undefined) return idA === idB;
  return Buffer.compare(idA, idB) === 0;
}

/** A leaf whose id differs between two trees, and what each tree has there. */
interface DifferingLeaf {
  readonly index: number;
  readonly a: NodeRef | undefined;
  readonly b: NodeRef | undefined;
}

/** Stands for nodes above the root of the lower of two trees: their only child, the first, leads to that root. */
const ABOVE_ROOT: unique symbol = Symbol('above the root');
type Ref = NodeRef | typeof ABOVE_ROOT | undefined;

interface Pair {
  readonly level: number;
  readonly index: number;
  readonly a: Ref;
  readonly b: Ref;
}

/** Nodes of each level to load at a time. */
const WIDTH = 4;

/** The leaves of blocks before `common` whose ids differ, ascending. Only nodes above them are read. */
async function* differingLeaves(
  a: MapTree,
  b: MapTree,
  common: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<DifferingLeaf> {
  const level = Math.max(a.geometry.rootLevel, b.geometry.rootLevel);
  const root: Pair = { level, index: 0, a: rootAt(a, level), b: rootAt(b, level) };
  if (common === 0 || sameNode(root)) return;
  if (level === 0) yield leafOf(root);
  else yield* below(await open(root));

  type Opened = Pair & { readonly nodeA: InnerNode | undefined; readonly nodeB: InnerNode | undefined };

  async function open(pair: Pair): Promise<Opened> {
    const load = (tree: MapTree, ref: Ref) =>
      typeof ref === 'object' ? tree.loadInner(ref, pair.level, pair.index, { signal }) : undefined;
    const [nodeA, nodeB] = await Promise.all([load(a, pair.a), load(b, pair.b)]);
    return { ...pair, nodeA, nodeB };
  }

  async function* below(pair: Opened): AsyncGenerator<DifferingLeaf> {
    const children: Pair[] = [];
    for (let slot = 0; slot < a.geometry.fanOut; slot++) {
      const index = pair.index * a.geometry.fanOut + slot;
      if (index * a.geometry.span(pair.level - 1) >= common) break;
      const child: Pair = {
        level: pair.level - 1,
        index,
        a: childOf(a, pair.a, pair.nodeA, pair.level - 1, slot),
        b: childOf(b, pair.b, pair.nodeB, pair.level - 1, slot),
      };
      if (!sameNode(child)) children.push(child);
    }
    if (pair.level === 1) {
      yield* children.map(leafOf);
      return;
    }
    for await (const child of mapConcurrently(children, open, WIDTH)) yield* below(child);
  }
}

function rootAt(tree: MapTree, level: number): Ref {
  return level === tree.geometry.rootLevel || tree.root === undefined ? tree.root : ABOVE_ROOT;
}

function childOf(tree: MapTree, ref: Ref, node: InnerNode | undefined, level: number, slot: number): Ref {
  if (ref === ABOVE_ROOT) return slot === 0 ? rootAt(tree, level) : undefined;
  return node?.child(slot);
}

/** Equal ids are equal content; two absent nodes are equal zeroes. */
function sameNode({ a, b }: Pair): boolean {
  if (typeof a !== 'object' || typeof b !== 'object') return a === b;
  return Buffer.compare(a.id, b.id) === 0;
}

function leafOf({ index, a, b }: Pair): DifferingLeaf {
  return { index, a: a as NodeRef | undefined, b: b as NodeRef | undefined };
}
