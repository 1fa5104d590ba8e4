import { createHash } from 'node:crypto';
import { runInNewContext } from 'node:vm';
import { zstdCompressSync } from 'node:zlib';
import { describe, expect, test, vi } from 'vitest';
import { encodeMsgpack } from '../../src/common/msgpack.ts';
import {
  BackupError,
  BackupPipeline,
  type BlockDevice,
  BlockStateMap,
  type BlockTransform,
  checksum,
  compression,
  encryption,
  MemoryDevice,
  PipelineRecord,
  restoreBlocks,
} from '../../src/index.ts';
import { FaultyDevice, scriptedFaults } from '../../src/testing.ts';
import { randomBytes, randomForTest, times } from '../support/randomness.ts';
import { turn } from '../support/turn.ts';
import { withCode } from '../support/with-code.ts';
import {
  BLOCK,
  backedUp,
  contentOf,
  filledVolume,
  HostRows,
  isSame,
  QUICK,
  reasonOf,
  restored,
} from './support/host-rows.ts';

const KEY = randomBytes(32);

/** One block, as a pipeline would store it and a restore would get it back. */
async function apply(transforms: readonly BlockTransform[], raw: Uint8Array, block = 5): Promise<Uint8Array> {
  let bytes = raw;
  for (const each of transforms) bytes = await each.apply(bytes, { block, blockBytes: raw.length });
  return bytes;
}
async function undo(transforms: readonly BlockTransform[], stored: Uint8Array, blockBytes: number, block = 5) {
  let bytes = stored;
  for (const each of transforms.toReversed()) bytes = await each.undo(bytes, { block, blockBytes });
  return bytes;
}

const uniform = (length: number) => new Uint8Array(length).fill(7);
const combinations: [string, () => readonly BlockTransform[], boolean][] = [
  ['nothing', () => [], false],
  ['compression', () => [compression()], false],
  ['checksum', () => [checksum()], true],
  ['encryption', () => [encryption(KEY)], true],
  ['compression, encryption', () => [compression({ level: 22 }), encryption(KEY)], true],
  ['encryption, compression', () => [encryption(KEY, { context: 'disk' }), compression({ level: -7 })], true],
  ['compression, checksum', () => [compression(), checksum()], true],
  ['checksum, compression, encryption', () => [checksum(), compression(), encryption(KEY)], true],
  [
    'everything twice',
    () => [compression(), encryption(KEY), checksum(), compression(), encryption(KEY), checksum()],
    true,
  ],
];

describe.each(combinations)('%s', (_, make, isChecked) => {
  test('gives every block back, whatever its length and content', async () => {
    const transforms = make();
    for (const length of [1, 2, 100, BLOCK, 32_767, 32_768, 100_001]) {
      for (const raw of [
        randomBytes(length),
        uniform(length),
        Buffer.concat([randomBytes(length >>> 1), uniform(length)]),
      ]) {
        const copy = Uint8Array.from(raw);
        const stored = await apply(transforms, raw);
        expect(isSame(raw, copy)).toBe(true); // It is the pipeline's.
        const kept = Uint8Array.from(stored);
        expect(isSame(await undo(transforms, stored, raw.length), copy)).toBe(true);
        expect(isSame(stored, kept)).toBe(true);
      }
    }
  });

  test('takes nothing for the block that is not it', async () => {
    const transforms = make();
    const random = randomForTest();
    const raw = Buffer.concat([randomBytes(300), uniform(212)]);
    const stored = Uint8Array.from(await apply(transforms, raw));
    const other = await apply(transforms, Buffer.concat([randomBytes(300), uniform(212)]), 6);
    const damaged: Uint8Array[] = [other, new Uint8Array(0), new Uint8Array(stored.length)];
    for (let time = 0; time < times(60); time++) {
      const flipped = stored.slice();
      flipped[random.below(flipped.length)]! ^= 1 << random.below(8);
      damaged.push(flipped, stored.subarray(0, random.below(stored.length)));
      damaged.push(Buffer.concat([stored, randomBytes(1 + random.below(40))]), randomBytes(1 + random.below(600)));
      damaged.push(stored.subarray(1 + random.below(stored.length - 1)));
    }
    for (const bytes of damaged) {
      const device = new MemoryDevice(raw.length);
      const record = new PipelineRecord({
        size: raw.length,
        blockSize: raw.length,
        frozenAt: new Date(0),
        point: { trackingId: 'a', epoch: 1 },
        states: new BlockStateMap(1, 'inherited'),
      });
      const load = vi.fn(() => bytes);
      const at5 = transforms.map(({ name, apply, undo }) => ({
        name,
        apply,
        undo: (of: Uint8Array, { blockBytes }: { blockBytes: number }) => undo(of, { block: 5, blockBytes }),
      }));
      const outcome = await restoreBlocks(record, device, { load, transforms: at5, retry: QUICK }).catch(
        (error: unknown) => error,
      );
      expect(load).toHaveBeenCalledTimes(1); // Another attempt would not make it better.
      if (BackupError.is(outcome)) {
        expect(outcome.code).toBe('BLOCK_CORRUPT');
        expect(outcome.message).toMatch(/^block 0 is not what was stored/);
        expect(isSame(device.bytes, new Uint8Array(raw.length))).toBe(true);
      } else expect([isChecked, outcome]).toEqual([false, expect.objectContaining({ writtenBytes: raw.length })]);
    }
  });
});

describe('blocks in the store', () => {
  const checked: [string, BlockTransform][] = [
    ['checksum', checksum()],
    ['encryption', encryption(KEY)],
  ];
  test.each(checked)('that were swapped are found by %s', async (_, transform) => {
    const { record, rows } = await backedUp(3, { transforms: [transform] });
    const [a, b] = [rows.rows.get(0) as Uint8Array, rows.rows.get(2) as Uint8Array];
    rows.rows.set(0, b).set(2, a);
    expect(await reasonOf(restored(record, rows, { transforms: [transform] }))).toEqual(withCode('BLOCK_CORRUPT'));
  });

  test.each([
    ['another key', encryption(randomBytes(32))],
    ['another context', encryption(KEY, { context: 'other' })],
    ['no key', checksum()],
  ])('do not open with %s', async (_, transform) => {
    const { record, rows } = await backedUp(2, { transforms: [encryption(KEY, { context: 'disk' })] });
    expect(await reasonOf(restored(record, rows, { transforms: [transform] }))).toEqual(withCode('BLOCK_CORRUPT'));
    expect(await reasonOf(restored(record, rows))).toEqual(withCode('BLOCK_CORRUPT'));
  });

  test('are encrypted differently each time, and by a copy of the key', async () => {
    const key = randomBytes(32);
    const transform = encryption(key);
    const raw = uniform(100);
    const one = await apply([transform], raw);
    key.fill(0);
    expect(isSame(one, await apply([transform], raw))).toBe(false);
    expect(isSame(await undo([transform], one, raw.length), raw)).toBe(true);
  });
});

describe('a compressed block of a stranger', () => {
  const claiming = (length: number, frame: Uint8Array) => {
    const head = Buffer.alloc(4);
    head.writeUInt32LE(length);
    return Buffer.concat([head, frame]);
  };
  const bomb = zstdCompressSync(new Uint8Array(64 * 1024 * 1024));
  const frames: [string, Uint8Array][] = [
    ['claims four gigabytes', claiming(0xffff_ffff, bomb)],
    ['claims more than a block can have', claiming(2 * BLOCK + 64 * 1024 + 1, bomb)],
    ['holds more than it claims', claiming(BLOCK, bomb)],
    ['holds more than it claims, and is long', claiming(2 * BLOCK + 64 * 1024, bomb)],
    ['holds less than it claims', claiming(BLOCK, zstdCompressSync(uniform(BLOCK - 1)))],
    ['holds one byte and claims none', claiming(0, new Uint8Array(0))],
    ['is followed by something', claiming(BLOCK, Buffer.concat([zstdCompressSync(uniform(BLOCK)), Buffer.alloc(1)]))],
    [
      'is two frames',
      claiming(BLOCK, Buffer.concat([zstdCompressSync(uniform(BLOCK / 2)), zstdCompressSync(uniform(BLOCK / 2))])),
    ],
    ['is no frame', claiming(BLOCK, randomBytes(100))],
    ['has no frame', claiming(BLOCK, new Uint8Array(0))],
    ['is shorter than its head', Buffer.alloc(3)],
    ['asks for a window of gigabytes', claiming(BLOCK, Buffer.from('28b52ffd00f80000000100', 'hex'))],
  ];
  test.each(frames)('that %s is refused', async (_, stored) => {
    const { record, rows } = await backedUp(1, { transforms: [compression()] });
    rows.rows.set(0, stored);
    const failure = await reasonOf(restored(record, rows, { transforms: [compression()] }));
    expect(failure).toEqual(withCode('BLOCK_CORRUPT'));
  });
});

describe('a transform that', () => {
  const named = (of: Partial<BlockTransform>): BlockTransform => ({
    name: 'mine',
    apply: (bytes) => bytes,
    undo: (bytes) => bytes,
    ...of,
  });
  const garbage: unknown[] = [undefined, null, 5, 'text', {}, [1], new Uint16Array(4), new ArrayBuffer(8), new Map()];

  test('returns no bytes is named', async () => {
    for (const value of garbage) {
      for (const result of [value, Promise.resolve(value)]) {
        const { volume } = await filledVolume(2);
        await using snapshot = await volume.createSnapshot();
        const store = vi.fn();
        const apply = vi.fn(() => result as Uint8Array);
        const pipeline = BackupPipeline.start(snapshot, { store, transforms: [named({ apply })], concurrency: 1 });
        const failure = (await reasonOf(pipeline.sweep().done)) as Error;
        expect(failure).toMatchObject({
          name: 'TypeError',
          message: expect.stringContaining('apply of the transform mine'),
        });
        expect([store.mock.calls.length, apply.mock.calls.length, snapshot.states.counts.pending]).toEqual([0, 1, 2]);
        await volume.close();
      }
      const { record, rows } = await backedUp(1);
      const undo = () => value as Uint8Array;
      const failure = (await reasonOf(restored(record, rows, { transforms: [named({ undo })] }))) as BackupError;
      expect(failure).toMatchObject({ code: 'BLOCK_CORRUPT', cause: expect.objectContaining({ name: 'TypeError' }) });
      expect(failure.message).toContain('undo of the transform mine');
    }
  });

  test('throws ends the pipeline with what it throws, and a restore with BLOCK_CORRUPT', async () => {
    const thrown = new Error('out of order');
    for (const fail of [
      () => {
        throw thrown;
      },
      () => Promise.reject(thrown),
    ]) {
      const { volume } = await filledVolume(2);
      await using snapshot = await volume.createSnapshot();
      const failing = [named({ apply: fail })];
      const pipeline = BackupPipeline.start(snapshot, { store: () => {}, transforms: failing }).sweep();
      expect(await reasonOf(pipeline.done)).toBe(thrown);
      expect([pipeline.status, snapshot.states.counts.pending]).toEqual(['failed', 2]);
      const { record, rows } = await backedUp(1);
      const failure = await reasonOf(restored(record, rows, { transforms: [named({ undo: fail })] }));
      expect(failure).toMatchObject({ code: 'BLOCK_CORRUPT', cause: thrown });
      await volume.close();
    }
  });

  test('runs once for a block, however often it is stored', async () => {
    const { volume, before } = await filledVolume(4);
    await using snapshot = await volume.createSnapshot();
    const rows = new HostRows();
    const apply = vi.fn((bytes: Uint8Array) => bytes);
    const store = async (block: number, bytes: Uint8Array, { attempt }: { attempt: number }) => {
      if (attempt < 3) throw new Error('not yet');
      await rows.store(block, bytes);
    };
    const { record } = await BackupPipeline.start(snapshot, {
      store,
      transforms: [named({ apply })],
      retry: QUICK,
    }).sweep().done;
    expect(apply).toHaveBeenCalledTimes(4);
    expect(isSame(await restored(record, rows), before)).toBe(true);
    await volume.close();
  });

  const foreign = runInNewContext('(length) => new Uint8Array(length)') as (length: number) => Uint8Array;
  const kinds: [string, Partial<BlockTransform>][] = [
    ['returns a Buffer', { apply: (bytes) => Buffer.from(bytes), undo: (bytes) => Buffer.from(bytes) }],
    [
      'returns bytes of another realm',
      {
        apply: (bytes) => {
          const copy = foreign(bytes.length);
          copy.set(bytes);
          return copy;
        },
      },
    ],
    [
      'makes bytes longer',
      { apply: (bytes) => Buffer.concat([bytes, bytes]), undo: (bytes) => bytes.subarray(bytes.length / 2) },
    ],
    [
      'takes its time',
      {
        apply: async (bytes) => {
          await turn();
          return bytes;
        },
      },
    ],
    [
      'is an object of a class',
      new (class Inverted implements BlockTransform {
        readonly name = 'inverted';
        readonly mask = 0xff;
        apply(bytes: Uint8Array) {
          return bytes.map((byte) => byte ^ this.mask);
        }
        undo(bytes: Uint8Array) {
          return this.apply(bytes);
        }
      })(),
    ],
  ];
  test.each(kinds)('%s is fine', async (_, of) => {
    const transforms = [_.includes('class') ? (of as BlockTransform) : named(of)];
    const { record, rows, before } = await backedUp(5, { transforms });
    expect(isSame(await restored(record, rows, { transforms }), before)).toBe(true);
  });

  test('gives back another length is corrupt', async () => {
    const { record, rows } = await backedUp(1);
    for (const length of [0, BLOCK - 1, BLOCK + 1]) {
      const transforms = [named({ undo: () => new Uint8Array(length) })];
      const failure = (await reasonOf(restored(record, rows, { transforms }))) as BackupError;
      expect(failure).toEqual(withCode('BLOCK_CORRUPT'));
      expect(failure.message).toContain(`it has ${length} bytes instead of ${BLOCK}`);
    }
  });
});

describe('a load that', () => {
  const detached = new Uint8Array(BLOCK);
  structuredClone(detached, { transfer: [detached.buffer] });

  test('returns no bytes is called as often as the options allow', async () => {
    const { record } = await backedUp(1);
    for (const value of [undefined, null, 'text', [1, 2], new Uint16Array(BLOCK / 2), new ArrayBuffer(BLOCK), {}]) {
      const load = vi.fn(() => value as Uint8Array);
      const failure = (await reasonOf(
        restoreBlocks(record, new MemoryDevice(record.size), { load, retry: { ...QUICK, attempts: 3 } }),
      )) as BackupError;
      expect(failure).toMatchObject({ code: 'LOAD_FAILED', cause: expect.objectContaining({ name: 'TypeError' }) });
      expect(failure.message).toMatch(
        /block 0 could not be loaded, after 3 attempts.*load must return bytes for block 0/,
      );
      expect(load).toHaveBeenCalledTimes(3);
    }
  });

  test.each([
    ['too few', new Uint8Array(BLOCK - 1)],
    ['too many', new Uint8Array(BLOCK + 1)],
    ['detached', detached],
  ])('returns %s bytes is not called again', async (_, bytes) => {
    const { record } = await backedUp(1);
    const load = vi.fn(() => bytes);
    const failure = await reasonOf(restoreBlocks(record, new MemoryDevice(record.size), { load }));
    expect(failure).toEqual(withCode('BLOCK_CORRUPT'));
    expect(load).toHaveBeenCalledTimes(1);
  });

  test('fails and then loads costs only attempts; one that must not be repeated is not', async () => {
    const { record, rows, before } = await backedUp(20);
    const device = new MemoryDevice(record.size);
    const load = (block: number, { attempt }: { attempt: number }) => {
      if ((block + attempt) % 3 === 0) throw new Error('not now');
      return rows.load(block);
    };
    const { loadedBlocks } = await restoreBlocks(record, device, { load, retry: QUICK });
    expect([loadedBlocks, isSame(device.bytes, before)]).toEqual([20, true]);
    const refused = vi.fn(() => Promise.reject(new BackupError('READ_ONLY', 'no')));
    const failure = await reasonOf(restoreBlocks(record, device, { load: refused, concurrency: 1 }));
    expect(failure).toMatchObject({ code: 'LOAD_FAILED', cause: withCode('READ_ONLY') });
    expect(refused).toHaveBeenCalledTimes(1);
  });

  test('is under way is waited for when another one fails, and then nothing is written', async () => {
    const { record, rows } = await backedUp(8);
    const device = new MemoryDevice(record.size);
    const gate = Promise.withResolvers<void>();
    let isSettled = false;
    const work = reasonOf(
      restoreBlocks(record, device, {
        retry: { attempts: 1 },
        load: async (block) => {
          if (block === 3) throw new Error('gone');
          await gate.promise;
          return rows.load(block);
        },
      }),
    ).finally(() => {
      isSettled = true;
    });
    for (let turns = 0; turns < 5; turns++) await turn();
    expect(isSettled).toBe(false);
    gate.resolve();
    expect(await work).toEqual(withCode('LOAD_FAILED'));
    expect(isSame(device.bytes, new Uint8Array(record.size))).toBe(true);
  });
});

describe('restoring onto', () => {
  const untouched = (device: MemoryDevice) => isSame(device.bytes, new Uint8Array(device.size).fill(0xaa));
  const filledWith = (size: number, sectorSize = 1) => {
    const device = new MemoryDevice(size, { sectorSize });
    device.bytes.fill(0xaa);
    return device;
  };

  test('a device that is too small, or only for reading, writes and loads nothing', async () => {
    const { record } = await backedUp(3);
    const load = vi.fn();
    const small = filledWith(record.size - 1);
    expect(await reasonOf(restoreBlocks(record, small, { load }))).toEqual(withCode('OUT_OF_RANGE'));
    const inner = filledWith(record.size);
    const readOnly: BlockDevice = new Proxy(inner, {
      get: (of, name) => (name === 'readOnly' ? true : Reflect.get(of, name, of)),
    });
    expect(await reasonOf(restoreBlocks(record, readOnly, { load }))).toEqual(withCode('READ_ONLY'));
    expect([load.mock.calls.length, untouched(small), untouched(inner)]).toEqual([0, true, true]);
  });

  test('a larger one leaves the rest alone', async () => {
    const { record, rows, before } = await backedUp(3);
    const device = filledWith(record.size + 2 * BLOCK);
    await restoreBlocks(record, device, { load: rows.load });
    expect(isSame(device.bytes.subarray(0, record.size), before)).toBe(true);
    expect(device.bytes.subarray(record.size).every((byte) => byte === 0xaa)).toBe(true);
  });

  test('one with large sectors and few bytes in a call gives the same', async () => {
    const device = new MemoryDevice(5 * BLOCK + 512, { sectorSize: 512 });
    const { volume, before } = await filledVolume(0, {}, device);
    await volume.write(BLOCK, new Uint8Array(2 * BLOCK));
    before.fill(0, BLOCK, 3 * BLOCK);
    await using snapshot = await volume.createSnapshot();
    const rows = new HostRows();
    const { record } = await BackupPipeline.start(snapshot, { store: rows.store }).sweep().done;
    const inner = filledWith(8 * BLOCK, 4096);
    const lengths: number[] = [];
    const onto: BlockDevice = {
      size: inner.size,
      sectorSize: 4096,
      maxTransferBytes: 4096,
      read: (offset, into) => inner.read(offset, into),
      write: async (offset, from) => {
        lengths.push(from.length);
        await inner.write(offset, from);
      },
      flush: async () => {},
      [Symbol.asyncDispose]: async () => {},
    };
    await restoreBlocks(record, onto, { load: rows.load });
    expect(Math.max(...lengths)).toBeLessThanOrEqual(4096);
    expect(isSame((await contentOf(inner)).subarray(0, record.size), before)).toBe(true);
    expect(inner.bytes.subarray(record.size).every((byte) => byte === 0xaa)).toBe(true);
    await volume.close();
  });

  test.each(['write', 'flush'] as const)('one whose %s fails ends with that error', async (operation) => {
    const { record, rows } = await backedUp(20);
    const device = new FaultyDevice(
      new MemoryDevice(record.size),
      scriptedFaults([{ operation, nth: 1, fault: { kind: 'fail-before' } }]),
    );
    expect(await reasonOf(restoreBlocks(record, device, { load: rows.load }))).toEqual(withCode('DEVICE_IO'));
  });

  test('any is refused for a record of an incomplete run', async () => {
    const { volume } = await filledVolume(4);
    await using snapshot = await volume.createSnapshot();
    const pipeline = BackupPipeline.start(snapshot, { store: () => {} });
    const device = filledWith(volume.size);
    const failure = await reasonOf(restoreBlocks(pipeline.record(), device, { load: vi.fn() }));
    expect(failure).toEqual(withCode('BACKUP_INCOMPLETE'));
    expect((failure as Error).message).toContain('4 of 4 blocks were not stored');
    expect(untouched(device)).toBe(true);
    await pipeline.close();
    await volume.close();
  });

  test('any ends with an abort, before or while it loads', async () => {
    const { record, rows } = await backedUp(20);
    const reason = new Error('never mind');
    const device = filledWith(record.size);
    const load = vi.fn(rows.load);
    expect(await reasonOf(restoreBlocks(record, device, { load, signal: AbortSignal.abort(reason) }))).toBe(reason);
    expect(load).not.toHaveBeenCalled();
    const controller = new AbortController();
    const aborting = (_: number, { signal }: { signal: AbortSignal }) => {
      controller.abort(reason);
      signal.throwIfAborted();
      return rows.load(0);
    };
    const work = restoreBlocks(record, device, { load: aborting, signal: controller.signal, concurrency: 1 });
    expect(await reasonOf(work)).toBe(reason);
    expect(untouched(device)).toBe(true);
  });

  test('any goes on although onProgress throws', async () => {
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const { record, rows, before } = await backedUp(4);
    const device = filledWith(record.size);
    const onProgress = () => {
      throw new Error('no progress');
    };
    await restoreBlocks(record, device, { load: rows.load, onProgress });
    expect([isSame(device.bytes, before), warned.mock.calls.length]).toEqual([true, 1]);
    warned.mockRestore();
  });
});

test('a restore lets the event loop turn, though neither the store nor the device takes any time', async () => {
  const blocks = 2 ** 13;
  const record = new PipelineRecord({
    size: blocks * BLOCK,
    blockSize: BLOCK,
    frozenAt: new Date(0),
    point: { trackingId: 'a', epoch: 1 },
    states: new BlockStateMap(blocks, 'inherited'),
  });
  const bytes = uniform(BLOCK);
  const stored = await apply([checksum()], bytes, 0);
  const everyBlock = { ...checksum(), undo: (of: Uint8Array) => undo([checksum()], of, BLOCK, 0) };
  let turns = 0;
  let isDone = false;
  const count = () => {
    turns++;
    if (!isDone) setImmediate(count);
  };
  setImmediate(count);
  const device = new MemoryDevice(record.size);
  await restoreBlocks(record, device, { load: () => stored, transforms: [everyBlock] });
  isDone = true;
  expect(turns).toBeGreaterThan(1);
  expect(isSame(device.bytes.subarray(-BLOCK), bytes)).toBe(true);
});

describe('a record', () => {
  const states = new BlockStateMap(300);
  states.set({ firstBlock: 3, blockCount: 90 }, 'inherited');
  states.set({ firstBlock: 200, blockCount: 50 }, 'zero');
  const record = new PipelineRecord({
    size: 299 * BLOCK + 5,
    blockSize: BLOCK,
    frozenAt: new Date(1_700_000_000_000),
    point: { trackingId: 'f0e1', epoch: 7 },
    states,
  });

  /** What decoding any bytes may come to. */
  async function isRefused(bytes: Uint8Array): Promise<boolean> {
    try {
      const decoded = await PipelineRecord.decode(bytes, { maxBlocks: 4096 });
      expect(Math.ceil(decoded.size / decoded.blockSize)).toBe(decoded.states.blockCount);
      return false;
    } catch (error) {
      const isMeant = BackupError.is(error, 'STATE_CORRUPT') || BackupError.is(error, 'LIMIT_EXCEEDED');
      expect(isMeant ? undefined : error).toBeUndefined();
      return true;
    }
  }
  const hashed = (body: Uint8Array) => Buffer.concat([body, createHash('sha256').update(body).digest()]);

  test('is what was encoded', async () => {
    const decoded = await PipelineRecord.decode(await record.encode());
    const { size, blockSize, frozenAt, point } = decoded;
    expect({ size, blockSize, frozenAt, point }).toEqual({
      size: record.size,
      blockSize: BLOCK,
      frozenAt: record.frozenAt,
      point: record.point,
    });
    expect([...decoded.states.diff(states)]).toEqual([]);
    decoded.frozenAt.setTime(0);
    expect(decoded.frozenAt).toEqual(record.frozenAt);
  });

  test('is refused with any one byte changed, cut off anywhere, and longer', async () => {
    const bytes = await record.encode();
    for (let at = 0; at < bytes.length; at++) {
      for (const flip of [1, 0x80, 0xff]) {
        const changed = bytes.slice();
        changed[at]! ^= flip;
        expect(await isRefused(changed)).toBe(true);
      }
      expect(await isRefused(bytes.subarray(0, at))).toBe(true);
    }
    expect(await isRefused(Buffer.concat([bytes, Buffer.alloc(1)]))).toBe(true);
  });

  test('of a stranger, with a checksum that is right, is a record or refused', async () => {
    const bytes = await record.encode();
    const body = bytes.subarray(0, bytes.length - 32);
    let refused = 0;
    for (let at = 0; at < body.length; at++) {
      for (const flip of [1, 0x10, 0xff]) {
        const changed = body.slice();
        changed[at]! ^= flip;
        refused += Number(await isRefused(hashed(changed)));
      }
      expect(await isRefused(hashed(body.subarray(0, at)))).toBe(true);
    }
    expect(refused).toBeGreaterThan(body.length);
    const random = randomForTest();
    for (let time = 0; time < times(300); time++) {
      expect(await isRefused(hashed(randomBytes(random.below(80))))).toBe(true);
      expect(await isRefused(randomBytes(random.below(80)))).toBe(true);
    }
  });

  test('with fields of a stranger is refused', async () => {
    const encoded = await states.encode();
    const right = [1, record.size, BLOCK, 5, 'f0e1', 7, encoded];
    expect(await isRefused(hashed(encodeMsgpack(right)))).toBe(false);
    const wrong: [number, unknown[]][] = [
      [0, [0, 2, '1', undefined]],
      [1, [-1, 0, 5, 299 * BLOCK, 300 * BLOCK + 1, '5', 1.5, Number.NaN, 2 ** 60, null]],
      [2, [0, -1, 1, 2 * BLOCK, '4096', 0.5]],
      [3, [8.65e15, -8.65e15, 0.5, Number.NaN, '2026', null]],
      [4, [5, null, new Uint8Array(4), ['a']]],
      [5, [-1, 0.5, '7', 2 ** 60]],
      [6, [new Uint8Array(0), randomBytes(9), 'states', 5, await new BlockStateMap(299).encode()]],
    ];
    for (const [at, values] of wrong) {
      for (const value of values) {
        const fields = right.with(at, value as never);
        expect([at, value, await isRefused(hashed(encodeMsgpack(fields as never)))]).toEqual([at, value, true]);
      }
    }
    expect(await isRefused(hashed(encodeMsgpack([...right, 1] as never)))).toBe(true);
    expect(await isRefused(hashed(encodeMsgpack(right.slice(0, 6) as never)))).toBe(true);
    expect(await isRefused(hashed(encodeMsgpack({ a: 1 } as never)))).toBe(true);
  });

  test('of more blocks than are allowed is refused before memory is taken', async () => {
    const huge = await new BlockStateMap(2 ** 32).encode();
    const body = encodeMsgpack([1, 2 ** 44, BLOCK, 5, 'f0e1', 7, huge]);
    expect(await reasonOf(PipelineRecord.decode(hashed(body)))).toEqual(withCode('LIMIT_EXCEEDED'));
  });
});
