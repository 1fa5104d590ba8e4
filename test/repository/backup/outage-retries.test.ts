import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { type Outage, OutageRetries } from '../../../src/repository/backup/outage-retries.ts';

const failing = (code: string, retryAfterMs?: number) =>
  new BackupError(code, 'it did not answer', { retryable: true, retryAfterMs });

/** Retries on a clock on which only sleeping takes time, and that remembers how long each sleep was. */
function retriesFor(outageMs: number) {
  let now = 0;
  const pauses: number[] = [];
  const changes: (Outage | undefined)[] = [];
  const controller = new AbortController();
  const clock = {
    now: () => now,
    sleep: async (delayMs: number, signal?: AbortSignal) => {
      signal?.throwIfAborted();
      pauses.push(delayMs);
      now += delayMs;
    },
  };
  const retries: OutageRetries = new OutageRetries({
    outageMs,
    signal: controller.signal,
    onChange: () => changes.push(retries.outage),
    clock,
    random: () => 1,
  });
  return { retries, pauses, changes, controller, passed: () => now };
}

/** Fails so many times with these, and then succeeds. */
function failsWith(...errors: unknown[]): () => Promise<string> {
  return async () => {
    if (errors.length > 0) throw errors.shift();
    return 'done';
  };
}

describe('outage retries', () => {
  test('waits out failures that pass, ever longer, and says so', async () => {
    const { retries, pauses, changes } = retriesFor(60_000);
    const unreachable = failing('TARGET_UNREACHABLE');
    const timeout = failing('TARGET_TIMEOUT');
    expect(await retries.run(failsWith(unreachable, unreachable, timeout))).toBe('done');
    expect(pauses).toEqual([250, 500, 1000]);
    expect(changes).toEqual([{ since: expect.any(Date), error: unreachable }, undefined]);
  });

  test('ends when the time is over, with the last failure', async () => {
    const { retries, passed } = retriesFor(10_000);
    const error = failing('TARGET_UNAVAILABLE');
    await expect(retries.run(() => Promise.reject(error))).rejects.toBe(error);
    expect(passed()).toBe(10_000);
    expect(retries.outage).toBeUndefined();
  });

  test('is counted anew for each request', async () => {
    const { retries, passed } = retriesFor(1_000);
    const error = failing('TARGET_UNREACHABLE');
    for (let round = 0; round < 3; round++) await retries.run(failsWith(error, error));
    expect(passed()).toBe(3 * 750);
  });

  test.each([
    ['PERMISSION_DENIED', false],
    ['BUCKET_NOT_FOUND', false],
    ['NO_SPACE', false],
    ['PACK_CONDEMNED', true],
    ['SESSION_SHARED', true],
  ])('%s is not waited for', async (code, retryable) => {
    const { retries, pauses } = retriesFor(60_000);
    const error = new BackupError(code, 'no', { retryable });
    await expect(retries.run(() => Promise.reject(error))).rejects.toBe(error);
    expect(pauses).toEqual([]);
  });

  test('what says nothing of an outage is tried a few times only', async () => {
    const { retries, pauses } = retriesFor(Number.POSITIVE_INFINITY);
    const error = failing('CHECKSUM_MISMATCH');
    await expect(retries.run(() => Promise.reject(error))).rejects.toBe(error);
    expect(pauses).toHaveLength(7);
  });

  test('comes back no earlier than it was asked to, and not at all if that is too late', async () => {
    const { retries, pauses } = retriesFor(20_000);
    await retries.run(failsWith(failing('TARGET_THROTTLED', 5_000)));
    expect(pauses).toEqual([5_000]);
    const late = failing('TARGET_THROTTLED', 60_000);
    await expect(retries.run(() => Promise.reject(late))).rejects.toBe(late);
  });

  test('ends at once when the job does, also in the middle of a wait', async () => {
    const controller = new AbortController();
    const retries = new OutageRetries({ outageMs: 60_000, signal: controller.signal, onChange: () => {} });
    const reason = new Error('enough');
    const work = retries.run(() => Promise.reject(failing('TARGET_UNREACHABLE')));
    setImmediate(() => controller.abort(reason));
    await expect(work).rejects.toBe(reason);
    expect(retries.outage).toBeUndefined();
  });
});
