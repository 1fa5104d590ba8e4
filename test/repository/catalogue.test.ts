import { describe, expect, test } from 'vitest';
import { backupBeginning } from '../../src/repository/catalogue.ts';
import { EMPTY_STATE, type LogState } from '../../src/repository/format/log-state.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import { errorOf } from '../volume/support/bytes.ts';
import { backup } from './log/support/facts.ts';
import { createIn, openVolume, writeBlock } from './support/repositories.ts';

test('volumes are listed by name, each with its newest and its oldest backup', async () => {
  const repository = await createIn(new MemoryTarget());
  expect(await Array.fromAsync(repository.listVolumes())).toEqual([]);
  const [b, a] = [await openVolume(), await openVolume(20)];
  const first = await repository.backup(b.volume, { volume: 'b' });
  await repository.backup(a.volume, { volume: 'a' });
  await writeBlock(b.volume, 1);
  const last = await repository.backup(b.volume, { volume: 'b' });
  const volumes = await Array.fromAsync(repository.listVolumes());
  expect(volumes.map(({ name, backupCount }) => [name, backupCount])).toEqual([
    ['a', 1],
    ['b', 2],
  ]);
  expect(volumes[1]).toMatchObject({ newest: { id: last.id }, oldest: { id: first.id } });
  await repository.forget([first.id, last.id]);
  expect((await Array.fromAsync(repository.listVolumes())).map(({ name }) => name)).toEqual(['a']);
});

test('statistics count what is there, and tell what is needed from what is not', async () => {
  const target = new MemoryTarget();
  const repository = await createIn(target);
  const { volume } = await openVolume();
  const one = await repository.backup(volume, { volume: 'disk' });
  const listed = async (prefix: string) => (await Array.fromAsync(target.list(prefix))).map(({ size }) => size);
  const sum = (sizes: number[]) => sizes.reduce((total, size) => total + size, 0);
  const before = await repository.stats();
  expect(before).toMatchObject({
    backupCount: 1,
    volumeCount: 1,
    restorableBytes: volume.size,
    packCount: (await listed('packs/')).length,
    packBytes: sum(await listed('packs/')),
    condemnedBytes: 0,
    unreferencedBytes: 0,
    quarantinedPackCount: 0,
    logObjectCount: 2,
    logBytes: sum(await listed('log/')),
    openSessionCount: 0,
  });
  // An upload that nothing names: its job was given up.
  const other = await openVolume();
  const job = await repository.startBackup(other.volume, { volume: 'other' });
  job.pause();
  expect((await repository.stats()).openSessionCount).toBe(1);
  await target.put(`packs/${'0'.repeat(12)}3/${'a'.repeat(32)}`, new Uint8Array(1000));
  expect(await repository.stats()).toMatchObject({ unreferencedBytes: 1000, packBytes: before.packBytes + 1000 });
  await job.cancel();
  await repository.forget([one.id]);
  await repository.prune();
  expect(await repository.stats()).toMatchObject({ backupCount: 0, condemnedBytes: before.packBytes + 1000 });
});

describe('a backup by the first digits of its id', () => {
  const stateOf = (...ids: string[]): LogState => ({
    ...EMPTY_STATE,
    backups: new Map(
      ids.map((id) => [id, { ...backup({ session: 1, random: 'f'.repeat(32) }, { id }), session: 1 }]),
    ) as never,
  });

  test('is found, whatever the case of the digits', () => {
    const id = `3f9a${'0'.repeat(28)}`;
    const state = stateOf(id, `3f9b${'0'.repeat(28)}`);
    expect(backupBeginning(state, '3f9a').id).toBe(id);
    expect(backupBeginning(state, id).id).toBe(id);
  });

  test('is refused where several begin so, or none', async () => {
    const state = stateOf(`3f9a0${'0'.repeat(27)}`, `3f9a1${'0'.repeat(27)}`);
    expect(() => backupBeginning(state, '3f9a')).toThrow(/2 backups begin with 3f9a \(3f9a0000, 3f9a1000\)/);
    await errorOf((async () => backupBeginning(state, '3f9a'))(), 'BACKUP_AMBIGUOUS');
    await errorOf((async () => backupBeginning(state, 'dead'))(), 'BACKUP_NOT_FOUND');
    const repository = await createIn(new MemoryTarget());
    for (const shortId of ['', '3f9', 'xyz1', 'a'.repeat(33), 4711, null, undefined]) {
      await expect(repository.findBackup(shortId as string)).rejects.toThrow(TypeError);
    }
    await errorOf(repository.findBackup('ABCD'), 'BACKUP_NOT_FOUND');
  });
});

test('what the lists are asked for is checked at the call', async () => {
  const repository = await createIn(new MemoryTarget());
  expect(() => repository.listBackups({ volum: 'disk' } as never)).toThrow(/did you mean volume/);
  expect(() => repository.listBackups({ limit: -1 })).toThrow(TypeError);
  expect(() => repository.listVolumes({ limit: 1 } as never)).toThrow(TypeError);
  expect(() => repository.diff(1 as never, 'b')).toThrow(/from must be/);
  await expect(repository.latestBackup('disk', { before: 5 as never })).rejects.toThrow(/before must be a valid Date/);
  await expect(repository.latestBackup(7 as never)).rejects.toThrow(TypeError);
});
