import { describe, expect, test } from 'vitest';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { expectSame } from '../../volume/support/bytes.ts';
import { contentOfBackup, openVolume, writeBlock } from '../support/repositories.ts';
import { ENCRYPTED, KINDS, type Kind, OURS, objectsOf, openCreating, opened, PLAIN } from './support/creations.ts';

/** `format` is one small object, without which no other could be read: it can be made again out of its copies. */

async function withBackups(kind: Kind, count = 3) {
  const target = new MemoryTarget();
  (await openCreating(target, kind)).context.keys.wipe();
  await using repository = await opened(target, kind);
  const { volume, device } = await openVolume(20);
  for (let n = 0; n < count; n++) {
    await writeBlock(volume, n);
    await repository.backup(volume, { volume: 'disk' });
  }
  return { target, content: device.bytes.slice() };
}

async function prefixGone(target: CloudTarget, prefix: string): Promise<void> {
  for await (const { key } of target.list(prefix)) await target.delete(key);
}

describe.each(KINDS)('$name: format is gone, and', (kind) => {
  test('the repository opens, gives its backups and takes new ones', async () => {
    // More entries than a checkpoint comes after.
    const { target, content } = await withBackups(kind, 20);
    await target.delete('format');
    await using repository = await opened(target, kind);
    const latest = await repository.latestBackup('disk');
    expectSame(await contentOfBackup(repository, latest!.id), content);
    const { volume } = await openVolume(5);
    await repository.backup(volume, { volume: 'other' });
    await using again = await opened(target, kind);
    expect(await Array.fromAsync(again.listBackups())).toHaveLength(21);
  });

  test('no other is created over it', async () => {
    const { target } = await withBackups(kind);
    await target.delete('format');
    const { wasCreated, context } = await openCreating(target, kind);
    expect(wasCreated).toBe(false);
    expect(context.log.state.backups.size).toBe(3);
    expect((await objectsOf(target)).has('format')).toBe(false);
  });

  test('a verification restores it, to the byte, and says so', async () => {
    const { target } = await withBackups(kind);
    const format = await target.get('format');
    await target.delete('format');
    await using repository = await opened(target, kind);
    const verified = await repository.verify({ depth: 'structure' });
    expect(verified).toMatchObject({ ok: true, damagedObjects: [], restored: ['format'] });
    expect(await target.get('format')).toEqual(format);
    const again = await repository.verify({ depth: 'structure' });
    expect(again).toMatchObject({ ok: true, damagedObjects: [], restored: [] });
  });

  test('a verification of what was opened for reading only reports it, and writes nothing', async () => {
    const { target } = await withBackups(kind);
    await target.delete('format');
    await using repository = await opened(target, kind, { readOnly: true });
    const verified = await repository.verify({ depth: 'structure' });
    expect(verified).toMatchObject({ ok: false, damaged: [], restored: [] });
    expect(verified.damagedObjects).toEqual([{ key: 'format', error: withCode('REPOSITORY_CORRUPT') }]);
    expect((await objectsOf(target)).has('format')).toBe(false);
  });

  test('a host that remembers an entry is not told that there is nothing', async () => {
    const { target } = await withBackups(kind);
    await using before = await opened(target, kind);
    await target.delete('format');
    await using repository = await opened(target, kind, { remembered: before.position });
    expect(repository.position).toEqual(before.position);
  });
});

test('without a log there is nothing to make it from, and nothing is lost: it counts as not there', async () => {
  for (const kind of KINDS) {
    const { target } = await withBackups(kind, 0);
    await target.delete('format');
    await expect(opened(target, kind)).rejects.toEqual(withCode('REPOSITORY_NOT_FOUND'));
  }
});

test('an encrypted one whose slots are gone too is lost, and says so', async () => {
  const { target } = await withBackups(ENCRYPTED);
  await target.delete('format');
  await expect(opened(target, { ...ENCRYPTED, encryption: 'none' })).rejects.toEqual(withCode('KEY_REQUIRED'));
  await prefixGone(target, 'keys/');
  await expect(opened(target, ENCRYPTED)).rejects.toMatchObject({
    code: 'REPOSITORY_CORRUPT',
    message: expect.stringContaining('no copy of format'),
  });
});

test('a plain one whose newest entries are damaged is made from older ones; without any it is lost', async () => {
  const { target } = await withBackups(PLAIN);
  await target.delete('format');
  const entries = [...(await objectsOf(target)).keys()].filter((key) => key.startsWith('log/'));
  for (const key of entries.slice(0, 3)) await target.put(key, Uint8Array.of(1, 2, 3));
  // Found, by the fourth; what is wrong now is the log.
  await expect(opened(target, PLAIN)).rejects.toEqual(withCode('LOG_CORRUPT'));
  for (const key of entries) await target.put(key, Uint8Array.of(1, 2, 3));
  await expect(opened(target, PLAIN)).rejects.toEqual(withCode('REPOSITORY_CORRUPT'));
  await prefixGone(target, 'log/');
  await expect(opened(target, PLAIN)).rejects.toMatchObject({
    code: 'REPOSITORY_CORRUPT',
    message: expect.stringContaining('packs/ holds objects'),
  });
});

test('every slot that was added later has the copy too', async () => {
  const { target } = await withBackups(ENCRYPTED);
  await using repository = await opened(target, ENCRYPTED);
  const first = (await repository.keys.list())[0]?.id as string;
  const later = { key: new Uint8Array(32).fill(77) };
  await repository.keys.add(later);
  await repository.keys.remove(first);
  await target.delete('format');
  await using again = await opened(target, { ...ENCRYPTED, encryption: later });
  expect((await again.verify({ depth: 'structure' })).restored).toEqual(['format']);
  await expect(opened(target, { ...ENCRYPTED, encryption: OURS })).rejects.toEqual(withCode('KEY_REFUSED'));
});
