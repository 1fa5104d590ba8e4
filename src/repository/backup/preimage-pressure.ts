import type { Lane } from '../../pipeline/block-feed.ts';
import type { Volume } from '../../volume/volume-snapshot.ts';

/**
 * Decides when a pack is sent early, because pre-images need room (decision 071). Room for pre-images is counted in raw bytes,
 * but packs are filled with sealed bytes. If content compresses well or repeats itself, a pack that is far from full can
 * hold up a multiple of its own size.
 */

/** With a spill, packs that are sent to free memory hold at least this many raw bytes. */
const WORTH_A_PACK_BYTES = 1024 * 1024;
/** A pack is sent when the blocks that wait for it take up this part of the room that is left: a quarter. */
const PART_OF_ROOM = 4;
/** The least room for pre-images that a backup can work with, in blocks and in bytes. */
const LEAST_BLOCKS = 8;
const LEAST_BYTES = 1024 * 1024;

/**
 * Whether the pack that is being filled should be sent now, whatever its size.
 *
 * @param waitingBytes - raw bytes of the volume's blocks that become safe with this pack
 */
export function isPressing(volume: Volume, lane: Lane, waitingBytes: number): boolean {
  if (waitingBytes === 0) return false;
  const { heldBytes, limitBytes, memory } = volume.preimages;
  // Swept blocks take up room only if they are overwritten meanwhile. Without a sign of that, their packs fill up.
  if (lane === 'swept' && heldBytes * PART_OF_ROOM < limitBytes) return false;
  if (waitingBytes * PART_OF_ROOM >= limitBytes - heldBytes) return true;
  const memoryLeft = memory.limitBytes - memory.heldBytes;
  return waitingBytes >= WORTH_A_PACK_BYTES && waitingBytes * PART_OF_ROOM >= memoryLeft;
}

/** Refuses a volume whose limits would break any of its snapshots at the first busy moment. @throws TypeError */
export function checkPreimageRoom(volume: Volume): void {
  // With this policy a shortage of room costs blocks, not the snapshot.
  if (volume.onPreserveFailure === 'lose-block') return;
  const { blockSize, size } = volume;
  const { limitBytes } = volume.preimages;
  const wholeVolume = Math.ceil(size / blockSize) * blockSize;
  const leastBytes = Math.min(wholeVolume, Math.max(LEAST_BLOCKS * blockSize, LEAST_BYTES));
  if (limitBytes >= leastBytes) return;
  throw new TypeError(
    `this volume keeps at most ${limitBytes} bytes of pre-images, and a backup of it needs room for ${leastBytes}: ` +
      'raise preserve.memoryBytes of CopyOnWriteVolume.open, or allow a spill with preserve.spillBytes',
  );
}
