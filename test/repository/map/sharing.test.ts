import { describe, expect, test } from 'vitest';
import { RecordKind } from '../../../src/repository/format/record.ts';
import { BlockMap } from '../../../src/repository/map/block-map.ts';
import type { Change } from '../../../src/repository/map/changes.ts';
import { diffMaps } from '../../../src/repository/map/diff.ts';
import { runsToMerge } from '../../../src/repository/map/runs.ts';
import { innerNodes, packUsage } from './support/map-nodes.ts';
import { BLOCK_SIZE, collect, entryOf, writeStep } from './support/naive-map.ts';
import { plainIds, RecordStore } from './support/record-store.ts';

const FAN_OUT = 8;
const BLOCKS = 3000; // Four levels of nodes at this fan-out.
const size = BLOCKS * BLOCK_SIZE;
const everything: Change[] = Array.from({ length: BLOCKS }, (_, block) => [block, entryOf(block)]);

async function full() {
  const store = new RecordStore();
  const map = await writeStep(store, FAN_OUT, { size, changes: everything });
  return { store, map, written: store.written.length };
}

describe('what an incremental writes', () => {
  test('one changed block: one run record, and the tree stays as it was', async () => {
    const { store, map, written } = await full();
    const next = await writeStep(store, FAN_OUT, { size, changes: [[1234, entryOf(5000)]] }, map);
    expect(store.written.slice(written).map(({ kind, hint }) => [kind, hint])).toEqual([[RecordKind.runChunk, 1234]]);
    expect(next.descriptor.root).toEqual(map.descriptor.root);
  });

  test('nothing changed: no record at all', async () => {
    const { store, map, written } = await full();
    const next = await writeStep(store, FAN_OUT, { size, changes: [] }, map);
    expect(store.written.length).toBe(written);
    expect(next.descriptor).toEqual(map.descriptor);
  });

  test('a fold rewrites each touched leaf once and its ancestors once, and nothing else', async () => {
    const { store, map, written } = await full();
    const changes: Change[] = [3, 5, 900, 907, 2999].map((block) => [block, entryOf(block + 9000)]);
    await writeStep(store, FAN_OUT, { size, changes, fold: true }, map);
    const nodes = new Set<string>();
    for (const [block] of changes) {
      for (let level = 0; level <= map.geometry.rootLevel; level++) {
        nodes.add(`${level} ${Math.floor(block / FAN_OUT ** (level + 1)) * FAN_OUT ** (level + 1)}`);
      }
    }
    const rewritten = store.written.slice(written).map(({ kind, raw, hint }) => {
      return `${kind === RecordKind.leaf ? 0 : raw[0]} ${hint}`;
    });
    expect(rewritten.length).toBe(new Set(rewritten).size);
    expect(new Set(rewritten)).toEqual(nodes);
  });

  test('a fold of changes that change nothing shares the root itself', async () => {
    const { store, map, written } = await full();
    const next = await writeStep(
      store,
      FAN_OUT,
      { size, changes: [everything[77]!, everything[2000]!], fold: true },
      map,
    );
    expect(store.written.length).toBe(written);
    expect(next.descriptor.root).toEqual(map.descriptor.root);
  });

  test('a block stored again elsewhere keeps every id and changes the places on its path', async () => {
    const { store, map, written } = await full();
    const moved = { ...entryOf(77), location: entryOf(77, BLOCK_SIZE, 5001).location };
    const next = await writeStep(store, FAN_OUT, { size, changes: [[77, moved]], fold: true }, map);
    expect(store.written.length - written).toBe(map.geometry.rootLevel + 1);
    expect(next.descriptor.root!.id).toEqual(map.descriptor.root!.id);
    expect((await next.lookup(77, 1)).entries[0]!.location).toEqual(moved.location);
    expect(await collect(diffMaps(map, next))).toEqual([]);
  });

  test('a long stretch of changed blocks is folded: a run would be larger', async () => {
    const store = new RecordStore();
    const large = 65_536 * BLOCK_SIZE;
    const all: Change[] = Array.from({ length: 65_536 }, (_, block) => [block, entryOf(block)]);
    const map = await writeStep(store, 128, { size: large, changes: all });
    const written = store.written.length;
    // 30 whole leaves, and within the limit of runs.
    const changes: Change[] = all.slice(1280, 1280 + 3840).map(([block]) => [block, entryOf(block + 90_000)]);
    const next = await writeStep(store, 128, { size: large, changes }, map);
    expect(next.descriptor.runs).toEqual([]);
    expect(store.written.length - written).toBe(30 + 1 + 1);
    const scattered: Change[] = changes.filter((_, i) => i % 2 === 0);
    expect((await writeStep(store, 128, { size: large, changes: scattered }, map)).descriptor.runs.length).toBe(1);
  });

  test('a leaf that becomes all zeroes goes, and its parents with it', async () => {
    const { store, map, written } = await full();
    const changes: Change[] = everything.slice(512, 1024).map(([block]) => [block, undefined]);
    const next = await writeStep(store, FAN_OUT, { size, changes, fold: true }, map);
    expect(store.written.length - written).toBe(1); // 512 blocks are one child of the root.
    expect(next.tree.geometry.rootLevel).toBe(3);
    expect(await next.tree.ref(2, 1)).toBeUndefined();
  });

  test('the volume grows by a level: the old root is a child of the new one, unread but for its place', async () => {
    const { store, map, written } = await full();
    const next = await writeStep(store, FAN_OUT, { size: size * 10, changes: [] }, map);
    expect(next.descriptor.root!.level).toBe(map.descriptor.root!.level + 1);
    expect(store.written.length - written).toBe(1);
    expect((await next.tree.ref(3, 0))!.id).toEqual(map.descriptor.root!.id);
  });
});

describe('a volume whose last block was short', () => {
  const short = 1000;
  const before = size - BLOCK_SIZE + short;
  const last = BLOCKS - 1;
  const sizes = [
    { change: 'grows', after: size + 5 * BLOCK_SIZE },
    { change: 'grows within its last block', after: before + 500 },
    { change: 'shrinks within its last block', after: before - 500 },
  ];

  test.each(sizes)(
    'and $change is read: no node that is kept says that the block is as long as it was',
    async ({ after }) => {
      const store = new RecordStore();
      // Neither is compressed: a reader refuses one that is stored in another length than the block's.
      const everyBlock: Change[] = [...everything.slice(0, last), [last, entryOf(4000, short)]];
      const map = await writeStep(store, FAN_OUT, { size: before, changes: everyBlock });
      const nowLong = Math.min(BLOCK_SIZE, after - last * BLOCK_SIZE);
      const next = await writeStep(store, FAN_OUT, { size: after, changes: [[last, entryOf(8000, nowLong)]] }, map);
      const { entries } = await next.lookup(last - 1, 2);
      expect(entries.map((entry) => entry?.location.rawLength)).toEqual([BLOCK_SIZE, nowLong]);
    },
  );
});

describe('what reading costs', () => {
  test('a lookup reads one path; again, nothing', async () => {
    const { store, map } = await full();
    await map.lookup(1000, 1);
    expect(store.reads).toBe(map.geometry.rootLevel + 1);
    await map.lookup(1001, 1);
    expect(store.reads).toBe(map.geometry.rootLevel + 1);
  });

  test('concurrent lookups of one path join', async () => {
    const { store, map } = await full();
    await Promise.all([map.lookup(1000, 1), map.lookup(1000, 4), map.lookup(1003, 2)]);
    expect(store.reads).toBe(map.geometry.rootLevel + 1);
  });

  test('one caller that gives up does not fail those who joined it', async () => {
    const { store, map } = await full();
    const controller = new AbortController();
    store.beforeRead = async () => controller.abort(new Error('enough'));
    const given = map.lookup(1000, 1, { signal: controller.signal });
    const other = map.lookup(1000, 1);
    await expect(given).rejects.toThrow('enough');
    expect((await other).entries[0]!.id).toEqual(entryOf(1000).id);
  });

  test('a failed read is not remembered', async () => {
    const { store, map } = await full();
    store.beforeRead = async () => {
      store.beforeRead = async () => {};
      throw new Error('the network is away');
    };
    await expect(map.lookup(0, 1)).rejects.toThrow('the network is away');
    expect((await map.lookup(0, 1)).entries[0]!.id).toEqual(entryOf(0).id);
    const { store: other, map: base } = await full();
    const next = await writeStep(other, FAN_OUT, { size, changes: [[1, entryOf(9)]] }, base);
    other.beforeRead = async () => {
      other.beforeRead = async () => {};
      throw new Error('the network is away');
    };
    await expect(next.load()).rejects.toThrow('the network is away');
    await next.load();
  });

  test('nothing that the runs or the lost ranges settle is read from the tree', async () => {
    const { store, map } = await full();
    const changes: Change[] = [
      [8, entryOf(1)],
      [9, undefined],
    ];
    const next = await writeStep(store, FAN_OUT, { size, changes, lost: [10] }, map);
    store.readKinds.length = 0;
    const slice = await next.lookup(8, 3);
    expect(slice.entries.map((entry) => entry !== undefined)).toEqual([true, false, false]);
    expect(slice.lost).toEqual([{ firstBlock: 10, blockCount: 1 }]);
    expect(store.readKinds).toEqual([RecordKind.runChunk]);
  });

  test('a stream of all entries loads no more than it is asked to ahead, and keeps no leaf', async () => {
    const { store, map } = await full();
    let reading = 0;
    let most = 0;
    store.beforeRead = async ({ kind }) => {
      if (kind !== RecordKind.leaf) return;
      most = Math.max(most, ++reading);
      await new Promise((resolve) => setImmediate(resolve));
      reading--;
    };
    expect((await collect(map.entries(undefined, { readAhead: 6 }))).length).toBe(BLOCKS);
    expect(most).toBe(6);
    const before = store.reads;
    await map.lookup(0, 1);
    expect(store.reads).toBe(before + 1); // The leaf; its ancestors are kept.
  });

  test('a diff reads the two paths where the trees differ', async () => {
    const { store, map } = await full();
    const next = await writeStep(store, FAN_OUT, { size, changes: [[700, entryOf(1)]], fold: true }, map);
    const [a, b] = [map, next].map((each) => new BlockMap(each.descriptor, FAN_OUT, store, plainIds));
    store.reads = 0;
    expect(await collect(diffMaps(a!, b!))).toEqual([{ firstBlock: 700, blockCount: 1 }]);
    expect(store.reads).toBe(2 * (map.geometry.rootLevel + 1));
  });

  test('a rough diff of a map and its run reads the run alone', async () => {
    const { store, map } = await full();
    const next = await writeStep(store, FAN_OUT, { size, changes: [[700, entryOf(1)]] }, map);
    store.readKinds.length = 0;
    expect(await collect(diffMaps(map, next, { exact: false }))).toEqual([{ firstBlock: 700, blockCount: 1 }]);
    expect(store.readKinds).toEqual([RecordKind.runChunk]);
  });

  test('the packs of a map are found without reading a leaf', async () => {
    const { store, map } = await full();
    await packUsage(map);
    expect(store.readKinds).not.toContain(RecordKind.leaf);
    expect(store.readKinds.length).toBe((await innerNodes(map)).length);
  });
});

test('as few of the newest runs are merged as come to no more than the next older one', () => {
  expect(runsToMerge([1, 1, 1, 1, 1, 1, 1, 1, 8])).toBe(8);
  expect(runsToMerge([1, 1, 2, 9, 9, 9, 9, 9, 9])).toBe(2);
  expect(runsToMerge([1, 1, 1, 1, 1, 1, 1, 1, 1])).toBe(9);
});
