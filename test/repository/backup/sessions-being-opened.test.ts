import { expect, test } from 'vitest';
import type { PutOptions } from '../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { contentOfBackup, createIn, openIn, openVolume } from '../support/repositories.ts';

/** A store whose answer to the next put of a log entry is late: others see the entry before its writer learns of it. */
class LateAnswer extends ForwardingTarget {
  #late: { readonly stored: () => void; readonly answered: Promise<void> } | undefined;

  constructor(inner: MemoryTarget) {
    super(inner, 'this target');
  }

  next(): { readonly stored: Promise<void>; readonly answer: () => void } {
    const [stored, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    this.#late = { stored: stored.resolve, answered: answered.promise };
    return { stored: stored.promise, answer: answered.resolve };
  }

  protected override async forwardPut(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions): Promise<void> {
    await this.inner.put(key, body, options);
    const late = this.#late;
    if (late === undefined || !key.startsWith('log/')) return;
    this.#late = undefined;
    late.stored();
    await late.answered;
  }
}

test.each(['prune', 'a backup'])(
  '%s of the same process lets a session live whose opening is not answered yet',
  async (which) => {
    const store = new MemoryTarget();
    const target = new LateAnswer(store);
    await (await createIn(store)).close();
    await using repository = await openIn(target);
    await using other = await openIn(store);
    const [{ volume, device }, { volume: second }] = [await openVolume(20), await openVolume(20)];
    const { stored, answer } = target.next();
    const backup = repository.backup(volume, { volume: 'disk' });
    await stored;
    if (which === 'prune') await other.prune({ graceMs: 0 });
    else await expect(other.backup(second, { volume: 'disk' })).rejects.toEqual(withCode('VOLUME_BUSY'));
    answer();
    const { id } = await backup;
    expect(Buffer.compare(await contentOfBackup(other, id), device.bytes)).toBe(0);
  },
);

test("a session whose opening failed though the log has it is nobody's: the next prune aborts it", async () => {
  const store = new MemoryTarget();
  await (await createIn(store)).close();
  await using repository = await openIn(store);
  const put = store.put.bind(store);
  let isDown = false;
  store.put = async (key, body, options) => {
    if (isDown) throw Object.assign(new Error('the network is gone'), { code: 'ECONNRESET' });
    await put(key, body, options);
    if (key.startsWith('log/')) {
      isDown = true;
      throw Object.assign(new Error('the network is gone'), { code: 'ECONNRESET' });
    }
  };
  const { volume } = await openVolume(20);
  const controller = new AbortController();
  const backup = repository.backup(volume, { volume: 'disk', signal: controller.signal });
  while (!isDown) await new Promise((resolve) => setImmediate(resolve));
  controller.abort(new Error('enough'));
  await expect(backup).rejects.toThrow();
  store.put = put;
  expect(await Array.fromAsync(repository.listSessions())).toHaveLength(1);
  await repository.prune();
  expect(await Array.fromAsync(repository.listSessions())).toEqual([]);
});
