import { describe, expect, test } from 'vitest';
import { RepositoryKeys } from '../../../src/repository/keys/repository-keys.ts';
import { SealPool } from '../../../src/repository/workers/seal-pool.ts';
import { BLOCK, held, scriptedPool, write } from './support/pools.ts';

const workerFailed = expect.objectContaining({ code: 'WORKER_FAILED', retryable: true });

describe.each(['EXIT', 'THROW'])('a worker that dies (%s)', (script) => {
  test('fails the call, which succeeds when it is made again: another worker takes its place', async () => {
    await using pool = scriptedPool(1);
    using slot = await pool.acquire();
    for (let round = 0; round < 3; round++) {
      write(slot, script);
      await expect(pool.identify(slot, [BLOCK])).rejects.toEqual(workerFailed);
      write(slot, `alive ${round}`);
      const [id] = await pool.identify(slot, [BLOCK]);
      expect(id).toEqual(RepositoryKeys.plain().contentId(slot.input.subarray(0, BLOCK)));
    }
  });

  test('while sealing leaves the plaintext and the ids, so that only the sealing is repeated', async () => {
    await using pool = scriptedPool(1);
    using slot = await pool.acquire();
    write(slot, 'well');
    await pool.identify(slot, [BLOCK]);
    write(slot, script);
    await expect(pool.seal(slot, [0])).rejects.toEqual(workerFailed);
    write(slot, 'well');
    expect(await pool.seal(slot, [0])).toHaveLength(1);
  });

  test('fails no call of other workers', async () => {
    await using pool = scriptedPool(4, { threads: 2 });
    const [holding, dying] = [await pool.acquire(), await pool.acquire()];
    write(holding, 'HOLD');
    write(dying, script);
    const first = pool.identify(holding, [BLOCK]);
    await held(holding);
    await expect(pool.identify(dying, [BLOCK])).rejects.toEqual(workerFailed);
    const words = new Int32Array(holding.input.buffer as SharedArrayBuffer, 0, 1);
    Atomics.store(words, 0, 0);
    Atomics.notify(words, 0);
    expect(await first).toHaveLength(1);
  });

  test('after an abort gives its slot back', async () => {
    await using pool = scriptedPool(1);
    const slot = await pool.acquire();
    write(slot, script);
    const controller = new AbortController();
    const identifying = pool.identify(slot, [BLOCK], controller);
    controller.abort();
    await expect(identifying).rejects.toBe(controller.signal.reason);
    slot.release();
    using again = await pool.acquire();
    write(again, 'well');
    expect(await pool.identify(again, [BLOCK])).toHaveLength(1);
  });
});

test('what a worker threw is the cause', async () => {
  await using pool = scriptedPool(1);
  using slot = await pool.acquire();
  write(slot, 'THROW');
  await expect(pool.identify(slot, [BLOCK])).rejects.toMatchObject({ cause: { message: 'thrown by the script' } });
});

test('a program that can not be started fails every call, and does not keep starting', async () => {
  const missing = new URL('./support/no-such-worker.ts', import.meta.url);
  await using pool = new SealPool({ keys: RepositoryKeys.plain(), blockSize: BLOCK, threads: 2 }, missing);
  using slot = await pool.acquire();
  for (let round = 0; round < 2; round++) {
    await expect(pool.identify(slot, [BLOCK])).rejects.toEqual(workerFailed);
  }
});
