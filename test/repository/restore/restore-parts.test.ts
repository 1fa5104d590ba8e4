import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { BlockRange } from '../../../src/common/block-range.ts';
import { ByteRanges } from '../../../src/common/byte-range.ts';
import { BlockSet } from '../../../src/repository/restore/block-set.ts';
import { eachWindow } from '../../../src/repository/restore/restore-windows.ts';
import { property } from '../../support/randomness.ts';

const rangesIn = (size: number) =>
  fc.array(
    fc
      .tuple(fc.integer({ min: 0, max: size }), fc.integer({ min: 0, max: size }))
      .map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const),
    { maxLength: 8 },
  );

const blocksOf = (ranges: Iterable<BlockRange>) =>
  [...ranges].flatMap(({ firstBlock, blockCount }) => Array.from({ length: blockCount }, (_, i) => firstBlock + i));

describe('a set of blocks', () => {
  /** Where the blocks begin: also across the edge of a page. */
  const origin = fc.constantFrom(0, 65_500, 2 ** 32 - 30);
  const some = fc
    .integer({ min: 1, max: 70 })
    .chain((count) => fc.tuple(fc.constant(count), rangesIn(count), rangesIn(70), origin));

  const rangeOf = (from: number, to: number) => ({ firstBlock: from, blockCount: to - from });
  const made = (count: number, ranges: readonly (readonly [number, number])[], first: number) => {
    const set = new BlockSet(first + count);
    for (const [from, to] of ranges) set.add(rangeOf(first + from, first + to));
    return set;
  };
  const plain = (ranges: readonly (readonly [number, number])[], first: number) =>
    [...new Set(ranges.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => first + from + i)))].sort(
      (a, b) => a - b,
    );

  test('has what was added, in coalesced ranges', () => {
    fc.assert(
      fc.property(some, ([count, ranges, , first]) => {
        const set = made(count, ranges, first);
        const expected = plain(ranges, first);
        const given = [...set.ranges()];
        expect(blocksOf(given)).toEqual(expected);
        expect(set.size).toBe(expected.length);
        for (let i = 1; i < given.length; i++) {
          const before = given[i - 1] as BlockRange;
          expect(given[i]!.firstBlock).toBeGreaterThan(before.firstBlock + before.blockCount);
        }
      }),
      property(300),
    );
  });

  test('without another one has the rest, and takes what both have in common', async () => {
    await fc.assert(
      fc.asyncProperty(some, async ([count, ranges, others, first]) => {
        const [set, other] = [made(count, ranges, first), made(70, others, first)];
        const theirs = plain(others, first);
        const rest = await set.without(other);
        expect(blocksOf(rest.ranges())).toEqual(plain(ranges, first).filter((block) => !theirs.includes(block)));
        rest.add(rangeOf(first, first + 1)); // A set of its own.
        expect(blocksOf(set.ranges())).toEqual(plain(ranges, first));
        const common = new BlockSet(first + 70);
        for (const [from, to] of ranges) await common.addCommon(rangeOf(first + from, first + to), other);
        expect(blocksOf(common.ranges())).toEqual(plain(ranges, first).filter((block) => theirs.includes(block)));
      }),
      property(300),
    );
  });

  test('takes room for what is in it, whatever the size of the volume', async () => {
    const set = new BlockSet(2 ** 48); // A bit for each of these would be 32 TiB.
    set.add(rangeOf(2 ** 47, 2 ** 47 + 2));
    expect([...set.ranges()]).toEqual([rangeOf(2 ** 47, 2 ** 47 + 2)]);
    const whole = new BlockSet(2 ** 28); // 1 TiB of 4 KiB blocks.
    whole.add(rangeOf(0, 2 ** 28));
    whole.add(rangeOf(5, 6));
    expect([...whole.ranges()]).toEqual([rangeOf(0, 2 ** 28)]);
    const part = new BlockSet(2 ** 28);
    part.add(rangeOf(70_000, 70_001));
    expect([...(await whole.without(part)).ranges()]).toEqual([rangeOf(0, 70_000), rangeOf(70_001, 2 ** 28)]);
  });
});

test('ranges of bytes are merged, and cut to what is asked for', () => {
  fc.assert(
    fc.property(rangesIn(60), fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: 60 }), (list, a, b) => {
      const [from, to] = [Math.min(a, b), Math.max(a, b) + 1];
      const bytes = new Set(list.flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i)));
      const ranges = new ByteRanges(
        list.map(([start, end]) => ({ offset: start, length: end - start })),
        60,
      );
      expect(ranges.totalBytes).toBe(bytes.size);
      expect(ranges.end).toBe(bytes.size === 0 ? 0 : Math.max(...bytes) + 1);
      const within = ranges.within(from, to);
      const found = within.flatMap(({ offset, length }) => Array.from({ length }, (_, i) => offset + i));
      expect(found).toEqual([...bytes].filter((byte) => byte >= from && byte < to).sort((x, y) => x - y));
      expect(within.every(({ length }) => length > 0)).toBe(true);
    }),
    property(500),
  );
});

describe('windows', () => {
  const MIB = 2 ** 20;
  const source = (blocks: number, blockSize = MIB) => ({
    size: blocks * blockSize,
    blockSize,
    lookup: async (_first: number, count: number) => new Array(count).fill('zero'),
    fetch: async () => {},
  });

  async function windowsOf(blocks: number, isIn: (block: number) => boolean, blockSize = MIB) {
    const set = new BlockSet(blocks);
    for (let block = 0; block < blocks; block++) if (isIn(block)) set.add({ firstBlock: block, blockCount: 1 });
    const windows: number[][] = [];
    let active = 0;
    let most = 0;
    const work = async (window: readonly { readonly block: number }[]) => {
      most = Math.max(most, ++active);
      windows.push(window.map(({ block }) => block));
      await new Promise((resolve) => setImmediate(resolve));
      active--;
    };
    const ranges = new ByteRanges([{ offset: 0, length: blocks * blockSize }], blocks * blockSize);
    await eachWindow(source(blocks, blockSize), ranges, set, work, {});
    expect(windows.flat()).toEqual(blocksOf(set.ranges()));
    return { windows, most };
  }

  test('are small, two at a time, and leave nothing out', async () => {
    const { windows, most } = await windowsOf(100, () => true);
    expect(windows.map(({ length }) => length)).toEqual([32, 32, 32, 4]);
    expect(most).toBe(2);
    expect((await windowsOf(1000, (block) => block % 7 < 3)).windows.every(({ length }) => length <= 32)).toBe(true);
    expect((await windowsOf(10, () => false)).windows).toEqual([]);
    const scattered = await windowsOf(2000, (block) => block % 2 === 0, 4096);
    expect(scattered.windows.map(({ length }) => length)).toEqual([256, 256, 256, 232]);
  });

  test('begin no more once one has failed, and the failure is reported when all that began have ended', async () => {
    const set = new BlockSet(1000);
    set.add({ firstBlock: 0, blockCount: 1000 });
    const ranges = new ByteRanges([{ offset: 0, length: 1000 * MIB }], 1000 * MIB);
    let begun = 0;
    let ended = 0;
    const work = async () => {
      const which = ++begun;
      if (which === 3) throw new Error('the first');
      await new Promise((resolve) => setTimeout(resolve, 5));
      ended++;
    };
    await expect(eachWindow(source(1000), ranges, set, work, {})).rejects.toThrow('the first');
    expect(begun).toBeLessThanOrEqual(4);
    expect(ended).toBe(begun - 1);
  });
});
