import { subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel';
import { afterEach, describe, expect, test } from 'vitest';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { fanOut } from '../../../src/targets/decorators/fan-out.ts';
import type { TargetOperation } from '../../../src/targets/decorators/forwarding-target.ts';
import { readOnlyTarget } from '../../../src/targets/decorators/read-only.ts';
import { MeteredTarget } from '../../../src/targets/decorators/request-meter.ts';
import { withBandwidthLimit } from '../../../src/targets/decorators/with-bandwidth-limit.ts';
import { withConcurrencyLimit } from '../../../src/targets/decorators/with-concurrency-limit.ts';
import { withRetries } from '../../../src/targets/decorators/with-retries.ts';
import { type TargetTrace, withTracing } from '../../../src/targets/decorators/with-tracing.ts';
import { deleteAll } from '../../../src/targets/delete-all.ts';
import { FileTarget } from '../../../src/targets/file/file-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { tagOfPut } from '../../../src/targets/tags.ts';
import { scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { keysOf } from '../../support/keys-of.ts';
import { bytes, failure } from './support/targets.ts';

describe('readOnlyTarget', () => {
  test('reads, and refuses everything else with READ_ONLY before the target hears of it', async () => {
    const inner = new MemoryTarget();
    await inner.put('a', bytes(1));
    const target = readOnlyTarget(inner);
    expect(await target.get('a')).toEqual(bytes(1));
    expect((await target.stat('a'))?.size).toBe(1);
    expect(await keysOf(target)).toEqual(['a']);
    expect(target.capabilities.createOnly).toBe(false);
    const refused = { code: 'READ_ONLY', retryable: false };
    await expect(target.put('b', bytes(1))).rejects.toMatchObject(refused);
    await expect(target.put('b', bytes(1), { createOnly: true })).rejects.toMatchObject(refused);
    await expect(target.delete('a')).rejects.toMatchObject(refused);
    await expect(target.deleteMany?.(['a'])).rejects.toMatchObject(refused);
    expect(await keysOf(inner)).toEqual(['a']);
  });
});

describe('a decorator', () => {
  test('has deleteMany exactly when its target has', () => {
    expect(readOnlyTarget(new MemoryTarget()).deleteMany).toBeTypeOf('function');
    expect(readOnlyTarget(new FileTarget('nowhere')).deleteMany).toBeUndefined();
  });

  const decorators: [string, (inner: CloudTarget) => CloudTarget][] = [
    ['withRetries', (inner) => withRetries(inner)],
    ['withConcurrencyLimit', (inner) => withConcurrencyLimit(inner)],
    ['withBandwidthLimit', (inner) => withBandwidthLimit(inner, {})],
    ['withTracing', (inner) => withTracing(inner)],
    ['FaultyTarget', (inner) => new FaultyTarget(inner, scriptedFaults([]))],
    ['fanOut', (inner) => fanOut(inner, [new MemoryTarget({ now: () => 5 })])],
    ['MeteredTarget', (inner) => new MeteredTarget(inner)],
  ];

  test.each(decorators)('%s passes on the time of its store, of the primary alone', async (_name, decorate) => {
    const now = 1_700_000_000_000;
    const target = decorate(new MemoryTarget({ now: () => now }));
    expect(await target.storeTime?.()).toEqual(new Date(now));
    await target.put('a', bytes(1));
    expect((await target.stat('a'))?.modifiedAt).toEqual(new Date(now));
    await target[Symbol.asyncDispose]();
    await expect(target.storeTime?.()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test.each(decorators)('%s passes on tags of its store, and ifTag', async (_name, decorate) => {
    const store = new MemoryTarget();
    const target = decorate(store);
    const stored = await target.put('a', bytes(1));
    const tag = (await store.stat('a'))?.tag;
    expect(tag).toMatch(/./);
    expect(stored).toEqual({ tag });
    expect((await target.stat('a'))?.tag).toBe(tag);
    expect(await Array.fromAsync(target.list(''), (info) => info.tag)).toEqual([tag]);
    expect(await target.get('a', { ifTag: tag })).toEqual(bytes(1));
    await store.put('a', bytes(2));
    await expect(target.get('a', { ifTag: tag })).rejects.toMatchObject({ code: 'OBJECT_CHANGED', retryable: false });
  });

  test.each(decorators)('%s passes on that a put resolves to nothing', async (_name, decorate) => {
    const silent = Object.assign(new MemoryTarget(), { put: async () => {} });
    expect(await decorate(silent).put('a', bytes(1))).toBeUndefined();
  });

  test('a store in memory gives no tag that another one has given', async () => {
    const tags = new Set<unknown>();
    for (const store of [new MemoryTarget(), new MemoryTarget(), new MemoryTarget()]) {
      tags.add(((await store.put('a', bytes(1))) as { tag: string }).tag);
    }
    expect(tags.size).toBe(3);
  });

  test('tagOfPut takes only a text for a tag, since targets of hosts may resolve to anything', () => {
    for (const other of [undefined, null, {}, { tag: undefined }, { tag: '' }, { tag: 5 }, 'tag', { ETag: 'x' }]) {
      expect(tagOfPut(other as never)).toBeUndefined();
    }
    expect(tagOfPut({ tag: 'x' })).toBe('x');
  });

  test('readOnlyTarget asks for no time, since a folder would write a file to tell it', async () => {
    expect(await readOnlyTarget(new MemoryTarget()).storeTime?.()).toBeUndefined();
  });

  test('without a clock behind it has none', () => {
    const clockless = Object.assign(new MemoryTarget(), { storeTime: undefined });
    for (const [, decorate] of decorators) expect(decorate(clockless).storeTime).toBeUndefined();
  });

  test.each(decorators)('%s shows the members of a fan-out behind it', (_name, decorate) => {
    const [primary, replica] = [new MemoryTarget(), new MemoryTarget()];
    const members = decorate(fanOut(primary, [replica])).members?.map(({ name }) => name);
    expect(members).toEqual(['primary', 'replicas[0]']);
  });

  test('that refuses to write gives out no member that writes', async () => {
    const [primary, replica] = [new MemoryTarget(), new MemoryTarget()];
    for (const { target } of readOnlyTarget(fanOut(primary, [replica])).members ?? []) {
      await expect(target.put('a', bytes(1))).rejects.toMatchObject({ code: 'READ_ONLY' });
    }
  });
});

test('MemoryTarget refuses options that it does not know and values of another type', () => {
  expect(() => new MemoryTarget({ createonly: false } as never)).toThrow(/did you mean createOnly/);
  expect(() => new MemoryTarget({ createOnly: 1 } as never)).toThrow(TypeError);
  expect(() => new MemoryTarget({ now: 5 } as never)).toThrow(TypeError);
});

describe('withTracing', () => {
  const EVENTS = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const;
  const stop: (() => void)[] = [];
  afterEach(() => {
    for (const each of stop.splice(0)) each();
  });

  function watch(operation: TargetOperation): [event: string, trace: TargetTrace][] {
    const seen: [string, TargetTrace][] = [];
    for (const event of EVENTS) {
      const name = `tracing:cow-cloud-backup:target.${operation}:${event}`;
      const listener = (message: unknown) => seen.push([event, message as TargetTrace]);
      subscribe(name, listener);
      stop.push(() => unsubscribe(name, listener));
    }
    return seen;
  }

  test('tells of a call from its start to its end', async () => {
    const puts = watch('put');
    const gets = watch('get');
    const target = withTracing(new MemoryTarget(), { name: 'offsite' });
    await target.put('a', bytes(1, 2, 3), { createOnly: true });
    expect(puts.map(([event]) => event)).toEqual(['start', 'end', 'asyncStart', 'asyncEnd']);
    expect(puts[3]?.[1]).toMatchObject({
      operation: 'put',
      target: 'offsite',
      subject: 'a',
      createOnly: true,
      bytes: 3,
    });
    expect(await target.get('a')).toEqual(bytes(1, 2, 3));
    expect(gets[3]?.[1]).toMatchObject({ operation: 'get', subject: 'a', bytes: 3 });
    expect(Object.values(gets[3]?.[1] ?? {}).some((value) => value instanceof Uint8Array)).toBe(false);
  });

  test('tells of an error, and throws it as it came', async () => {
    const stats = watch('stat');
    const error = failure('PERMISSION_DENIED', false)();
    const inner = new FaultyTarget(
      new MemoryTarget(),
      scriptedFaults([{ fault: { kind: 'fail-before', error: () => error } }]),
    );
    await expect(withTracing(inner).stat('a')).rejects.toBe(error);
    expect(stats.map(([event]) => event)).toEqual(['start', 'end', 'error', 'asyncStart', 'asyncEnd']);
    expect(stats.at(-1)?.[1].error).toBe(error);
  });

  test('tells of a listing how many objects it gave, also when it is left early', async () => {
    const lists = watch('list');
    const target = withTracing(new MemoryTarget());
    for (const key of ['a', 'b', 'c']) await target.put(key, bytes(1));
    await keysOf(target);
    for await (const _ of target.list('')) break;
    expect(lists.filter(([event]) => event === 'asyncEnd').map(([, trace]) => trace.objects)).toEqual([3, 1]);
  });

  test('makes nothing where nobody listens', async () => {
    const channel = tracingChannel('cow-cloud-backup:target.put');
    expect(channel.hasSubscribers).toBe(false);
    const inner = new MemoryTarget();
    await withTracing(inner).put('a', bytes(1));
    expect(await keysOf(inner)).toEqual(['a']);
  });
});

describe('deleteAll', () => {
  async function filled(count: number): Promise<{ inner: MemoryTarget; keys: string[] }> {
    const inner = new MemoryTarget();
    const keys = Array.from({ length: count }, (_, index) => `k${index}`);
    for (const key of keys) await inner.put(key, bytes(1));
    return { inner, keys };
  }

  test('goes in batches where the target has deleteMany', async () => {
    const { inner, keys } = await filled(25);
    const target = new FaultyTarget(inner, scriptedFaults([]));
    await deleteAll(target, keys, { batchSize: 10 });
    expect(target.calls.map(({ subject }) => subject)).toEqual(['10 keys', '10 keys', '5 keys']);
    expect(await keysOf(inner)).toEqual([]);
  });

  test('else one by one, so many at once, from a listing as well', async () => {
    const { inner } = await filled(25);
    let underWay = 0;
    let most = 0;
    const single: CloudTarget = {
      capabilities: inner.capabilities,
      put: (...args) => inner.put(...args),
      get: (...args) => inner.get(...args),
      stat: (...args) => inner.stat(...args),
      list: (...args) => inner.list(...args),
      async delete(...args) {
        most = Math.max(most, ++underWay);
        await new Promise((resolve) => setImmediate(resolve));
        await inner.delete(...args);
        underWay--;
      },
      [Symbol.asyncDispose]: async () => {},
    };
    async function* keys(): AsyncGenerator<string> {
      for await (const { key } of inner.list('')) yield key;
    }
    await deleteAll(single, keys(), { concurrency: 4 });
    expect(await keysOf(inner)).toEqual([]);
    expect(most).toBe(4);
  });

  test('starts no more when one has failed, and rejects with the first error when all have settled', async () => {
    const { inner, keys } = await filled(100);
    const error = failure('PERMISSION_DENIED', false)();
    const target = new FaultyTarget(
      inner,
      scriptedFaults([{ nth: 2, fault: { kind: 'fail-before', error: () => error } }]),
    );
    await expect(deleteAll(target, keys, { batchSize: 10, concurrency: 1 })).rejects.toBe(error);
    expect(target.callCount()).toBe(2);
    expect((await keysOf(inner)).length).toBe(90);
  });

  test('stops when it is aborted', async () => {
    const { inner, keys } = await filled(10);
    const reason = new Error('enough');
    await expect(deleteAll(inner, keys, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect((await keysOf(inner)).length).toBe(10);
  });

  test('of nothing does nothing', async () => {
    const target = new FaultyTarget(new MemoryTarget(), scriptedFaults([]));
    await deleteAll(target, []);
    expect(target.callCount()).toBe(0);
  });
});
