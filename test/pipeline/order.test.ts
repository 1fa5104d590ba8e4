import { describe, expect, test } from 'vitest';
import { BackupPipeline, BlockStateMap, CopyOnWriteVolume, MemoryDevice } from '../../src/index.ts';
import { turn } from '../support/turn.ts';
import { BLOCK, filled } from '../volume/support/bytes.ts';
import { openSyncVolume } from '../volume/support/open-volume.ts';

describe('a pipeline stores', () => {
  test('intercepted blocks before those of the sweep that wait already', async () => {
    const { volume } = await openSyncVolume(40);
    const snapshot = await volume.createSnapshot();
    const calls: number[] = [];
    const gates: (() => void)[] = [];
    const store = (block: number) =>
      new Promise<void>((resolve) => {
        calls.push(block);
        gates.push(resolve);
      });
    const pipeline = BackupPipeline.start(snapshot, { store, concurrency: 4 }).sweep();
    while (calls.length < 4 || snapshot.states.counts.storing < 7) await turn();
    volume.writeSync(30 * BLOCK, filled(9));
    while (snapshot.states.get(30) !== 'storing') await turn();
    expect(calls).toEqual([0, 1, 2, 3]);
    gates[0]?.();
    while (calls.length < 5) await turn();
    expect(calls[4]).toBe(30);
    await Promise.all([pipeline.abort(), ...gates.map((open) => open())]);
    await expect(pipeline.done).rejects.toThrow('aborted');
  });

  test('the blocks that an earlier run has lost, or has not come to', async () => {
    const { volume } = await openSyncVolume(4);
    const states = new BlockStateMap(4);
    states.set(0, 'lost');
    states.set(1, 'storing');
    states.set(2, 'inherited');
    const { point } = await volume.createSnapshot();
    const stored: number[] = [];
    const pipeline = BackupPipeline.start(await volume.createSnapshot(), {
      store: (block) => stored.push(block),
      previous: { states, point },
    });
    const { record, changeSource } = await pipeline.sweep().done;
    expect([changeSource, stored.sort()]).toEqual(['tracked', [0, 1, 3]]);
    expect(record.states.counts).toMatchObject({ stored: 3, inherited: 1 });
  });

  test('the last block of a volume that has grown, if it was short', async () => {
    const device = new MemoryDevice(new Uint8Array(3 * BLOCK).fill(1));
    await using volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const previous = { states: new BlockStateMap(2, 'inherited'), size: BLOCK + 100 };
    const stored: number[] = [];
    const pipeline = BackupPipeline.start(await volume.createSnapshot(), {
      store: (block) => stored.push(block),
      previous,
      changes: [],
    });
    const { changeSource } = await pipeline.sweep().done;
    expect([changeSource, stored.sort()]).toEqual(['given', [1, 2]]);
  });
});
