import { describe, expect, test } from 'vitest';
import { type BlockRange, type ChangePoint, type CopyOnWriteVolume, MemoryDevice } from '../../src/index.ts';
import { errorOf, expectSame, KIB, MIB } from './support/bytes.ts';
import { type Guest, openGuest, type Pattern } from './support/guest.ts';
import { ScriptedDevice } from './support/scripted-device.ts';

/**
 * QEMU's tests/qemu-iotests/257: backups by bitmap, with and without failures, checked against an emulated bitmap.
 * Its bitmap is our change point: synchronizing it is taking a newer snapshot's point, not doing so is keeping the old.
 */

const SIZE = 64 * MIB;
const GRANULARITY = 64 * KIB;

const GROUPS: readonly (readonly Pattern[])[] = [
  [
    [0x49, 0, GRANULARITY],
    [0x6c, 1 * MIB, GRANULARITY],
    [0x6f, 32 * MIB, GRANULARITY],
    [0x76, SIZE - GRANULARITY, GRANULARITY],
  ],
  [
    [0x65, 0, GRANULARITY], // Full overwrite
    [0x77, 1 * MIB - 32 * KIB, GRANULARITY], // Partial-left
    [0x72, 32 * MIB + 32 * KIB, GRANULARITY], // Partial-right
    [0x69, SIZE - 128 * KIB, GRANULARITY], // Adjacent-left
  ],
  [
    [0x74, 64 * KIB, GRANULARITY], // Adjacent-right
    [0x69, 1 * MIB - 96 * KIB, GRANULARITY], // Partial-left
    [0x6e, 32 * MIB + 96 * KIB, GRANULARITY], // Partial-right
    [0x67, SIZE - 128 * KIB, 2 * GRANULARITY], // Overwrite
  ],
  [
    [0xaa, 64 * KIB, 3 * GRANULARITY], // Overwrite and twice adjacent-right
    [0xbb, 1 * MIB - 160 * KIB, GRANULARITY], // Partial-left
    [0xcc, 32 * MIB + 160 * KIB, GRANULARITY], // Partial-right
    [0xdd, SIZE - 256 * KIB, GRANULARITY], // New, leaves a gap to the right
  ],
];

/** The bits that groups of patterns make dirty. */
function bitsOf(...groups: number[]): Set<number> {
  const bits = new Set<number>();
  for (const group of groups) {
    for (const [, offset, length] of GROUPS[group] as readonly Pattern[]) {
      for (let at = offset - (offset % GRANULARITY); at < offset + length; at += GRANULARITY)
        bits.add(at / GRANULARITY);
    }
  }
  return bits;
}

function bitsIn(ranges: Iterable<BlockRange> | undefined): Set<number> {
  const bits = new Set<number>();
  for (const { firstBlock, blockCount } of ranges ?? []) {
    for (let block = firstBlock; block < firstBlock + blockCount; block++) bits.add(block);
  }
  return bits;
}

async function writeGroup({ write }: Guest, group: number): Promise<void> {
  for (const pattern of GROUPS[group] as readonly Pattern[]) await write(pattern);
}

/** A backup: what changed since `base` (all, if there is none) is copied over what the base's backup holds. */
class Backup {
  readonly image: Uint8Array;
  readonly copied: Set<number>;
  readonly point: ChangePoint;

  private constructor(image: Uint8Array, copied: Set<number>, point: ChangePoint) {
    this.image = image;
    this.copied = copied;
    this.point = point;
  }

  /** `meanwhile` runs while the copy is half done. */
  static async run(
    volume: CopyOnWriteVolume,
    base: Backup | undefined,
    meanwhile: () => Promise<void> = async () => {},
  ): Promise<Backup> {
    await using snapshot = await volume.createSnapshot();
    const everything = [{ firstBlock: 0, blockCount: SIZE / GRANULARITY }];
    const changed = base === undefined ? everything : volume.changedSince(base.point);
    const bits = [...bitsIn(changed)];
    const image = base?.image.slice() ?? new Uint8Array(SIZE);
    for (const [index, bit] of bits.entries()) {
      if (index === Math.floor(bits.length / 2)) await meanwhile();
      const at = bit * GRANULARITY;
      await snapshot.read(at, image.subarray(at, at + GRANULARITY));
    }
    return new Backup(image, new Set(bits), snapshot.point);
  }
}

describe.each(['async', 'sync'] as const)('257, through the %s door', (door) => {
  async function prepared() {
    const device = new MemoryDevice(SIZE);
    const guest = await openGuest(device, door, {});
    await writeGroup(guest, 0);
    const full = await Backup.run(guest.volume, undefined);
    expectSame(full.image, device.bytes, 'the full backup');
    await writeGroup(guest, 1);
    expect(bitsIn(guest.volume.changedSince(full.point))).toEqual(bitsOf(1));
    return { device, guest, volume: guest.volume, full };
  }

  test('Bitmap Sync on-success without failure: the next incremental copies what was written since the last', async () => {
    const { device, guest, volume, full } = await prepared();
    const reference = device.bytes.slice();
    const second = await Backup.run(volume, full, () => writeGroup(guest, 2));
    expect(second.copied).toEqual(bitsOf(1));
    expectSame(second.image, reference, 'the first incremental');
    expect(bitsIn(volume.changedSince(second.point))).toEqual(bitsOf(2));
    await writeGroup(guest, 3);
    expect(bitsIn(volume.changedSince(second.point))).toEqual(bitsOf(2, 3));
    const third = await Backup.run(volume, second);
    expectSame(third.image, device.bytes, 'the second incremental');
    expect([...(volume.changedSince(third.point) ?? ['unknown'])]).toEqual([]);
  });

  test('Bitmap Sync on-success with simulated failure: the recovery copies everything since the full backup', async () => {
    const { device, guest, volume, full } = await prepared();
    await Backup.run(volume, full, () => writeGroup(guest, 2)); // Its result is thrown away.
    await writeGroup(guest, 3);
    const recovery = await Backup.run(volume, full);
    expect(recovery.copied).toEqual(bitsOf(1, 2, 3));
    expectSame(recovery.image, device.bytes, 'the recovery');
  });

  test('Bitmap Sync never: differential backups all stand on the full one', async () => {
    const { device, guest, volume, full } = await prepared();
    const reference = device.bytes.slice();
    const first = await Backup.run(volume, full, () => writeGroup(guest, 2));
    expectSame(first.image, reference, 'the first differential');
    expect(bitsIn(volume.changedSince(full.point))).toEqual(bitsOf(1, 2));
    await writeGroup(guest, 3);
    const second = await Backup.run(volume, full);
    expect(second.copied).toEqual(bitsOf(1, 2, 3));
    expectSame(second.image, device.bytes, 'the second differential');
  });
});

describe('257 with intermediate failure', () => {
  test('a backup that ends at a read error leaves the bitmap as it was, and the recovery is complete', async () => {
    const device = new ScriptedDevice(SIZE);
    const guest = await openGuest(device, 'async', {});
    await writeGroup(guest, 0);
    const full = await Backup.run(guest.volume, undefined);
    await writeGroup(guest, 1);
    device.failOn({ kind: 'read', at: 32 * MIB }, 'DEVICE_IO', 1);
    await errorOf(Backup.run(guest.volume, full), 'DEVICE_IO');
    expect(guest.volume.snapshots).toEqual([]);
    await writeGroup(guest, 3);
    expect(bitsIn(guest.volume.changedSince(full.point))).toEqual(bitsOf(1, 3));
    const recovery = await Backup.run(guest.volume, full);
    expectSame(recovery.image, device.bytes, 'the recovery');
  });
});
