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
function outcome(bytes: Uint8Array): BlockStateMap | string {
  try {
    return BlockStateMap.decode(bytes);
  } catch (error) {
    if (!BackupError.is(error))
      throw new Error(`not a coded error for ${Buffer.from(bytes).toString('hex')}`, { cause: error });
    return error.code;
  }
}

/** What may come of hostile bytes: a refusal, or the one map whose encoding they are. */
function expectHarmless(bytes: Uint8Array): void {
  const result = outcome(bytes);
  if (typeof result === 'string') expect(['STATE_CORRUPT', 'LIMIT_EXCEEDED']).toContain(result);
  else expect(result.encode()).toEqual(new Uint8Array(bytes));
}

/** MessagePack `[1, blockCount, runs]` by hand. */
const encoded = (blockCount: unknown, runs: readonly number[], version: unknown = 1) =>
  encodeMsgpack([version, blockCount, Uint8Array.from(runs)]);

describe('the encoded form of a block state map', () => {
  test('decodes to the same states and counts, and encodes to the same bytes again', () => {
    fc.assert(
      fc.property(someStates, (states) => {
        const bytes = mapOf(states).encode();
        const map = BlockStateMap.decode(bytes);
        expect(statesOf(map)).toEqual(states);
        expect(map.counts).toEqual(recount(states));
        expect(map.encode()).toEqual(bytes);
        expect([...map.diff(mapOf(states))]).toEqual([]);
      }),
      property(300),
    );
  });

  test('is these very bytes', () => {
    const map = new BlockStateMap(300);
    map.set({ firstBlock: 0, blockCount: 200 }, 'preserved');
    map.set(299, 'lost');
    // Array of 3; version 1; 300 as unsigned 16; 7 bytes: 200 preserved, 99 pending, 1 lost.
    expect(Buffer.from(map.encode()).toString('hex')).toBe(`9301cd012cc407${'01c801'}${'0063'}${'0601'}`);
  });

  test('grows with the runs, not with the blocks', () => {
    const map = new BlockStateMap(2 ** 24);
    map.set({ firstBlock: 1000, blockCount: 2 ** 23 }, 'inherited');
    expect(map.encode().length).toBeLessThan(40);
    expect(BlockStateMap.decode(map.encode()).counts).toEqual(map.counts);
  });

  test('a map has one encoding: runs that could be written shorter are refused', () => {
    expect(statesOf(BlockStateMap.decode(encoded(3, [0, 2, 3, 1])))).toEqual(['pending', 'pending', 'stored']);
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
    for (const [what, runs] of wrong) expect(() => BlockStateMap.decode(encoded(3, runs)), what).toThrow(corrupt);
  });

  test('a map has one encoding: numbers and lengths that MessagePack could write shorter are refused', () => {
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
    for (const hex of longer) expect(outcome(Buffer.from(hex, 'hex')), hex).toBe('STATE_CORRUPT');
    expect(outcome(Buffer.from('9301cb8000000000000000c400', 'hex')), 'minus zero blocks').toBe('STATE_CORRUPT');
  });

  test('what is no encoding at all is STATE_CORRUPT', () => {
    const others = [null, 0, 'text', [], [1, 3], [1, 3, 'no bytes'], [1, 3, [0, 3]], { 0: 1, 1: 3 }, [1, 3, 4, 5]];
    for (const value of others) expect(() => BlockStateMap.decode(encodeMsgpack(value))).toThrow(corrupt);
    for (const version of [0, 2, '1', null])
      expect(() => BlockStateMap.decode(encoded(3, [0, 3], version))).toThrow(corrupt);
    for (const blockCount of [-1, 1.5, '3', null, Number.NaN]) {
      expect(() => BlockStateMap.decode(encoded(blockCount, [0, 3]))).toThrow(corrupt);
    }
    expect(() => BlockStateMap.decode(new Uint8Array(0))).toThrow(corrupt);
    expect(() => BlockStateMap.decode(pack(new Date(0)))).toThrow(corrupt);
  });

  test('more blocks than the limit are LIMIT_EXCEEDED, before memory is taken', () => {
    const before = process.memoryUsage().arrayBuffers;
    // 2^40 blocks: six bytes of length.
    expect(() => BlockStateMap.decode(encoded(2 ** 40, [0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20]))).toThrow(limit);
    expect(() => BlockStateMap.decode(encoded(2 ** 28 + 1, [0, 0x81, 0x80, 0x80, 0x80, 0x01]))).toThrow(limit);
    expect(() => BlockStateMap.decode(encoded(11, [0, 11]), { maxBlocks: 10 })).toThrow(limit);
    expect(BlockStateMap.decode(encoded(10, [0, 10]), { maxBlocks: 10 }).blockCount).toBe(10);
    expect(() => BlockStateMap.decode(encoded(10, [0, 10]), { maxBlocks: -1 })).toThrow(TypeError);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20);
  });

  test('a claim of billions of entries or bytes is refused without an allocation', () => {
    const before = process.memoryUsage();
    const started = performance.now();
    const claims = ['ddffffffff', 'dfffffffff', 'c6ffffffff', 'dbffffffff', '93ddffffffff', '9301ceffffffffc6ffffffff'];
    for (const hex of claims) {
      for (let time = 0; time < 100; time++)
        expect(outcome(Buffer.from(`${hex}0003`, 'hex')), hex).toBe('STATE_CORRUPT');
    }
    const after = process.memoryUsage();
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(2 ** 20);
    expect(after.rss - before.rss).toBeLessThan(2 ** 28);
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test('every encoding with one byte changed, cut or added is refused or is another map’s own encoding', () => {
    const map = mapOf(['pending', 'pending', 'stored', 'lost', ...Array.from({ length: 150 }, () => 'zero' as const)]);
    const bytes = map.encode();
    for (let at = 0; at < bytes.length; at++) {
      for (let value = 0; value < 256; value++) {
        const changed = bytes.slice();
        changed[at] = value;
        expectHarmless(changed);
      }
      expect(outcome(bytes.slice(0, at))).toBe('STATE_CORRUPT');
      expect(outcome(Uint8Array.from([...bytes.slice(0, at), ...bytes.slice(at + 1)]))).toBe('STATE_CORRUPT');
    }
    for (let value = 0; value < 256; value++) expect(outcome(Uint8Array.from([...bytes, value]))).toBe('STATE_CORRUPT');
  });

  test('no bytes, random or damaged in many places, do more than be refused', () => {
    const damaged = fc
      .tuple(someStates, fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 6 }))
      .map(([states, changes]) => {
        const bytes = mapOf(states).encode();
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        return bytes;
      });
    const random = fc.uint8Array({ maxLength: 200 });
    const almost = fc.tuple(fc.nat(2 ** 31), random).map(([blockCount, runs]) => encodeMsgpack([1, blockCount, runs]));
    fc.assert(fc.property(fc.oneof(damaged, random, almost), expectHarmless), property(6000));
  });
});
