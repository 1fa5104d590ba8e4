import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { BlockRange } from '../../src/index.ts';
import { CHUNK_BITS } from '../../src/volume/epochs/block-epochs.ts';
import { EpochMap } from '../../src/volume/epochs/epoch-map.ts';
import { property } from '../support/randomness.ts';

/** What changed, over maps of several chunks; a chunk is what is looked at in one step. */

const CHUNK = 2 ** CHUNK_BITS;
const nobody = () => {};

function write(map: EpochMap, firstBlock: number, blockCount = 1): void {
  map.blocks.set(firstBlock, firstBlock + blockCount, map.current);
}

function blocksOf(ranges: Iterable<BlockRange> | undefined): number[] {
  return [...(ranges ?? [])].flatMap(({ firstBlock, blockCount }) =>
    Array.from({ length: blockCount }, (_, index) => firstBlock + index),
  );
}

describe('changes', () => {
  test('are the blocks written since a point, ascending and coalesced, whatever the chunks', () => {
    // Places near the borders of chunks, where something may go wrong.
    const place = fc
      .tuple(fc.nat(3), fc.integer({ min: -3, max: 3 }))
      .map(([chunk, near]) => Math.max(0, chunk * CHUNK + near));
    const writes = fc.array(fc.tuple(place, fc.integer({ min: 1, max: 5 })), { maxLength: 12 });
    fc.assert(
      fc.property(fc.array(writes, { minLength: 1, maxLength: 5 }), (instants) => {
        const map = new EpochMap(3 * CHUNK + 100);
        const points = instants.map((list) => {
          const { serial } = map.advance(nobody);
          for (const [first, count] of list) write(map, first, count);
          return serial;
        });
        for (const [index, serial] of points.entries()) {
          const expected = new Set(
            instants
              .slice(index)
              .flatMap((list) =>
                list.flatMap(([first, count]) => Array.from({ length: count }, (_, at) => first + at)),
              ),
          );
          const ranges = [...(map.changedSince(serial) ?? [])];
          expect(blocksOf(ranges)).toEqual([...expected].sort((a, b) => a - b));
          for (const [at, { firstBlock }] of ranges.entries()) {
            const before = ranges[at - 1];
            if (before !== undefined) expect(firstBlock).toBeGreaterThan(before.firstBlock + before.blockCount);
          }
        }
      }),
      property(60),
    );
  });

  test('may be gone through while instants pass and epochs are renumbered', () => {
    const map = new EpochMap(4 * CHUNK);
    const point = map.advance(nobody);
    point.holders++;
    for (let chunk = 0; chunk < 4; chunk++) write(map, chunk * CHUNK);
    const seen: number[] = [];
    for (const { firstBlock } of map.changedSince(point.serial) ?? []) {
      seen.push(firstBlock);
      for (let instant = 0; instant < 300; instant++) map.advance(nobody);
    }
    expect(seen).toEqual([0, CHUNK, 2 * CHUNK, 3 * CHUNK]);
    expect(blocksOf(map.changedSince(point.serial))).toEqual(seen);
    expect(blocksOf(map.changedSince(map.lastSerial))).toEqual([]);
  });

  test('since a point that is dropped meanwhile are everything that is still to come', () => {
    const map = new EpochMap(2 * CHUNK);
    const { serial } = map.advance(nobody);
    write(map, 5);
    const changes = (map.changedSince(serial) as Iterable<BlockRange>)[Symbol.iterator]();
    write(map, CHUNK + 7); // So that the first run is complete before the last chunk is.
    expect(changes.next().value).toEqual({ firstBlock: 5, blockCount: 1 });
    for (let instant = 0; instant < 300; instant++) map.advance(nobody);
    expect(map.changedSince(serial)).toBeUndefined();
    const rest = [...{ [Symbol.iterator]: () => changes }];
    expect(blocksOf(rest)).toContain(CHUNK + 7);
  });

  test('of very long runs come in parts', () => {
    const map = new EpochMap(9 * 2 ** 20);
    const { serial } = map.advance(nobody);
    write(map, 0, 9 * 2 ** 20);
    expect([...(map.changedSince(serial) ?? [])].map(({ blockCount }) => blockCount / 2 ** 20)).toEqual(
      new Array(9).fill(1),
    );
  });
});
