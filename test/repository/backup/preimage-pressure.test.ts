import { describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import type { PreserveOptions } from '../../../src/volume/volume-options.ts';
import { randomBytes } from '../../support/randomness.ts';
import { expectSame } from '../../volume/support/bytes.ts';
import { BLOCK, contentOfBackup, createIn, openVolume, until, writeBlock } from '../support/repositories.ts';

const MIB = 1024 * 1024;

/** Content of a block: none that shrinks, some that does eight to one, one of 16 over and over. */
const CONTENTS = {
  random: () => randomBytes(BLOCK),
  compressible: () => Buffer.concat([randomBytes(BLOCK / 8), Buffer.alloc(BLOCK - BLOCK / 8, 1)]),
  repeated: (block: number) => Buffer.alloc(BLOCK, `${block % 16} template `),
};

async function volumeOf(content: keyof typeof CONTENTS, blocks: number, preserve: PreserveOptions) {
  const device = new MemoryDevice(blocks * BLOCK);
  for (let block = 0; block < blocks; block++) device.bytes.set(CONTENTS[content](block), block * BLOCK);
  const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK, preserve });
  return { device, volume };
}

/** A writer that is never far ahead of what the job has stored. */
async function overwriteAll(volume: CopyOnWriteVolume): Promise<void> {
  for (let block = volume.size / BLOCK - 1; block >= 0; block--) {
    await writeBlock(volume, block);
    const { heldBytes, limitBytes } = volume.preimages;
    if (heldBytes > limitBytes / 2) await until(() => volume.preimages.heldBytes < limitBytes / 4);
  }
}

describe.each(Object.keys(CONTENTS) as (keyof typeof CONTENTS)[])('%s content', (content) => {
  test.each(['lazy', 'sweeping'])('overwritten as a %s job goes on needs little room for pre-images', async (mode) => {
    const { device, volume } = await volumeOf(content, 1500, { memoryBytes: MIB, spillBytes: 0 });
    const frozen = device.bytes.slice();
    // Packs of the usual size: each would hold all of it.
    const repository = await BackupRepository.create(new MemoryTarget(), { encryption: 'none', threads: 0 });
    const job = await repository.startBackup(volume, { volume: 'disk' });
    if (mode === 'sweeping') job.sweep();
    await overwriteAll(volume);
    const { id } = await job.sweep().done;
    expectSame(await contentOfBackup(repository, id), frozen);
    await volume.close();
  });
});

test('without overwrites nothing presses, and packs are as large as they may be', async () => {
  const { volume } = await volumeOf('random', 600, { memoryBytes: MIB, spillBytes: 0 });
  const target = new MemoryTarget();
  const repository = await BackupRepository.create(target, { encryption: 'none', threads: 0 });
  await repository.backup(volume, { volume: 'disk' });
  expect(await Array.fromAsync(target.list('packs/'))).toHaveLength(1);
});

test('a sweep that waits for its uploads does not keep pre-images from being stored', async () => {
  const target = new MemoryTarget();
  const repository = await createIn(target);
  const { device, volume } = await volumeOf('random', 1500, { memoryBytes: MIB, spillBytes: 0 });
  const frozen = device.bytes.slice();
  const put = target.put.bind(target);
  const isReleased = Promise.withResolvers<void>();
  let held = 0;
  target.put = async (key, ...rest) => {
    if (key.startsWith('packs/') && held < 2) {
      held++;
      await isReleased.promise;
    }
    await put(key, ...rest);
  };
  const job = await repository.startBackup(volume, { volume: 'disk' });
  job.sweep();
  let storing = -1;
  while (held < 2 || job.states.counts.storing !== storing) {
    storing = job.states.counts.storing;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  for (let block = 1400; block < 1500; block++) await writeBlock(volume, block);
  await until(() => job.states.get(1400) === 'stored');
  expect(job.states.counts.pending).toBeGreaterThan(500);
  isReleased.resolve();
  expectSame(await contentOfBackup(repository, (await job.done).id), frozen);
});

describe('limits that are too small to work', () => {
  test('are refused at the door, with the number to raise', async () => {
    const repository = await createIn(new MemoryTarget());
    const { volume } = await openVolume(1000, { preserve: { memoryBytes: MIB - BLOCK, spillBytes: 0 } });
    await expect(repository.startBackup(volume, { volume: 'disk' })).rejects.toThrow(
      /^this volume keeps at most 1044480 bytes of pre-images, and a backup of it needs room for 1048576: raise preserve.memoryBytes/,
    );
    const snapshot = await volume.createSnapshot();
    await expect(repository.startBackup(snapshot, { volume: 'disk' })).rejects.toThrow(TypeError);
    expect(volume.snapshots).toEqual([snapshot]);
  });

  test('are none where the whole volume fits, or where blocks may be lost', async () => {
    const repository = await createIn(new MemoryTarget());
    const small = await openVolume(10, { preserve: { memoryBytes: 11 * BLOCK, spillBytes: 0 } });
    await repository.backup(small.volume, { volume: 'small' });
    const lossy = await openVolume(1000, { preserve: { memoryBytes: 0, spillBytes: 0, onFailure: 'lose-block' } });
    await repository.backup(lossy.volume, { volume: 'lossy' });
  });
});
