import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { RecordKind, type RecordReader } from '../../../src/repository/format/record.ts';
import { BlockMap } from '../../../src/repository/map/block-map.ts';
import type { Change } from '../../../src/repository/map/changes.ts';
import { visitMap } from '../../../src/repository/map/visit.ts';
import { BLOCK_SIZE, entryOf, writeStep } from './support/naive-map.ts';
import { plainIds, RecordStore } from './support/record-store.ts';

const FAN_OUT = 8;
const BLOCKS = 600; // Four levels of nodes.

/** A tree and a run, of which the `nth` inner node can't be read; others are answered a turn of the event loop later. */
async function damagedMap(nth: number) {
  const store = new RecordStore();
  const changes = Array.from({ length: BLOCKS }, (_, block): Change => [block, entryOf(block)]);
  const map = await writeStep(store, FAN_OUT, { size: BLOCKS * BLOCK_SIZE, changes });
  let inner = 0;
  const damaged = new Set<string>();
  const records: RecordReader = {
    read: async (kind, id, location) => {
      if (kind === RecordKind.inner && (++inner === nth || damaged.has(Buffer.from(id).toString('hex')))) {
        damaged.add(Buffer.from(id).toString('hex'));
        throw new BackupError('RECORD_CORRUPT', 'this node is damaged');
      }
      await new Promise((resolve) => setImmediate(resolve));
      return store.read(kind, id, location);
    },
  };
  return new BlockMap(map.descriptor, FAN_OUT, records, plainIds);
}

describe('a walk over a map', () => {
  test('calls its visitor no more once it has failed, whatever its other branches come to', async () => {
    for (const nth of [1, 2, 4, 6, 9, 13]) {
      const map = await damagedMap(nth);
      let calls = 0;
      const visitor = { enter: () => ++calls > 0, entries: () => void calls++ };
      await expect(visitMap(map, visitor)).rejects.toMatchObject({ code: 'RECORD_CORRUPT' });
      const before = calls;
      for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
      expect(calls).toBe(before);
    }
  });

  test('goes on around damage that its visitor takes, and leaves every node that it could read', async () => {
    const map = await damagedMap(4);
    const seen = { blocks: 0, damaged: 0, entered: 0, left: 0 };
    await visitMap(map, {
      enter: ({ kind }) => {
        if (kind === RecordKind.inner) seen.entered++;
        return true;
      },
      entries: ({ count }) => {
        seen.blocks += count;
      },
      leave: () => {
        seen.left++;
      },
      damaged: () => {
        seen.damaged++;
      },
    });
    expect(seen.damaged).toBe(1);
    expect(seen.left).toBe(seen.entered - 1);
    expect(seen.blocks).toBeGreaterThan(0);
    expect(seen.blocks).toBeLessThan(BLOCKS);
  });
});
