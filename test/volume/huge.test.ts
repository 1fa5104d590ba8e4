import { expect, test } from 'vitest';
import { type BlockDevice, CopyOnWriteVolume, type VolumeSnapshot } from '../../src/index.ts';

/**
 * Volumes of up to four thousand million blocks. A step that looks at each of them, or takes a byte for each, would take
 * longer than any test may, or more memory than there is.
 */

const BLOCK = 4096;

/** Holds nothing, and can discard. */
function hugeDevice(blocks: number): BlockDevice {
  return {
    size: blocks * BLOCK,
    sectorSize: BLOCK,
    read: async (_, into) => {
      into.fill(0);
    },
    write: async () => {},
    discard: async () => {},
    flush: async () => {},
    [Symbol.asyncDispose]: async () => {},
  };
}

const one = new Uint8Array(BLOCK).fill(1);
const states = (snapshot: VolumeSnapshot) =>
  Object.fromEntries(Object.entries(snapshot.states.counts).filter(([, count]) => count > 0));

test('all blocks of a huge volume are marked, given back, shared, discarded and closed in steps of what changed', async () => {
  const blocks = 2 ** 32;
  const everything = { firstBlock: 0, blockCount: blocks };
  await using volume = await CopyOnWriteVolume.open(hugeDevice(blocks), {
    blockSize: BLOCK,
    preserve: { spillBytes: 0 },
  });
  const snapshot = await volume.createSnapshot();
  snapshot.mark(everything, 'storing');
  await volume.write(7 * BLOCK, one);
  snapshot.mark(everything, 'failed');
  // The device held zeroes, so the pre-image of the block is one of zeroes.
  expect(states(snapshot)).toEqual({ pending: blocks - 1, zero: 1 });
  const shared = await snapshot.share();
  expect(states(shared)).toEqual({ pending: blocks - 1, zero: 1 });
  snapshot.mark({ firstBlock: 8, blockCount: blocks - 8 }, 'inherited');
  shared.mark({ firstBlock: 8, blockCount: blocks - 8 }, 'inherited');
  // Nobody wants all but a few of them: nothing is preserved for a discard of everything else.
  await volume.discard?.(8 * BLOCK, (blocks - 8) * BLOCK);
  const late = await snapshot.share();
  expect(states(late)).toEqual({ pending: 7, zero: 1, lost: blocks - 8 });
  await Promise.all([snapshot.close(), shared.close(), late.close()]);
  const since = volume.changedSince(snapshot.point);
  let changed = 0;
  for (const { blockCount } of since ?? []) changed += blockCount;
  expect(changed).toBe(blocks - 7);
});

test('instants of a huge volume that is written throughout stay short when epochs are renumbered', async () => {
  const blocks = 2 ** 28;
  await using volume = await CopyOnWriteVolume.open(hugeDevice(blocks), {
    blockSize: BLOCK,
    preserve: { spillBytes: 0 },
  });
  const held = await volume.createSnapshot();
  held.mark({ firstBlock: 0, blockCount: blocks }, 'inherited');
  await volume.discard?.(0, blocks * BLOCK);
  for (let instant = 0; instant < 600; instant++) {
    await (await volume.createSnapshot()).close();
    await volume.write(instant * 2 ** 18 * BLOCK, one);
  }
  const changed = volume.changedSince(held.point);
  expect([...(changed ?? [])].reduce((sum, { blockCount }) => sum + blockCount, 0)).toBe(blocks);
  const late = await volume.createSnapshot();
  await volume.write(5 * BLOCK, one);
  expect([...(volume.changedSince(late.point) ?? [])]).toEqual([{ firstBlock: 5, blockCount: 1 }]);
  await held.close();
  await late.close();
});
