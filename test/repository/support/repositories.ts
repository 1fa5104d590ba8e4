import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import type { Pacing } from '../../../src/repository/open/create-object.ts';
import type { CreateOptions, OpenOptions } from '../../../src/repository/open/repository-options.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { CopyOnWriteVolume, type SyncVolumeAccess } from '../../../src/volume/copy-on-write-volume.ts';
import type { VolumeOptions } from '../../../src/volume/volume-options.ts';
import { randomBytes } from '../../support/randomness.ts';

/** Real repositories in memory, small: blocks of 4 KiB, packs of 64 KiB, everything on the calling thread. */

export const BLOCK = 4096;
export const SMALL = { threads: 0, packBytes: 64 * 1024, sealMemoryBytes: 2 ** 20 } as const;
const KEY = new Uint8Array(32).fill(7);
/** Repeats what failed without waiting. */
export const AT_ONCE: Pacing = { clock: { sleep: async () => {} }, random: () => 0 };

export function encryptionOf(isEncrypted: boolean): CreateOptions['encryption'] {
  return isEncrypted ? { key: KEY } : 'none';
}

export function createIn(target: CloudTarget, isEncrypted = false): Promise<BackupRepository> {
  return BackupRepository.create(target, { encryption: encryptionOf(isEncrypted), ...SMALL });
}

export function openIn(target: CloudTarget, isEncrypted = false, options: OpenOptions = {}): Promise<BackupRepository> {
  return BackupRepository.open(target, { ...options, ...unlockOf(isEncrypted), ...SMALL });
}

/** The options that open what `createIn` has created. */
export function unlockOf(isEncrypted: boolean): Pick<OpenOptions, 'unlock'> {
  return isEncrypted ? { unlock: { key: KEY } } : {};
}

/** A target in memory that notes each call, as `put packs/...`. */
export function notedTarget(): { target: MemoryTarget; calls: string[] } {
  const target = new MemoryTarget();
  const calls: string[] = [];
  for (const name of ['put', 'get', 'stat', 'delete'] as const) {
    const call = target[name].bind(target) as (key: string, ...rest: unknown[]) => Promise<unknown>;
    Object.assign(target, {
      [name]: (key: string, ...rest: unknown[]) => {
        calls.push(`${name} ${key}`);
        return call(key, ...rest);
      },
    });
  }
  const list = target.list.bind(target);
  target.list = (prefix, options) => {
    calls.push(`list ${prefix}`);
    return list(prefix, options);
  };
  return { target, calls };
}

/** A volume with a short last block: every fifth block is zeroes, some are alike, the others differ. */
export async function openVolume(
  blocks = 50,
  options: VolumeOptions = {},
): Promise<{ device: MemoryDevice; volume: CopyOnWriteVolume & SyncVolumeAccess }> {
  const device = new MemoryDevice(blocks * BLOCK + 1000);
  for (let block = 0; block < blocks; block++) {
    if (block % 5 !== 0) device.bytes.set(randomBytes(BLOCK), block * BLOCK);
    if (block % 7 === 3) device.bytes.fill(0x77, block * BLOCK, (block + 1) * BLOCK);
  }
  return { device, volume: await CopyOnWriteVolume.open(device, { blockSize: BLOCK, ...options }) };
}

/** All of a backup's content, as `openBackup` gives it. */
export async function contentOfBackup(repository: BackupRepository, id: string): Promise<Uint8Array> {
  await using image = await repository.openBackup(id);
  const bytes = new Uint8Array(image.size).fill(0xee);
  await image.read(0, bytes);
  return bytes;
}

/** Fills one block of a volume. */
export function writeBlock(volume: CopyOnWriteVolume, block: number, content: Uint8Array = randomBytes(BLOCK)) {
  return volume.write(block * BLOCK, content);
}

/** Waits until something is so. */
export async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 1));
}
