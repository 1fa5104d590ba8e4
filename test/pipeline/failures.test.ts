import { describe, expect, test } from 'vitest';
import { BackupPipeline, CopyOnWriteVolume } from '../../src/index.ts';
import { turn } from '../support/turn.ts';
import { BLOCK, filled, isSettled } from '../volume/support/bytes.ts';
import { openSyncVolume } from '../volume/support/open-volume.ts';
import { ScriptedSyncDevice } from '../volume/support/scripted-device.ts';

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'nothing',
    (error: { code?: string }) => error.code ?? String(error),
  );
const once = { attempts: 1 };

describe('a pipeline that fails', () => {
  test('ends only when all of its reads have: none of them moves a block afterwards', async () => {
    const { device, volume } = await openSyncVolume(8);
    const snapshot = await volume.createSnapshot();
    const hold = device.hold({ kind: 'read', door: 'async', at: 0 });
    const gate = Promise.withResolvers<void>();
    const pipeline = BackupPipeline.start(snapshot, { store: () => gate.promise, concurrency: 1, retry: once }).sweep();
    const code = codeOf(pipeline.done);
    await hold.reached;
    for (let block = 2; block < 8; block++) volume.writeSync(block * BLOCK, filled(9));
    // One is being stored, and as many wait as are taken up at all.
    while (snapshot.states.counts.storing < 5) await turn();
    gate.reject(new Error('no'));
    await turn();
    expect(await isSettled(code)).toBe(false);
    hold.release();
    expect(await code).toBe('STORE_FAILED');
    expect(snapshot.states.counts).toMatchObject({ pending: 2, preserved: 6 });
  });

  test('after a block was lost in the middle of a batch, gives back the others', async () => {
    const preserve = { memoryBytes: 0, spillBytes: 0, onFailure: 'lose-block' } as const;
    const { device, volume } = await openSyncVolume(4, { preserve });
    const snapshot = await volume.createSnapshot();
    const hold = device.hold({ kind: 'read' }, 1);
    const pipeline = BackupPipeline.start(snapshot, { store: () => {}, concurrency: 4 }).sweep();
    const code = codeOf(pipeline.done);
    await hold.reached;
    volume.writeSync(BLOCK, filled(9));
    device.failOn({ kind: 'read', door: 'async', at: 2 * BLOCK }, 'DEVICE_IO', 1);
    hold.release();
    expect(await code).toBe('DEVICE_IO');
    expect(pipeline.status).toBe('failed');
    expect(snapshot.states.counts).toMatchObject({ pending: 3, lost: 1, storing: 0 });
    const { record } = await BackupPipeline.start(snapshot, { store: () => {} }).sweep().done;
    expect(record.states.counts).toMatchObject({ stored: 3, lost: 1 });
  });

  test('does not count as aborted because it is aborted afterwards', async () => {
    const { volume } = await openSyncVolume(4);
    const snapshot = await volume.createSnapshot();
    const gate = Promise.withResolvers<void>();
    const store = (block: number) => (block === 0 ? Promise.reject(new Error('no')) : gate.promise);
    const pipeline = BackupPipeline.start(snapshot, { store, retry: once, concurrency: 4 }).sweep();
    const code = codeOf(pipeline.done);
    await new Promise((resolve) => pipeline.events.once('attemptFailed', resolve));
    await turn();
    const aborted = pipeline.abort();
    pipeline.pause();
    gate.resolve();
    await aborted;
    expect(await code).toBe('STORE_FAILED');
    expect(pipeline.status).toBe('failed');
    expect(snapshot.states.counts).toMatchObject({ stored: 3, pending: 1 });
  });
});

test('progress counts a short last block as what it is', async () => {
  const device = new ScriptedSyncDevice(2 * BLOCK + 100);
  device.bytes.fill(7);
  await using volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
  const snapshot = await volume.createSnapshot();
  const pipeline = BackupPipeline.start(snapshot, { store: () => {} });
  await volume.write(2 * BLOCK, filled(8, 100));
  while (snapshot.states.counts.stored === 0) await turn();
  expect(pipeline.progress()).toMatchObject({ doneBytes: 100, totalBytes: 2 * BLOCK + 100 });
  pipeline.sweep();
  await pipeline.done;
  expect(pipeline.progress().doneBytes).toBe(2 * BLOCK + 100);
});
