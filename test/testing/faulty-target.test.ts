import { describe, expect, test } from 'vitest';
import type { TargetOperation } from '../../src/targets/decorators/forwarding-target.ts';
import { withRetries } from '../../src/targets/decorators/with-retries.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import { type Fault, type FaultRule, scriptedFaults, seededFaults } from '../../src/testing/faults.ts';
import { FaultyTarget } from '../../src/testing/faulty-target.ts';
import { randomBytesFrom, seededRandom } from '../../src/testing/seeded-random.ts';
import { keysOf } from '../support/keys-of.ts';
import { testSeed } from '../support/randomness.ts';

const body = () => new Uint8Array([1, 2, 3, 4]);

async function faulty(...rules: FaultRule<TargetOperation>[]): Promise<{ inner: MemoryTarget; target: FaultyTarget }> {
  const inner = new MemoryTarget();
  await inner.put('a', body());
  await inner.put('b', body());
  return { inner, target: new FaultyTarget(inner, scriptedFaults(rules)) };
}

describe('a fault', () => {
  test('fail-before does nothing and rejects', async () => {
    const { inner, target } = await faulty({ fault: { kind: 'fail-before' } });
    await expect(target.put('c', body())).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE', retryable: true });
    await expect(target.delete('a')).rejects.toThrow();
    await expect(keysOf(target)).rejects.toThrow();
    expect(await inner.stat('c')).toBeUndefined();
    expect(await inner.stat('a')).toBeDefined();
  });

  test('fail-after does it and rejects: the answer was lost', async () => {
    const error = new Error('lost');
    const { inner, target } = await faulty({ fault: { kind: 'fail-after', error: () => error } });
    await expect(target.put('c', body())).rejects.toBe(error);
    await expect(target.delete('a')).rejects.toBe(error);
    await expect(target.deleteMany?.(['b'])).rejects.toBe(error);
    expect(await inner.stat('c')).toBeDefined();
    expect(await inner.stat('a')).toBeUndefined();
    expect(await inner.stat('b')).toBeUndefined();
  });

  test('fail-after gives a whole listing and then fails', async () => {
    const { target } = await faulty({ operation: 'list', fault: { kind: 'fail-after' } });
    const seen: string[] = [];
    const listing = async () => {
      for await (const { key } of target.list('')) seen.push(key);
    };
    await expect(listing()).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE' });
    expect(seen).toEqual(['a', 'b']);
  });

  test('truncate cuts what is stored, answered or listed', async () => {
    const { inner, target } = await faulty({ fault: { kind: 'truncate' } });
    expect(await target.get('a')).toEqual(body().slice(0, 2));
    await target.put('c', body());
    expect(await inner.get('c')).toEqual(body().slice(0, 2));
    expect(await keysOf(target)).toEqual(['a']);
    const exact = await faulty({ fault: { kind: 'truncate', keepBytes: 0 } });
    expect(await exact.target.get('a')).toEqual(new Uint8Array(0));
    expect(await keysOf(exact.target)).toEqual([]);
  });

  test('corrupt flips one bit of what is stored or answered, and leaves the caller’s buffer alone', async () => {
    const { inner, target } = await faulty({ fault: { kind: 'corrupt', bit: 9 } });
    expect(await target.get('a')).toEqual(new Uint8Array([1, 0, 3, 4]));
    const given = body();
    await target.put('c', given);
    expect(given).toEqual(body());
    expect(await inner.get('c')).toEqual(new Uint8Array([1, 0, 3, 4]));
    expect(await inner.get('a')).toEqual(body());
  });

  test('delay does it later, by the clock that was given', async () => {
    const slept: number[] = [];
    const clock = { sleep: async (delayMs: number) => void slept.push(delayMs) };
    const inner = new MemoryTarget();
    const target = new FaultyTarget(inner, scriptedFaults([{ fault: { kind: 'delay', delayMs: 50 } }]), { clock });
    await target.put('a', body());
    expect(slept).toEqual([50]);
    expect(await inner.get('a')).toEqual(body());
  });

  test('never-answer settles only when the call is aborted', async () => {
    const { inner, target } = await faulty({ fault: { kind: 'never-answer' } });
    const controller = new AbortController();
    const calls = [
      target.put('c', body(), { signal: controller.signal }),
      target.get('a', { signal: controller.signal }),
      target.list('', { signal: controller.signal })[Symbol.asyncIterator]().next(),
    ];
    const settled = Promise.allSettled(calls);
    const first = await Promise.race([settled, new Promise((resolve) => setImmediate(() => resolve('waiting')))]);
    expect(first).toBe('waiting');
    const reason = new Error('enough');
    controller.abort(reason);
    for (const outcome of await settled) expect(outcome).toEqual({ status: 'rejected', reason });
    expect(await inner.stat('c')).toBeUndefined();
  });
});

describe('a script', () => {
  test('counts the calls that a rule is about, and the first rule that applies wins', async () => {
    const fail: Fault = { kind: 'fail-before' };
    const { target } = await faulty(
      { operation: 'get', nth: 2, fault: fail },
      { operation: 'get', subject: 'b', fault: { kind: 'truncate', keepBytes: 1 } },
      { operation: 'stat', subject: /^lo/g, nth: 2, fault: fail },
    );
    expect((await target.get('a')).length).toBe(4);
    await expect(target.get('b')).rejects.toThrow();
    expect((await target.get('b')).length).toBe(1);
    await target.stat('log');
    await target.stat('a');
    await expect(target.stat('log')).rejects.toThrow();
    await target.stat('log');
    expect(
      target.calls
        .filter(({ fault }) => fault?.kind === 'fail-before')
        .map(({ operation, subject }) => [operation, subject]),
    ).toEqual([
      ['get', 'b'],
      ['stat', 'log'],
    ]);
    expect(target.callCount('get')).toBe(3);
    expect(target.callCount()).toBe(7);
  });
});

describe('a seeded plan', () => {
  const rates = {
    put: { 'fail-before': 0.2, 'fail-after': 0.2, delay: 0.1 },
    get: { corrupt: 0.5, truncate: 0.5 },
  } as const;
  const calls = Array.from({ length: 400 }, (_, index) => ({
    operation: index % 2 ? ('get' as const) : ('put' as const),
    subject: String(index),
  }));

  test('gives the same faults for the same seed and calls, others for another', () => {
    const draw = (seed: number) => {
      const plan = seededFaults<TargetOperation>({ seed, rates });
      return calls.map((call) => plan.next(call));
    };
    expect(draw(7)).toEqual(draw(7));
    expect(draw(7)).not.toEqual(draw(8));
  });

  test('keeps to its rates, tells its seed, and stops when it was told to', () => {
    const plan = seededFaults<TargetOperation>({ rates });
    expect(seededFaults<TargetOperation>({ seed: plan.seed, rates }).next({ operation: 'get', subject: '0' })).toEqual(
      plan.next({ operation: 'get', subject: '0' }),
    );
    const faults = calls.map((call) => seededPlan.next(call));
    const of = (kind: string) => faults.filter((fault) => fault?.kind === kind).length;
    expect(of('corrupt') + of('truncate')).toBe(200);
    expect(of('fail-before')).toBeGreaterThan(20);
    expect(of('fail-before')).toBeLessThan(60);
    expect(of('never-answer')).toBe(0);
    const limited = seededFaults<TargetOperation>({ seed: 1, rates, maxFaults: 3 });
    expect(calls.map((call) => limited.next(call)).filter(Boolean)).toHaveLength(3);
  });

  const seededPlan = seededFaults<TargetOperation>({ seed: 1234, rates });
});

test('numbers from a seed are spread evenly and repeat with it', () => {
  const random = seededRandom(42);
  const numbers = Array.from({ length: 10_000 }, random);
  expect(numbers.every((number) => number >= 0 && number < 1)).toBe(true);
  const mean = numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
  expect(mean).toBeGreaterThan(0.48);
  expect(mean).toBeLessThan(0.52);
  const again = seededRandom(42);
  expect(Array.from({ length: 10_000 }, again)).toEqual(numbers);
  expect(randomBytesFrom(seededRandom(1), 1003)).toEqual(randomBytesFrom(seededRandom(1), 1003));
  expect(new Set(randomBytesFrom(seededRandom(1), 4096)).size).toBe(256);
});

test('under a storm of faults that pass, retries store every object whole, and nothing else is stored', async () => {
  const seed = testSeed();
  const passing = { 'fail-before': 0.2, 'fail-after': 0.2, delay: 0.1 };
  const rates = { put: passing, get: passing, stat: passing, list: passing, delete: passing, deleteMany: passing };
  const clock = { sleep: async () => {} };
  const inner = new MemoryTarget();
  const target = withRetries(new FaultyTarget(inner, seededFaults({ seed, rates }), { clock }), {
    attempts: 100,
    clock,
  });
  const random = seededRandom(seed);
  const expected = new Map<string, Uint8Array>();
  for (let round = 0; round < 300; round++) {
    const key = `k${Math.floor(random() * 20)}`;
    if (random() < 0.3) {
      await target.delete(key);
      expected.delete(key);
    } else {
      const content = randomBytesFrom(random, Math.floor(random() * 500));
      await target.put(key, content);
      expected.set(key, content);
    }
    if (round % 10 > 0) continue;
    const keys: string[] = [];
    for await (const info of target.list('')) keys.push(info.key);
    expect(keys).toEqual([...expected.keys()].sort());
    for (const [each, content] of expected) expect(await target.get(each)).toEqual(content);
  }
});
