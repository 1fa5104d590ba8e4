import { expect, test } from 'vitest';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { BackupRepository } from '../../src/repository/backup-repository.ts';
import type { Estimate } from '../../src/repository/estimate.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import { errorOf } from '../volume/support/bytes.ts';
import { BLOCK, notedTarget, openVolume, SMALL, writeBlock } from './support/repositories.ts';

/** What was asked of the target since `calls` was emptied. */
function asked(calls: readonly string[]): Pick<Estimate, 'puts' | 'gets'> {
  const puts = calls.filter((call) => call.startsWith('put')).length;
  const gets = calls.filter((call) => /^(get|stat|list)/.test(call)).length;
  return { puts, gets };
}

test('of a backup: no less than it takes, and not much more', async () => {
  const { target, calls } = notedTarget();
  const repository = await BackupRepository.create(target, { encryption: 'none', ...SMALL });
  const { device, volume } = await openVolume(100);
  const backup = { source: volume, volume: 'disk' };
  const compare = async () => {
    const foreseen = await repository.estimate({ backup });
    calls.length = 0;
    const { uploadedBytes } = await repository.backup(volume, { volume: 'disk' });
    const { puts, gets } = asked(calls);
    expect(foreseen.puts).toBeGreaterThanOrEqual(puts);
    expect(foreseen.gets).toBeGreaterThanOrEqual(gets);
    expect(foreseen.uploadBytes).toBeGreaterThanOrEqual(uploadedBytes);
    return { foreseen, puts, uploadedBytes };
  };
  const full = await compare();
  expect(full.foreseen.uploadBytes).toBeLessThan(device.size * 1.1);
  await writeBlock(volume, 7);
  const small = await compare();
  expect(small.foreseen).toMatchObject({ puts: 3, gets: 1, downloadBytes: 0 });
  expect(small.foreseen.uploadBytes).toBeLessThan(5 * BLOCK);
  const snapshot = await volume.createSnapshot();
  await writeBlock(volume, 7);
  const { puts } = await repository.estimate({ backup: { source: snapshot, volume: 'disk' } });
  expect(puts).toBeLessThanOrEqual(3);
  expect((await repository.estimate({ backup: { source: volume, volume: 'new' } })).uploadBytes).toBeGreaterThan(
    device.size,
  );
});

test('of a restore: what it fetches', async () => {
  const { target, calls } = notedTarget();
  const repository = await BackupRepository.create(target, { encryption: 'none', ...SMALL });
  const { device, volume } = await openVolume(300);
  const { id } = await repository.backup(volume, { volume: 'disk' });
  const foreseen = await repository.estimate({ restore: id });
  const other = await BackupRepository.open(target, SMALL);
  calls.length = 0;
  const { fetchedBytes } = await other.restore(id, new MemoryDevice(device.size));
  expect(foreseen).toMatchObject({ puts: 0, uploadBytes: 0 });
  expect(foreseen.gets).toBeGreaterThanOrEqual(asked(calls).gets);
  expect(foreseen.downloadBytes).toBeGreaterThanOrEqual(fetchedBytes * 0.9);
  expect(foreseen.downloadBytes).toBeLessThan(device.size * 1.1);
  await errorOf(repository.estimate({ restore: '0'.repeat(32) }), 'BACKUP_NOT_FOUND');
});

test('of a prune: nothing is written for it, and nothing where there is nothing to do', async () => {
  const { target, calls } = notedTarget();
  const repository = await BackupRepository.create(target, { encryption: 'none', ...SMALL });
  const { volume } = await openVolume(100);
  const { id } = await repository.backup(volume, { volume: 'disk' });
  const other = await openVolume(100);
  await repository.backup(other.volume, { volume: 'kept' });
  expect(await repository.estimate({ prune: true })).toMatchObject({ puts: 1, uploadBytes: 2 ** 20 }); // The reserve.
  await repository.prune();
  expect(await repository.estimate({ prune: true })).toMatchObject({ puts: 0, uploadBytes: 0 });
  await repository.forget([id]);
  calls.length = 0;
  const foreseen = await repository.estimate({ prune: true });
  expect(calls.filter((call) => /^(put|delete)/.test(call))).toEqual([]);
  expect(foreseen.puts).toBe(1);
  calls.length = 0;
  await repository.prune({ graceMs: 0 });
  expect(asked(calls).puts).toBe(1);
  expect(asked(calls).gets).toBeLessThanOrEqual(foreseen.gets);
});

test('a budget stops a prune and a restore before they ask for more', async () => {
  const target = new MemoryTarget();
  const repository = await BackupRepository.create(target, { encryption: 'none', ...SMALL });
  const { device, volume } = await openVolume(100);
  const { id } = await repository.backup(volume, { volume: 'disk' });
  const reader = await BackupRepository.open(target, SMALL);
  const copy = new MemoryDevice(device.size);
  await errorOf(reader.restore(id, copy, { budget: { gets: 1 } }), 'BUDGET_EXCEEDED');
  await errorOf(reader.restore(id, copy, { budget: { downloadBytes: 10 * BLOCK } }), 'BUDGET_EXCEEDED');
  await errorOf(reader.prune({ budget: { gets: 1 } }), 'BUDGET_EXCEEDED');
  await errorOf(reader.verify({ depth: 'data', budget: { downloadBytes: 10 * BLOCK } }), 'BUDGET_EXCEEDED');
  await reader.restore(id, copy);
});
