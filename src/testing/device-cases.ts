import { type BlockDevice, hasSyncDoor } from '../device/block-device.ts';
import { randomBytesFrom, seededRandom } from './seeded-random.ts';

export const KIB = 1024;

/** The size of the devices that cases get, in bytes. */
export const CONFORMANCE_SIZE = 1024 * 1024;

/** The asynchronous or the synchronous calls of a device. If a synchronous call throws, the promise here rejects. */
export interface Door {
  readonly name: string;
  read(offset: number, into: Uint8Array): Promise<void>;
  write(offset: number, from: Uint8Array): Promise<void>;
  flush(): Promise<void>;
}

/** The asynchronous calls of a device, and the synchronous ones if it has any. */
export function doorsOf(device: BlockDevice): Door[] {
  const doors: Door[] = [
    {
      name: 'the asynchronous calls',
      read: (offset, into) => device.read(offset, into),
      write: (offset, from) => device.write(offset, from),
      flush: () => device.flush(),
    },
  ];
  if (hasSyncDoor(device)) {
    doors.push({
      name: 'the synchronous calls',
      read: async (offset, into) => device.readSync(offset, into),
      write: async (offset, from) => device.writeSync(offset, from),
      flush: async () => device.flushSync(),
    });
  }
  return doors;
}

/** Bytes that look random, depend only on the seed, and are never all zero. */
export function pattern(seed: number, length: number): Uint8Array<ArrayBuffer> {
  return randomBytesFrom(seededRandom(seed), length);
}

/** Writes any number of bytes, in as many calls as the device needs. */
export async function fill(device: BlockDevice, offset: number, bytes: Uint8Array): Promise<void> {
  const most = device.maxTransferBytes ?? bytes.length;
  for (let at = 0; at < bytes.length; at += most) {
    await device.write(offset + at, bytes.subarray(at, Math.min(at + most, bytes.length)));
  }
}

/** Reads any number of bytes, in as many calls as the device needs. */
export async function content(device: BlockDevice, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  const most = device.maxTransferBytes ?? length;
  for (let at = 0; at < length; at += most) {
    await device.read(offset + at, bytes.subarray(at, Math.min(at + most, length)));
  }
  return bytes;
}

/** The length of whole sectors of about `bytes` bytes: at least one sector, and at most what one call takes. */
export function sectors(device: BlockDevice, bytes: number): number {
  const { sectorSize, maxTransferBytes = Number.POSITIVE_INFINITY } = device;
  return Math.max(1, Math.floor(Math.min(bytes, maxTransferBytes) / sectorSize)) * sectorSize;
}

/** Lets the event loop turn `count` times, so that pending work gets done. */
export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** The `lacks` of cases that write. */
export function lacksWrites(device: BlockDevice): string | undefined {
  return device.readOnly === true ? 'the device is read-only' : undefined;
}

/** A case of the suite for devices. */
export interface DeviceCase {
  readonly name: string;
  /** The reason why the case does not apply to a device; `undefined` if it applies. */
  lacks?(device: BlockDevice): string | undefined;
  run(device: BlockDevice): Promise<void>;
}
