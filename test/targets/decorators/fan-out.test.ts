import { describe, expect, test, vi } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { fanOut, type ReplicaFailure } from '../../../src/targets/decorators/fan-out.ts';
import type { TargetOperation } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { type FaultPlan, type FaultRule, scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { keysOf } from '../../support/keys-of.ts';
import { bytes, failure } from './support/targets.ts';

const down = { kind: 'fail-before', error: failure('TARGET_UNREACHABLE') } as const;

function faulty(inner: MemoryTarget, ...rules: FaultRule<TargetOperation>[]): FaultyTarget {
  return new FaultyTarget(inner, scriptedFaults(rules));
}

function three(): [MemoryTarget, MemoryTarget, MemoryTarget] {
  return [new MemoryTarget(), new MemoryTarget(), new MemoryTarget()];
}

test('what is put and deleted is put and deleted everywhere', async () => {
  const [primary, one, other] = three();
  const target = fanOut(primary, [one, other]);
  await target.put('a', bytes(1));
  await target.put('b', bytes(2), { createOnly: true });
  for (const each of [primary, one, other]) expect(await keysOf(each)).toEqual(['a', 'b']);
  await target.delete('a');
  await target.deleteMany?.(['b']);
  for (const each of [primary, one, other]) expect(await keysOf(each)).toEqual([]);
});

/** A faulty target that keeps the bodies that it is given, as a request does that was given up and is still reading. */
function lingeringTarget(
  inner: MemoryTarget,
  plan: FaultPlan<TargetOperation>,
): { read: Uint8Array[]; target: FaultyTarget } {
  const read: Uint8Array[] = [];
  class Lingering extends FaultyTarget {
    override put(...[key, body, options]: Parameters<FaultyTarget['put']>): ReturnType<FaultyTarget['put']> {
      read.push(body);
      return super.put(key, body, options);
    }
  }
  return { read, target: new Lingering(inner, plan) };
}

describe('the primary alone decides', () => {
  test('of 16 writers one wins, and every replica holds the winner’s body', async () => {
    const [primary, one, other] = three();
    const hosts = Array.from({ length: 16 }, () => fanOut(primary, [one, other], { quorum: 2 }));
    const outcomes = await Promise.allSettled(
      hosts.map((host, writer) => host.put('a', bytes(writer), { createOnly: true })),
    );
    const winner = outcomes.findIndex(({ status }) => status === 'fulfilled');
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const each of [primary, one, other]) expect(await each.get('a')).toEqual(bytes(winner));
  });

  test('an object that only a replica has does not exist, and may be created', async () => {
    const [primary, one] = three();
    await one.put('a', bytes(9));
    const target = fanOut(primary, [one]);
    expect(await target.stat('a')).toBeUndefined();
    await expect(target.get('a')).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
    await target.put('a', bytes(1), { createOnly: true });
    expect(await one.get('a')).toEqual(bytes(1));
  });

  test('a put or delete that the primary refuses reaches no replica', async () => {
    const [primary, one] = three();
    await one.put('b', bytes(1));
    const target = fanOut(faulty(primary, { fault: down }), [one], { quorum: 1 });
    await expect(target.put('a', bytes(1))).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    await expect(target.delete('b')).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    expect(await keysOf(one)).toEqual(['b']);
  });
});

describe('a create-only put that failed on the primary and took effect', () => {
  const lost = { kind: 'fail-after', error: failure('TARGET_TIMEOUT') } as const;
  const createOnly = { createOnly: true };

  test('because its answer was lost goes on to the replicas', async () => {
    const [primary, one] = three();
    const target = fanOut(faulty(primary, { operation: 'put', fault: lost }), [one]);
    await target.put('a', bytes(1), createOnly);
    expect(await one.get('a')).toEqual(bytes(1));
  });

  test('and meets itself as OBJECT_EXISTS goes on to the replicas', async () => {
    const [primary, one] = three();
    await primary.put('a', bytes(1));
    await fanOut(primary, [one]).put('a', bytes(1), createOnly);
    expect(await one.get('a')).toEqual(bytes(1));
    // Again, after a put that reached no quorum: the same, until it does.
    const broken = fanOut(primary, [faulty(new MemoryTarget(), { fault: down })]);
    await expect(broken.put('a', bytes(1), createOnly)).rejects.toMatchObject({ code: 'QUORUM_NOT_REACHED' });
  });

  test('is told from one that lost, whose error is the primary’s and whose body reaches no replica', async () => {
    const [primary, one] = three();
    await primary.put('a', bytes(2));
    await primary.put('longer', bytes(1, 2));
    for (const key of ['a', 'longer']) {
      await expect(fanOut(primary, [one]).put(key, bytes(1), createOnly)).rejects.toMatchObject({
        code: 'OBJECT_EXISTS',
      });
      const silent = fanOut(faulty(primary, { operation: 'put', fault: down }), [one]);
      await expect(silent.put(key, bytes(1), createOnly)).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    }
    expect(await keysOf(one)).toEqual([]);
  });

  test('and can’t be read back is what the primary said', async () => {
    for (const operation of ['stat', 'get'] as const) {
      const [primary, one] = three();
      const target = fanOut(faulty(primary, { operation: 'put', fault: lost }, { operation, fault: down }), [one]);
      await expect(target.put('a', bytes(1), createOnly)).rejects.toMatchObject({ code: 'TARGET_TIMEOUT' });
      expect(await keysOf(one)).toEqual([]);
    }
  });

  test('is not asked about where the primary’s word is final, nor after an abort', async () => {
    const [primary, one] = three();
    const refusing = { kind: 'fail-before', error: failure('PERMISSION_DENIED', false) } as const;
    const inner = faulty(primary, { operation: 'put', fault: refusing });
    await expect(fanOut(inner, [one]).put('a', bytes(1), createOnly)).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
    });
    expect(inner.calls.map(({ operation }) => operation)).toEqual(['put']);
    const controller = new AbortController();
    const hanging = faulty(primary, { fault: { kind: 'never-answer' } });
    const put = fanOut(hanging, [one]).put('a', bytes(1), { ...createOnly, signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(put).rejects.toThrow('enough');
    expect(hanging.callCount()).toBe(1);
  });

  test('may still be reading its buffer, and so has one of its own', async () => {
    const [primary, one] = three();
    const { read, target: lingering } = lingeringTarget(primary, scriptedFaults([{ operation: 'put', fault: lost }]));
    const body = bytes(1, 2);
    await fanOut(lingering, [one]).put('a', body, createOnly);
    body.fill(0);
    expect(read).toEqual([bytes(1, 2)]);
  });
});

describe('the quorum', () => {
  test('that is not reached is QUORUM_NOT_REACHED, with its causes, and says that the primary has it', async () => {
    const [primary, one, other] = three();
    const target = fanOut(primary, [faulty(one, { fault: down }), other]);
    const error = await target.put('a', bytes(1)).catch((reason: unknown) => reason);
    if (!BackupError.is(error, 'QUORUM_NOT_REACHED')) throw error;
    expect(error.retryable).toBe(false);
    expect(error.message).toMatch(/2 of 3 targets, and the quorum is 3; it took effect on the primary/);
    expect((error.cause as AggregateError).errors).toMatchObject([{ code: 'TARGET_UNREACHABLE' }]);
    expect(await primary.get('a')).toEqual(bytes(1));
    expect(await other.get('a')).toEqual(bytes(1));
  });

  test('counts the primary, and tells of failures that it allows', async () => {
    const [primary, one, other] = three();
    const seen: [unknown, ReplicaFailure][] = [];
    const replicas = [faulty(one, { fault: down }), other];
    const target = fanOut(primary, replicas, { quorum: 2, onReplicaError: (...failed) => seen.push(failed) });
    await target.put('a', bytes(1));
    await target.delete('a');
    expect(seen.map(([error, where]) => [(error as BackupError).code, where])).toEqual([
      ['TARGET_UNREACHABLE', { replica: 0, operation: 'put', subject: 'a' }],
      ['TARGET_UNREACHABLE', { replica: 0, operation: 'delete', subject: 'a' }],
    ]);
  });

  test('reached or not, a put waits for every replica, so that none is overtaken by an earlier one', async () => {
    const [primary, one] = three();
    const held = Promise.withResolvers<void>();
    const clock = { sleep: () => held.promise };
    const slow = new FaultyTarget(one, scriptedFaults([{ nth: 1, fault: { kind: 'delay', delayMs: 1 } }]), { clock });
    let settled = false;
    const put = fanOut(primary, [slow], { quorum: 1 })
      .put('a', bytes(1))
      .finally(() => {
        settled = true;
      });
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(await primary.get('a')).toEqual(bytes(1));
    expect(settled).toBe(false);
    held.resolve();
    await put;
    expect(await one.get('a')).toEqual(bytes(1));
  });

  test('that tolerates failure gives replicas a copy, for who has failed may still be reading', async () => {
    const [primary, one] = three();
    const { read, target: lingering } = lingeringTarget(one, scriptedFaults([{ fault: down }]));
    const body = bytes(1, 2);
    await fanOut(primary, [lingering], { quorum: 1 }).put('a', body);
    body.fill(0);
    expect(read).toEqual([bytes(1, 2)]);
  });

  test('is from one to all', () => {
    const [primary, one] = three();
    for (const quorum of [0, 3, 1.5]) expect(() => fanOut(primary, [one], { quorum })).toThrow(TypeError);
  });
});

describe('when the primary fails', () => {
  test('reads go to the replicas in turn', async () => {
    const [primary, one, other] = three();
    await other.put('a', bytes(1));
    const seen: number[] = [];
    const replicas = [faulty(one, { fault: down }), other];
    const target = fanOut(faulty(primary, { fault: down }), replicas, {
      onReplicaError: (_, { replica }) => seen.push(replica),
    });
    expect(await target.get('a')).toEqual(bytes(1));
    expect((await target.stat('a'))?.size).toBe(1);
    expect(seen).toEqual([0, 0]);
  });

  test('that no replica has the object proves nothing: the primary’s error is thrown', async () => {
    const [primary, one, other] = three();
    const target = fanOut(faulty(primary, { fault: down }), [one, other]);
    await expect(target.get('a')).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    await expect(target.stat('a')).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
  });

  test('a replica that has no object leaves it to the next', async () => {
    const [primary, one, other] = three();
    await other.put('a', bytes(1));
    const target = fanOut(faulty(primary, { fault: down }), [one, other], { quorum: 2 });
    expect(await target.get('a')).toEqual(bytes(1));
    expect((await target.stat('a'))?.size).toBe(1);
  });

  test('a listing fails with it, whatever the quorum, for a replica may lack objects', async () => {
    const [primary, one] = three();
    for (const key of ['a', 'b']) await fanOut(primary, [one]).put(key, bytes(1));
    const replica = faulty(one);
    for (const quorum of [1, 2]) {
      const target = fanOut(faulty(primary, { fault: down }), [replica], { quorum });
      await expect(keysOf(target)).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
      const breaking = fanOut(faulty(primary, { fault: { ...down, kind: 'fail-after' } }), [replica], { quorum });
      await expect(keysOf(breaking)).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    }
    expect(replica.callCount()).toBe(0);
  });

  test('with what the call is about, no replica is asked', async () => {
    const [primary, one] = three();
    await primary.put('a', bytes(1));
    const replica = faulty(one);
    const target = fanOut(primary, [replica], { quorum: 1 });
    await expect(target.get('absent')).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
    await expect(target.get('NO')).rejects.toMatchObject({ code: 'INVALID_KEY' });
    await expect(target.get('a', { range: { offset: 0, length: 2 } })).rejects.toMatchObject({
      code: 'RANGE_UNSATISFIABLE',
    });
    await expect(target.get('a', { range: { offset: -1, length: 2 } })).rejects.toThrow(TypeError);
    expect(replica.callCount()).toBe(0);
  });

  test('tags are its alone: a replica answers no get with ifTag, and its stat has no tag', async () => {
    const [primary, one] = three();
    const stored = await fanOut(primary, [one]).put('a', bytes(1));
    expect(stored).toEqual({ tag: (await primary.stat('a'))?.tag });
    expect(stored).not.toEqual({ tag: (await one.stat('a'))?.tag });
    const replica = faulty(one);
    const target = fanOut(faulty(primary, { fault: down }), [replica]);
    expect(await target.stat('a')).toMatchObject({ key: 'a', size: 1 });
    expect((await target.stat('a'))?.tag).toBeUndefined();
    for (const tag of ['1', '2', '3'])
      await expect(target.get('a', { ifTag: tag })).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    expect(replica.callCount('get')).toBe(0);
    await expect(fanOut(primary, [replica]).get('a', { ifTag: '9' })).rejects.toMatchObject({ code: 'OBJECT_CHANGED' });
    expect(replica.callCount('get')).toBe(0);
  });

  test('a create-only put whose answer was lost resolves to the tag of what was found', async () => {
    const [primary, one] = three();
    const target = fanOut(faulty(primary, { operation: 'put', fault: { ...down, kind: 'fail-after' } }), [one]);
    expect(await target.put('a', bytes(1), { createOnly: true })).toEqual({ tag: (await primary.stat('a'))?.tag });
  });

  test('an aborted read is not tried elsewhere', async () => {
    const [primary, one] = three();
    const replica = faulty(one);
    const controller = new AbortController();
    const get = fanOut(faulty(primary, { fault: { kind: 'never-answer' } }), [replica]).get('a', {
      signal: controller.signal,
    });
    controller.abort(new Error('enough'));
    await expect(get).rejects.toThrow('enough');
    expect(replica.callCount()).toBe(0);
  });
});

test('a callback that throws fails no call and ends no process: the host hears of it in a warning', async () => {
  const [primary, one] = three();
  const failing = () => () => {
    throw new Error('in the callback');
  };
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  try {
    const target = fanOut(primary, [faulty(one, { fault: down })], { quorum: 1, onReplicaError: failing() });
    await target.put('a', bytes(1));
    await fanOut(primary, [new MemoryTarget()]).synchronize({ onProgress: failing() });
    expect(warned.mock.calls.map(([message]) => String(message).split(' ', 1)[0])).toEqual([
      'onReplicaError',
      'onProgress',
    ]);
  } finally {
    warned.mockRestore();
  }
});

test('the smallest limit of all targets is the limit', async () => {
  const limited = (maxObjectBytes: number) =>
    Object.defineProperty(new MemoryTarget(), 'capabilities', { value: { createOnly: true, maxObjectBytes } });
  expect(fanOut(limited(10), [limited(5), new MemoryTarget()]).capabilities.maxObjectBytes).toBe(5);
  expect(fanOut(new MemoryTarget(), []).capabilities).not.toHaveProperty('maxObjectBytes');
});
