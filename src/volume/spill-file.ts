import { unlink } from 'node:fs/promises';
import { BackupError } from '../common/errors.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { FileDevice } from '../device/file-device.ts';
import { LazySpillFile } from './lazy-spill-file.ts';
import { SpillArea } from './spill-area.ts';
import { findSpillPlace, type NoPlace, spillFolders } from './spill-place.ts';
import type { CheckedVolumeOptions } from './volume-options.ts';

/** A spill, and what has to be undone when the volume closes. */
export interface OpenSpill {
  readonly area: SpillArea;
  close(): Promise<void>;
}

/** A volume's own spill takes no more than this, and no more than a quarter of what is free when the volume opens. */
const MOST_BYTES = 32 * 1024 ** 3;
/** Each pre-image takes some 150 bytes of memory, wherever its content is. */
const MOST_BLOCKS = 2 ** 20;
const SHARE_OF_FREE = 1 / 4;

/** Opens what the options name; if they name nothing, prepares a file of the volume's own that is made when it is needed. */
export async function openSpill(
  device: BlockDevice,
  options: CheckedVolumeOptions,
  folders: readonly string[] = spillFolders(device),
): Promise<OpenSpill | undefined> {
  const { spillPath, spillDevice, spillBytes, verifySpill, blockSize } = options;
  if (spillBytes === 0) return undefined;
  if (spillDevice !== undefined) {
    const bytes = spillBytes ?? spillDevice.size;
    return { area: new SpillArea(spillDevice, blockSize, bytes, verifySpill), close: async () => {} };
  }
  const wanted = wholeBlocks(spillBytes ?? Math.ceil(device.size / blockSize) * blockSize, blockSize);
  if (spillPath !== undefined) return openSpillFile(spillPath, wanted, options);
  const most = spillBytes === undefined ? Math.min(wanted, MOST_BYTES, MOST_BLOCKS * blockSize) : wanted;
  const found = await findSpillPlace(folders, spillBytes === undefined ? most / SHARE_OF_FREE : most);
  if (!('folder' in found)) return refuseOrWarn(device, options, found);
  // What the host has asked for is not bounded by anything else.
  const bounded = spillBytes === undefined ? Math.min(most, found.freeBytes * SHARE_OF_FREE) : most;
  const bytes = wholeBlocks(bounded, blockSize);
  if (bytes === 0) return refuseOrWarn(device, options, [{ folder: found.folder, reason: 'is full' }]);
  const file = new LazySpillFile(found.folder, bytes, { freeBytes: found.freeBytes });
  return {
    area: new SpillArea(file, blockSize, bytes, verifySpill, file),
    close: () => file[Symbol.asyncDispose](),
  };
}

async function openSpillFile(path: string, sizeBytes: number, options: CheckedVolumeOptions): Promise<OpenSpill> {
  const file = await FileDevice.open(path, { create: { sizeBytes }, shared: true });
  // Where the system allows it the file has no name from here on, so that nothing is left however the process ends.
  const isUnlinked = await unlink(path).then(
    () => true,
    () => false,
  );
  return {
    area: new SpillArea(file, options.blockSize, sizeBytes, options.verifySpill),
    close: async () => {
      await file.close();
      if (!isUnlinked) await unlink(path).catch(() => {});
    },
  };
}

let hasWarned = false;

/** Memory only, then; once a process it says so, where memory could be too little. */
function refuseOrWarn(device: BlockDevice, options: CheckedVolumeOptions, places: readonly NoPlace[]): undefined {
  const why = places.map(({ folder, reason }) => `${folder} (${reason})`).join(', ');
  const message = `no folder on a disk was found for a spill of pre-images: ${why}; name one by preserve.spillPath`;
  if (options.memoryBytes < options.blockSize) throw new BackupError('PREIMAGE_SPACE', message);
  if (hasWarned || device.size <= options.memoryBytes) return;
  hasWarned = true;
  const limit = `only ${options.memoryBytes} bytes of pre-images are kept, in memory`;
  process.emitWarning(`${message}, or set preserve.spillBytes to 0 to do without; ${limit}`, {
    type: 'BackupWarning',
    code: 'NO_SPILL',
  });
}

function wholeBlocks(bytes: number, blockSize: number): number {
  return Math.floor(bytes / blockSize) * blockSize;
}
