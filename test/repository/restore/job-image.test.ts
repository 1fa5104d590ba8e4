import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { randomBytes } from '../../support/randomness.ts';
import { errorOf, expectSame } from '../../volume/support/bytes.ts';
import { BLOCK, createIn, openVolume, SMALL, until, writeBlock } from '../support/repositories.ts';

/** A backup under way, which is opened and restored together with its live volume. */

async function contentOf(device: { size: number; read(offset: number, into: Uint8Array): Promise<void> }) {
  const bytes = new Uint8Array(device.size).fill(0xee);
  await device.read(0, bytes);
  return bytes;
}

test('is refused without its live volume, and with another volume', async () => {
  const repository = await createIn(new MemoryTarget());
  const { volume } = await openVolume();
  const other = await openVolume();
  const job = await repository.startBackup(volume, { volume: 'disk' });
  await errorOf(repository.openBackup(job.id), 'BACKUP_INCOMPLETE');
  await errorOf(repository.openBackup(job.id, { liveVolume: other.volume }), 'BACKUP_INCOMPLETE');
  await job.cancel();
  await errorOf(repository.openBackup(job.id, { liveVolume: volume }), 'BACKUP_NOT_FOUND');
});

describe.each(['full', 'incremental'])('a lazy %s backup', (kind) => {
  test('shows the frozen instant while it goes on, and after its commit', async () => {
    // Packs of one block: what is intercepted is stored, and released, at once.
    const repository = await BackupRepository.create(new MemoryTarget(), {
      encryption: 'none',
      ...SMALL,
      packBytes: 65536,
    });
    const { device, volume } = await openVolume(80);
    if (kind === 'incremental') {
      await repository.backup(volume, { volume: 'disk' });
      for (const block of [1, 2, 3, 30, 31, 77]) await writeBlock(volume, block);
    }
    const frozen = device.bytes.slice();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    await using image = await repository.openBackup(job.id, { liveVolume: volume });
    expectSame(await contentOf(image), frozen, 'at first');
    await volume.write(0, randomBytes(60 * BLOCK));
    expectSame(await contentOf(image), frozen, 'while blocks are stored');
    if (kind === 'full') await until(() => job.states.counts.stored > 10);
    await volume.write(10 * BLOCK, randomBytes(30 * BLOCK));
    expectSame(await contentOf(image), frozen, 'after some have been released');
    await job.sweep().done;
    expectSame(await contentOf(image), frozen, 'from the repository');
    await image[Symbol.asyncDispose]();
    await errorOf(image.read(0, new Uint8Array(1000)), 'CLOSED');
  });

  test('is of no use once it was cancelled', async () => {
    const repository = await createIn(new MemoryTarget());
    const { volume } = await openVolume();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    const image = await repository.openBackup(job.id, { liveVolume: volume });
    await job.cancel();
    await errorOf(image.read(0, new Uint8Array(BLOCK)), 'BACKUP_INCOMPLETE');
    expect(image.readOnly).toBe(true);
  });
});

describe('whose volume was closed while the store does not take its commit', () => {
  async function committing() {
    const target = new MemoryTarget();
    const repository = await createIn(target);
    const { device, volume } = await openVolume();
    const frozen = device.bytes.slice();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    const { signal } = new AbortController();
    const image = await repository.openBackup(job.id, { liveVolume: volume, signal });
    const [asked, answer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const put = target.put.bind(target);
    target.put = async (key, ...rest) => {
      if (key.startsWith('log/')) {
        asked.resolve();
        await answer.promise;
      }
      return put(key, ...rest);
    };
    const { done } = job.sweep();
    await asked.promise;
    await volume.close();
    return { target, image, frozen, done, answer };
  }

  test('is read once it is committed, though opening it failed at first', async () => {
    const { target, image, frozen, done, answer } = await committing();
    const reading = contentOf(image);
    const get = target.get.bind(target);
    target.get = async () => {
      throw new BackupError('TARGET_UNAVAILABLE', 'no', { retryable: true });
    };
    answer.resolve();
    await done;
    await errorOf(reading, 'TARGET_UNAVAILABLE');
    target.get = get;
    expectSame(await contentOf(image), frozen);
  });

  test('rejects reads that are aborted at once, and all others when the image is closed', async () => {
    const { image, done, answer } = await committing();
    const reader = new AbortController();
    const [aborted, waiting] = [image.read(0, new Uint8Array(1), { signal: reader.signal }), contentOf(image)];
    reader.abort(new Error('enough'));
    await expect(aborted).rejects.toThrow('enough');
    await image.close();
    await errorOf(waiting, 'CLOSED');
    answer.resolve();
    await done;
  });
});

test('that is committed in the middle of its restore is restored to its end', async () => {
  const repository = await createIn(new MemoryTarget());
  const { device, volume } = await openVolume(100);
  const frozen = device.bytes.slice();
  const job = await repository.startBackup(volume, { volume: 'disk' });
  const copy = new MemoryDevice(device.size);
  const write = copy.write.bind(copy);
  copy.write = async (offset, from) => {
    copy.write = write;
    await job.sweep().done;
    await until(() => job.snapshot.status === 'closed');
    return write(offset, from);
  };
  const ranges = [50, 0].map((first) => ({ offset: first * BLOCK, length: 20 * BLOCK }));
  await repository.restore(job.id, copy, { liveVolume: volume, ranges, onProgress: () => {} });
  for (const { offset, length } of ranges)
    expectSame(copy.bytes.subarray(offset, offset + length), frozen.subarray(offset, offset + length));
});

test('is restored onto another device, and rolls its own volume back', async () => {
  const target = new MemoryTarget();
  const options = { encryption: 'none', ...SMALL, packBytes: 65536 } as const;
  const repository = await BackupRepository.create(target, options);
  const { device, volume } = await openVolume(80);
  const frozen = device.bytes.slice();
  const job = await repository.startBackup(volume, { volume: 'disk' });
  await volume.write(5 * BLOCK, randomBytes(40 * BLOCK));
  await until(() => job.states.counts.stored > 10);
  await volume.write(5 * BLOCK, randomBytes(40 * BLOCK)); // Over what has been released.
  const copy = new MemoryDevice(device.size + 5000);
  copy.bytes.fill(9);
  await errorOf(repository.restore(job.id, copy), 'BACKUP_INCOMPLETE');
  const whole = await repository.restore(job.id, copy, { liveVolume: volume, verifyWrites: true });
  expect(whole).toMatchObject({ writtenBytes: device.size, skippedBytes: 0 });
  expectSame(copy.bytes.subarray(0, device.size), frozen);
  expectSame(copy.bytes.subarray(device.size), new Uint8Array(5000).fill(9));

  await repository.restore(job.id, volume, {
    liveVolume: volume,
    ranges: [{ offset: 5 * BLOCK + 10, length: 2 * BLOCK }],
  });
  expectSame(device.bytes.subarray(5 * BLOCK + 10, 7 * BLOCK + 10), frozen.subarray(5 * BLOCK + 10, 7 * BLOCK + 10));
  const back = await repository.restore(job.id, volume, { liveVolume: volume });
  expect(back).toMatchObject({ writtenBytes: 40 * BLOCK, skippedBytes: device.size - 40 * BLOCK });
  expectSame(device.bytes, frozen);
  const small = new MemoryDevice(BLOCK);
  await errorOf(repository.restore(job.id, small, { liveVolume: volume }), 'OUT_OF_RANGE');
  const { id } = await job.sweep().done;
  const after = new MemoryDevice(device.size);
  await repository.restore(id, after);
  expectSame(after.bytes, frozen);
});

test('with blocks that were lost is refused, or restored with zeroes in their place', async () => {
  const repository = await createIn(new MemoryTarget());
  const { device, volume } = await openVolume(80, {
    preserve: { memoryBytes: BLOCK, spillBytes: 0, onFailure: 'lose-block' },
  });
  const expected = device.bytes.slice();
  const snapshot = await volume.createSnapshot();
  for (const block of [6, 7, 11]) await writeBlock(volume, block); // Only the first pre-image has room.
  const job = await repository.startBackup(snapshot, { volume: 'disk' });
  const copy = new MemoryDevice(device.size);
  await errorOf(repository.restore(job.id, copy, { liveVolume: volume }), 'BLOCK_LOST');
  expectSame(copy.bytes, new Uint8Array(device.size), 'nothing is written before the refusal');
  for (const block of [7, 11]) expected.fill(0, block * BLOCK, (block + 1) * BLOCK);
  const options = { liveVolume: volume, allowLost: true, verifyWrites: true };
  // Ranges that overlap are written once.
  const ranges = [
    { offset: 0, length: 9 * BLOCK },
    { offset: 7 * BLOCK + 5, length: device.size - 7 * BLOCK - 5 },
  ];
  const result = await repository.restore(job.id, copy, { ...options, ranges });
  expect(result).toMatchObject({ writtenBytes: device.size, skippedBytes: 0, warnings: [] });
  expectSame(copy.bytes, expected);
  await errorOf(repository.restore(job.id, copy, { ...options, ranges: [{ offset: -1, length: 1 }] }), 'OUT_OF_RANGE');
  await job.cancel();
});
