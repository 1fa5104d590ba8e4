import { type BlockDevice, hasSyncDoor } from '../../../src/device/block-device.ts';
import { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import type { VolumeOptions } from '../../../src/volume/volume-options.ts';
import type { VolumeSnapshot } from '../../../src/volume/volume-snapshot.ts';
import { contentOf, expectFilled, expectSame, filled } from './bytes.ts';

/** `length` bytes of one value at an offset, as `qemu-io -c 'write -P byte offset length'` takes them. */
export type Pattern = readonly [byte: number, offset: number, length: number];

/** Somebody who writes patterns to a volume through one of its doors. */
export interface Guest {
  readonly volume: CopyOnWriteVolume;
  write(pattern: Pattern): Promise<void>;
  freeze(): Promise<VolumeSnapshot>;
}

export type Door = 'async' | 'sync';

/** Opens a volume for a guest that uses one door only. */
export async function openGuest(device: BlockDevice, door: Door, options: VolumeOptions): Promise<Guest> {
  if (door === 'async') {
    const volume = await CopyOnWriteVolume.open(device, options);
    return {
      volume,
      write: ([byte, offset, length]) => volume.write(offset, filled(byte, length)),
      freeze: () => volume.createSnapshot(),
    };
  }
  if (!hasSyncDoor(device)) throw new TypeError('this device has no synchronous door');
  const volume = await CopyOnWriteVolume.open(device, options);
  return {
    volume,
    write: async ([byte, offset, length]) => volume.writeSync(offset, filled(byte, length)),
    freeze: async () => volume.createSnapshotSync(),
  };
}

/** Reads every pattern back. */
export async function expectPatterns(
  device: Parameters<typeof expectFilled>[0],
  patterns: readonly Pattern[],
): Promise<void> {
  for (const [byte, offset, length] of patterns) await expectFilled(device, byte, offset, length);
}

/** Expects a snapshot to be, as a whole, what the device was. */
export async function expectFrozen(snapshot: VolumeSnapshot, before: Uint8Array): Promise<void> {
  expectSame(await contentOf(snapshot), before, 'the snapshot');
}
