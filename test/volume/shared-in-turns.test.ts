import { setImmediate } from 'node:timers/promises';
import { expect, test, vi } from 'vitest';
import { CopyOnWriteVolume, MemoryDevice, type VolumeSnapshot } from '../../src/index.ts';
import { randomBytes, randomForTest, times, withinMs } from '../support/randomness.ts';
import { errorOf } from './support/bytes.ts';

// Sharing turns the event loop after every step, and not only when steps have taken long.
vi.mock('../../src/common/yield-to-event-loop.ts', async (original) => ({
  ...(await original<typeof import('../../src/common/yield-to-event-loop.ts')>()),
  runInSteps: async (work: Generator<void, unknown, void>) => {
    for (;;) {
      await setImmediate();
      const step = work.next();
      if (step.done) return step.value;
    }
  },
  StepCounter: class {
    isDue = () => true;
  },
}));

const BLOCK = 4096;
const BLOCKS = 48;

test('whatever is written, marked, frozen and closed while a handle is shared, it holds the instant', {
  timeout: withinMs(60_000),
}, async () => {
  const random = randomForTest();
  let turns = 0;
  let lost = 0;
  for (let history = 0; history < times(60); history++) {
    await using device = new MemoryDevice(BLOCKS * BLOCK);
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK, preserve: { spillBytes: 0 } });
    for (let block = 0; block < BLOCKS; block++) {
      if (random.below(4) > 0) volume.writeSync(block * BLOCK, randomBytes(BLOCK));
    }
    // So many kept points that some of the instants below renumber the epochs.
    const held = Array.from({ length: 240 + random.below(12) }, () => volume.createSnapshotSync());
    for (const snapshot of held) await snapshot.close();
    const own = volume.createSnapshotSync();
    const instant = device.bytes.slice();
    const overwrite = (block: number) => volume.write(block * BLOCK, randomBytes(BLOCK));
    const store = (block: number) => {
      const state = own.states.get(block);
      if (state !== 'pending' && state !== 'preserved') return;
      own.mark(block, 'storing');
      if (random.below(3) > 0) own.mark(block, 'stored');
    };
    const others: VolumeSnapshot[] = [];
    const released = new Set<number>();
    for (let step = random.below(100); step > 0; step--) {
      const block = random.below(BLOCKS);
      if (random.below(2) === 0) store(block);
      else {
        if (own.states.get(block) === 'stored') released.add(block);
        await overwrite(block);
      }
      if (own.states.get(block) === 'stored' && Buffer.compare(contentOf(device, block), at(instant, block)) !== 0)
        released.add(block);
    }
    const sharing = own.share();
    let isShared = false;
    void sharing.finally(() => {
      isShared = true;
    });
    const writes: Promise<void>[] = [];
    while (!isShared) {
      turns++;
      const block = random.below(BLOCKS);
      const dice = random.below(12);
      if (dice < 5) writes.push(overwrite(block));
      else if (dice < 7) volume.writeSync(block * BLOCK, randomBytes(BLOCK));
      else if (dice < 9) store(block);
      else if (dice === 9) others.push(await volume.createSnapshot());
      else if (dice === 10) await others.pop()?.close();
      else if (random.below(8) === 0) await own.close();
      await setImmediate();
    }
    await Promise.all(writes);
    const shared = await sharing;
    for (let round = 0; round < 2; round++) {
      for (let block = 0; block < BLOCKS; block++) {
        const into = new Uint8Array(BLOCK);
        if (shared.states.get(block) === 'lost') {
          expect(released).toContain(block);
          await errorOf(shared.read(block * BLOCK, into), 'BLOCK_LOST');
          lost++;
          continue;
        }
        await shared.read(block * BLOCK, into);
        expect(Buffer.compare(into, at(instant, block)), `block ${block} of history ${history}`).toBe(0);
      }
      for (let block = 0; block < BLOCKS; block++) await overwrite(block);
    }
    await volume.close();
  }
  expect(turns).toBeGreaterThan(1000);
  expect(lost).toBeGreaterThan(100);
});

test('a handle whose volume is closed while it is shared is refused', async () => {
  await using device = new MemoryDevice(BLOCKS * BLOCK);
  const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
  const own = await volume.createSnapshot();
  for (let block = 0; block < 9; block++) await volume.write(block * BLOCK, randomBytes(BLOCK));
  const sharing = own.share();
  await volume.close();
  await errorOf(sharing, 'CLOSED');
});

const at = (bytes: Uint8Array, block: number) => bytes.subarray(block * BLOCK, (block + 1) * BLOCK);
const contentOf = (device: MemoryDevice, block: number) => at(device.bytes, block);
