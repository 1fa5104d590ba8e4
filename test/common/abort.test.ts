import { getEventListeners } from 'node:events';
import { describe, expect, test } from 'vitest';
import { abortable } from '../../src/common/abort.ts';

const turns = async () => {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
};

describe('abortable', () => {
  test('without a signal is the work itself', () => {
    const work = Promise.resolve(1);
    expect(abortable(work, undefined)).toBe(work);
  });

  test('settles as the work does', async () => {
    const { signal } = new AbortController();
    const error = new Error('failed');
    await expect(abortable(Promise.resolve('done'), signal)).resolves.toBe('done');
    await expect(abortable(Promise.reject(error), signal)).rejects.toBe(error);
  });

  test('rejects with the very reason, as soon as the signal aborts', async () => {
    for (const reason of [new Error('the reason'), 'a string', undefined]) {
      const controller = new AbortController();
      const waiting = abortable(new Promise<void>(() => {}), controller.signal);
      controller.abort(reason);
      await expect(waiting).rejects.toBe(controller.signal.reason);
    }
  });

  test('rejects at once when the signal has aborted already, also when the work is done', async () => {
    const signal = AbortSignal.abort('before');
    await expect(abortable(Promise.resolve('done'), signal)).rejects.toBe('before');
    await expect(abortable(new Promise(() => {}), signal)).rejects.toBe('before');
  });

  test('an abort after the end changes nothing', async () => {
    const controller = new AbortController();
    const work = abortable(Promise.resolve('done'), controller.signal);
    await work;
    controller.abort();
    await expect(work).resolves.toBe('done');
  });

  test('leaves no listener on the signal once the work has settled', async () => {
    const { signal } = new AbortController();
    const work = Promise.withResolvers<void>();
    const calls = [work.promise, work.promise, Promise.reject(new Error('failed'))].map((each) =>
      abortable(each, signal).catch(() => {}),
    );
    expect(getEventListeners(signal, 'abort')).toHaveLength(3);
    work.resolve();
    await Promise.all(calls);
    await turns();
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  test('work that fails after it was abandoned is nobody’s unhandled rejection', async () => {
    const unhandled: unknown[] = [];
    const listener = (error: unknown) => unhandled.push(error);
    process.on('unhandledRejection', listener);
    try {
      const controller = new AbortController();
      const first = Promise.withResolvers<void>();
      const second = Promise.withResolvers<void>();
      const waiting = abortable(first.promise, controller.signal);
      controller.abort('enough');
      await expect(waiting).rejects.toBe('enough');
      await expect(abortable(second.promise, controller.signal)).rejects.toBe('enough');
      first.reject(new Error('late'));
      second.reject(new Error('later'));
      await turns();
      expect(unhandled).toEqual([]);
    } finally {
      process.off('unhandledRejection', listener);
    }
  });
});
