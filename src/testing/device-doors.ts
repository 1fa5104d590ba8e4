import { type BlockDevice, hasSyncDoor } from '../device/block-device.ts';
import { randomBytesFrom, seededRandom } from './seeded-random.ts';

/** What every case may count on, in bytes. */
export const CONFORMANCE_SIZE = 1024 * 1024;

/** One way into a device. The synchronous one is asked like the other: what it throws is a rejection here. */
export interface Door {
  readonly name: string;
  read(offset: number, into: Uint8Array): Promise<void>;
  write(offset: number, from: Uint8Array): Promise<void>;
  flush(): Promise<void>;
}

/** The asynchronous door, and the synchronous one where there is one. */
export function doorsOf(device: BlockDevice): Door[] {
  const doors: Door[] = [
    {
      name: 'the asynchronous door',
      read: (offset, into) => device.read(offset, into),
      write: (offset, from) => device.write(offset, from),
      flush: () => device.flush(),
    },
  ];
  if (hasSyncDoor(device)) {
    doors.push({
      name: 'the synchronous door',
      read: async (offset, into) => device.readSync(offset, into),
      write: async (offset, from) => device.writeSync(offset, from),
      flush: async () => device.flushSync(),
    });
  }
  return doors;
}

/** Bytes that look random and are the same for the same seed; never all zero. */
export function pattern(seed: number, length: number): Uint8Array<ArrayBuffer> {
  return randomBytesFrom(seededRandom(seed), length);
}

/** Writes any number of bytes, in as many calls as the device wants. */
export async function fill(device: BlockDevice, offset: number, bytes: Uint8Array): Promise<void> {
  const most = device.maxTransferBytes ?? bytes.length;
  for (let at = 0; at < bytes.length; at += most) {
    await device.write(offset + at, bytes.subarray(at, Math.min(at + most, bytes.length)));
  }
}

/** Reads any number of bytes, in as many calls as the device wants. */
export async function content(device: BlockDevice, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  const most = device.maxTransferBytes ?? length;
  for (let at = 0; at < length; at += most) {
    await device.read(offset + at, bytes.subarray(at, Math.min(at + most, length)));
  }
  return bytes;
}

/** Whole sectors of about `bytes` bytes, at least one, and no more than one call may move. */
export function sectors(device: BlockDevice, bytes: number): number {
  const { sectorSize, maxTransferBytes = Number.POSITIVE_INFINITY } = device;
  return Math.max(1, Math.floor(Math.min(bytes, maxTransferBytes) / sectorSize)) * sectorSize;
}

/** Lets everything that was about to happen happen, in so many turns of the event loop. */
export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** For cases that write. */
export function lacksWrites(device: BlockDevice): string | undefined {
  return device.readOnly === true ? 'the device is read-only' : undefined;
}
