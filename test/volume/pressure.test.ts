import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { PreimageUse } from '../../src/index.ts';
import { turn } from '../support/turn.ts';
import { BLOCK } from './support/bytes.ts';
import { openVolume } from './support/open-volume.ts';
import { ScriptedDevice } from './support/scripted-device.ts';

/** How much room pre-images take up, and the event that comes before it is used up. */

const BLOCKS = 16;

async function open() {
  const spillDevice = new ScriptedDevice(6 * BLOCK);
  const { volume, overwrite } = await openVolume(BLOCKS, { preserve: { memoryBytes: 2 * BLOCK, spillDevice } });
  const pressed: PreimageUse[] = [];
  volume.events.on('preimagePressure', (use) => pressed.push(use));
  return { volume, overwrite, pressed };
}

describe('the gauge of pre-images', () => {
  test('counts what is held in memory and in the spill against the limits of both', async () => {
    const { volume, overwrite } = await open();
    const snapshot = await volume.createSnapshot();
    for (const block of [0, 1, 2]) await overwrite(block);
    await turn();
    expect(volume.preimages).toEqual({
      heldBytes: 3 * BLOCK,
      limitBytes: 8 * BLOCK,
      memory: { heldBytes: 2 * BLOCK, limitBytes: 2 * BLOCK },
      spill: { heldBytes: BLOCK, limitBytes: 6 * BLOCK },
      isPressed: false,
    });
    snapshot.mark({ firstBlock: 0, blockCount: 2 }, 'inherited');
    expect(volume.preimages).toMatchObject({ heldBytes: BLOCK, memory: { heldBytes: 0 }, spill: { heldBytes: BLOCK } });
    await snapshot.close();
    expect(volume.preimages.heldBytes).toBe(0);
  });
});

describe('preimagePressure', () => {
  test('comes when half of the room is taken, once a crossing', async () => {
    const { volume, overwrite, pressed } = await open();
    const snapshot = await volume.createSnapshot();
    for (const block of [0, 1, 2]) await overwrite(block);
    await turn();
    expect(pressed).toEqual([]);
    for (const block of [3, 4, 5]) await overwrite(block);
    await turn();
    expect(pressed).toHaveLength(1);
    expect(pressed[0]?.isPressed).toBe(true);
    // Down to just below the half and up again is the same crossing.
    snapshot.mark({ firstBlock: 0, blockCount: 2 }, 'inherited');
    await overwrite(6);
    await turn();
    expect(pressed).toHaveLength(1);
    snapshot.mark({ firstBlock: 2, blockCount: 2 }, 'inherited');
    expect(volume.preimages.isPressed).toBe(false);
    await overwrite(7);
    await turn();
    expect(pressed).toHaveLength(2);
  });

  test('is published on its channel with the volume and the numbers', async () => {
    const messages: unknown[] = [];
    const onMessage = (message: unknown) => messages.push(message);
    subscribe('cow-cloud-backup:volume:preimage-pressure', onMessage);
    onTestFinished(() => {
      unsubscribe('cow-cloud-backup:volume:preimage-pressure', onMessage);
    });
    const { volume, overwrite } = await open();
    await volume.createSnapshot();
    for (const block of [0, 1, 2, 3]) await overwrite(block);
    await turn();
    expect(messages).toEqual([{ volume, preimages: volume.preimages }]);
  });
});
