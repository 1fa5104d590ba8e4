import { describe, expect, test } from 'vitest';
import type { Extent } from '../../../src/device/block-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import { randomBytes } from '../../support/randomness.ts';
import { expectSame } from '../../volume/support/bytes.ts';
import { BLOCK, contentOfBackup, createIn } from '../support/repositories.ts';

const BLOCKS = 400;

/** A sparse device of which only blocks 100 to 103, and the odd bytes at its end, are not holes. It notes what is read. */
class SparseDevice extends MemoryDevice {
  readonly read_: [offset: number, length: number][] = [];
  onAsked: (() => Promise<void>) | undefined;

  constructor() {
    super(BLOCKS * BLOCK + 1000);
    this.bytes.set(randomBytes(4 * BLOCK), 100 * BLOCK);
  }

  override async read(offset: number, into: Uint8Array): Promise<void> {
    this.read_.push([offset, into.length]);
    await super.read(offset, into);
  }

  async *extents(offset: number, length: number): AsyncGenerator<Extent> {
    // As a file system answers: in pages, as of now.
    const kinds: Extent[] = [];
    for (let at = offset; at < offset + length; at += BLOCK) {
      const page = this.bytes.subarray(at, Math.min(at + BLOCK, offset + length));
      kinds.push({ offset: at, length: page.length, kind: page.every((byte) => byte === 0) ? 'zero' : 'data' });
    }
    await this.onAsked?.();
    yield* kinds;
  }

  get readBytes(): number {
    return this.read_.reduce((sum, [, length]) => sum + length, 0);
  }
}

async function sparse() {
  const device = new SparseDevice();
  return { device, volume: await CopyOnWriteVolume.open(device, { blockSize: BLOCK }) };
}

describe('holes that the device knows of', () => {
  test('are not read, in a first backup and where contents are compared', async () => {
    const repository = await createIn(new MemoryTarget());
    const { device, volume } = await sparse();
    const first = await repository.backup(volume, { volume: 'disk' });
    expect(first.readBytes).toBe(device.readBytes);
    expect(device.readBytes).toBeLessThan(40 * BLOCK);
    expectSame(await contentOfBackup(repository, first.id), device.bytes);
    await volume.close();
    device.read_.length = 0;
    const again = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const second = await repository.backup(again, { volume: 'disk' });
    expect(second).toMatchObject({ changeSource: 'compared', changedBytes: 0 });
    expect(device.readBytes).toBeLessThan(40 * BLOCK);
  });

  test('that were data before are zeroes in the next backup', async () => {
    const repository = await createIn(new MemoryTarget());
    const { device, volume } = await sparse();
    await repository.backup(volume, { volume: 'disk' });
    await volume.close();
    device.bytes.fill(0, 101 * BLOCK, 103 * BLOCK);
    const again = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const second = await repository.backup(again, { volume: 'disk' });
    expect(second.changedBytes).toBe(2 * BLOCK);
    expectSame(await contentOfBackup(repository, second.id), device.bytes);
  });

  test('and that are written to while they are asked for are zeroes in the backup, and no other way round', async () => {
    const repository = await createIn(new MemoryTarget());
    const { device, volume } = await sparse();
    const frozen = device.bytes.slice();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    let at = 0;
    device.onAsked = async () => {
      // A hole is filled and data is zeroed, before and behind the sweep, while the answer is on its way.
      for (const block of [at, 100 + (at % 4), BLOCKS - 1 - at]) {
        await volume.write(block * BLOCK, at % 2 === 0 ? randomBytes(BLOCK) : new Uint8Array(BLOCK));
      }
      at++;
    };
    const { id } = await job.sweep().done;
    expect(at).toBeGreaterThan(3);
    expectSame(await contentOfBackup(repository, id), frozen);
  });
});

test('a block of zeroes that is overwritten with the base having zeroes there has not changed', async () => {
  const repository = await createIn(new MemoryTarget());
  const { device, volume } = await sparse();
  await repository.backup(volume, { volume: 'disk' });
  await volume.write(7 * BLOCK, randomBytes(BLOCK));
  await volume.write(7 * BLOCK, new Uint8Array(BLOCK));
  const job = await repository.startBackup(volume, { volume: 'disk' });
  await volume.write(7 * BLOCK, randomBytes(BLOCK)); // Preserved as zeroes.
  const second = await job.sweep().done;
  expect(second).toMatchObject({ changeSource: 'tracked', changedBytes: 0 });
  const frozen = device.bytes.slice().fill(0, 7 * BLOCK, 8 * BLOCK);
  expectSame(await contentOfBackup(repository, second.id), frozen);
});
