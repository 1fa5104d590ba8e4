import { afterEach, describe, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/common/clock.ts';
import { withBandwidthLimit } from '../../src/targets/decorators/with-bandwidth-limit.ts';
import { withConcurrencyLimit } from '../../src/targets/decorators/with-concurrency-limit.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import { keysOf } from '../support/keys-of.ts';
import { turn } from '../support/turn.ts';
import { bytes, jumpingClock } from './decorators/support/targets.ts';

/** Calls hang until they are let go, one by one. */
class GatedTarget extends MemoryTarget {
  readonly waiting: (() => void)[] = [];
  begun = 0;

  #gate(): Promise<void> {
    this.begun++;
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  override async get(...args: Parameters<MemoryTarget['get']>): Promise<Uint8Array<ArrayBuffer>> {
    await this.#gate();
    return super.get(...args);
  }

  override async *list(...args: Parameters<MemoryTarget['list']>): ReturnType<MemoryTarget['list']> {
    for await (const info of super.list(...args)) {
      await this.#gate();
      yield info;
    }
  }
}

describe('a wait longer than one timer of Node', () => {
  afterEach(() => void vi.useRealTimers());
  const LONGEST = 2 ** 31 - 1;

  test('is as long as was asked for, and not over at once', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    let done = false;
    const sleep = systemClock.sleep(2 * LONGEST + 1000).then(() => {
      done = true;
    });
    await vi.advanceTimersByTimeAsync(2 * LONGEST + 999);
    expect(done).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    await sleep;
  });

  test('lets nothing through a bandwidth limit, and may be aborted in any part', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const inner = new MemoryTarget();
    const target = withBandwidthLimit(inner, { uploadBytesPerSecond: 1, burstMs: 1 });
    const controller = new AbortController();
    const reason = new Error('enough');
    const put = target.put('a', new Uint8Array(3_000_000), { signal: controller.signal });
    const refused = expect(put).rejects.toBe(reason);
    await vi.advanceTimersByTimeAsync(LONGEST + 5);
    expect(await inner.stat('a')).toBeUndefined();
    controller.abort(reason);
    await refused;
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('withConcurrencyLimit', () => {
  async function gated(): Promise<GatedTarget> {
    const inner = new GatedTarget();
    for (const key of ['a', 'b', 'c', 'd', 'e']) await inner.put(key, bytes(1));
    return inner;
  }

  test('lets so many calls through at once, and the next when one is done', async () => {
    const inner = await gated();
    const target = withConcurrencyLimit(inner, { concurrency: 2 });
    const gets = ['a', 'b', 'c', 'd', 'e'].map((key) => target.get(key));
    await turn();
    expect(inner.begun).toBe(2);
    inner.waiting.shift()?.();
    await gets[0];
    await turn();
    expect(inner.begun).toBe(3);
    while (inner.begun < 5 || inner.waiting.length > 0) {
      inner.waiting.shift()?.();
      await turn();
    }
    expect(await Promise.all(gets)).toHaveLength(5);
  });

  test('a call that is aborted while it waits rejects at once and never begins', async () => {
    const inner = await gated();
    const target = withConcurrencyLimit(inner, { concurrency: 1 });
    const first = target.get('a');
    const controller = new AbortController();
    const second = target.get('b', { signal: controller.signal });
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(second).rejects.toBe(reason);
    inner.waiting.shift()?.();
    await first;
    await turn();
    expect(inner.begun).toBe(1);
  });

  test('a listing holds a place only while its next object is fetched', async () => {
    const inner = await gated();
    const target = withConcurrencyLimit(inner, { concurrency: 1 });
    const objects = target.list('')[Symbol.asyncIterator]();
    const next = objects.next();
    await turn();
    inner.waiting.shift()?.();
    expect((await next).value?.key).toBe('a');
    // Its consumer takes its time; others get through meanwhile.
    const get = target.get('b');
    await turn();
    inner.waiting.shift()?.();
    expect(await get).toEqual(bytes(1));
    await objects.return?.();
  });

  test('an error frees the place', async () => {
    const target = withConcurrencyLimit(new MemoryTarget(), { concurrency: 1 });
    await expect(target.get('absent')).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
    expect(await keysOf(target)).toEqual([]);
  });

  test('misuse is a TypeError', () => {
    expect(() => withConcurrencyLimit(new MemoryTarget(), { concurrency: 0 })).toThrow(TypeError);
  });
});

describe('withBandwidthLimit', () => {
  test('keeps puts at the rate once the burst is used up', async () => {
    const clock = jumpingClock();
    const target = withBandwidthLimit(new MemoryTarget(), { uploadBytesPerSecond: 1000, clock });
    const start = clock.now();
    for (let index = 0; index < 11; index++) await target.put('a', new Uint8Array(500));
    // 5,500 bytes at 1,000 a second, of which 1,000 had been saved up.
    expect(clock.now() - start).toBe(4500);
  });

  test('a body larger than the burst goes through, and who comes after it waits', async () => {
    const clock = jumpingClock();
    const target = withBandwidthLimit(new MemoryTarget(), { uploadBytesPerSecond: 1000, clock });
    await target.put('a', new Uint8Array(10_000));
    await target.put('a', new Uint8Array(1));
    expect(clock.slept).toEqual([9000, 1]);
  });

  test('unused allowance is saved up to the burst and no further', async () => {
    const clock = jumpingClock();
    const target = withBandwidthLimit(new MemoryTarget(), { uploadBytesPerSecond: 1000, burstMs: 2000, clock });
    await clock.sleep(1_000_000);
    clock.slept.length = 0;
    await target.put('a', new Uint8Array(2000));
    expect(clock.slept).toEqual([]);
    await target.put('a', new Uint8Array(100));
    expect(clock.slept).toEqual([100]);
  });

  test('each way has a rate of its own; of a whole object what came is charged to those after it', async () => {
    const clock = jumpingClock();
    const inner = new MemoryTarget();
    await inner.put('a', new Uint8Array(5000));
    const target = withBandwidthLimit(inner, { downloadBytesPerSecond: 1000, clock });
    await target.put('b', new Uint8Array(100_000));
    expect(clock.slept).toEqual([]);
    await target.get('a');
    expect(clock.slept).toEqual([]);
    await target.get('a', { range: { offset: 0, length: 500 } });
    expect(clock.slept).toEqual([4500]);
    await target.stat('a');
    await target.delete('a');
    expect(clock.slept).toHaveLength(1);
  });

  test('a wait that is aborted rejects with the reason, sends nothing and costs nobody anything', async () => {
    const inner = new MemoryTarget();
    const controller = new AbortController();
    const clock = jumpingClock();
    const waiting = { now: clock.now, sleep: systemClock.sleep };
    const target = withBandwidthLimit(inner, { uploadBytesPerSecond: 1, clock: waiting });
    const put = target.put('a', new Uint8Array(1000), { signal: controller.signal });
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(put).rejects.toBe(reason);
    expect(await inner.stat('a')).toBeUndefined();
    await target.put('b', new Uint8Array(1)); // The burst is whole again: no wait.
  });

  test('misuse is a TypeError', () => {
    for (const options of [{ uploadBytesPerSecond: 0 }, { downloadBytesPerSecond: -1 }, { burstMs: 0 }]) {
      expect(() => withBandwidthLimit(new MemoryTarget(), options)).toThrow(TypeError);
    }
  });
});
