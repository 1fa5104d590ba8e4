import { expect, test } from 'vitest';
import { BlockMap } from '../../../src/repository/map/block-map.ts';
import { BLOCK_SIZE, entryOf, writeStep } from './support/naive-map.ts';
import { plainIds, RecordStore, type StoredRecord } from './support/record-store.ts';

/** A record that is never read, because the answer is lost, must not hold up those who ask for it later. */

test.each(['runs', 'nodes'])('%s that all have given up to wait for are read anew', async (what) => {
  const records = new RecordStore();
  const changes = Array.from(
    { length: 40 },
    (_, block) => [block, entryOf(block)] as [number, ReturnType<typeof entryOf>],
  );
  let map = await writeStep(records, 8, { size: 40 * BLOCK_SIZE, changes });
  if (what === 'runs') map = await writeStep(records, 8, { size: 40 * BLOCK_SIZE, changes: [[3, entryOf(77)]] }, map);
  expect(map.descriptor.runs.length).toBe(what === 'runs' ? 1 : 0);
  const again = new BlockMap(map.descriptor, 8, records, plainIds);
  const asked = Promise.withResolvers<StoredRecord>();
  records.beforeRead = (record) => {
    asked.resolve(record);
    return new Promise(() => {});
  };
  const callers = [new AbortController(), new AbortController()];
  const lookups = callers.map(({ signal }) => again.lookup(3, 1, { signal }));
  await asked.promise;
  callers[0]!.abort(new Error('enough'));
  await expect(lookups[0]).rejects.toThrow('enough');
  callers[1]!.abort(new Error('enough'));
  await expect(lookups[1]).rejects.toThrow('enough');
  records.beforeRead = async () => {};
  const { entries } = await again.lookup(3, 1);
  expect(entries[0]?.id).toEqual(entryOf(what === 'runs' ? 77 : 3).id);
});
