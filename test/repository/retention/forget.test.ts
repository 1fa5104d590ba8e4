import { expect, test } from 'vitest';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { after, commit, from, open, pack, backup as record } from '../log/support/facts.ts';
import { createIn, openIn, openVolume } from '../support/repositories.ts';

test('a held backup is shown as such by every host, and a repository without it reads on', async () => {
  const target = new MemoryTarget();
  await using repository = await createIn(target, true);
  const { volume } = await openVolume(4);
  const first = await repository.backup(volume, { volume: 'a' });
  const second = await repository.backup(volume, { volume: 'a' });
  await repository.hold([first.id], { reason: 'before the migration' });
  await using other = await openIn(target, true);
  const [newest, oldest] = await Array.fromAsync(other.listBackups({ volume: 'a' }));
  expect(newest).toMatchObject({ id: second.id, hold: undefined });
  expect(oldest).toMatchObject({ id: first.id, hold: { reason: 'before the migration', heldAt: expect.any(Date) } });
  await expect(other.forget([first.id])).rejects.toEqual(withCode('BACKUP_HELD'));
  await other.release([first.id]);
  expect((await repository.latestBackup('a', { before: newest!.frozenAt }))?.hold).toBeUndefined();
  await repository.forget([first.id]);
  await using reader = await openIn(target, true);
  expect((await Array.fromAsync(reader.listBackups())).map(({ id }) => id)).toEqual([second.id]);
});

test('a log that forgets what is held, or releases what is not, is damaged', () => {
  const first = record(pack(1, 'a'));
  const state = after(open(), commit(1, [first], [pack(1, 'a')]));
  const backups = [first.id];
  const held = from(state, { type: 'hold', backups, reason: undefined });
  expect(held.backups.get(first.id)!.hold).toEqual({ at: expect.any(Number), reason: undefined });
  expect(() => from(held, { type: 'forget', backups })).toThrow('held');
  expect(() => from(state, { type: 'release', backups })).toThrow('which is not held');
  expect(() => from(state, { type: 'hold', backups: ['11'.repeat(16)], reason: undefined })).toThrow(
    'which is not in the log',
  );
  const released = from(held, { type: 'release', backups });
  expect(released.backups.get(first.id)).toEqual(state.backups.get(first.id));
  expect(from(released, { type: 'forget', backups }).backups.size).toBe(0);
});
