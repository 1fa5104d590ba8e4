import { expect, test } from 'vitest';
import { BackupError } from '../../src/common/errors.ts';
import { Retries, type RetryPolicy, retry } from '../../src/common/retry.ts';

function policyOf(slept: number[], options: Partial<RetryPolicy> = {}): RetryPolicy {
  const sleep = async (delayMs: number) => void slept.push(delayMs);
  return { attempts: 4, baseDelayMs: 100, maxDelayMs: 300, sleep, random: () => 1, ...options };
}

const passing = (retryAfterMs?: number) =>
  new BackupError('TARGET_THROTTLED', 'busy', { retryable: true, retryAfterMs });

/** Fails with each of `errors`, and then succeeds. */
function failing(...errors: unknown[]): () => Promise<string> {
  return async () => {
    if (errors.length > 0) throw errors.shift();
    return 'done';
  };
}

test('work is repeated while it fails in a way that may pass, with pauses that double up to the limit', async () => {
  const slept: number[] = [];
  expect(await retry(failing(passing(), passing(), passing()), policyOf(slept))).toBe('done');
  expect(slept).toEqual([100, 200, 300]);
});

test('the last error is thrown when the attempts are used up, or what the policy makes of it', async () => {
  const errors = [passing(), passing(), passing(), passing()];
  await expect(retry(failing(...errors), policyOf([]))).rejects.toBe(errors[3]);
  const given = new Error('given up');
  await expect(retry(failing(...errors), policyOf([], { exhausted: () => given }))).rejects.toBe(given);
});

test('a final error is thrown at once, and the policy may say what is final', async () => {
  const final = new BackupError('NO_SPACE', 'full');
  await expect(retry(failing(final), policyOf([]))).rejects.toBe(final);
  expect(await retry(failing(final), policyOf([], { isFinal: () => false }))).toBe('done');
});

test('a pause that the other side asks for is kept, cut to the longest pause, or too long', async () => {
  const slept: number[] = [];
  await retry(failing(passing(5000)), policyOf(slept, { maxRetryAfterMs: 6000 }));
  await retry(failing(passing(5000)), policyOf(slept));
  expect(slept).toEqual([5000, 300]);
  await expect(retry(failing(passing(5000)), policyOf(slept, { maxRetryAfterMs: 4999 }))).rejects.toThrow('busy');
  expect(slept).toHaveLength(2);
});

test('an abort ends the attempts with its reason', async () => {
  const reason = new Error('enough');
  const controller = new AbortController();
  const policy = policyOf([], { sleep: async () => controller.abort(reason) });
  await expect(retry(failing(passing(), passing()), policy, controller.signal)).rejects.toBe(reason);
});

test('progress starts the count anew', async () => {
  const slept: number[] = [];
  const retries = new Retries(policyOf(slept, { attempts: 2 }));
  await retries.pause(passing());
  retries.reset();
  await retries.pause(passing());
  expect(slept).toEqual([100, 100]);
  await expect(retries.pause(passing())).rejects.toThrow('busy');
});
