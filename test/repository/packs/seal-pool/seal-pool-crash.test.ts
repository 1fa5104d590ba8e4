import { describe, expect, test } from 'vitest';
import { RepositoryKeys } from '../../../../src/repository/crypto/repository-keys.ts';
import { BLOCK, held, scriptedPool, throughPool, write } from './support/pools.ts';

const workerFailed = expect.objectContaining({ code: 'WORKER_FAILED', retryable: true });

/** A caller that aborts, while a worker does what `script` says, gets its reason, and the next one gets the slot. */
async function expectSlotBackAfterAbort(pool: ReturnType<typeof scriptedPool>, script: string): Promise<void> {
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
}

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
    await expectSlotBackAfterAbort(pool, script);
  });
});

test('what a worker threw is the cause', async () => {
  await using pool = scriptedPool(1);
  using slot = await pool.acquire();
  write(slot, 'THROW');
  await expect(pool.identify(slot, [BLOCK])).rejects.toMatchObject({ cause: { message: 'thrown by the script' } });
});

describe('where no thread can be started', () => {
  const PROGRAMS = {
    'there is no such program': new URL('./support/no-such-worker.ts', import.meta.url),
    'the program ends at once': 'data:text/javascript,',
    'the program throws': 'data:text/javascript,throw new Error("nothing for me")',
    'the program is another one':
      'data:text/javascript,import{parentPort as p}from"node:worker_threads";p.on("message",()=>{});p.postMessage(1)',
  };

  test.each(Object.entries(PROGRAMS))('(%s) the work goes on on the calling thread', async (_, program) => {
    await using pool = scriptedPool(4, { threads: 2, workerUrl: new URL(program) });
    const keys = RepositoryKeys.plain();
    const blocks = Array.from({ length: 4 }, (_block, index) => Buffer.alloc(BLOCK, `${index} `));
    const all = blocks.map((block) => throughPool(pool, keys, [block]));
    for (const [index, { ids, opened }] of (await Promise.all(all)).entries()) {
      expect(ids[0]).toEqual(keys.contentId(blocks[index]!));
      expect(opened.get(0)?.equals(blocks[index]!)).toBe(true);
    }
  });

  test('a caller who has aborted meanwhile hears of that, and the slot is free', async () => {
    await using pool = scriptedPool(1, { workerUrl: new URL('data:text/javascript,') });
    await expectSlotBackAfterAbort(pool, 'well');
  });
});
