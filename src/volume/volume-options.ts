import {
  booleanArgument,
  choiceArgument,
  described,
  integerArgument,
  limitArgument,
  optionsArgument,
  textArgument,
} from '../common/arguments.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { deviceArgument } from '../device/door.ts';
import type { StateStorage } from './state-directory/state-storage.ts';

/**
 * What happens when a pre-image can't be kept: the device can't be read, there is no room, or it takes too long.
 *
 * - `fail-write`: the host's write is refused with `PRESERVE_FAILED`, and nothing of it reaches the device. With a spill,
 *   every first overwrite therefore also waits for the spill; with the other two it waits only for the block's read
 * - `lose-block`: the write goes through; that block of the snapshot is lost, and the others stay readable
 * - `break-snapshot`: the write goes through; every snapshot that needs the block is broken
 *
 * If the spill fails after the write has gone through, the same happens to the snapshots that the pre-image served.
 *
 * @public
 */
export type PreserveFailure = 'fail-write' | 'lose-block' | 'break-snapshot';

/**
 * Where pre-images go, and what happens when they can't: first to memory, then to a spill, which is a file of the volume's
 * own unless one is named.
 *
 * The volume's own file is created when memory is full for the first time. Only its owner can read it, and it has no name
 * where the system allows that, so it disappears however the process ends. It is created in one of `os.tmpdir()`, `/var/tmp` and the
 * folder of a `FileDevice`: in the first that can be written to, is not on a filesystem in memory and has enough
 * room, else in the one with the most room. While its disk is nearly full it does not grow. Once nothing of a
 * large file is in use, its room is given back to the disk. If there is no usable folder, a warning (`NO_SPILL`) is emitted
 * once a process, and pre-images are kept in memory only.
 *
 * @public
 */
export interface PreserveOptions {
  /** Room for pre-images in memory, in bytes; another 1 MiB, or four blocks, may be on the way to the spill. @defaultValue 64 MiB */
  memoryBytes?: number | undefined;
  /**
   * Path of a spill file to use instead of the volume's own; it may be on a filesystem in memory. The file must not
   * exist: it is created when the volume opens, and removed when the volume closes or the process ends.
   */
  spillPath?: string | undefined;
  /**
   * A device for the same purpose, instead of a file; all of its content is overwritten. It is not closed. The volume's
   * synchronous door can spill only to a device that has one too.
   */
  spillDevice?: BlockDevice | undefined;
  /**
   * The most bytes of the spill that are used; 0 turns the spill off. @defaultValue the spill device's size, or the
   * volume's; of the volume's own file also no more than 32 GiB, 2^20 blocks and a quarter of what is free on its filesystem at opening
   */
  spillBytes?: number | undefined;
  /**
   * Keep a CRC-32 of every spilled block, and report `SPILL_CORRUPT` for one that reads back differently. This is useful
   * where the spill's disk is less reliable than the volume's own, which nothing checks either. @defaultValue false
   */
  verifySpill?: boolean | undefined;
  /**
   * How long a write may wait for one block's pre-image, in milliseconds: for the block's read; for room, when memory and
   * spill are full and the snapshot's blocks are being stored; and for a spill that does not answer, under `fail-write` (under
   * the others only when all transit buffers are in use). @defaultValue 10000
   */
  deadlineMs?: number | undefined;
  /** @defaultValue 'break-snapshot': the host's writes come first */
  onFailure?: PreserveFailure | undefined;
}

/** Options of `CopyOnWriteVolume.open`. @public */
export interface VolumeOptions {
  /**
   * Bytes that are tracked, preserved and stored together: a power of two from 4 KiB to 4 MiB, a multiple of the
   * device's sector, and no more than one call of the device takes. @defaultValue 64 KiB
   */
  blockSize?: number | undefined;
  /** For diagnostics. */
  name?: string | undefined;
  /** Close the device with the volume. @defaultValue false */
  closeDevice?: boolean | undefined;
  preserve?: PreserveOptions | undefined;
  /**
   * Where to keep what a later process has to know, so that change tracking survives this one: the path of a folder, which is created if it
   * is not there, or a storage of the host's own. It must not lie on the volume itself. Without it, the first backup after each opening
   * reads the whole volume.
   */
  stateDirectory?: string | StateStorage | undefined;
}

/** {@link VolumeOptions}, checked and with its defaults. Without `spillBytes` the default limit applies. */
export type CheckedVolumeOptions = Readonly<ReturnType<typeof checkVolumeOptions>>;

const POLICIES: readonly PreserveFailure[] = ['fail-write', 'lose-block', 'break-snapshot'];
const MAX_BLOCKS = 2 ** 32;
const KIB = 1024;
const MIB = 1024 * KIB;

const VOLUME_OPTIONS = {
  blockSize: true,
  name: true,
  closeDevice: true,
  preserve: true,
  stateDirectory: true,
} as const satisfies Record<keyof VolumeOptions, true>;
const PRESERVE_OPTIONS = {
  memoryBytes: true,
  spillPath: true,
  spillDevice: true,
  spillBytes: true,
  verifySpill: true,
  deadlineMs: true,
  onFailure: true,
} as const satisfies Record<keyof PreserveOptions, true>;

/** Checks the options and applies their defaults. @throws TypeError */
export function checkVolumeOptions(device: BlockDevice, given: VolumeOptions) {
  deviceArgument('device', device);
  const options = optionsArgument('options', given, VOLUME_OPTIONS);
  const { blockSize = 64 * KIB, name, closeDevice = false, stateDirectory } = options;
  if (name !== undefined && typeof name !== 'string') throw new TypeError('name must be a string');
  integerArgument('blockSize', blockSize, 4 * KIB, 4 * MIB);
  if ((blockSize & (blockSize - 1)) !== 0) throw new TypeError('blockSize must be a power of two');
  checkBlocksFit('the device', device, blockSize);
  if (device.size / blockSize > MAX_BLOCKS) throw new TypeError(`blockSize makes more than ${MAX_BLOCKS} blocks`);
  const {
    memoryBytes = 64 * MIB,
    spillPath,
    spillDevice,
    spillBytes,
    verifySpill = false,
    deadlineMs = 10_000,
    onFailure = 'break-snapshot',
  } = optionsArgument('options.preserve', options.preserve, PRESERVE_OPTIONS);
  if (spillPath !== undefined) textArgument('preserve.spillPath', spillPath);
  if (spillDevice !== undefined) {
    checkBlocksFit('the spill device', deviceArgument('preserve.spillDevice', spillDevice), blockSize);
  }
  if (spillPath !== undefined && spillDevice !== undefined) {
    throw new TypeError('preserve takes spillPath or spillDevice, not both');
  }
  integerArgument('preserve.memoryBytes', memoryBytes, 0);
  if (spillBytes !== undefined) integerArgument('preserve.spillBytes', spillBytes, 0);
  requireRoomForOne(blockSize, memoryBytes, spillBytes ?? spillDevice?.size ?? blockSize);
  return {
    blockSize,
    name,
    closeDevice: booleanArgument('closeDevice', closeDevice),
    stateDirectory: stateArgument(stateDirectory),
    memoryBytes,
    spillPath,
    spillDevice,
    spillBytes,
    verifySpill: booleanArgument('preserve.verifySpill', verifySpill),
    deadlineMs: limitArgument('preserve.deadlineMs', deadlineMs, 1),
    onFailure: choiceArgument('preserve.onFailure', onFailure, POLICIES),
  };
}

function stateArgument(given: string | StateStorage | undefined): string | StateStorage | undefined {
  if (given === undefined || typeof given === 'string')
    return given === undefined ? given : textArgument('stateDirectory', given);
  const methods = ['list', 'create', 'open', 'rename', 'remove', 'sync', Symbol.asyncDispose] as const;
  const isStorage =
    typeof given === 'object' && given !== null && methods.every((name) => typeof given[name] === 'function');
  if (!isStorage) throw new TypeError(`stateDirectory must be a path or a StateStorage, not ${described(given)}`);
  return given;
}

function checkBlocksFit(what: string, { sectorSize, maxTransferBytes }: BlockDevice, blockSize: number): void {
  if (blockSize % sectorSize !== 0) {
    throw new TypeError(`blockSize must be a multiple of the ${sectorSize} bytes of a sector of ${what}`);
  }
  if (maxTransferBytes !== undefined && blockSize > maxTransferBytes) {
    throw new TypeError(`blockSize must not be more than the ${maxTransferBytes} bytes that one call of ${what} takes`);
  }
}

/** Setting both to 0 keeps no pre-images, and is a choice. Room for less than one block is a mistake. */
function requireRoomForOne(blockSize: number, memoryBytes: number, spillBytes: number): void {
  if (memoryBytes >= blockSize || spillBytes >= blockSize || memoryBytes + spillBytes === 0) return;
  throw new TypeError(
    `preserve.memoryBytes (${memoryBytes}) and preserve.spillBytes (${spillBytes}) have no room for one block of ${blockSize} bytes`,
  );
}
