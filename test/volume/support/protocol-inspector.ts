import { deepStrictEqual, ok } from 'node:assert/strict';
import type { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import type { VolumeCore } from '../../../src/volume/volume-core.ts';
import type { VolumeSnapshot } from '../../../src/volume/volume-snapshot.ts';
import type { ControlledDevice } from './controlled-device.ts';

/** A snapshot, and what the device held at its instant. */
export interface Expected {
  readonly snapshot: VolumeSnapshot;
  readonly bytes: Uint8Array;
}

/** The inside of a volume, for asserting what the protocol says of it. */
export function coreOf(volume: CopyOnWriteVolume): VolumeCore {
  return (volume as unknown as { core: VolumeCore }).core;
}

/** R3: `epoch[b] < s.epoch` means that no device write to b is in flight, and the device holds b as of s. */
export function assertInvariant(
  volume: CopyOnWriteVolume,
  device: ControlledDevice,
  expected: readonly Expected[],
): void {
  const { epochs, snapshots, blockCount } = coreOf(volume);
  for (const [index, record] of snapshots.records.entries()) {
    const bytes = expected.find(({ snapshot }) => snapshot === volume.snapshots[index])?.bytes;
    ok(bytes, 'every live snapshot is known to the test');
    for (let block = 0; block < blockCount; block++) {
      if (epochs.blocks.get(block) >= record.point.epoch) continue;
      const start = block * volume.blockSize;
      const end = Math.min(start + volume.blockSize, device.size);
      const writes = device.writesInFlight.filter(({ offset, length }) => offset < end && start < offset + length);
      deepStrictEqual(writes, [], `R3: a write to block ${block} is in flight`);
      const same = Buffer.compare(device.bytes.subarray(start, end), bytes.subarray(start, end)) === 0;
      ok(same, `R3: the device does not hold block ${block} as of the snapshot`);
    }
  }
}
