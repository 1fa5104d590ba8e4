import { BackupError } from '../../../../src/common/errors.ts';
import type { CloudTarget, ObjectInfo } from '../../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../../src/targets/memory-target.ts';
import type { RandomSource } from '../../../../src/testing/seeded-random.ts';

/** Which objects a tool copies before which. */
export const ORDERS = ['keys', 'reversed', 'packs first', 'log first', 'any', 'folders', 'documented'] as const;
export type Order = (typeof ORDERS)[number];

/** A tool that copies objects, and knows nothing of what they are. */
export interface Tool {
  readonly order: Order;
  /** How often it copies what the copy lacks. */
  readonly passes: number;
  /** Whether the last pass deletes what it has not seen. */
  readonly deletesExtras: boolean;
  readonly cache: 'copied' | 'left out' | 'older';
  /** Of all objects, how many wait for a moment of their own. */
  readonly waits: number;
  /** Of the objects of the last pass, how many it has copied when it is stopped. */
  readonly stopsAt: number;
}

const CACHE = 'cache/';

/** A tool by chance. Most of them run to their end. */
export function anyTool(random: RandomSource): Tool {
  const one = <T>(...those: readonly T[]): T => those[Math.floor(random() * those.length)] as T;
  return {
    order: one(...ORDERS),
    passes: one(1, 1, 2, 3),
    deletesExtras: random() < 0.3,
    cache: one('copied', 'left out', 'older'),
    waits: one(1, 1, 0.3, 0.05),
    stopsAt: random() < 0.15 ? random() : 1,
  };
}

/**
 * Copies a store, each object at a moment of its own: others write to the store in between. The listing has one moment, but
 * for the order `folders`, in which each folder is listed when its turn comes.
 *
 * @param slow - the store, where each request waits for its turn
 */
export async function copyBy(
  tool: Tool,
  store: CloudTarget,
  slow: CloudTarget,
  random: RandomSource,
): Promise<MemoryTarget> {
  const copy = new MemoryTarget();
  /** The tags of what was copied: a tool compares lengths and times. */
  const tags = new Map<string, string | undefined>();
  const take = async ({ key, tag }: ObjectInfo): Promise<void> => {
    if (tags.has(key) && tags.get(key) === tag) return;
    try {
      const body = await (random() < tool.waits ? slow : store).get(key);
      await copy.put(key, body as Uint8Array<ArrayBuffer>);
      tags.set(key, tag);
    } catch (error) {
      // It was deleted since it was listed. A tool says so, and goes on.
      if (!BackupError.is(error, 'OBJECT_NOT_FOUND')) throw error;
    }
  };
  if (tool.cache === 'older') for await (const info of store.list(CACHE)) await take(info);
  for (let pass = 1; pass <= tool.passes; pass++) {
    const seen = new Set<string>();
    const isLast = pass === tool.passes;
    let left = isLast && tool.stopsAt < 1 ? tool.stopsAt * (await Array.fromAsync(store.list(''))).length : Infinity;
    for await (const info of inOrder(tool.order, slow, random)) {
      seen.add(info.key);
      if (tool.cache !== 'copied' && info.key.startsWith(CACHE)) continue;
      if (--left < 0) return copy;
      await take(info);
    }
    if (!isLast || !tool.deletesExtras) continue;
    for (const { key } of await Array.fromAsync(copy.list(''))) if (!seen.has(key)) await copy.delete(key);
  }
  return copy;
}

const FOLDERS = ['format', 'keys/', 'cache/', 'catalogue/', 'log/', 'packs/', 'reserve', 'probe/'];

async function* inOrder(order: Order, store: CloudTarget, random: RandomSource): AsyncGenerator<ObjectInfo> {
  const listed = (prefix: string) => Array.fromAsync(store.list(prefix));
  if (order === 'folders') {
    for (const folder of shuffled(FOLDERS, random)) yield* await listed(folder);
    return;
  }
  if (order === 'documented') {
    // In two runs: `log/` by itself, and then everything, of which the log is left as it is.
    yield* await listed('log/');
    yield* (await listed('')).filter(({ key }) => !key.startsWith('log/'));
    return;
  }
  const all = await listed('');
  const isLog = ({ key }: ObjectInfo) => key.startsWith('log/');
  const isPack = ({ key }: ObjectInfo) => key.startsWith('packs/');
  const first = (those: (info: ObjectInfo) => boolean) => [...all.filter(those), ...all.filter((info) => !those(info))];
  if (order === 'keys') yield* all;
  else if (order === 'reversed') yield* all.toReversed();
  else if (order === 'packs first') yield* first(isPack);
  else if (order === 'log first') yield* first(isLog);
  else yield* shuffled(all, random);
}

function shuffled<T>(those: readonly T[], random: RandomSource): T[] {
  return those
    .map((each) => ({ each, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ each }) => each);
}
