import { describe, expect, test } from 'vitest';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { errorOf } from '../../volume/support/bytes.ts';
import { createIn, openVolume } from '../support/repositories.ts';

const MISUSES: Record<string, [options: object, message: RegExp]> = {
  'a misspelt option': [{ sampleBlock: 3 }, /options has no option "sampleBlock"; did you mean sampleBlocks/],
  'no options': [undefined as unknown as object, /volume/],
  'options that are no object': [
    new Map([['volume', 'disk']]),
    /options must be a plain object, not a value of type Map/,
  ],
  'metadata that is a Map': [{ metadata: new Map([['a', 'b']]) }, /metadata must be a plain object/],
  'metadata that is a list': [{ metadata: ['a'] }, /metadata must be a plain object/],
  'metadata with a number': [{ metadata: { a: 1 } }, /metadata.a must be a well-formed string/],
  'a base that is no id': [{ base: 5 }, /base must be a string/],
  'takeOver that is no boolean': [{ takeOver: 'yes' }, /takeOver must be true or false/],
  'sampleBlocks below 0': [{ sampleBlocks: -1 }, /sampleBlocks/],
  'outageMs that is a text': [{ outageMs: '5s' }, /outageMs/],
  'onProgress that is no function': [{ onProgress: {} }, /onProgress must be a function/],
  'a signal that is none': [{ signal: true }, /signal must be an AbortSignal/],
  'a budget of another shape': [{ budget: 100 }, /budget must be a plain object/],
  'a budget with an unknown name': [{ budget: { put: 1 } }, /budget has no option "put"; did you mean puts/],
  'a budget that is a text': [{ budget: { puts: '2' } }, /budget.puts must be an integer/],
  'a volume without a name': [{ volume: '' }, /volume must be a string that is not empty/],
};

describe('a backup is refused before anything is frozen', () => {
  test.each(Object.entries(MISUSES))('for %s', async (_, [options, message]) => {
    const repository = await createIn(new MemoryTarget());
    const { volume } = await openVolume(10);
    const isObject = options !== undefined && !(options instanceof Map);
    const given = isObject ? { volume: 'disk', ...options } : options;
    const starting = repository.startBackup(volume, given as never);
    await expect(starting).rejects.toThrow(TypeError);
    await expect(starting).rejects.toThrow(message);
    expect(volume.snapshots).toEqual([]);
  });

  test.each(['a device', undefined])('for a source that is none (%s)', async (source) => {
    const repository = await createIn(new MemoryTarget());
    await expect(repository.startBackup(source as never, { volume: 'disk' })).rejects.toThrow(TypeError);
  });
});

describe('a group', () => {
  test('is refused for what only holds for all of it, and for options that there are none of', async () => {
    const repository = await createIn(new MemoryTarget());
    const { volume } = await openVolume(10);
    const part = { source: volume, volume: 'a' };
    const misuses: [parts: unknown, options?: unknown][] = [
      [[]],
      [part],
      [[{ ...part, budget: { puts: 1 } }]],
      [[{ ...part, outageMs: 1 }]],
      [[{ ...part, lazy: true }]],
      [[part, part]],
      [[part], { takeOver: true }],
      [[part], { budget: { puts: -1 } }],
      [[part], { outageMs: -1 }],
    ];
    for (const [parts, options] of misuses) {
      await expect(repository.startGroup(parts as never, options as never)).rejects.toThrow(TypeError);
    }
    expect(volume.snapshots).toEqual([]);
  });

  test('whose commit would not fit into an entry is refused before anything is frozen', async () => {
    const repository = await createIn(new MemoryTarget());
    const volumes = await Promise.all(Array.from({ length: 128 }, () => openVolume(2)));
    // 64 KiB of text each, as bytes of UTF-8, and an entry of 8 MiB.
    const parts = (count: number) =>
      volumes.slice(0, count).map(({ volume }, index) => {
        return { source: volume, volume: `disk ${index}`, metadata: { note: '€'.repeat(21_833) } };
      });
    const error = await errorOf(repository.startGroup(parts(128)), 'LIMIT_EXCEEDED');
    expect(error.message).toMatch(/^the commit of these 128 backups may take 8\d+ bytes/);
    for (const { volume } of volumes) expect(volume.snapshots).toEqual([]);
    const group = await repository.startGroup(parts(120));
    for (const job of group.jobs) job.sweep();
    expect(await group.done).toHaveLength(120);
  });
});

test('a group of more volumes than one entry of the log names is refused before anything is frozen', async () => {
  const repository = await createIn(new MemoryTarget());
  const { volume } = await openVolume(1);
  const parts = Array.from({ length: 16_385 }, (_, index) => ({ source: volume, volume: `v${index}` }));
  await errorOf(repository.startGroup(parts), 'LIMIT_EXCEEDED');
  expect(volume.snapshots).toHaveLength(0);
});
