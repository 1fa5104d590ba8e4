import { onTestFinished } from 'vitest';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import { CopyOnWriteVolume, type SyncVolumeAccess } from '../../../src/volume/copy-on-write-volume.ts';
import type { VolumeOptions } from '../../../src/volume/volume-options.ts';
import { BLOCK, filled, numberBlocks } from './bytes.ts';
import { ScriptedDevice, ScriptedSyncDevice } from './scripted-device.ts';

/** A volume that is open until the test has finished, and what most tests do with it. */
export interface OpenVolume<Device extends BlockDevice, Volume extends CopyOnWriteVolume> {
  readonly device: Device;
  readonly volume: Volume;
  /** What the device held when the volume was opened: block b is full of `1 + b`. */
  readonly initial: Uint8Array;
  /** Writes `BLOCK` bytes of one value to the beginning of a block. */
  overwrite(block: number, byte?: number): Promise<void>;
}

/** A device in memory in which each block has a content of its own. */
export function numberedDevice(blocks: number, blockSize = BLOCK): ScriptedSyncDevice {
  const device = new ScriptedSyncDevice(blocks * blockSize);
  numberBlocks(device.bytes, 1, blockSize);
  return device;
}

/** Opens a volume over a numbered device that has no synchronous door. */
export async function openVolume(
  blocks: number,
  options: VolumeOptions = {},
): Promise<OpenVolume<ScriptedDevice, CopyOnWriteVolume>> {
  const blockSize = options.blockSize ?? BLOCK;
  const device = new ScriptedDevice(blocks * blockSize);
  numberBlocks(device.bytes, 1, blockSize);
  return opened(device, await CopyOnWriteVolume.open(device, { blockSize, ...options }));
}

/** Opens a volume over a numbered device that has both doors. */
export async function openSyncVolume(
  blocks: number,
  options: VolumeOptions = {},
): Promise<OpenVolume<ScriptedSyncDevice, CopyOnWriteVolume & SyncVolumeAccess>> {
  const device = numberedDevice(blocks, options.blockSize);
  return opened(device, await CopyOnWriteVolume.open(device, { blockSize: BLOCK, ...options }));
}

function opened<Device extends ScriptedDevice, Volume extends CopyOnWriteVolume>(device: Device, volume: Volume) {
  onTestFinished(() => volume.close());
  const overwrite = (block: number, byte = 0xaa) => volume.write(block * volume.blockSize, filled(byte));
  return { device, volume, initial: device.bytes.slice(), overwrite };
}
