import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { probeCreateOnly } from '../../../src/repository/open/create-object.ts';
import type { PutOptions } from '../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { scriptedFaults } from '../../../src/testing/faults.ts';
import { seededRandom } from '../../../src/testing/seeded-random.ts';
import { withCode } from '../../support/with-code.ts';
import { counted, objectsOf } from '../log/support/hosts.ts';
import { InterleavingTarget } from '../log/support/interleaving-target.ts';

type Put = (inner: MemoryTarget, key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions) => Promise<unknown>;

class OddTarget extends ForwardingTarget {
  readonly #put: Put;
  constructor(put: Put) {
    super(new MemoryTarget(), 'this odd target');
    this.#put = put;
  }
  protected override async forwardPut(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions): Promise<void> {
    await this.#put(this.inner as MemoryTarget, key, body, options);
  }
}

const pause = () => new Promise(setImmediate);
const exists = () => new BackupError('OBJECT_EXISTS', 'it exists');

test('believes a store that does it, and leaves nothing behind', async () => {
  const target = new MemoryTarget();
  await probeCreateOnly(target);
  await probeCreateOnly(new InterleavingTarget(target, seededRandom(1)));
  expect((await objectsOf(target)).size).toBe(0);
});

/** Keys that were ever put, and those that are being put. */
const seen = new Set<string>();
const racing = new Set<string>();

describe('sees through one that does not:', () => {
  test.each<[string, Put]>([
    ['it ignores the header', (inner, key, body) => inner.put(key, body)],
    [
      'it looks first and stores then',
      async (inner, key, body) => {
        const found = await inner.stat(key);
        await pause();
        if (found !== undefined) throw exists();
        await inner.put(key, body);
      },
    ],
    [
      'it says no to the others, and stores their bodies',
      (inner, key, body) => {
        const isFirst = !seen.has(key);
        seen.add(key);
        return inner.put(key, body).then(() => (isFirst ? undefined : Promise.reject(exists())));
      },
    ],
    [
      'it keeps the first body, and says yes to all who race',
      async (inner, key, body, options) => {
        const isFirst = !seen.has(key);
        seen.add(key);
        if (!isFirst && racing.has(key)) return;
        if (!isFirst) throw exists();
        racing.add(key);
        await inner.put(key, body, options);
        racing.delete(key);
      },
    ],
    ['it stores nothing', async () => {}],
    ['it always refuses', () => Promise.reject(exists())],
    ['it says that it can not', () => Promise.reject(new BackupError('CREATE_ONLY_UNSUPPORTED', 'no'))],
    [
      'it forgets',
      async (inner, key, body, options) => {
        await inner.put(key, body, options);
        await pause();
        await pause();
        await inner.delete(key);
      },
    ],
  ])('%s', async (_how, put) => {
    await expect(probeCreateOnly(new OddTarget(put))).rejects.toEqual(withCode('SINGLE_WRITER_REQUIRED'));
  });

  test('it says so itself: no request is made', async () => {
    const target = counted(new MemoryTarget({ createOnly: false }));
    await expect(probeCreateOnly(target)).rejects.toEqual(withCode('SINGLE_WRITER_REQUIRED'));
    expect(target.callCount()).toBe(0);
  });
});

test('a store that fails is not thought worse of', async () => {
  const failing = counted(new MemoryTarget(), scriptedFaults([{ operation: 'put', fault: { kind: 'fail-before' } }]));
  await expect(probeCreateOnly(failing)).rejects.toEqual(withCode('TARGET_UNAVAILABLE'));
  // Some of the requests may fail: the others decide.
  const shaky = scriptedFaults([{ operation: 'put', nth: 3, fault: { kind: 'fail-before' } }]);
  await probeCreateOnly(counted(new MemoryTarget(), shaky));
});

test('an abort ends it', async () => {
  const reason = new Error('enough');
  await expect(probeCreateOnly(new MemoryTarget(), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
});
