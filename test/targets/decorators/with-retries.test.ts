import { describe, expect, test } from 'vitest';
import { systemClock } from '../../../src/common/clock.ts';
import type { TargetOperation } from '../../../src/targets/decorators/forwarding-target.ts';
import { withRetries } from '../../../src/targets/decorators/with-retries.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { type FaultRule, scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { keysOf } from '../../support/keys-of.ts';
import { bytes, failure, jumpingClock } from './support/targets.ts';

function faulty(...rules: FaultRule<TargetOperation>[]): { inner: MemoryTarget; faulty: FaultyTarget } {
  const inner = new MemoryTarget();
  return { inner, faulty: new FaultyTarget(inner, scriptedFaults(rules)) };
}

const throttled = { kind: 'fail-before', error: failure('TARGET_THROTTLED') } as const;

test('a call that failed for the time being is made again until it succeeds', async () => {
  const clock = jumpingClock();
  const { faulty: target } = faulty({ nth: 1, fault: throttled }, { nth: 2, fault: throttled });
  await withRetries(target, { clock }).put('a', bytes(1));
  expect(target.calls.map(({ operation }) => operation)).toEqual(['put', 'put', 'put']);
  expect(clock.slept).toHaveLength(2);
});

test('every call but a create-only put is repeated', async () => {
  const rules = (['get', 'stat', 'list', 'delete', 'deleteMany'] as const).map((operation) => ({
    operation,
    nth: 1,
    fault: throttled,
  }));
  const { inner, faulty: target } = faulty(...rules);
  await inner.put('a', bytes(1));
  const retrying = withRetries(target, { clock: jumpingClock() });
  expect(await retrying.get('a')).toEqual(bytes(1));
  expect((await retrying.stat('a'))?.size).toBe(1);
  expect(await keysOf(retrying)).toEqual(['a']);
  await retrying.delete('a');
  await retrying.deleteMany?.(['a']);
  expect(target.callCount()).toBe(10);
});

test('a create-only put is never repeated, whatever it failed with', async () => {
  for (const code of ['TARGET_UNREACHABLE', 'TARGET_THROTTLED', 'OBJECT_CONFLICT', 'TARGET_TIMEOUT']) {
    for (const kind of ['fail-before', 'fail-after'] as const) {
      const { inner, faulty: target } = faulty({ fault: { kind, error: failure(code) } });
      const put = withRetries(target, { clock: jumpingClock() }).put('a', bytes(1), { createOnly: true });
      await expect(put).rejects.toMatchObject({ code });
      expect(target.callCount()).toBe(1);
      // The answer was lost, but the object is there: a repeat would have lost the race against itself.
      expect(await inner.stat('a')).toEqual(kind === 'fail-after' ? expect.anything() : undefined);
    }
  }
});

test('what is final is thrown at once', async () => {
  for (const error of [
    failure('PERMISSION_DENIED', false),
    () => new Error('of somebody else'),
    () => new TypeError('x'),
  ]) {
    const { faulty: target } = faulty({ fault: { kind: 'fail-before', error } });
    await expect(withRetries(target).get('a')).rejects.toThrow(error().message);
    expect(target.callCount()).toBe(1);
  }
});

test('when the attempts are used up the last error is thrown as it came', async () => {
  const { faulty: target } = faulty(
    { nth: 3, fault: { kind: 'fail-before', error: failure('TARGET_TIMEOUT') } },
    { fault: throttled },
  );
  await expect(withRetries(target, { attempts: 3, clock: jumpingClock() }).get('a')).rejects.toMatchObject({
    code: 'TARGET_TIMEOUT',
  });
  expect(target.callCount()).toBe(3);
});

describe('the pause', () => {
  test('is anywhere up to a limit that doubles to a maximum', async () => {
    const clock = jumpingClock();
    const { faulty: target } = faulty({ fault: throttled });
    const options = { attempts: 7, baseDelayMs: 100, maxDelayMs: 1000, clock };
    await expect(withRetries(target, { ...options, random: () => 0.999999 }).get('a')).rejects.toThrow();
    expect(clock.slept).toEqual([100, 200, 400, 800, 1000, 1000]);
    clock.slept.length = 0;
    await expect(withRetries(target, { ...options, random: () => 0 }).get('a')).rejects.toThrow();
    expect(clock.slept).toEqual([0, 0, 0, 0, 0, 0]);
  });

  test('is no shorter than the other side asked for', async () => {
    const clock = jumpingClock();
    const { faulty: target } = faulty({
      nth: 1,
      fault: { kind: 'fail-before', error: failure('TARGET_THROTTLED', true, 30_000) },
    });
    await withRetries(target, { clock, maxDelayMs: 10 }).put('a', bytes(1));
    expect(clock.slept).toEqual([30_000]);
  });

  test('is not made at all when the other side asked for longer than is bearable', async () => {
    const clock = jumpingClock();
    const { faulty: target } = faulty({
      fault: { kind: 'fail-before', error: failure('TARGET_THROTTLED', true, 61_000) },
    });
    await expect(withRetries(target, { clock }).get('a')).rejects.toMatchObject({ retryAfterMs: 61_000 });
    expect(clock.slept).toEqual([]);
    expect(target.callCount()).toBe(1);
  });

  test('ends when the call is aborted, with the reason', async () => {
    const { faulty: target } = faulty({ fault: throttled });
    const controller = new AbortController();
    const reason = new Error('enough');
    const clock = {
      sleep: (_ms: number, signal?: AbortSignal) => {
        queueMicrotask(() => controller.abort(reason));
        return systemClock.sleep(3_600_000, signal);
      },
    };
    await expect(withRetries(target, { clock }).get('a', { signal: controller.signal })).rejects.toBe(reason);
    expect(target.callCount()).toBe(1);
  });
});

describe('a listing', () => {
  async function withObjects(): Promise<MemoryTarget> {
    const inner = new MemoryTarget();
    for (const key of ['a', 'b', 'c', 'd', 'e']) await inner.put(key, bytes(1));
    return inner;
  }

  /** Breaks off after every second object. */
  class Breaking extends FaultyTarget {
    readonly afters: (string | undefined)[] = [];
    override async *list(...[prefix, options]: Parameters<FaultyTarget['list']>): ReturnType<FaultyTarget['list']> {
      this.afters.push(options?.after);
      let given = 0;
      for await (const info of super.list(prefix, options)) {
        if (given++ === 2) throw failure('TARGET_UNREACHABLE')();
        yield info;
      }
    }
  }

  test('goes on after the last key that it gave: none twice, none left out', async () => {
    const target = new Breaking(await withObjects(), scriptedFaults([]));
    expect(await keysOf(withRetries(target, { attempts: 2, clock: jumpingClock() }))).toEqual([
      'a',
      'b',
      'c',
      'd',
      'e',
    ]);
    expect(target.afters).toEqual([undefined, 'b', 'd']);
  });

  test('that makes no progress ends with the error', async () => {
    const target = new FaultyTarget(await withObjects(), scriptedFaults([{ fault: throttled }]));
    await expect(keysOf(withRetries(target, { attempts: 4, clock: jumpingClock() }))).rejects.toMatchObject({
      code: 'TARGET_THROTTLED',
    });
    expect(target.callCount('list')).toBe(4);
  });

  test('that is left early is not begun again', async () => {
    const target = new FaultyTarget(await withObjects(), scriptedFaults([]));
    for await (const _ of withRetries(target).list('')) break;
    expect(target.callCount('list')).toBe(1);
  });
});

test('an attempt that was given up and still reads its buffer reads what was put, not what came after', async () => {
  const inner = new MemoryTarget();
  const abandoned: Uint8Array[] = [];
  const slow = new (class extends FaultyTarget {
    override async put(...[key, body, options]: Parameters<FaultyTarget['put']>) {
      abandoned.push(body); // As an HTTP client does that goes on sending.
      return super.put(key, body, options);
    }
  })(inner, scriptedFaults([{ nth: 1, fault: throttled }]));
  const body = bytes(1, 2, 3);
  await withRetries(slow, { clock: jumpingClock() }).put('a', body);
  body.fill(9); // The put has resolved: the caller may.
  expect(abandoned).toEqual([bytes(1, 2, 3), bytes(1, 2, 3)]);
});

test('the target is not closed along with its decorator', async () => {
  const inner = new MemoryTarget();
  const target = withRetries(inner);
  await target.close();
  await target.close();
  await expect(target.put('a', bytes(1))).rejects.toMatchObject({ code: 'CLOSED' });
  await inner.put('a', bytes(1));
});

test('misuse is a TypeError', () => {
  for (const options of [{ attempts: 0 }, { baseDelayMs: -1 }, { maxDelayMs: 0.5 }]) {
    expect(() => withRetries(new MemoryTarget(), options)).toThrow(TypeError);
  }
});
