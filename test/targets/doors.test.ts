import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import type { CloudTarget } from '../../src/targets/cloud-target.ts';
import { fanOut } from '../../src/targets/decorators/fan-out.ts';
import { readOnlyTarget } from '../../src/targets/decorators/read-only.ts';
import { withBandwidthLimit } from '../../src/targets/decorators/with-bandwidth-limit.ts';
import { withConcurrencyLimit } from '../../src/targets/decorators/with-concurrency-limit.ts';
import { withRetries } from '../../src/targets/decorators/with-retries.ts';
import { withTracing } from '../../src/targets/decorators/with-tracing.ts';
import { deleteAll } from '../../src/targets/delete-all.ts';
import { FileTarget } from '../../src/targets/file/file-target.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import { folderForFile } from '../support/folders.ts';
import { keysOf } from '../support/keys-of.ts';
import { bytes } from './decorators/support/targets.ts';

const decorators: [string, (inner: CloudTarget, options?: never) => CloudTarget][] = [
  ['withRetries', withRetries],
  ['withConcurrencyLimit', withConcurrencyLimit],
  ['withBandwidthLimit', withBandwidthLimit],
  ['withTracing', withTracing],
  ['fanOut', (inner, options) => fanOut(inner, [], options)],
];

describe('the door of', () => {
  test.each(decorators)('%s refuses what is no target and what are no options of its own', (_name, decorate) => {
    for (const target of [undefined, null, 'folder', {}, { put: () => {} }, new Map()]) {
      expect(() => decorate(target as never)).toThrow(/(target|primary) must be a CloudTarget/);
    }
    for (const options of [{ attempt: 3 }, { concurency: 1 }, new Map(), 5, 'options', null]) {
      expect(() => decorate(new MemoryTarget(), options as never), String(options)).toThrow(TypeError);
    }
    expect(decorate(new MemoryTarget(), {} as never)).toBeDefined();
  });

  test('readOnlyTarget refuses what is no target', () => {
    expect(() => readOnlyTarget(undefined as never)).toThrow(/(target|primary) must be a CloudTarget/);
  });

  test.each<[string, () => unknown]>([
    ['options.attempts', () => withRetries(new MemoryTarget(), { attempts: '3' as never })],
    ['options.baseDelayMs', () => withRetries(new MemoryTarget(), { baseDelayMs: -1 })],
    ['options.random', () => withRetries(new MemoryTarget(), { random: 0.5 as never })],
    ['options.clock', () => withRetries(new MemoryTarget(), { clock: {} as never })],
    ['options.concurrency', () => withConcurrencyLimit(new MemoryTarget(), { concurrency: 0 })],
    ['options.burstMs', () => withBandwidthLimit(new MemoryTarget(), { burstMs: 0 })],
    [
      'options.uploadBytesPerSecond',
      () => withBandwidthLimit(new MemoryTarget(), { uploadBytesPerSecond: Number.NaN }),
    ],
    ['options.clock', () => withBandwidthLimit(new MemoryTarget(), { clock: { sleep: async () => {} } as never })],
    ['options.name', () => withTracing(new MemoryTarget(), { name: 5 as never })],
    ['options.onReplicaError', () => fanOut(new MemoryTarget(), [], { onReplicaError: 'log' as never })],
    ['options.quorum', () => fanOut(new MemoryTarget(), [], { quorum: 2 })],
  ])('names %s', (name, make) => {
    expect(make).toThrow(new RegExp(name.replace('.', '\\.')));
  });

  test('deleteAll refuses options that it does not know', async () => {
    const target = new MemoryTarget();
    await target.put('a', bytes(1));
    await expect(deleteAll(target, ['a'], { batchsize: 1 } as never)).rejects.toThrow(/did you mean batchSize/);
    expect(await keysOf(target)).toEqual(['a']);
  });
});

const folder = folderForFile();
let folders = 0;

/** Of every target and decorator that needs no server. */
const targets: [string, () => CloudTarget][] = [
  ['MemoryTarget', () => new MemoryTarget()],
  ['FileTarget', () => new FileTarget(join(folder, `target-${folders++}`))],
  ...decorators.map(([name, decorate]): [string, () => CloudTarget] => [name, () => decorate(new MemoryTarget())]),
];

describe.each(targets)('the calls of %s', (_name, open) => {
  test('take bytes alone, and store nothing else', async () => {
    const target = open();
    const bodies = ['text', undefined, null, 5, [1, 2], { length: 2 }, new Uint16Array(2), new ArrayBuffer(2)];
    for (const body of bodies)
      await expect(target.put('a', body as never)).rejects.toThrow(/body must be a Uint8Array/);
    const shared = new Uint8Array(new SharedArrayBuffer(2));
    await expect(target.put('a', shared as never)).rejects.toThrow(/shared memory/);
    expect(await keysOf(target)).toEqual([]);
    await target.put('a', Buffer.from('abc'));
    expect(Buffer.from(await target.get('a')).toString()).toBe('abc');
  });

  test('refuse options that they do not know, and values of another type', async () => {
    const target = open();
    const listing = async (prefix: unknown, options?: unknown) => {
      for await (const _ of target.list(prefix as never, options as never)) break;
    };
    const calls: Promise<unknown>[] = [
      target.put('a', bytes(1), { createonly: true } as never),
      target.put('a', bytes(1), { createOnly: 'yes' } as never),
      target.put('a', bytes(1), { onSent: 5 } as never),
      target.put('a', bytes(1), { signal: {} } as never),
      target.get('a', { ranges: { offset: 0, length: 1 } } as never),
      target.get('a', { range: { offset: '0', length: 1 } } as never),
      target.get('a', { range: null } as never),
      target.stat('a', { Signal: undefined } as never),
      target.stat('a', new Map() as never),
      target.delete('a', { force: true } as never),
      ...(target.deleteMany === undefined
        ? []
        : [target.deleteMany('a' as never), target.deleteMany(['a'], { force: true } as never)]),
      target.storeTime!({ force: true } as never),
      listing(5),
      listing('', { after: 5 }),
      listing('', { aftr: 'a' }),
    ];
    for (const [index, call] of calls.entries()) await expect(call, `call ${index}`).rejects.toThrow(TypeError);
    expect(await keysOf(target)).toEqual([]);
  });

  test('go on when onSent throws or rejects, and warn once of each', async () => {
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    try {
      const target = open();
      const body = new Uint8Array(3 * 1024 ** 2).fill(7);
      await target.put('a', body, {
        onSent: () => {
          throw new Error('in the callback');
        },
      });
      await target.put('b', body, {
        onSent: async () => {
          throw new Error('in the callback');
        },
      });
      await new Promise(setImmediate);
      expect(await keysOf(target)).toEqual(['a', 'b']);
      expect(warned.mock.calls).toHaveLength(2);
      for (const call of warned.mock.calls)
        expect(call).toEqual(['onSent threw an error; the operation that called it continues', expect.anything()]);
    } finally {
      warned.mockRestore();
    }
  });
});
