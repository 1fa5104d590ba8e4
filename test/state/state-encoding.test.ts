import fc from 'fast-check';
import { pack } from 'msgpackr';
import { describe, expect, test } from 'vitest';
import { BackupError } from '../../src/common/errors.ts';
import { encodeMsgpack } from '../../src/common/msgpack.ts';
import { BlockStateMap } from '../../src/state/block-state-map.ts';
import { property } from '../support/randomness.ts';
import { mapOf, recount, someStates, statesOf } from './support/states.ts';

const corrupt = expect.objectContaining({ name: 'BackupError', code: 'STATE_CORRUPT' });
const limit = expect.objectContaining({ name: 'BackupError', code: 'LIMIT_EXCEEDED' });

/** Decodes, and gives the code of what it rejects with; anything but a coded error fails the test. */
async function outcome(bytes: Uint8Array): Promise<BlockStateMap | string> {
  try {
    return await BlockStateMap.decode(bytes);
  } catch (error) {
    if (!BackupError.is(error))
      throw new Error(`not a coded error for ${Buffer.from(bytes).toString('hex')}`, { cause: error });
    return error.code;
  }
}

/** What may come of hostile bytes: a refusal, or the one map whose encoding they are. */
async function expectHarmless(bytes: Uint8Array): Promise<void> {
  const result = await outcome(bytes);
  if (typeof result === 'string') expect(['STATE_CORRUPT', 'LIMIT_EXCEEDED']).toContain(result);
  else expect(await result.encode()).toEqual(new Uint8Array(bytes));
}

/** MessagePack `[1, blockCount, runs]` by hand. */
const encoded = (blockCount: unknown, runs: readonly number[], version: unknown = 1) =>
  encodeMsgpack([version, blockCount, Uint8Array.from(runs)]);

describe('the encoded form of a block state map', () => {
  test('decodes to the same states and counts, and encodes to the same bytes again', async () => {
    await fc.assert(
      fc.asyncProperty(someStates, async (states) => {
        const bytes = await mapOf(states).encode();
        const map = await BlockStateMap.decode(bytes);
        expect(statesOf(map)).toEqual(states);
        expect(map.counts).toEqual(recount(states));
        expect(await map.encode()).toEqual(bytes);
        expect([...map.diff(mapOf(states))]).toEqual([]);
      }),
      property(300),
    );
  });

  test('is these very bytes', async () => {
    const map = new BlockStateMap(300);
    map.set({ firstBlock: 0, blockCount: 200 }, 'preserved');
    map.set(299, 'lost');
    // Array of 3; version 1; 300 as unsigned 16; 7 bytes: 200 preserved, 99 pending, 1 lost.
    expect(Buffer.from(await map.encode()).toString('hex')).toBe(`9301cd012cc407${'01c801'}${'0063'}${'0601'}`);
  });

  test('is that of the call, whatever becomes of the map or of the bytes meanwhile', async () => {
    const map = new BlockStateMap(5000);
    for (let block = 0; block < 5000; block += 2) map.set(block, 'storing'); // More runs than are encoded in one step.
    const before = map.clone();
    const encoding = map.encode();
    map.set({ firstBlock: 1, blockCount: 1 }, 'zero');
    map.set(4998, 'stored');
    const encoded = await encoding;
    // What files are read into is a `Buffer`, whose `slice` is no copy.
    for (const bytes of [Uint8Array.from(encoded), Buffer.from(encoded)]) {
      const decoding = BlockStateMap.decode(bytes);
      bytes.fill(0);
      expect([...(await decoding).diff(before)]).toEqual([]);
    }
  });

  test('is the same where runs fill many pieces, and longer than is copied at once', async () => {
    const map = new BlockStateMap(2 ** 22 + 1);
    for (let block = 0; block < 2 ** 22; block += 2) map.set(block, 'storing');
    const bytes = await map.encode();
    // Array of 3; version 1; unsigned 32; byte string of 32-bit length; for each block but the last two, its state and 1.
    expect(Buffer.from(bytes.subarray(0, 16)).toString('hex')).toBe(`9301ce00400001c600800000${'02010001'}`);
    expect(bytes.length).toBe(12 + 2 ** 23);
    expect([...(await BlockStateMap.decode(bytes)).diff(map)]).toEqual([]);
  });

  test('grows with the runs, not with the blocks', async () => {
    const map = new BlockStateMap(2 ** 24);
    map.set({ firstBlock: 1000, blockCount: 2 ** 23 }, 'inherited');
    expect((await map.encode()).length).toBeLessThan(40);
    expect((await BlockStateMap.decode(await map.encode())).counts).toEqual(map.counts);
  });

  test('a map has one encoding: runs that could be written shorter are refused', async () => {
    expect(statesOf(await BlockStateMap.decode(encoded(3, [0, 2, 3, 1])))).toEqual(['pending', 'pending', 'stored']);
    const wrong: [string, number[]][] = [
      ['two neighbours of one state', [0, 1, 0, 1, 3, 1]],
      ['a run of no blocks', [0, 2, 3, 1, 5, 0]],
      ['a run of no blocks in between', [0, 2, 5, 0, 3, 1]],
      ['a padded length', [0, 0x82, 0x00, 3, 1]],
      ['a state that does not exist', [0, 2, 7, 1]],
      ['a state without its length', [0, 2, 3]],
      ['a length that is cut short', [0, 2, 3, 0x81]],
      ['a length without end', [0, 2, 3, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]],
      ['too few blocks', [0, 2]],
      ['too many blocks', [0, 2, 3, 2]],
    ];
    for (const [what, runs] of wrong)
      await expect(BlockStateMap.decode(encoded(3, runs)), what).rejects.toThrow(corrupt);
  });

  test('a map has one encoding: numbers and lengths that MessagePack could write shorter are refused', async () => {
    const right = encoded(3, [0, 3]);
    expect(Buffer.from(right).toString('hex')).toBe('930103c4020003');
    const longer = ['93cc0103c4020003', '9301cc03c4020003', '9301cd0003c4020003', '9301cb4008000000000000c4020003'];
    longer.push(
      '930103c500020003',
      '930103c6000000020003',
      'dc00030103c4020003',
      'dd000000030103c4020003',
      '9301d303c4020003',
    );
    for (const hex of longer) expect(await outcome(Buffer.from(hex, 'hex')), hex).toBe('STATE_CORRUPT');
    expect(await outcome(Buffer.from('9301cb8000000000000000c400', 'hex')), 'minus zero blocks').toBe('STATE_CORRUPT');
  });

  test('what is no encoding at all is STATE_CORRUPT', async () => {
    const others = [null, 0, 'text', [], [1, 3], [1, 3, 'no bytes'], [1, 3, [0, 3]], { 0: 1, 1: 3 }, [1, 3, 4, 5]];
    for (const value of others) await expect(BlockStateMap.decode(encodeMsgpack(value))).rejects.toThrow(corrupt);
    for (const version of [0, 2, '1', null])
      await expect(BlockStateMap.decode(encoded(3, [0, 3], version))).rejects.toThrow(corrupt);
    for (const blockCount of [-1, 1.5, '3', null, Number.NaN]) {
      await expect(BlockStateMap.decode(encoded(blockCount, [0, 3]))).rejects.toThrow(corrupt);
    }
    await expect(BlockStateMap.decode(new Uint8Array(0))).rejects.toThrow(corrupt);
    await expect(BlockStateMap.decode(pack(new Date(0)))).rejects.toThrow(corrupt);
  });

  test('more blocks than the limit are LIMIT_EXCEEDED, before memory is taken', async () => {
    const before = process.memoryUsage().arrayBuffers;
    // 2^40 blocks: six bytes of length.
    await expect(BlockStateMap.decode(encoded(2 ** 40, [0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20]))).rejects.toThrow(
      limit,
    );
    await expect(BlockStateMap.decode(encoded(2 ** 28 + 1, [0, 0x81, 0x80, 0x80, 0x80, 0x01]))).rejects.toThrow(limit);
    await expect(BlockStateMap.decode(encoded(11, [0, 11]), { maxBlocks: 10 })).rejects.toThrow(limit);
    expect((await BlockStateMap.decode(encoded(10, [0, 10]), { maxBlocks: 10 })).blockCount).toBe(10);
    await expect(BlockStateMap.decode(encoded(10, [0, 10]), { maxBlocks: -1 })).rejects.toThrow(TypeError);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20);
  });

  test('a claim of billions of entries or bytes is refused without an allocation', async () => {
    const before = process.memoryUsage();
    const started = performance.now();
    const claims = ['ddffffffff', 'dfffffffff', 'c6ffffffff', 'dbffffffff', '93ddffffffff', '9301ceffffffffc6ffffffff'];
    for (const hex of claims) {
      for (let time = 0; time < 100; time++)
        expect(await outcome(Buffer.from(`${hex}0003`, 'hex')), hex).toBe('STATE_CORRUPT');
    }
    const after = process.memoryUsage();
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(2 ** 20);
    expect(after.rss - before.rss).toBeLessThan(2 ** 28);
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test('every encoding with one byte changed, cut or added is refused or is another map’s own encoding', async () => {
    const map = mapOf(['pending', 'pending', 'stored', 'lost', ...Array.from({ length: 150 }, () => 'zero' as const)]);
    const bytes = await map.encode();
    for (let at = 0; at < bytes.length; at++) {
      for (let value = 0; value < 256; value++) {
        const changed = bytes.slice();
        changed[at] = value;
        await expectHarmless(changed);
      }
      expect(await outcome(bytes.slice(0, at))).toBe('STATE_CORRUPT');
      expect(await outcome(Uint8Array.from([...bytes.slice(0, at), ...bytes.slice(at + 1)]))).toBe('STATE_CORRUPT');
    }
    for (let value = 0; value < 256; value++)
      expect(await outcome(Uint8Array.from([...bytes, value]))).toBe('STATE_CORRUPT');
  });

  test('no bytes, random or damaged in many places, do more than be refused', async () => {
    const damaged = fc
      .tuple(someStates, fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 6 }))
      .map(async ([states, changes]) => {
        const bytes = await mapOf(states).encode();
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        return bytes;
      });
    const random = fc.uint8Array({ maxLength: 200 });
    const almost = fc.tuple(fc.nat(2 ** 31), random).map(([blockCount, runs]) => encodeMsgpack([1, blockCount, runs]));
    await fc.assert(
      fc.asyncProperty(fc.oneof(damaged, random, almost), async (bytes) => expectHarmless(await bytes)),
      property(6000),
    );
  });
});
