import { expect, test } from 'vitest';
import { SharedWork } from '../../src/common/shared-work.ts';
import { turn } from '../support/turn.ts';

function shared() {
  const answer = Promise.withResolvers<string>();
  const work = { signal: undefined as AbortSignal | undefined };
  const whole = new SharedWork((signal) => {
    work.signal = signal;
    return answer.promise;
  });
  return { whole, work, answer };
}

test('is ended by no caller for the others, and abandoned by the last one', async () => {
  const { whole, work } = shared();
  const [one, other] = [new AbortController(), new AbortController()];
  const [first, second] = [whole.wait(one.signal), whole.wait(other.signal)];
  one.abort(new Error('one'));
  await expect(first).rejects.toThrow('one');
  expect([whole.isAbandoned, work.signal?.aborted]).toEqual([false, false]);
  other.abort(new Error('other'));
  await expect(second).rejects.toThrow('other');
  expect([whole.isAbandoned, work.signal?.aborted]).toEqual([true, true]);
});

test('is not abandoned once it is over, whoever has waited for it', async () => {
  const { whole, answer } = shared();
  const controller = new AbortController();
  const waiting = whole.wait(controller.signal);
  answer.resolve('done');
  expect(await waiting).toBe('done');
  controller.abort();
  expect(whole.isAbandoned).toBe(false);
  expect(await whole.wait(undefined)).toBe('done');
});

test('fails all who wait, and reports a failure that nobody waits for to nobody', async () => {
  const { whole, answer } = shared();
  const waits = [whole.wait(undefined), whole.wait(new AbortController().signal)];
  answer.reject(new Error('no'));
  for (const wait of waits) await expect(wait).rejects.toThrow('no');
  const unseen = shared();
  unseen.answer.reject(new Error('unseen'));
  await turn();
  expect(unseen.whole.isAbandoned).toBe(false);
});
