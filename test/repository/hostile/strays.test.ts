import { describe, expect, test } from 'vitest';
import { checkpointKey, entryKey } from '../../../src/repository/format/object-keys.ts';
import { withCode } from '../../support/with-code.ts';
import { contentOfBackup, createIn, notedTarget, openIn, openVolume, writeBlock } from '../support/repositories.ts';

/** Objects that are no part of the repository, put there by somebody who can write to the store and has no key. */

async function sample(isEncrypted: boolean) {
  const { target } = notedTarget();
  const repository = await createIn(target, isEncrypted);
  const { volume, device } = await openVolume(8);
  await repository.backup(volume, { volume: 'a' });
  await writeBlock(volume, 1);
  const { id } = await repository.backup(volume, { volume: 'a' });
  await repository.close();
  return { target, volume, id, content: device.bytes.slice() };
}

describe.each([false, true])('encrypted: %s', (isEncrypted) => {
  test.each([
    ['that sort before every entry', (index: number) => `log/${index.toString(16).padStart(4, '0')}`],
    ['that are named as checkpoints to come', (index: number) => checkpointKey(1000 + index)],
    [
      'that are named as entries of the other mode',
      (index: number) => `log/00000000${index + 10_000}-${'ab'.repeat(16)}`,
    ],
  ])('thousands of strays %s hide nothing', async (_, key) => {
    const { target, volume, id, content } = await sample(isEncrypted);
    for (let index = 0; index < 2100; index++) await target.put(key(index), new Uint8Array(3));
    await using repository = await openIn(target, isEncrypted);
    expect(await contentOfBackup(repository, id)).toEqual(content);
    await repository.prune({ graceMs: 0, fenceAfterMs: 0, keepFencedMs: 0 });
    await repository.backup(volume, { volume: 'a' });
    expect((await repository.verify({ depth: 'data' })).ok).toBe(true);
    expect((await repository.verify({ depth: 'data', fraction: 0.5 })).ok).toBe(true);
    await using later = await openIn(target, isEncrypted);
    expect(await contentOfBackup(later, id)).toEqual(content);
    expect(await Array.fromAsync(later.listBackups())).toHaveLength(3);
  });

  // Walking down from such a number, tail by tail, to the newest entry that was written would take years.
  test.each([2 ** 30, 2 ** 52 - 2])('an object named as entry %d shows damage at once', async (seq) => {
    const { target, id, content } = await sample(isEncrypted);
    await target.put(entryKey(seq), new Uint8Array(300));
    await expect(openIn(target, isEncrypted)).rejects.toEqual(withCode('LOG_CORRUPT'));
    await using repository = await openIn(target, isEncrypted, { readOnly: true });
    expect(await contentOfBackup(repository, id)).toEqual(content);
    await target.delete(entryKey(seq));
    await using later = await openIn(target, isEncrypted);
    await target.put(entryKey(seq), new Uint8Array(300));
    await expect(Array.fromAsync(later.listBackups())).rejects.toEqual(withCode('LOG_CORRUPT'));
  });
});
