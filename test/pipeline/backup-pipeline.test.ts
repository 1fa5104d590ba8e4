import { describe, expect, test } from 'vitest';
import {
  type BackupError,
  BackupPipeline,
  BlockStateMap,
  CopyOnWriteVolume,
  checksum,
  compression,
  encryption,
  MemoryDevice,
  PipelineRecord,
  restoreBlocks,
} from '../../src/index.ts';
import { randomBytes } from '../support/randomness.ts';

const BLOCK = 4096;

async function filled(blocks: number, options: { tail?: number } = {}) {
  const device = new MemoryDevice(blocks * BLOCK + (options.tail ?? 0));
  const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
  await volume.write(0, randomBytes(device.size));
  const contents = async () => {
    const bytes = new Uint8Array(device.size);
    await volume.read(0, bytes);
    return bytes;
  };
  return { device, volume, contents };
}

/** A host that keeps the blocks of each run, and finds one in the newest run that has it. */
class Rows {
  readonly runs: Map<number, Uint8Array>[] = [];
  begin() {
    const run = new Map<number, Uint8Array>();
    this.runs.push(run);
    return async (block: number, bytes: Uint8Array) => {
      await Promise.resolve();
      run.set(block, bytes);
    };
  }
  readonly load = async (block: number): Promise<Uint8Array> => {
    for (const run of this.runs.toReversed()) {
      const bytes = run.get(block);
      if (bytes !== undefined) return bytes;
    }
    throw new Error(`no run has block ${block}`);
  };
}

async function restored(record: PipelineRecord, rows: Rows, options = {}): Promise<Uint8Array> {
  const device = new MemoryDevice(record.size);
  await device.write(0, new Uint8Array(record.size).fill(0xaa));
  await restoreBlocks(record, device, { load: rows.load, ...options });
  const bytes = new Uint8Array(record.size);
  await device.read(0, bytes);
  return bytes;
}

const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

describe('a pipeline', () => {
  test('stores a snapshot while the host writes, and restores the instant', async () => {
    const { volume, contents } = await filled(300, { tail: 512 });
    await volume.write(BLOCK * 10, new Uint8Array(BLOCK * 20));
    const before = await contents();
    const rows = new Rows();
    await using snapshot = await volume.createSnapshot();
    const transforms = [compression(), encryption(randomBytes(32)), checksum()];
    await using pipeline = BackupPipeline.start(snapshot, { store: rows.begin(), transforms });
    expect(pipeline.status).toBe('lazy');
    for (let at = 0; at < 50; at++) await volume.write(at * 5 * BLOCK, randomBytes(BLOCK));
    pipeline.sweep();
    for (let at = 0; at < 50; at++) await volume.write((at * 5 + 1) * BLOCK, randomBytes(BLOCK));
    const { record, storedBlocks, changeSource, changeReason } = await pipeline.done;
    expect([pipeline.status, changeSource, changeReason]).toEqual(['complete', 'everything', 'no-previous']);
    expect(storedBlocks).toBe(281);
    expect(record.states.counts).toMatchObject({ stored: 281, zero: 20 });
    expect(record.isWhole).toBe(true);
    const decoded = await PipelineRecord.decode(await record.encode());
    expect(same(await restored(decoded, rows, { transforms }), before)).toBe(true);
    await volume.close();
  });

  test('completes by overwrites alone', async () => {
    const { volume, contents } = await filled(40);
    const before = await contents();
    const rows = new Rows();
    await using snapshot = await volume.createSnapshot();
    const pipeline = BackupPipeline.start(snapshot, { store: rows.begin() });
    for (let block = 0; block < 40; block++) await volume.write(block * BLOCK, randomBytes(BLOCK));
    const { record } = await pipeline.done;
    expect(same(await restored(record, rows), before)).toBe(true);
    await volume.close();
  });

  test('stores only what changed since an earlier run', async () => {
    const { volume, contents } = await filled(100);
    const rows = new Rows();
    const one = await volume.createSnapshot();
    const first = await BackupPipeline.start(one, { store: rows.begin() }).sweep().done;
    await one.close();
    await volume.write(7 * BLOCK, randomBytes(BLOCK));
    await volume.write(50 * BLOCK, new Uint8Array(2 * BLOCK));
    const before = await contents();
    const two = await volume.createSnapshot();
    const second = BackupPipeline.start(two, { store: rows.begin(), previous: first.record }).sweep();
    const { record, storedBlocks, changeSource } = await second.done;
    expect([storedBlocks, changeSource]).toEqual([1, 'tracked']);
    expect(record.states.counts).toMatchObject({ stored: 1, zero: 2, inherited: 97 });
    expect(same(await restored(record, rows), before)).toBe(true);
    await volume.close();
  });

  test('stores the record last, and repeats that too; a run without a record is continued', async () => {
    const { volume, contents } = await filled(20);
    const before = await contents();
    const rows = new Rows();
    await using snapshot = await volume.createSnapshot();
    const calls: (number | 'record')[] = [];
    const store = rows.begin();
    let refusals = 3;
    let kept: Uint8Array | undefined;
    const start = () => {
      const pipeline = BackupPipeline.start(snapshot, {
        store: (block, bytes) => store(block, bytes),
        storeRecord: async (record, { attempt, signal }) => {
          expect([record.isWhole, signal.aborted, attempt]).toEqual([true, false, expect.any(Number)]);
          if (refusals-- > 0) throw new Error('busy');
          kept = await record.encode();
        },
        retry: { attempts: 2, baseDelayMs: 1 },
      });
      pipeline.events.on('attemptFailed', (what) => calls.push(what));
      return pipeline.sweep();
    };
    const failed = start();
    await expect(failed.done).rejects.toMatchObject({
      code: 'STORE_FAILED',
      message: 'the record could not be stored, after 2 attempts: Error: busy',
    });
    expect([failed.status, failed.ask().isSafe]).toEqual(['failed', true]);
    const { storedBlocks } = await start().done;
    expect([storedBlocks, calls]).toEqual([0, ['record', 'record', 'record']]);
    expect(same(await restored(await PipelineRecord.decode(kept as Uint8Array), rows), before)).toBe(true);
    await volume.close();
  });

  test('a store that fails leaves a snapshot that another pipeline continues', async () => {
    const { volume, contents } = await filled(64);
    const before = await contents();
    const rows = new Rows();
    const store = rows.begin();
    await using snapshot = await volume.createSnapshot();
    let calls = 0;
    const failing = async (block: number, bytes: Uint8Array) => {
      if (++calls > 20) throw new Error('the disk is full');
      await store(block, bytes);
    };
    const first = BackupPipeline.start(snapshot, { store: failing, retry: { attempts: 2, baseDelayMs: 1 } }).sweep();
    const error = (await first.done.catch((reason: unknown) => reason)) as BackupError;
    expect([error.code, (error.cause as Error).message]).toEqual(['STORE_FAILED', 'the disk is full']);
    expect(first.status).toBe('failed');
    const { stored, pending, storing } = snapshot.states.counts;
    expect({ stored, pending, storing }).toEqual({ stored: 20, pending: 44, storing: 0 });
    for (let block = 0; block < 64; block++) await volume.write(block * BLOCK, randomBytes(BLOCK));
    const { record } = await BackupPipeline.start(snapshot, { store }).done;
    expect(rows.runs[0]?.size).toBe(64);
    expect(same(await restored(record, rows), before)).toBe(true);
    await volume.close();
  });

  test('a block that can not be stored or loaded is named, with the number of attempts', async () => {
    const { volume, device } = await filled(1);
    await using snapshot = await volume.createSnapshot();
    const fail = () => {
      throw new Error('it is full');
    };
    const once = { isRetryable: () => false };
    const twice = { attempts: 2, baseDelayMs: 1 };
    const failed = BackupPipeline.start(snapshot, { store: fail, retry: once }).sweep();
    await expect(failed.done).rejects.toThrow('block 0 could not be stored, after 1 attempt: Error: it is full');
    const again = BackupPipeline.start(snapshot, { store: fail, retry: twice }).sweep();
    await expect(again.done).rejects.toThrow('block 0 could not be stored, after 2 attempts: Error: it is full');
    const { record } = await BackupPipeline.start(snapshot, { store: () => {} }).sweep().done;
    const restoring = (retry: typeof once | typeof twice) => restoreBlocks(record, device, { load: fail, retry });
    await expect(restoring(once)).rejects.toThrow('block 0 could not be loaded, after 1 attempt: Error: it is full');
    await expect(restoring(twice)).rejects.toThrow('block 0 could not be loaded, after 2 attempts: Error: it is full');
    await snapshot.close();
    await volume.close();
  });
});

describe('a pipeline that fails', () => {
  test('while a block of a batch was lost gives back the others, and frees the snapshot for the next one', async () => {
    const device = new MemoryDevice(8 * BLOCK);
    device.bytes.fill(9);
    const [read, gate] = [device.read.bind(device), Promise.withResolvers<void>()];
    let broken = 0; // The block that can't be read by itself.
    let reads = 0;
    const first = Promise.withResolvers<void>();
    device.read = async (offset, into, options) => {
      if (++reads === 1) {
        first.resolve();
        await gate.promise;
      }
      if (offset === broken * BLOCK && into.length === BLOCK) throw new Error('the disk is broken');
      return read(offset, into, options);
    };
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK, preserve: { onFailure: 'lose-block' } });
    await using snapshot = await volume.createSnapshot();
    const pipeline = BackupPipeline.start(snapshot, { store: async () => {} }).sweep();
    await first.promise;
    await volume.write(0, new Uint8Array(BLOCK)); // Its pre-image can't be read.
    broken = 1;
    gate.resolve();
    await expect(pipeline.done).rejects.toThrow('the disk is broken');
    expect(pipeline.status).toBe('failed');
    expect(snapshot.states.counts).toMatchObject({ lost: 1, pending: 7 });
    broken = -1;
    const { record } = await BackupPipeline.start(snapshot, { store: async () => {} }).sweep().done;
    expect(record.states.counts).toMatchObject({ lost: 1, stored: 7 });
    await volume.close();
  });

  test('and is paused in the same moment ends all the same', async () => {
    // A batch is read in one of these steps.
    for (let steps = 0; steps < 40; steps++) {
      const device = new MemoryDevice(40 * BLOCK);
      device.bytes.fill(9);
      const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
      await using snapshot = await volume.createSnapshot();
      const [second, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      const read = device.read.bind(device);
      let reads = 0;
      device.read = async (offset, into, options) => {
        if (++reads === 2) {
          second.resolve();
          await gate.promise;
        }
        return read(offset, into, options);
      };
      const store = async (block: number, _bytes: Uint8Array, { signal }: { signal: AbortSignal }) => {
        if (block > 0) return;
        signal.addEventListener('abort', () => queueMicrotask(() => pipeline.pause()));
        await gate.promise;
        for (let step = 0; step < steps; step++) await undefined;
        throw new Error('broken');
      };
      const pipeline = BackupPipeline.start(snapshot, { store, concurrency: 2, retry: { attempts: 1 } }).sweep();
      await second.promise;
      gate.resolve();
      await expect(pipeline.done).rejects.toThrow('broken'); // Waited forever.
      await volume.close();
    }
  });
});

test('a map counts the states of a range', () => {
  const map = new BlockStateMap(2000);
  map.set({ firstBlock: 500, blockCount: 600 }, 'inherited');
  map.set(1999, 'lost');
  expect(map.countsIn({ firstBlock: 400, blockCount: 200 })).toMatchObject({ pending: 100, inherited: 100 });
  expect(map.countsIn({ firstBlock: 0, blockCount: 2000 })).toEqual(map.counts);
  expect(() => map.countsIn({ firstBlock: 0, blockCount: 2001 })).toThrow('block 2000');
});
