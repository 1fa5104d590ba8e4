import { expect, test } from 'vitest';
import {
  BackupPipeline,
  CopyOnWriteVolume,
  compression,
  encryption,
  MemoryDevice,
  type PipelineRecord,
  restoreBlocks,
} from '../../src/index.ts';
import { randomBytes } from '../support/randomness.ts';
import { BLOCK, filledVolume, QUICK, reasonOf } from './support/host-rows.ts';

// What a newcomer gets wrong at first, and what the errors then say.

const store = async () => {};

async function recordOf(volume: CopyOnWriteVolume): Promise<PipelineRecord> {
  await using snapshot = await volume.createSnapshot();
  return (await BackupPipeline.start(snapshot, { store }).sweep().done).record;
}

test.each(['a passphrase', 'ab'.repeat(16), 'q83v'.repeat(8)])('no key that is text is quoted: %s', (key) => {
  const wrong = () => encryption(key as never);
  expect(wrong).toThrow(TypeError);
  expect(wrong).toThrow(/^key must be a Uint8Array of 32 bytes that are not all zeroes$/);
});

test.each([
  ['bytes instead of blocks', [{ firstBlock: BLOCK, blockCount: BLOCK }]],
  ['a range that ends after the last block', [{ firstBlock: 3, blockCount: 2 }]],
  ['a block after the last one', [4]],
])('changes are never ignored: %s', async (_, changes) => {
  const { volume } = await filledVolume(4);
  const previous = await recordOf(volume);
  await using snapshot = await volume.createSnapshot();
  for (const options of [{}, { previous }]) {
    const { done } = BackupPipeline.start(snapshot, { store, changes: changes as never, ...options });
    expect(await reasonOf(done)).toMatchObject({
      code: 'OUT_OF_RANGE',
      message: expect.stringMatching(/^options\.changes has block \d+, and the volume has 4 blocks; .*not bytes$/),
    });
  }
  expect(snapshot.states.counts.pending).toBe(4); // Nothing counts as inherited.
  await volume.close();
});

test('changes may have blocks that the volume had before it was made smaller, and empty ranges at the end', async () => {
  const larger = await filledVolume(6);
  const previous = await recordOf(larger.volume);
  await larger.volume.close();
  const { volume } = await filledVolume(4);
  await using snapshot = await volume.createSnapshot();
  const changes = [
    { firstBlock: 3, blockCount: 3 },
    { firstBlock: 6, blockCount: 0 },
  ];
  const { record, changeSource } = await BackupPipeline.start(snapshot, { store, previous, changes }).sweep().done;
  expect(changeSource).toBe('given');
  expect(record.states.counts).toMatchObject({ inherited: 3, stored: 1 });
  await volume.close();
});

test('the bytes of a record are to be decoded', async () => {
  const { volume } = await filledVolume(4);
  const bytes = (await (await recordOf(volume)).encode()) as never;
  await using snapshot = await volume.createSnapshot();
  expect(() => BackupPipeline.start(snapshot, { store, previous: bytes })).toThrow(
    'options.previous must be a record, not its bytes; decode them first',
  );
  await expect(restoreBlocks(bytes, new MemoryDevice(4 * BLOCK), { load: () => new Uint8Array(0) })).rejects.toThrow(
    'record must be a PipelineRecord, not its bytes; decode them first',
  );
  await volume.close();
});

test('a function is not yet a transform', async () => {
  const { volume } = await filledVolume(4);
  await using snapshot = await volume.createSnapshot();
  expect(() => BackupPipeline.start(snapshot, { store, transforms: [compression as never] })).toThrow(
    'each of options.transforms must be a transform, not a function; compression() makes one',
  );
  await volume.close();
});

test('of several volumes, the one whose block can not be stored is named', async () => {
  const names = ['data', 'log'];
  const volumes = await Promise.all(
    names.map((name) => CopyOnWriteVolume.open(new MemoryDevice(randomBytes(4 * BLOCK)), { blockSize: BLOCK, name })),
  );
  const snapshots = await CopyOnWriteVolume.createSnapshots(volumes);
  for (const [at, snapshot] of snapshots.entries()) {
    const full = () => Promise.reject(new Error('it is full'));
    const { done } = BackupPipeline.start(snapshot, { store: full, retry: QUICK, concurrency: 1 }).sweep();
    expect(await reasonOf(done)).toMatchObject({
      code: 'STORE_FAILED',
      message: expect.stringContaining(`block 0 of ${names[at]} could not be stored, after `),
    });
    await snapshot.close();
  }
  for (const volume of volumes) await volume.close();
});

test('changes may be a set of the numbers of blocks', async () => {
  const { volume } = await filledVolume(6);
  const previous = await recordOf(volume);
  await using snapshot = await volume.createSnapshot();
  const { record } = await BackupPipeline.start(snapshot, { store, previous, changes: new Set([1, 4]) }).sweep().done;
  expect([...record.states.ranges('stored')].map(({ firstBlock }) => firstBlock)).toEqual([1, 4]);
  await volume.close();
});

test('a store may be repeated without an end, until the pipeline is aborted', async () => {
  const { volume } = await filledVolume(1);
  await using snapshot = await volume.createSnapshot();
  let calls = 0;
  const away = async () => {
    calls++;
    throw new Error('away');
  };
  const retry = { attempts: Number.POSITIVE_INFINITY, baseDelayMs: 0 };
  const pipeline = BackupPipeline.start(snapshot, { store: away, retry }).sweep();
  const ended = reasonOf(pipeline.done);
  while (calls < 20) await new Promise(setImmediate);
  await pipeline.abort();
  expect(await ended).toMatchObject({ name: 'AbortError' });
  await volume.close();
});

test('transforms in a wrong order: the error names the one that refuses', async () => {
  const { volume } = await filledVolume(1);
  await using snapshot = await volume.createSnapshot();
  const stored = new Map<number, Uint8Array>();
  const transforms = [compression(), encryption(new Uint8Array(32).fill(1))];
  const keep = (block: number, bytes: Uint8Array) => void stored.set(block, bytes);
  const { record } = await BackupPipeline.start(snapshot, { store: keep, transforms }).sweep().done;
  const load = (block: number) => stored.get(block) as Uint8Array;
  const device = new MemoryDevice(record.size);
  const failed = restoreBlocks(record, device, { load, transforms: transforms.toReversed() });
  expect(await reasonOf(failed)).toMatchObject({
    code: 'BLOCK_CORRUPT',
    message: expect.stringMatching(/^block 0 is not what was stored: the transform compression refuses its bytes: /),
  });
  await volume.close();
});
