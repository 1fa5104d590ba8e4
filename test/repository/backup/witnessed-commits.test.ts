import { describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import { expectSame } from '../../volume/support/bytes.ts';
import { BLOCK, contentOfBackup, createIn, openIn, openVolume, writeBlock } from '../support/repositories.ts';

/** A second volume with the identity of the first, as a copy of its process's memory has, over a copy of its bytes. */
async function twinOf(volume: CopyOnWriteVolume, bytes: Uint8Array) {
  const device = new MemoryDevice(Uint8Array.from(bytes));
  const twin = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
  Object.defineProperty(twin, 'trackingId', { value: volume.trackingId });
  return { device, volume: twin };
}

describe('change tracking is believed only against a base that this volume saw being committed', () => {
  test('a volume that was reverted with its memory compares with a base of its own future', async () => {
    const target = new MemoryTarget();
    const repository = await createIn(target);
    const { device, volume } = await openVolume();
    await repository.backup(volume, { volume: 'disk' });
    const reverted = await twinOf(volume, device.bytes);
    await (await reverted.volume.createSnapshot()).close();
    for (let i = 0; i < 2; i++) {
      await writeBlock(volume, 10 + i);
      await repository.backup(volume, { volume: 'disk' });
    }
    // The machine goes back: its volume has as many instants as the base says, and none of its writes.
    for (let i = 0; i < 3; i++) await (await reverted.volume.createSnapshot()).close();
    await writeBlock(reverted.volume, 30);
    const other = await openIn(target);
    const result = await other.backup(reverted.volume, { volume: 'disk' });
    expect(result).toMatchObject({ changeSource: 'compared', changeReason: 'base-not-seen' });
    expectSame(await contentOfBackup(other, result.id), reverted.device.bytes);
    // From here on it has seen its base.
    await writeBlock(reverted.volume, 31);
    const next = await other.backup(reverted.volume, { volume: 'disk' });
    expect(next).toMatchObject({ changeSource: 'tracked', changeReason: undefined, readBytes: BLOCK });
    expectSame(await contentOfBackup(other, next.id), reverted.device.bytes);
  });

  test('two running clones of one machine each back up their own bytes', async () => {
    const target = new MemoryTarget();
    await createIn(target);
    const first = await openVolume();
    const second = await twinOf(first.volume, first.device.bytes);
    for (const { volume } of [first, second]) await (await volume.createSnapshot()).close();
    await writeBlock(first.volume, 3);
    await writeBlock(second.volume, 20);
    for (const { volume, device } of [first, second, first, second]) {
      const repository = await openIn(target);
      const result = await repository.backup(volume, { volume: 'disk' });
      expect(result.changeSource).not.toBe('tracked');
      expectSame(await contentOfBackup(repository, result.id), device.bytes);
      await repository.close();
    }
  });

  test('a base that another host committed, and one that is not the newest, are compared with', async () => {
    const target = new MemoryTarget();
    const repository = await createIn(target);
    const { device, volume } = await openVolume();
    const first = await repository.backup(volume, { volume: 'disk' });
    await writeBlock(volume, 1);
    const other = await openVolume();
    await (await openIn(target)).backup(other.volume, { volume: 'disk' });
    const onto = await repository.backup(volume, { volume: 'disk' });
    expect(onto).toMatchObject({ changeSource: 'compared', changeReason: 'base-not-seen' });
    expectSame(await contentOfBackup(repository, onto.id), device.bytes);
    const older = await repository.backup(volume, { volume: 'disk', base: first.id });
    expect(older).toMatchObject({ changeSource: 'compared', changeReason: 'base-not-newest', base: first.id });
    expectSame(await contentOfBackup(repository, older.id), device.bytes);
  });

  test('an instant that is older than the base is compared with it (R11)', async () => {
    const repository = await createIn(new MemoryTarget());
    const { device, volume } = await openVolume();
    await repository.backup(volume, { volume: 'disk' });
    await using earlier = await volume.createSnapshot();
    const frozen = device.bytes.slice();
    await writeBlock(volume, 5);
    await repository.backup(volume, { volume: 'disk' });
    await writeBlock(volume, 6);
    const result = await repository.backup(earlier, { volume: 'disk' });
    expect(result).toMatchObject({ changeSource: 'compared', changeReason: 'base-newer' });
    expectSame(await contentOfBackup(repository, result.id), frozen);
  });

  test('a volume that is in two repositories, and under two names, is tracked in each', async () => {
    const { volume, device } = await openVolume();
    const places = [
      { repository: await createIn(new MemoryTarget()), name: 'disk' },
      { repository: await createIn(new MemoryTarget(), true), name: 'disk' },
    ];
    places.push({ repository: places[0]!.repository, name: 'copy' });
    for (const { repository, name } of places) await repository.backup(volume, { volume: name });
    for (const [index, { repository, name }] of places.entries()) {
      await writeBlock(volume, index);
      const result = await repository.backup(volume, { volume: name });
      expect(result).toMatchObject({ changeSource: 'tracked', readBytes: (index + 1) * BLOCK });
      expectSame(await contentOfBackup(repository, result.id), device.bytes);
    }
  });
});
