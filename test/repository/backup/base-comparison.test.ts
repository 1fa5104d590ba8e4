import { expect, test } from 'vitest';
import { ComparedBase } from '../../../src/repository/backup/base-comparison.ts';
import type { RepositoryContext } from '../../../src/repository/context/repository-context.ts';
import { BlockMap } from '../../../src/repository/map/block-map.ts';

test('blocks that are as in the base are known also beyond the 2^31st', () => {
  const size = (2 ** 31 + 16) * 4096;
  const context = { format: { fanOut: 64 }, records: {}, keys: {} } as unknown as RepositoryContext;
  const descriptor = { size, blockSize: 4096, root: undefined, runs: [], lost: [] };
  const map = new BlockMap(descriptor as never, 64, context.records as never, context.keys as never);
  const base = new ComparedBase(context, map, { size, isFetched: true });
  for (const block of [0, 2 ** 31 - 1, 2 ** 31, 2 ** 31 + 15]) {
    expect(base.isSame(block)).toBe(false);
    base.same(block);
    expect(base.isSame(block)).toBe(true);
  }
  expect(base.isSame(15)).toBe(false);
});
