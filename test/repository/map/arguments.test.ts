import { expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import type { Change } from '../../../src/repository/map/changes.ts';
import { BLOCK_SIZE, collect, entryOf, openMap, writeStep } from './support/naive-map.ts';
import { RecordStore } from './support/record-store.ts';

const size = 100 * BLOCK_SIZE;

test.each<[string, Change[], number[]]>([
  [
    'not ascending',
    [
      [3, entryOf(1)],
      [2, entryOf(2)],
    ],
    [],
  ],
  [
    'twice the same',
    [
      [3, entryOf(1)],
      [3, entryOf(2)],
    ],
    [],
  ],
  ['past the end', [[100, entryOf(1)]], []],
  ['of the wrong length', [[3, entryOf(1, 512)]], []],
  ['of no id', [[3, { ...entryOf(1), id: new Uint8Array(31) }]], []],
  ['at an impossible place', [[3, { ...entryOf(1), location: { ...entryOf(1).location, offset: 3 } }]], []],
  ['said to be lost', [[3, entryOf(1)]], [3]],
])('changes %s are a TypeError', async (_, changes, lost) => {
  await expect(writeStep(new RecordStore(), 8, { size, changes, lost })).rejects.toThrow(TypeError);
});

test('the last block must be among the changes when its length changed and it had content', async () => {
  const store = new RecordStore();
  const short = size - BLOCK_SIZE / 2;
  const map = await writeStep(store, 8, {
    size,
    changes: [
      [98, entryOf(1)],
      [99, entryOf(2)],
    ],
  });
  await expect(writeStep(store, 8, { size: short, changes: [] }, map)).rejects.toThrow(TypeError);
  const next = await writeStep(store, 8, { size: short, changes: [[99, entryOf(3, BLOCK_SIZE / 2)]] }, map);
  expect((await next.lookup(99, 1)).entries[0]!.location.rawLength).toBe(BLOCK_SIZE / 2);
  const zero = await writeStep(store, 8, { size, changes: [[98, entryOf(1)]] });
  expect((await collect((await writeStep(store, 8, { size: short, changes: [] }, zero)).entries())).length).toBe(1);
});

test('lost blocks stay lost until a change brings them back', async () => {
  const store = new RecordStore();
  const all: Change[] = Array.from({ length: 100 }, (_, block) => [block, entryOf(block)]);
  const map = await writeStep(store, 8, { size, changes: all });
  const lost = await writeStep(store, 8, { size, changes: [], lost: [4, 5, 6] }, map);
  expect((await lost.lookup(4, 3)).entries).toEqual([undefined, undefined, undefined]);
  const next = await writeStep(store, 8, { size, changes: [[5, entryOf(7)]] }, lost);
  expect([4, 5, 6, 7].map((block) => next.isLost(block))).toEqual([true, false, true, false]);
  expect((await next.lookup(5, 1)).entries[0]!.id).toEqual(entryOf(7).id);
});

test('other block sizes and fan-outs than the base has are a TypeError', async () => {
  const store = new RecordStore();
  const map = await writeStep(store, 8, { size, changes: [] });
  await expect(writeStep(store, 16, { size, changes: [] }, map)).rejects.toThrow(TypeError);
  expect(() => openMap(store, 256, map.descriptor)).toThrow(TypeError);
  expect(() => openMap(store, 12, map.descriptor)).toThrow(TypeError);
});

test('blocks past the end are OUT_OF_RANGE', async () => {
  const map = await writeStep(new RecordStore(), 8, { size, changes: [] });
  await expect(map.lookup(99, 2)).rejects.toSatisfy((error) => BackupError.is(error, 'OUT_OF_RANGE'));
  await expect(collect(map.entries({ firstBlock: 101, blockCount: 0 }))).rejects.toSatisfy((error) =>
    BackupError.is(error, 'OUT_OF_RANGE'),
  );
});

test('a signal ends a write, and the source of changes is closed', async () => {
  const controller = new AbortController();
  let closed = false;
  async function* changes(): AsyncGenerator<Change> {
    try {
      for (let block = 0; block < 100_000; block++) {
        if (block === 50_000) controller.abort(new Error('enough'));
        yield [block, entryOf(1)];
      }
    } finally {
      closed = true;
    }
  }
  const { writeBlockMap } = await import('../../../src/repository/map/write-block-map.ts');
  const { plainIds } = await import('./support/record-store.ts');
  const options = {
    size: 100_000 * BLOCK_SIZE,
    blockSize: BLOCK_SIZE,
    fanOut: 8,
    writer: new RecordStore(),
    ids: plainIds,
  };
  const writing = writeBlockMap({ ...options, changes: changes(), signal: controller.signal });
  await expect(writing).rejects.toThrow('enough');
  expect(closed).toBe(true);
});

test('a writer that fails, fails the write, with its own error', async () => {
  const store = new RecordStore();
  let calls = 0;
  store.beforeWrite = async () => {
    if (++calls === 30) throw new Error('no more room');
  };
  const changes: Change[] = Array.from({ length: 1000 }, (_, block) => [block, entryOf(block)]);
  await expect(writeStep(store, 8, { size: 1000 * BLOCK_SIZE, changes })).rejects.toThrow('no more room');
});
