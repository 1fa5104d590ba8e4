import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { BlockEntry } from '../../../src/repository/format/map-descriptor.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import type { RecordKind } from '../../../src/repository/format/record.ts';
import type { BlockMap } from '../../../src/repository/map/block-map.ts';
import type { Change } from '../../../src/repository/map/changes.ts';
import { diffMaps } from '../../../src/repository/map/diff.ts';
import { LocationSet } from '../../../src/repository/packs/location-set.ts';
import { property, withinMs } from '../../support/randomness.ts';
import { innerNodes, packUsage } from './support/map-nodes.ts';
import { BLOCK_SIZE, collect, entryOf, NaiveMap, type Step, writeStep } from './support/naive-map.ts';
import { RecordStore } from './support/record-store.ts';

/** One backup by a few random numbers; what they mean depends on the backup before. */
const backup = fc.record({
  resize: fc.option(fc.integer({ min: 0, max: 5000 * BLOCK_SIZE }), { freq: 5 }),
  shape: fc.constantFrom('few', 'scattered', 'stretch', 'none'),
  seed: fc.nat(),
  lost: fc.array(fc.nat(), { maxLength: 3 }),
  fold: fc.boolean(),
  base: fc.nat(3),
});
type Plan = typeof backup extends fc.Arbitrary<infer T> ? T : never;

/** Random numbers that replay with the property's seed. */
function numbers(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function plan(before: NaiveMap, { resize, shape, seed, lost, fold }: Plan): Step & { lost: number[] } {
  const size = resize ?? before.size;
  const after = new NaiveMap(size);
  const count = after.blockCount;
  const below = numbers(seed);
  const touched = new Set<number>();
  if (count > 0) {
    if (shape === 'few') for (let i = 0; i < 4; i++) touched.add(below(count));
    if (shape === 'scattered') for (let i = 0; i < count / 12; i++) touched.add(below(count));
    if (shape === 'stretch') {
      const first = below(count);
      for (let block = first; block < Math.min(count, first + 1 + below(700)); block++) touched.add(block);
    }
    const last = Math.min(count, before.blockCount) - 1;
    if (last >= 0 && before.blockLength(last) !== after.blockLength(last)) touched.add(last);
  }
  const lostNow = [...new Set(count === 0 ? [] : lost.map((value) => value % count))].sort((a, b) => a - b);
  const changes: Change[] = [...touched]
    .filter((block) => !lostNow.includes(block))
    .sort((a, b) => a - b)
    .map((block) => {
      const content = below(5) === 0 ? undefined : below(40); // Few contents, so that equal ones meet.
      return [block, content === undefined ? undefined : entryOf(content, after.blockLength(block), below(1000))];
    });
  return { size, changes, lost: lostNow, fold };
}

async function expectSame(map: BlockMap, naive: NaiveMap): Promise<void> {
  const blocks = [...naive.entries.keys()].sort((a, b) => a - b);
  const expected = blocks.map((block) => line(block, naive.entries.get(block)));
  const streamed = await collect(map.entries());
  expect(streamed.map(({ block, entry }) => line(block, entry))).toEqual(expected);
  const { entries, lost } = await map.lookup(0, naive.blockCount);
  expect(entries.flatMap((entry, block) => (entry === undefined ? [] : [line(block, entry)]))).toEqual(expected);
  const lostBlocks = [...naive.lost].sort((a, b) => a - b);
  expect(blocksOf(lost)).toEqual(lostBlocks);
  expect(Array.from({ length: naive.blockCount }, (_, i) => i).filter((i) => map.isLost(i))).toEqual(lostBlocks);
  for (const part of [3, 7]) {
    const first = Math.floor(naive.blockCount / part);
    const range = { firstBlock: first, blockCount: Math.floor((naive.blockCount - first) / 2) };
    const within = blocks.filter((block) => block >= first && block < first + range.blockCount);
    expect((await collect(map.entries(range))).map(({ block }) => block)).toEqual(within);
    const slice = await map.lookup(range.firstBlock, range.blockCount);
    expect(slice.entries.flatMap((entry, i) => (entry === undefined ? [] : [first + i]))).toEqual(within);
  }
}

function line(block: number, entry: BlockEntry | undefined): string {
  if (entry === undefined) return `${block} zero`;
  const { pack, offset, storedLength, codec, rawLength } = entry.location;
  return [block, Buffer.from(entry.id).toString('hex'), packKey(pack), offset, storedLength, codec, rawLength].join(
    ' ',
  );
}

function blocksOf(ranges: readonly { firstBlock: number; blockCount: number }[]): number[] {
  return ranges.flatMap(({ firstBlock, blockCount }) => Array.from({ length: blockCount }, (_, i) => firstBlock + i));
}

/** The packs that a map can't do without, with their bytes, found by reading everything. */
async function neededPacks(map: BlockMap): Promise<Map<string, number>> {
  const needed = new Map<string, number>();
  const need = ({ pack, storedLength }: { pack: Parameters<typeof packKey>[0]; storedLength: number }) =>
    needed.set(packKey(pack), (needed.get(packKey(pack)) ?? 0) + storedLength);
  for await (const { entry } of map.entries()) need(entry.location);
  for (const chunk of map.descriptor.runs.flat()) need(chunk.location);
  const { tree } = map;
  for (const { location } of await innerNodes(map)) need(location);
  for await (const { ref } of tree.leafRefs(0, Number.POSITIVE_INFINITY)) need(ref.location);
  return needed;
}

test(
  'a history of backups reads as a plain map does, whatever is merged, folded, lost, grown and shrunk',
  async () => {
    const seen = { merged: 0, folded: 0, run: 0, levels: new Set<number>() };
    const history = fc.record({
      fanOut: fc.constantFrom(8, 16),
      size: fc.integer({ min: 0, max: 5000 * BLOCK_SIZE }),
      cacheBytes: fc.constantFrom(0, 3000, 1e6),
      full: backup,
      backups: fc.array(backup, { minLength: 1, maxLength: 16 }),
    });
    await fc.assert(
      fc.asyncProperty(history, async ({ fanOut, size, cacheBytes, full, backups }) => {
        const store = new RecordStore();
        const first = plan(new NaiveMap(size), { ...full, resize: null });
        const naive = [new NaiveMap(size).next(size, first.changes, first.lost)];
        const maps = [await writeStep(store, fanOut, first, undefined, { cacheBytes })];
        await expectSame(maps[0]!, naive[0]!);
        for (const [i, random] of backups.entries()) {
          // Folding always would leave no runs to merge: one in four.
          const step = plan(naive[i]!, { ...random, fold: random.fold && random.base === 0 });
          const runsBefore = maps[i]!.descriptor.runs.length;
          naive.push(naive[i]!.next(step.size, step.changes, step.lost));
          maps.push(await writeStep(store, fanOut, step, maps[i], { cacheBytes }));
          const { runs, root } = maps[i + 1]!.descriptor;
          if (runs.length === 0) seen.folded++;
          else if (runs.length > runsBefore) seen.run++;
          else if (runs[0] !== maps[i]!.descriptor.runs[0]) seen.merged++;
          if (root !== undefined) seen.levels.add(root.level);
          await expectSame(maps[i + 1]!, naive[i + 1]!);

          const other = Math.max(0, i - random.base);
          const differ = naive[other]!.differs(naive[i + 1]!);
          const ranges = await collect(diffMaps(maps[other]!, maps[i + 1]!));
          expect(blocksOf(ranges)).toEqual(differ);
          for (let r = 1; r < ranges.length; r++) {
            expect(ranges[r]!.firstBlock).toBeGreaterThan(ranges[r - 1]!.firstBlock + ranges[r - 1]!.blockCount);
          }
          expect(blocksOf(await collect(diffMaps(maps[i + 1]!, maps[other]!)))).toEqual(differ);
          const rough = new Set(blocksOf(await collect(diffMaps(maps[other]!, maps[i + 1]!, { exact: false }))));
          expect(differ.filter((block) => !rough.has(block))).toEqual([]);

          const usage = await packUsage(maps[i + 1]!);
          for (const [pack, bytes] of await neededPacks(maps[i + 1]!)) {
            expect(usage.get(pack)).toBeGreaterThanOrEqual(bytes);
          }
          if (runs.length === 0) expect(usage).toEqual(await neededPacks(maps[i + 1]!));
        }
        const seenNodes = new LocationSet();
        const together = new Map<string, number>();
        for (const map of maps) for (const [pack, n] of await packUsage(map, seenNodes)) together.set(pack, n);
        for (const map of maps)
          for (const pack of (await neededPacks(map)).keys()) expect(together.has(pack)).toBe(true);
      }),
      property(2 * 32),
    );
    // The histories must have been worth it.
    expect(seen.run).toBeGreaterThan(20);
    expect(seen.folded).toBeGreaterThan(20);
    expect(seen.levels.size).toBeGreaterThan(2);
  },
  withinMs(300_000),
);

test('changes of a few blocks a day for a year: runs merge, fold at last, and every day reads right', async () => {
  const store = new RecordStore();
  const size = 20_000 * BLOCK_SIZE;
  const below = numbers(11);
  const all: Change[] = Array.from({ length: 20_000 }, (_, block) => [block, entryOf(block % 97, BLOCK_SIZE, block)]);
  let naive = new NaiveMap(size).next(size, all, []);
  let map = await writeStep(store, 16, { size, changes: all });
  const counts = { merges: 0, folds: 0 };
  /** What the naive map has not seen yet: copying it every day would take longer than all else. */
  const since: Change[] = [];
  let changed = 0;
  let inRuns = 0;
  for (let day = 0; day < 365; day++) {
    const blocks = [...new Set(Array.from({ length: 9 }, () => below(20_000)))].sort((a, b) => a - b);
    const changes: Change[] = blocks.map((block) => [block, below(8) === 0 ? undefined : entryOf(below(1e6))]);
    const before = store.written.length;
    const { length } = map.descriptor.runs;
    map = await writeStep(store, 16, { size, changes }, map);
    since.push(...changes);
    changed += changes.length;
    if (map.descriptor.runs.length === 0) counts.folds++;
    else {
      expect(store.written.length - before).toBe(1);
      inRuns += map.descriptor.runs[0]!.reduce((sum, { entries }) => sum + entries, 0);
      if (map.descriptor.runs.length <= length) counts.merges++;
    }
    expect(map.descriptor.runs.length).toBeLessThanOrEqual(8);
    if (day % 73 !== 0) continue;
    naive = naive.next(size, since.splice(0), []);
    await expectSame(map, naive);
  }
  naive = naive.next(size, since, []);
  await expectSame(map, naive);
  expect(counts.folds).toBe(2);
  expect(counts.merges).toBeGreaterThan(20);
  // Write amplification of the merges.
  expect(inRuns / changed).toBeLessThan(5);
});

test('the same arguments write the same records in the same order, however long each takes', async () => {
  const runs: unknown[] = [];
  for (const delays of [0, 1, 2]) {
    const store = new RecordStore();
    const below = numbers(5 + delays);
    store.beforeWrite = async () => {
      for (let i = below(1 + delays * 4); i > 0; i--) await Promise.resolve();
    };
    const size = 3000 * BLOCK_SIZE;
    const full: Change[] = Array.from({ length: 3000 }, (_, block) => [block, entryOf(block)]);
    const map = await writeStep(store, 8, { size, changes: full });
    const some: Change[] = full.filter(([block]) => block % 50 === 3).map(([block]) => [block, entryOf(block + 1)]);
    await writeStep(store, 8, { size, changes: some, fold: true }, map);
    runs.push(
      store.written.map(({ kind, id, hint, raw }): [RecordKind, string, number, number] => [
        kind,
        Buffer.from(id).toString('hex'),
        hint,
        raw.length,
      ]),
    );
  }
  expect(runs[1]).toEqual(runs[0]);
  expect(runs[2]).toEqual(runs[0]);
});
