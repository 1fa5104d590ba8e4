import type { Volume } from '../../volume/volume-snapshot.ts';
import type { Lane } from './block-feed.ts';

/**
 * Room for pre-images is counted in raw bytes, and packs are filled with sealed ones: of content that compresses well, or
 * that repeats itself, a pack that is far from full keeps a multiple of its size from being given back.
 */

/** With a spill, what waits leaves memory in packs that are no smaller. */
const WORTH_A_PACK_BYTES = 1024 * 1024;
/** A pack is sent when what waits for it has grown to this part of the room that is left. */
const PART_OF_ROOM = 4;
/** The least room for pre-images that a backup can work with: so many blocks, and so many bytes. */
const LEAST_BLOCKS = 8;
const LEAST_BYTES = 1024 * 1024;

/**
 * Whether a pack is to be sent now, whatever its size.
 *
 * @param waitingBytes - raw bytes of the volume's blocks that become safe with the pack being filled
 */
export function isPressing(volume: Volume, lane: Lane, waitingBytes: number): boolean {
  if (waitingBytes === 0) return false;
  const { heldBytes, limitBytes, memory } = volume.preimages;
  // Of swept blocks only those that are overwritten meanwhile take up room: without a sign of that their packs fill up.
  if (lane === 'swept' && heldBytes * PART_OF_ROOM < limitBytes) return false;
  if (waitingBytes * PART_OF_ROOM >= limitBytes - heldBytes) return true;
  const memoryLeft = memory.limitBytes - memory.heldBytes;
  return waitingBytes >= WORTH_A_PACK_BYTES && waitingBytes * PART_OF_ROOM >= memoryLeft;
}

/** Refuses a volume whose limits would break any snapshot of it at the first busy moment. @throws TypeError */
export function checkPreimageRoom(volume: Volume): void {
  // Who would rather lose blocks than memory may have any limit.
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
