import { mapConcurrently } from '../../common/map-concurrently.ts';
import type { InnerNode, NodeRef } from '../format/inner-node.ts';
import type { MapTree } from './map-tree.ts';

/** A leaf whose id differs between two trees, by what each has there. */
export interface DifferingLeaf {
  readonly index: number;
  readonly a: NodeRef | undefined;
  readonly b: NodeRef | undefined;
}

/** In place of nodes above the root of the lower of two trees: their only child, the first, leads to that root. */
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
export async function* differingLeaves(
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
