import {
  BackupPipeline,
  type BlockDevice,
  CopyOnWriteVolume,
  MemoryDevice,
  type PipelineOptions,
  type PipelineRecord,
  restoreBlocks,
  type VolumeOptions,
} from '../../../src/index.ts';
import { randomBytes } from '../../support/randomness.ts';

export const BLOCK = 4096;

/** A volume full of random bytes. */
export async function filledVolume(blocks: number, options: VolumeOptions = {}, device?: BlockDevice) {
  const inner = device ?? new MemoryDevice(blocks * BLOCK);
  for (const [at, length] of transfersOf(inner)) await inner.write(at, randomBytes(length));
  const volume = await CopyOnWriteVolume.open(inner, { blockSize: BLOCK, ...options });
  return { volume, before: await contentOf(volume) };
}

export async function contentOf(device: BlockDevice): Promise<Uint8Array> {
  const bytes = new Uint8Array(device.size);
  for (const [at, length] of transfersOf(device)) await device.read(at, bytes.subarray(at, at + length));
  return bytes;
}

function* transfersOf({ size, maxTransferBytes: most = size }: BlockDevice): Generator<[number, number]> {
  for (let at = 0; at < size; at += most) yield [at, Math.min(most, size - at)];
}

/** A host's store of blocks. */
export class HostRows {
  readonly rows = new Map<number, Uint8Array>();
  readonly store = async (block: number, bytes: Uint8Array) => {
    this.rows.set(block, bytes.slice());
  };
  readonly load = async (block: number) => {
    const row = this.rows.get(block);
    if (row === undefined) throw new Error(`there is no row ${block}`);
    return row;
  };
}

export const QUICK = { baseDelayMs: 0, maxDelayMs: 0 };

export async function restored(record: PipelineRecord, rows: HostRows, options = {}): Promise<Uint8Array> {
  const device = new MemoryDevice(new Uint8Array(record.size).fill(0xaa));
  await restoreBlocks(record, device, { load: rows.load, retry: QUICK, ...options });
  return contentOf(device);
}

/** Overwrites every block once. */
export async function overwriteAll(volume: CopyOnWriteVolume): Promise<void> {
  for (let at = 0; at < volume.size; at += volume.blockSize) {
    await volume.write(at, randomBytes(Math.min(volume.blockSize, volume.size - at)));
  }
}

/** Rows of a whole backup, and its record. */
export async function backedUp(blocks: number, options: Partial<PipelineOptions> = {}) {
  const { volume, before } = await filledVolume(blocks);
  const rows = new HostRows();
  await using snapshot = await volume.createSnapshot();
  const { record } = await BackupPipeline.start(snapshot, { store: rows.store, ...options }).sweep().done;
  return { record, rows, before };
}

export const isSame = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

/** What a promise rejects with. */
export async function reasonOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => {
      throw new Error('it did not reject');
    },
    (error: unknown) => error,
  );
}
