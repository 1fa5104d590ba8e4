import { expect, test } from 'vitest';
import { BLOCK, held, letGo, scriptedPool, write } from './support/pools.ts';

/** Who waits, who is served, and what an abort leaves behind; with workers that stop where a test wants them to. */

test('callers wait while all slots are out, and are served in the order in which they came', async () => {
  await using pool = scriptedPool(2);
  const [first, second] = [await pool.acquire(), await pool.acquire()];
  const served: number[] = [];
  const waiting = [0, 1, 2].map(async (caller) => {
    const slot = await pool.acquire();
    served.push(caller);
    return slot;
  });
  await new Promise(setImmediate);
  expect(served).toEqual([]);
  second.release();
  await waiting[0];
  expect(served).toEqual([0]);
  first.release();
  (await waiting[0])?.release();
  for (const slot of await Promise.all(waiting)) slot.release();
  expect(served).toEqual([0, 1, 2]);
});

test('a caller who aborts while waiting for a slot gets the reason, and the slot goes to the next', async () => {
  await using pool = scriptedPool(1);
  const slot = await pool.acquire();
  const controller = new AbortController();
  const [aborted, patient] = [pool.acquire(controller), pool.acquire()];
  const reason = new Error('enough');
  controller.abort(reason);
  await expect(aborted).rejects.toBe(reason);
  slot.release();
  expect((await patient).released).toBe(false);
  await expect(pool.acquire(controller)).rejects.toBe(reason);
});

test('an abort during a task rejects at once, but the slot stays out until the worker has let go of it', async () => {
  await using pool = scriptedPool(1);
  const slot = await pool.acquire();
  write(slot, 'HOLD');
  const controller = new AbortController();
  const reason = new Error('enough');
  const identifying = pool.identify(slot, [BLOCK], controller);
  await held(slot);
  controller.abort(reason);
  await expect(identifying).rejects.toBe(reason);
  await expect(pool.seal(slot, [0])).rejects.toThrow(TypeError); // What was not identified can't be sealed.
  slot.release();
  let next = false;
  const acquiring = pool.acquire().then((again) => {
    next = true;
    return again;
  });
  await new Promise(setImmediate);
  expect(next).toBe(false);
  letGo(slot);
  using again = await acquiring;
  write(again, 'something else');
  expect(await pool.identify(again, [BLOCK])).toHaveLength(1);
});

test('an abort before the task has begun takes it out of the queue, and frees the slot at once', async () => {
  await using pool = scriptedPool(4);
  const slots = await Promise.all([pool.acquire(), pool.acquire(), pool.acquire(), pool.acquire()]);
  for (const slot of slots) write(slot, 'HOLD');
  const controller = new AbortController();
  const reason = new Error('enough');
  // A thread is given two: the others are in the queue.
  const running = slots.map((slot, index) => pool.identify(slot, [BLOCK], index === 2 ? controller : {}));
  await held(slots[0]!);
  controller.abort(reason);
  await expect(running[2]).rejects.toBe(reason);
  slots[2]!.release();
  using again = await pool.acquire(); // Although nothing has ended yet.
  expect(again.input.buffer).toBe(slots[2]!.input.buffer);
  write(again, 'not on hold');
  const last = pool.identify(again, [BLOCK]);
  const ended: number[] = [];
  const order = [0, 1, 3].map((index) => running[index]!.then(() => ended.push(index)));
  for (const index of [0, 1, 3]) {
    await held(slots[index]!);
    letGo(slots[index]!);
    await running[index];
  }
  await Promise.all([...order, last]);
  expect(ended).toEqual([0, 1, 3]);
});

test('a signal that has aborted already keeps a task from being started', async () => {
  await using pool = scriptedPool(1);
  using slot = await pool.acquire();
  write(slot, 'EXIT');
  const reason = new Error('enough');
  await expect(pool.identify(slot, [BLOCK], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  write(slot, 'well');
  expect(await pool.identify(slot, [BLOCK])).toHaveLength(1);
});

test('closing ends workers that are stuck', async () => {
  const pool = scriptedPool(2);
  const [stuck, queued] = [await pool.acquire(), await pool.acquire()];
  for (const slot of [stuck, queued]) write(slot, 'HOLD');
  const outcomes = [stuck, queued].map((slot) => pool.identify(slot, [BLOCK]).catch((error) => error.code));
  await held(stuck);
  await pool.close();
  expect(await Promise.all(outcomes)).toEqual(['CLOSED', 'CLOSED']);
});
