import { unlink } from 'node:fs/promises';
import { FileDevice } from '../device/file-device.ts';
import { SpillArea } from './spill-area.ts';
import type { CheckedVolumeOptions } from './volume-options.ts';

/** A spill, and what has to be undone when the volume closes. */
export interface OpenSpill {
  readonly area: SpillArea;
  close(): Promise<void>;
}

/** Opens what the options name, if they name anything. */
export async function openSpill(options: CheckedVolumeOptions): Promise<OpenSpill | undefined> {
  const { spillPath, spillDevice, spillBytes, verifySpill, blockSize } = options;
  if (spillDevice !== undefined) {
    return { area: new SpillArea(spillDevice, blockSize, spillBytes, verifySpill), close: async () => {} };
  }
  if (spillPath === undefined) return undefined;
  const sizeBytes = Math.floor(spillBytes / blockSize) * blockSize;
  const file = await FileDevice.open(spillPath, { create: { sizeBytes }, shared: true });
  // Where the system allows it the file has no name from here on, so that nothing is left however the process ends.
  const isUnlinked = await unlink(spillPath).then(
    () => true,
    () => false,
  );
  return {
    area: new SpillArea(file, blockSize, spillBytes, verifySpill),
    close: async () => {
      await file.close();
      if (!isUnlinked) await unlink(spillPath).catch(() => {});
    },
  };
}
