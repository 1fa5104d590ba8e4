import { tracingChannel } from 'node:diagnostics_channel';
import { expect, test } from 'vitest';
import { checkKey, isKey, MemoryTarget, TARGET_CHANNELS, type TargetTrace, withTracing } from '../../src/index.ts';

/** What a target of one's own, and a program that watches targets, need of this package. */

test('the check that every target makes of its keys is there for others', () => {
  for (const key of ['format', 'packs/0000000000001/f0f1', 'a.b_c-d/9']) {
    expect(isKey(key)).toBe(true);
    expect(checkKey(key)).toBe(key);
  }
  for (const key of ['', '/', 'a//b', '../a', 'A', 'a b', 'x'.repeat(600)]) {
    expect(isKey(key)).toBe(false);
    expect(() => checkKey(key)).toThrow(expect.objectContaining({ code: 'INVALID_KEY' }));
  }
  expect(isKey(7)).toBe(false);
  expect(() => checkKey(7 as never)).toThrow(TypeError);
});

test('the names of the tracing channels are there for subscribers', async () => {
  expect(Object.keys(TARGET_CHANNELS)).toEqual(
    expect.arrayContaining(['put', 'get', 'stat', 'list', 'delete', 'deleteMany']),
  );
  for (const [operation, name] of Object.entries(TARGET_CHANNELS)) {
    expect(name).toBe(`cow-cloud-backup:target.${operation}`);
  }
  expect(Object.isFrozen(TARGET_CHANNELS)).toBe(true);
  const seen: string[] = [];
  const channel = tracingChannel<string, TargetTrace>(TARGET_CHANNELS.put);
  const subscriber = {
    start: ({ subject }: TargetTrace) => void seen.push(subject),
    end() {},
    asyncStart() {},
    asyncEnd() {},
    error() {},
  };
  channel.subscribe(subscriber);
  await withTracing(new MemoryTarget()).put('some/key', Uint8Array.of(1));
  channel.unsubscribe(subscriber);
  expect(seen).toEqual(['some/key']);
});
