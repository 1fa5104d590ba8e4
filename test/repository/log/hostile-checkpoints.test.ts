import { describe, expect, test } from 'vitest';
import { MsgpackReader } from '../../../src/common/msgpack-reader.ts';
import { runAtOnce } from '../../../src/common/yield-to-event-loop.ts';
import { decodeCheckpoint, encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import { EMPTY_STATE, type LogState } from '../../../src/repository/format/log-state.ts';
import { stateFrom } from '../../../src/repository/format/state-decoding.ts';
import { mostWeight, stateWeight } from '../../../src/repository/format/state-weight.ts';
import { zeroAnchors } from './support/facts.ts';
import { HOSTILE_ELEMENTS, hostileCheckpoint, hostileContent } from './support/hostile-checkpoints.ts';

/** How much memory a checkpoint may ask for. What the weights are in memory shows `bench/hostile.ts`. */

const tooHeavy = expect.objectContaining({
  code: 'LOG_CORRUPT',
  message: expect.stringContaining('more memory than its length allows'),
});

describe('every part of a state is weighed while it is read:', () => {
  test.each(Object.keys(HOSTILE_ELEMENTS))('%s', (name) => {
    const raw = hostileContent(HOSTILE_ELEMENTS[name]!, { seq: 1, count: 2 });
    const read = (most: number) => runAtOnce(stateFrom(new MsgpackReader(raw, 'LOG_CORRUPT'), most));
    const weight = runAtOnce(stateWeight(read(Infinity)));
    expect(weight).toBeGreaterThan(100);
    expect(runAtOnce(stateWeight(read(weight)))).toBe(weight);
    expect(() => read(weight - 1)).toThrow(tooHeavy);
  });
});

test('a checkpoint of 41 KB that stands for 25,000 sessions is refused, and one of 13,000 is not', async () => {
  const sessions = HOSTILE_ELEMENTS['open sessions']!;
  const heavy = hostileCheckpoint(sessions, { seq: 1, count: 25_000 });
  expect(heavy.length).toBeLessThan(42_000);
  await expect(decodeCheckpoint(undefined, 1, heavy)).rejects.toEqual(tooHeavy);
  const light = await decodeCheckpoint(undefined, 1, hostileCheckpoint(sessions, { seq: 1, count: 13_000 }));
  expect(light.sessions.size).toBe(13_000);
});

test('a state is stored uncompressed where it is heavy for what it compresses to, and not at all where it is heavy for that too', async () => {
  const nothing = { packs: new Map(), tables: [], dead: new Set<string>() };
  const known = (count: number): LogState => {
    return {
      ...EMPTY_STATE,
      seq: 1,
      anchors: zeroAnchors(1),
      known: new Map(Array.from({ length: count }, (_, n) => [n + 1, nothing])),
    };
  };
  const bytes = (await encodeCheckpoint(undefined, known(25_000)))!;
  expect(bytes[0]).toBe(0);
  expect((await decodeCheckpoint(undefined, 1, bytes)).known.size).toBe(25_000);
  expect((await encodeCheckpoint(undefined, known(15_000)))![0]).toBe(1);
  expect(await encodeCheckpoint(undefined, known(65_000))).toBeUndefined();
});

test('what a state may weigh follows from the bytes that are stored', () => {
  expect([0, 1, 2 ** 20, 2 ** 24].map(mostWeight)).toEqual([2 ** 23, 2 ** 23 + 40, 2 ** 23 + 40 * 2 ** 20, 2 ** 28]);
});
