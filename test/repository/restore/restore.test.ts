import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ByteRange } from '../../../src/common/byte-range.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import type { Progress } from '../../../src/repository/context/progress.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyDevice } from '../../../src/testing/faulty-device.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import { property, randomBytes } from '../../support/randomness.ts';
import { errorOf, expectSame } from '../../volume/support/bytes.ts';
import {
  BLOCK,
  createIn,
  encryptionOf,
  notedTarget,
  openIn,
  openVolume,
  SMALL,
  writeBlock,
} from '../support/repositories.ts';

/** A repository with one backup of a volume, and what the volume held. */
async function backedUp({ target = new MemoryTarget(), isEncrypted = false, blocks = 50 } = {}) {
  const repository = await createIn(target, isEncrypted);
  const { device, volume } = await openVolume(blocks);
  const { id } = await repository.backup(volume, { volume: 'disk' });
  return { repository, target, volume, id, content: device.bytes.slice() };
}

// No Buffer: its `slice` is a view.
const noise = (size: number, sectorSize = 1) => new MemoryDevice(new Uint8Array(randomBytes(size)), { sectorSize });

/** Bytes of blocks that are not all zeroes. */
function bytesWithContent(content: Uint8Array): number {
  let bytes = 0;
  for (let at = 0; at < content.length; at += BLOCK) {
    const block = content.subarray(at, at + BLOCK);
    if (block.some((byte) => byte !== 0)) bytes += block.length;
  }
  return bytes;
}

/** Has what `MemoryDevice` has, but for the calls named. */
function without<D extends MemoryDevice>(device: D, ...calls: ('writeZeroes' | 'discard')[]): BlockDevice {
  const wrapped = new FaultyDevice(device) as unknown as Record<string, unknown>;
  for (const call of calls) delete wrapped[call];
  return wrapped as unknown as BlockDevice;
}

describe.each([{ isEncrypted: false }, { isEncrypted: true }])(
  'a restore, encrypted: $isEncrypted',
  ({ isEncrypted }) => {
    test('makes a device what the volume was, and flushes it', async () => {
      const { repository, id, content } = await backedUp({ isEncrypted });
      const device = noise(content.length);
      const onto = new FaultyDevice(device);
      const result = await repository.restore(id, onto);
      expectSame(device.bytes, content);
      expect(result.writtenBytes + result.skippedBytes).toBe(content.length);
      expect(result.warnings).toEqual([]);
      expect(onto.calls.at(-1)?.operation).toBe('flush');
    });

    test('gives each of several backups its own content', async () => {
      const target = new MemoryTarget();
      const { repository, volume, id, content } = await backedUp({ target, isEncrypted });
      const kept = new Map([[id, content]]);
      for (let n = 0; n < 12; n++) {
        await writeBlock(volume, (n * 7) % 50);
        await volume.writeZeroes?.(((n * 11) % 50) * BLOCK, BLOCK);
        const next = await repository.backup(volume, { volume: 'disk' });
        const now = new Uint8Array(volume.size);
        await volume.read(0, now);
        kept.set(next.id, now);
      }
      const opened = await openIn(target, isEncrypted);
      const ids = [...kept.keys()];
      for (const each of ids) {
        const device = noise(content.length);
        await opened.restore(each, device);
        expectSame(device.bytes, kept.get(each)!, 'from noise');
      }
      for (const from of ids.slice(0, 4)) {
        for (const to of ids.slice(-4)) {
          const device = new MemoryDevice(kept.get(from)!.slice());
          const { warnings } = await opened.restore(to, device, { deviceHolds: from, verifyWrites: true });
          expectSame(device.bytes, kept.get(to)!, 'from another backup');
          expect(warnings).toEqual([]);
        }
      }
    });
  },
);

describe('a device', () => {
  test('that is too small, or read-only, is refused before anything is asked for', async () => {
    const { target, calls } = notedTarget();
    const { repository, id, content } = await backedUp({ target });
    calls.length = 0;
    const small = noise(content.length - 1);
    const before = small.bytes.slice();
    await errorOf(repository.restore(id, small), 'OUT_OF_RANGE');
    const readOnly = Object.assign(noise(content.length), { readOnly: true });
    await errorOf(repository.restore(id, readOnly), 'READ_ONLY');
    expectSame(small.bytes, before);
    expect(calls).toEqual([]);
    // As much of it as is asked for fits.
    await repository.restore(id, small, { ranges: [{ offset: 5, length: content.length - 6 }] });
    expectSame(small.bytes.subarray(5), content.subarray(5, content.length - 1));
    expectSame(small.bytes.subarray(0, 5), before.subarray(0, 5));
  });

  test('that is larger keeps what it has behind the backup', async () => {
    const { repository, id, content } = await backedUp();
    const device = noise(content.length + 10_000);
    const tail = device.bytes.slice(content.length);
    await repository.restore(id, device, { verifyWrites: true });
    expectSame(device.bytes.subarray(0, content.length), content);
    expectSame(device.bytes.subarray(content.length), tail);
  });

  test.each([512, 4096])(
    'of sectors of %i bytes takes a backup of any length, and its tail is kept',
    async (sectorSize) => {
      const { repository, id, content } = await backedUp();
      const size = Math.ceil(content.length / sectorSize) * sectorSize;
      const device = noise(size, sectorSize);
      const tail = device.bytes.slice(content.length);
      await repository.restore(id, device, { verifyWrites: true });
      expectSame(device.bytes.subarray(0, content.length), content);
      expectSame(device.bytes.subarray(content.length), tail);
    },
  );

  test('is given no call that is longer than it takes', async () => {
    const { repository, id, content } = await backedUp();
    const device = Object.assign(noise(content.length), { maxTransferBytes: 1000 });
    for (const call of ['read', 'write'] as const) {
      const inner = device[call].bind(device);
      device[call] = (offset, bytes, options) => {
        expect(bytes.length).toBeLessThanOrEqual(1000);
        return inner(offset, bytes, options);
      };
    }
    const inner = device.writeZeroes.bind(device);
    device.writeZeroes = (offset, length, options) => {
      expect(length).toBeLessThanOrEqual(1000);
      return inner(offset, length, options);
    };
    await repository.restore(id, device, { resume: true, verifyWrites: true });
    expectSame(device.bytes, content);
  });

  test('without write-zeroes gets zeroes where it does not read as zeroes already', async () => {
    const { repository, id, content } = await backedUp();
    const device = noise(content.length);
    const result = await repository.restore(id, without(device, 'writeZeroes', 'discard'));
    expectSame(device.bytes, content);
    expect(result.writtenBytes).toBe(content.length);
    const empty = new MemoryDevice(content.length);
    const onto = without(empty, 'writeZeroes', 'discard');
    const { writtenBytes } = await repository.restore(id, onto);
    expectSame(empty.bytes, content);
    expect(writtenBytes).toBe(bytesWithContent(content));
  });

  test('is never discarded: that promises no zeroes', async () => {
    const { repository, id, content } = await backedUp();
    const device = noise(content.length);
    const onto = new FaultyDevice(device);
    await repository.restore(id, onto);
    expect(onto.callCount('discard')).toBe(0);
    expect(onto.callCount('writeZeroes')).toBeGreaterThan(0);
  });

  test('that knows what is zeroes is not written there', async () => {
    const { repository, id, content } = await backedUp();
    const device = new MemoryDevice(content.length);
    const onto = new FaultyDevice(device);
    Object.assign(onto, {
      async *extents(offset: number, length: number) {
        yield { offset, length, kind: 'zero' };
      },
    });
    const { writtenBytes } = await repository.restore(id, onto);
    expectSame(device.bytes, content);
    expect(onto.callCount('writeZeroes')).toBe(0);
    expect(writtenBytes).toBe(bytesWithContent(content));
  });
});

describe('ranges', () => {
  test('of any bytes are restored, and nothing else is touched', async () => {
    const { repository, id, content } = await backedUp({ blocks: 20 });
    const range = fc
      .tuple(fc.integer({ min: 0, max: content.length }), fc.integer({ min: 0, max: 3 * BLOCK }))
      .map(([offset, length]): ByteRange => ({ offset, length: Math.min(length, content.length - offset) }));
    await fc.assert(
      fc.asyncProperty(
        fc.array(range, { maxLength: 6 }),
        fc.constantFrom(1, 512, 4096),
        fc.record({ resume: fc.boolean(), verifyWrites: fc.boolean(), claims: fc.boolean() }),
        async (ranges, sectorSize, { resume, verifyWrites, claims }) => {
          const size = Math.ceil(content.length / sectorSize) * sectorSize;
          const device = noise(size, sectorSize);
          if (claims) device.bytes.fill(0);
          const expected = device.bytes.slice();
          for (const { offset, length } of ranges) expected.set(content.subarray(offset, offset + length), offset);
          const deviceHolds = claims ? 'zeroes' : undefined;
          const result = await repository.restore(id, device, { ranges, resume, verifyWrites, deviceHolds });
          expectSame(device.bytes, expected);
          const bytes = new Set(ranges.flatMap(({ offset, length }) => Array.from({ length }, (_, i) => offset + i)));
          expect(result.writtenBytes + result.skippedBytes).toBe(bytes.size);
          expect(result.warnings).toEqual([]);
        },
      ),
      property(60),
    );
  });

  test('outside the backup are refused, and such that are none', async () => {
    const { repository, id, content } = await backedUp();
    const device = noise(content.length * 2);
    const before = device.bytes.slice();
    const restore = (range: ByteRange) =>
      repository.restore(id, device, { ranges: [{ offset: 0, length: 10 }, range] });
    await errorOf(restore({ offset: content.length - 5, length: 6 }), 'OUT_OF_RANGE');
    await errorOf(restore({ offset: -1, length: 1 }), 'OUT_OF_RANGE');
    await expect(restore({ offset: 0.5, length: 1 })).rejects.toThrow(TypeError);
    expectSame(device.bytes, before);
  });

  test('of one block fetch no more than that block', async () => {
    const { target, calls } = notedTarget();
    const { repository, id, content } = await backedUp({ target, blocks: 2000 });
    const device = noise(content.length);
    calls.length = 0;
    const { fetchedBytes } = await repository.restore(id, device, {
      ranges: [{ offset: 1001 * BLOCK, length: BLOCK }],
    });
    expectSame(device.bytes.subarray(1001 * BLOCK, 1002 * BLOCK), content.subarray(1001 * BLOCK, 1002 * BLOCK));
    expect(calls.length).toBeLessThanOrEqual(4);
    expect(fetchedBytes).toBeLessThan(BLOCK * 12);
  });
});

describe('what a device is said to hold', () => {
  test('is not fetched and not written again', async () => {
    const { target, calls } = notedTarget();
    const { repository, volume, id, content } = await backedUp({ target, blocks: 1000 });
    for (const block of [3, 500, 501, 998]) await writeBlock(volume, block);
    const next = await repository.backup(volume, { volume: 'disk' });
    const device = new MemoryDevice(content.slice());
    const onto = new FaultyDevice(device);
    const opened = await openIn(target);
    calls.length = 0;
    const result = await opened.restore(next.id, onto, { deviceHolds: id });
    const now = new Uint8Array(volume.size);
    await volume.read(0, now);
    expectSame(device.bytes, now);
    expect(result.writtenBytes).toBe(4 * BLOCK);
    expect(result.skippedBytes).toBe(content.length - 4 * BLOCK);
    expect(result.requests).toBe(calls.length);
    const wroteAt = onto.calls.filter(({ operation }) => operation === 'write').map(({ offset }) => offset / BLOCK);
    expect(wroteAt.sort((a, b) => a - b)).toEqual([3, 500, 501, 998]);
    // Back again: the older one differs in the same blocks.
    expect((await opened.restore(id, device, { deviceHolds: next.id })).writtenBytes).toBe(4 * BLOCK);
    expectSame(device.bytes, content);
  });

  test('as zeroes saves writing them', async () => {
    const { repository, id, content } = await backedUp();
    const device = new MemoryDevice(content.length);
    const onto = new FaultyDevice(device);
    const result = await repository.restore(id, onto, { deviceHolds: 'zeroes', verifyWrites: true });
    expectSame(device.bytes, content);
    expect(onto.callCount('writeZeroes')).toBe(0);
    expect(result.writtenBytes).toBe(bytesWithContent(content));
    expect(result.warnings).toEqual([]);
  });

  test('is not believed when a block of the sample is something else: then all is compared', async () => {
    const { repository, volume, id, content } = await backedUp({ blocks: 60 });
    await writeBlock(volume, 7);
    const next = await repository.backup(volume, { volume: 'disk' });
    const now = new Uint8Array(volume.size);
    await volume.read(0, now);
    for (const wrong of [0, 30, 60]) {
      const device = new MemoryDevice(content.slice());
      device.bytes[wrong * BLOCK + 17]! ^= 1;
      const result = await repository.restore(next.id, device, { deviceHolds: id });
      expectSame(device.bytes, now);
      expect(result.warnings.map(({ code }) => code)).toEqual(['DEVICE_DIFFERS']);
      // Compared, not written anew.
      expect(result.writtenBytes).toBe(wrong === 60 ? BLOCK + 1000 : 2 * BLOCK);
    }
    const device = noise(content.length);
    const result = await repository.restore(next.id, device, { deviceHolds: 'zeroes' });
    expectSame(device.bytes, now);
    expect(result.warnings.map(({ code }) => code)).toEqual(['DEVICE_DIFFERS']);
  });

  test('may be a backup of another size', async () => {
    const target = new MemoryTarget();
    const { repository, id, content } = await backedUp({ target, blocks: 40 });
    const grown = new MemoryDevice(content.length + 9 * BLOCK + 123);
    grown.bytes.set(content);
    grown.bytes.set(randomBytes(7 * BLOCK), content.length + 100);
    const volume = await CopyOnWriteVolume.open(grown, { blockSize: BLOCK });
    const larger = await repository.backup(volume, { volume: 'grown' });
    const device = noise(grown.size);
    device.bytes.set(content);
    const up = await repository.restore(larger.id, device, { deviceHolds: id, verifyWrites: true });
    expectSame(device.bytes, grown.bytes);
    expect(up.writtenBytes).toBeLessThan(12 * BLOCK);
    expect(up.warnings).toEqual([]);
    const down = await repository.restore(id, device, { deviceHolds: larger.id, verifyWrites: true });
    expectSame(device.bytes.subarray(0, content.length), content);
    expect(down.writtenBytes).toBeLessThanOrEqual(BLOCK);
  });

  test('may be a backup of another block size: then contents are compared', async () => {
    const { repository, id, content } = await backedUp({ blocks: 40 });
    const coarse = await CopyOnWriteVolume.open(new MemoryDevice(content.slice()), { blockSize: 4 * BLOCK });
    await coarse.write(9 * BLOCK, randomBytes(10));
    const other = await repository.backup(coarse, { volume: 'coarse' });
    const device = new MemoryDevice(content.slice());
    const { writtenBytes, warnings } = await repository.restore(other.id, device, { deviceHolds: id });
    const now = new Uint8Array(coarse.size);
    await coarse.read(0, now);
    expectSame(device.bytes, now);
    expect(writtenBytes).toBe(4 * BLOCK);
    expect(warnings).toEqual([]);
  });

  test('is looked at in a sample of a large volume, which costs few requests', async () => {
    const { target, calls } = notedTarget();
    const repository = await createIn(target);
    const blocks = 20_000;
    const source = new MemoryDevice(blocks * BLOCK);
    for (let block = 0; block < blocks; block++)
      source.bytes.fill(1 + (block % 250), block * BLOCK, (block + 1) * BLOCK);
    const volume = await CopyOnWriteVolume.open(source, { blockSize: BLOCK });
    const { id } = await repository.backup(volume, { volume: 'disk' });
    const device = new MemoryDevice(source.bytes.slice());
    await writeBlock(volume, 777);
    const next = await repository.backup(volume, { volume: 'disk' });
    const onto = new FaultyDevice(device);
    calls.length = 0;
    const { warnings } = await repository.restore(next.id, onto, { deviceHolds: id });
    expectSame(device.bytes, source.bytes);
    expect(warnings).toEqual([]);
    const looked = onto.calls.filter(({ operation }) => operation === 'read');
    const lookedBytes = looked.reduce((sum, { length }) => sum + length, 0);
    expect(lookedBytes).toBeGreaterThanOrEqual((blocks / 64) * BLOCK);
    expect(lookedBytes).toBeLessThan((blocks / 32) * BLOCK);
    expect(looked[0]?.offset).toBe(0);
    expect(Math.max(...looked.map(({ offset, length }) => offset + length))).toBe(blocks * BLOCK);
    // Spread: no tenth of the volume is left out.
    const tenths = new Set(looked.map(({ offset }) => Math.floor((offset / BLOCK / blocks) * 10)));
    expect(tenths.size).toBe(10);
    expect(calls.length).toBeLessThan(40);
    // One block in ten is something else: that shows.
    for (let block = 5; block < blocks; block += 10) device.bytes[block * BLOCK]! ^= 1;
    const doubted = await repository.restore(next.id, device, { deviceHolds: id });
    expect(doubted.warnings.map(({ code }) => code)).toEqual(['DEVICE_DIFFERS']);
    expectSame(device.bytes, source.bytes);
    expect(doubted.writtenBytes).toBe((blocks / 10) * BLOCK);
  });

  test('counts only where something is asked for', async () => {
    const { target, repository, volume, id, content } = await backedUp({ blocks: 400 });
    for (let block = 1; block < 400; block += 3) await writeBlock(volume, block);
    const next = await repository.backup(volume, { volume: 'disk' });
    const now = new Uint8Array(volume.size);
    await volume.read(0, now);
    const device = noise(content.length);
    const range = { offset: 101 * BLOCK + 5, length: 30 * BLOCK };
    device.bytes.set(content.subarray(range.offset, range.offset + range.length), range.offset);
    const expected = device.bytes.slice();
    expected.set(now.subarray(range.offset, range.offset + range.length), range.offset);
    const opened = await openIn(target);
    const { warnings, fetchedBytes } = await opened.restore(next.id, device, { ranges: [range], deviceHolds: id });
    expectSame(device.bytes, expected);
    expect(warnings).toEqual([]);
    expect(fetchedBytes).toBeLessThan(80 * BLOCK);
  });

  test('must be a backup that is there', async () => {
    const { repository, volume, id, content } = await backedUp();
    const second = await repository.backup(volume, { volume: 'disk' });
    const device = noise(content.length);
    const before = device.bytes.slice();
    await errorOf(repository.restore(id, device, { deviceHolds: 'f'.repeat(32) }), 'BACKUP_NOT_FOUND');
    await repository.forget([second.id]);
    await errorOf(repository.restore(id, device, { deviceHolds: second.id }), 'BACKUP_FORGOTTEN');
    await expect(repository.restore(id, device, { deviceHolds: '' })).rejects.toThrow(TypeError);
    expectSame(device.bytes, before);
  });
});

describe('lost blocks', () => {
  async function withLostBlock() {
    const target = new MemoryTarget();
    const repository = await createIn(target);
    const content = new Uint8Array(randomBytes(30 * BLOCK));
    const device = new MemoryDevice(content.slice());
    const volume = await CopyOnWriteVolume.open(device, {
      blockSize: BLOCK,
      preserve: { memoryBytes: BLOCK, spillBytes: 0, onFailure: 'lose-block' },
    });
    const snapshot = await volume.createSnapshot();
    for (const block of [4, 11, 12]) await writeBlock(volume, block);
    const { id, lostBytes } = await repository.backup(snapshot, { volume: 'disk' });
    expect(lostBytes).toBeGreaterThan(0);
    return { repository, id, content, lost: [11, 12] };
  }

  test('are refused before anything is written', async () => {
    const { repository, id, content } = await withLostBlock();
    const device = noise(content.length);
    const before = device.bytes.slice();
    for (const options of [{}, { resume: true }, { ranges: [{ offset: 12 * BLOCK + 3, length: 1 }] }]) {
      await errorOf(repository.restore(id, device, options), 'BLOCK_LOST');
    }
    expectSame(device.bytes, before);
    await repository.restore(id, device, { ranges: [{ offset: 0, length: 11 * BLOCK }] });
    expectSame(device.bytes.subarray(0, 11 * BLOCK), content.subarray(0, 11 * BLOCK));
  });

  test('are zeroes where that is allowed', async () => {
    const { repository, id, content, lost } = await withLostBlock();
    const device = noise(content.length);
    await repository.restore(id, device, { allowLost: true, verifyWrites: true });
    for (const block of lost) content.fill(0, block * BLOCK, (block + 1) * BLOCK);
    expectSame(device.bytes, content);
  });
});

describe('a restore that fails', () => {
  const restoreBlocks = 200;

  test('goes on with what the device has not, when it is resumed', async () => {
    const { target, repository, id, content } = await backedUp({ isEncrypted: true, blocks: restoreBlocks });
    const device = noise(content.length);
    let writes = 0;
    const plan = {
      next: ({ operation }: { operation: string }) =>
        operation === 'write' && ++writes > 100 ? { kind: 'fail-before' as const } : undefined,
    };
    await errorOf(repository.restore(id, new FaultyDevice(device, plan)), 'DEVICE_IO');
    const whole = await repository.restore(id, noise(content.length));
    const opened = await openIn(target, true);
    const result = await opened.restore(id, device, { resume: true });
    expectSame(device.bytes, content);
    expect(result.writtenBytes).toBeLessThan(content.length - 80 * BLOCK);
    expect(result.fetchedBytes).toBeLessThan(whole.fetchedBytes * 0.75);
    // And once more, for nothing.
    const { writtenBytes, fetchedBytes } = await opened.restore(id, device, { resume: true });
    expect(writtenBytes).toBe(0);
    expect(fetchedBytes).toBeLessThan(50_000);
  });

  test.each(['fail-before', 'fail-after', 'corrupt', 'truncate'] as const)(
    'at any request (%s) writes nothing wrong, or succeeds',
    async (kind) => {
      const inner = new MemoryTarget();
      const { repository, id, content } = await backedUp({ target: inner, isEncrypted: true });
      const meter = new FaultyTarget(inner, scriptedFaults([]));
      await (await openIn(meter, true)).restore(id, noise(content.length));
      await repository.close();
      const opening = new FaultyTarget(inner, scriptedFaults([]));
      await openIn(opening, true);
      for (let nth = opening.callCount('get') + 1; nth <= meter.callCount('get'); nth++) {
        const target: CloudTarget = new FaultyTarget(
          inner,
          scriptedFaults([{ operation: 'get', nth, fault: { kind } }]),
        );
        const device = noise(content.length);
        const before = device.bytes.slice();
        const opened = await openIn(target, true);
        const work = opened.restore(id, device).then(
          () => 'done',
          (error: { code: string }) => error.code,
        );
        const outcome = await work;
        expect(['done', 'TARGET_UNAVAILABLE', 'RECORD_CORRUPT', 'MAP_CORRUPT']).toContain(outcome);
        if (outcome === 'done') expectSame(device.bytes, content);
        for (let at = 0; at < content.length; at += BLOCK) {
          const now = device.bytes.subarray(at, at + BLOCK);
          const isOld = Buffer.compare(now, before.subarray(at, at + BLOCK)) === 0;
          const isNew = Buffer.compare(now, content.subarray(at, at + BLOCK)) === 0;
          expect(isOld || isNew, `block ${at / BLOCK}`).toBe(true);
        }
      }
    },
  );

  test('at any call to the device rejects with its error', async () => {
    const { repository, id, content } = await backedUp();
    const counting = new FaultyDevice(noise(content.length));
    await repository.restore(id, counting, { verifyWrites: true });
    for (const { operation } of new Set(counting.calls)) {
      for (const nth of [1, counting.callCount(operation)]) {
        const onto = new FaultyDevice(
          noise(content.length),
          scriptedFaults([{ operation, nth, fault: { kind: 'fail-before' } }]),
        );
        await errorOf(repository.restore(id, onto, { verifyWrites: true }), 'DEVICE_IO');
      }
    }
  });

  test('rejects when no write is in flight any more', async () => {
    const { repository, id, content } = await backedUp();
    const device = noise(content.length);
    const held: (() => void)[] = [];
    let isFirst = true;
    const write = device.write.bind(device);
    device.write = async (offset, from, options) => {
      if (isFirst) {
        isFirst = false;
        await new Promise<void>((resolve) => held.push(resolve));
        return write(offset, from);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
      return write(offset, from, options);
    };
    const stop = new AbortController();
    let hasEnded = false;
    const restoring = repository.restore(id, device, { signal: stop.signal }).finally(() => {
      hasEnded = true;
    });
    restoring.catch(() => {});
    while (held.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    stop.abort(new Error('enough'));
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(hasEnded).toBe(false);
    const before = device.bytes.slice();
    held[0]!();
    await expect(restoring).rejects.toThrow('enough');
    const after = device.bytes.slice();
    await new Promise((resolve) => setTimeout(resolve, 30));
    expectSame(device.bytes, after);
    expect(Buffer.compare(before, after)).not.toBe(0);
  });

  test('is aborted before it begins, and while the store does not answer', async () => {
    const inner = new MemoryTarget();
    const { id, content } = await backedUp({ target: inner });
    let isStuck = false;
    const target = new FaultyTarget(inner, { next: () => (isStuck ? { kind: 'never-answer' } : undefined) });
    const repository = await openIn(target);
    const device = noise(content.length);
    const before = device.bytes.slice();
    const aborted = AbortSignal.abort(new Error('not even begun'));
    await expect(repository.restore(id, device, { signal: aborted })).rejects.toThrow('not even begun');
    isStuck = true;
    const signal = AbortSignal.timeout(30);
    await expect(repository.restore(id, device, { signal })).rejects.toBe(await reasonOf(signal));
    expectSame(device.bytes, before);
  });

  test('of a backup that others have forgotten and pruned says so', async () => {
    const { target, repository, volume, id, content } = await backedUp();
    const reader = await openIn(target);
    await writeBlock(volume, 1);
    await volume.write(0, randomBytes(content.length));
    await repository.backup(volume, { volume: 'disk' });
    await repository.forget([id]);
    await repository.prune({ graceMs: 0 });
    await repository.prune({ graceMs: 0 });
    await errorOf(reader.restore(id, noise(content.length)), 'BACKUP_FORGOTTEN');
  });

  test('of a backup whose packs were moved meanwhile finds them', async () => {
    const { target, repository, volume, id, content } = await backedUp({ isEncrypted: true, blocks: 300 });
    for (let block = 0; block < 300; block++) if (block % 4 !== 1) await writeBlock(volume, block);
    const next = await repository.backup(volume, { volume: 'disk' });
    const now = new Uint8Array(volume.size);
    await volume.read(0, now);
    const reader = await openIn(target, true);
    await repository.forget([id]);
    const options = { graceMs: 0, minRepackGainBytes: 0, packBytes: 64 * 1024 };
    const pruned = await repository.prune(options);
    expect(pruned.repackedPacks).toBeGreaterThan(2);
    expect(pruned.freedBytes).toBeGreaterThan(200 * BLOCK); // The old packs are gone.
    const device = noise(content.length);
    await reader.restore(next.id, device, { verifyWrites: true });
    expectSame(device.bytes, now);
  });

  test('keeps to its budget', async () => {
    const { target, calls } = notedTarget();
    const { id, content } = await backedUp({ target, blocks: restoreBlocks });
    const opened = await openIn(target);
    calls.length = 0;
    await errorOf(opened.restore(id, noise(content.length), { budget: { gets: 3 } }), 'BUDGET_EXCEEDED');
    expect(calls.length).toBeLessThanOrEqual(3);
  });
});

async function reasonOf(signal: AbortSignal): Promise<unknown> {
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  return signal.reason;
}

describe('verifying', () => {
  test.each([
    ['a block', { offset: 3 * BLOCK, length: BLOCK }],
    ['zeroes', { offset: 5 * BLOCK, length: BLOCK }],
    ['a part of a block', { offset: 3 * BLOCK + 5, length: 100 }],
    ['a part of zeroes', { offset: 5 * BLOCK + 5, length: 100 }],
  ])('finds %s that the device did not keep', async (_, range) => {
    const { repository, id, content } = await backedUp();
    const device = noise(content.length);
    const onto = Object.create(device) as MemoryDevice;
    onto.write = async (offset, from) => {
      device.bytes.set(from, offset);
      device.bytes[offset]! ^= 1;
    };
    onto.writeZeroes = async (offset, length) => {
      device.bytes.fill(0, offset, offset + length);
      device.bytes[offset]! ^= 1;
    };
    onto.read = (offset, into, options) => device.read(offset, into, options);
    onto.flush = async () => {};
    await repository.restore(id, onto, { ranges: [range] });
    await errorOf(repository.restore(id, onto, { ranges: [range], verifyWrites: true }), 'VERIFY_MISMATCH');
  });
});

test('reports its progress', async () => {
  const { repository, id, content } = await backedUp({ blocks: 300 });
  const reported: Progress[] = [];
  const device = noise(content.length);
  const onProgress = (progress: Progress) => reported.push(progress);
  const { requests } = await repository.restore(id, device, { onProgress, verifyWrites: true });
  expect(new Set(reported.map(({ phase }) => phase))).toEqual(new Set(['restoring', 'verifying']));
  const all = { doneBytes: content.length, totalBytes: content.length };
  expect(reported.at(-1)).toMatchObject({ ...all, requests });
  device.bytes.fill(1, 0, 100 * BLOCK);
  await repository.restore(id, device, { onProgress, resume: true });
  expect(reported.at(-1)).toMatchObject({ phase: 'restoring', ...all });
});

test('many windows, and a memory that does not grow with the volume', async () => {
  const size = 160 * 1024 * 1024;
  const device = new MemoryDevice(size);
  for (let at = 0; at < size; at += 1024 * 1024) device.bytes.set(randomBytes(4096), at);
  const volume = await CopyOnWriteVolume.open(device, { blockSize: 65_536 });
  const repository = await BackupRepository.create(new MemoryTarget(), {
    encryption: encryptionOf(true),
    ...SMALL,
    packBytes: 4 * 1024 * 1024,
  });
  const { id } = await repository.backup(volume, { volume: 'disk' });
  const onto = new MemoryDevice(size);
  await repository.restore(id, onto);
  expectSame(onto.bytes, device.bytes);
});
