import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyDevice } from '../../../src/testing/faulty-device.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import { randomBytes } from '../../support/randomness.ts';
import { errorOf, expectSame } from '../../volume/support/bytes.ts';
import { BLOCK, createIn, openIn, openVolume, writeBlock } from '../support/repositories.ts';

/** What takes an unlikely device, claim or moment to go wrong. */

// No Buffer: its `slice` is a view.
const random = (size: number) => new Uint8Array(randomBytes(size));

/** Two backups of one volume that differ in some blocks. */
async function twoBackups(changed: readonly number[], blocks = 60) {
  const target = new MemoryTarget();
  const repository = await createIn(target);
  const { device, volume } = await openVolume(blocks);
  const older = { ...(await repository.backup(volume, { volume: 'disk' })), bytes: device.bytes.slice() };
  for (const block of changed) await writeBlock(volume, block);
  const newer = { ...(await repository.backup(volume, { volume: 'disk' })), bytes: device.bytes.slice() };
  return { target, repository, volume, older, newer };
}

function readsOf({ calls }: FaultyDevice): { readonly offset: number; readonly length: number }[] {
  return calls.filter(({ operation }) => operation === 'read');
}

describe('what a device is said to hold', () => {
  test('and what a restore that failed has written already are both left alone', async () => {
    const { repository, older, newer } = await twoBackups([3, 17, 18, 40]);
    const device = new MemoryDevice(older.bytes.slice());
    device.bytes.set(newer.bytes.subarray(3 * BLOCK, 19 * BLOCK), 3 * BLOCK);
    const options = { deviceHolds: older.id, resume: true };
    const { writtenBytes, warnings } = await repository.restore(newer.id, device, options);
    expectSame(device.bytes, newer.bytes);
    expect(writtenBytes).toBe(BLOCK); // Block 40.
    expect(warnings).toEqual([]);
  });

  test('may be a backup that another host has made since the repository was opened', async () => {
    const { target, volume, older } = await twoBackups([5]);
    const reader = await openIn(target);
    await writeBlock(volume, 9);
    const now = new Uint8Array(volume.size);
    await volume.read(0, now);
    const latest = await (await openIn(target)).backup(volume, { volume: 'disk' });
    const device = new MemoryDevice(now);
    const { writtenBytes } = await reader.restore(older.id, device, { deviceHolds: latest.id });
    expectSame(device.bytes, older.bytes);
    expect(writtenBytes).toBe(2 * BLOCK);
  });

  test('is BACKUP_FORGOTTEN if another host has forgotten and pruned it since', async () => {
    const { target, repository, volume, older, newer } = await twoBackups([5]);
    await volume.write(0, random(volume.size));
    const newest = await repository.backup(volume, { volume: 'disk' });
    const reader = await openIn(target);
    await repository.forget([older.id, newer.id]); // What the newer one shares with it goes too.
    await repository.prune({ graceMs: 0 });
    await repository.prune({ graceMs: 0 });
    const device = new MemoryDevice(older.bytes.slice());
    const error = await errorOf(reader.restore(newest.id, device, { deviceHolds: older.id }), 'BACKUP_FORGOTTEN');
    expect(error.message).toContain(older.id);
    expectSame(device.bytes, older.bytes);
  });

  test('is read in the sampled blocks alone', async () => {
    const { repository, older, newer } = await twoBackups([5], 2000);
    const onto = new FaultyDevice(new MemoryDevice(older.bytes.slice()));
    await repository.restore(newer.id, onto, { deviceHolds: older.id });
    const looked = readsOf(onto).reduce((sum, { length }) => sum + length, 0);
    expect(looked).toBeLessThanOrEqual((64 + 2) * BLOCK); // And the first and the last one.
  });

  describe('of a backup with lost blocks', () => {
    /** Backups of one volume: whole, with two lost blocks, and whole again, with zeroes there. */
    async function lostBetween() {
      const repository = await createIn(new MemoryTarget());
      const device = new MemoryDevice(random(30 * BLOCK));
      const volume = await CopyOnWriteVolume.open(device, {
        blockSize: BLOCK,
        preserve: { memoryBytes: BLOCK, spillBytes: 0, onFailure: 'lose-block' },
      });
      const before = { ...(await repository.backup(volume, { volume: 'disk' })), bytes: device.bytes.slice() };
      for (const block of [4, 11, 12]) await writeBlock(volume, block);
      const frozen = device.bytes.slice();
      const snapshot = await volume.createSnapshot();
      for (const block of [4, 11, 12]) await writeBlock(volume, block, new Uint8Array(BLOCK));
      const lossy = { ...(await repository.backup(snapshot, { volume: 'disk' })), bytes: frozen };
      await snapshot.close();
      expect(lossy.lostBytes).toBe(2 * BLOCK);
      const after = { ...(await repository.backup(volume, { volume: 'disk' })), bytes: device.bytes.slice() };
      return { repository, before, lossy, after };
    }

    test('says nothing of these blocks: zeroes are written there', async () => {
      const { repository, lossy, after } = await lostBetween();
      const device = new MemoryDevice(lossy.bytes.slice());
      const { warnings } = await repository.restore(after.id, device, { deviceHolds: lossy.id });
      expectSame(device.bytes, after.bytes);
      expect(warnings).toEqual([]);
    });

    test('does not keep what an older backup has where the new one has lost it', async () => {
      const { repository, before, lossy } = await lostBetween();
      const device = new MemoryDevice(before.bytes.slice());
      const options = { deviceHolds: before.id, allowLost: true, verifyWrites: true };
      await repository.restore(lossy.id, device, options);
      const expected = lossy.bytes.slice().fill(0, 11 * BLOCK, 13 * BLOCK);
      expectSame(device.bytes, expected);
    });
  });
});

describe('a device', () => {
  test('that ends within a block is compared up to its end', async () => {
    const { repository, older } = await twoBackups([]);
    const length = 10 * BLOCK + 700;
    const device = new MemoryDevice(random(length));
    const options = { ranges: [{ offset: 0, length }], resume: true, verifyWrites: true };
    await repository.restore(older.id, device, options);
    expectSame(device.bytes, older.bytes.subarray(0, length));
  });

  test('is compared in reads that stay small', async () => {
    const { repository, older } = await twoBackups([], 1500);
    const onto = new FaultyDevice(new MemoryDevice(older.bytes.slice()));
    const { writtenBytes } = await repository.restore(older.id, onto, { resume: true });
    expect(writtenBytes).toBe(0);
    expect(Math.max(...readsOf(onto).map(({ length }) => length))).toBe(1024 * 1024);
  });

  test('of sectors larger than a block gets neighbours that are written at the same time', async () => {
    const repository = await createIn(new MemoryTarget());
    const sectorSize = 16 * BLOCK;
    const blocks = 16 * 63;
    const source = new MemoryDevice(random(blocks * BLOCK));
    for (let block = 0; block < blocks; block += 3) source.bytes.fill(0, block * BLOCK, (block + 1) * BLOCK);
    const volume = await CopyOnWriteVolume.open(source, { blockSize: BLOCK });
    const { id } = await repository.backup(volume, { volume: 'disk' });
    const inner = new MemoryDevice(random(source.size), { sectorSize });
    const later = () => new Promise((resolve) => setImmediate(resolve));
    const slow: BlockDevice = {
      size: inner.size,
      sectorSize,
      read: (...call) => later().then(() => inner.read(...call)),
      write: (...call) => later().then(() => inner.write(...call)),
      writeZeroes: (...call) => later().then(() => inner.writeZeroes(...call)),
      flush: (options) => inner.flush(options),
      [Symbol.asyncDispose]: async () => {},
    };
    // Every other block, so that each is a range. The 256th ends the first window, within a sector: in block 517 of 512 to 527.
    const ranges = Array.from({ length: blocks / 2 - 3 }, (_, i) => ({ offset: (2 * i + 7) * BLOCK, length: BLOCK }));
    const expected = inner.bytes.slice();
    for (const { offset, length } of ranges) expected.set(source.bytes.subarray(offset, offset + length), offset);
    await repository.restore(id, slow, { ranges });
    expectSame(inner.bytes, expected);
  });
});

describe('an abort', () => {
  test('ends writes that wait for it, and is the reason given whatever they reject with', async () => {
    const { repository, older } = await twoBackups([]);
    const device = new MemoryDevice(random(older.bytes.length));
    const stop = new AbortController();
    let writing = 0;
    device.write = (_offset, _from, options) => {
      writing++;
      setImmediate(() => stop.abort(new Error('enough')));
      return new Promise((_, reject) => {
        const end = () => {
          writing--;
          reject(new BackupError('DEVICE_IO', 'interrupted'));
        };
        options?.signal?.addEventListener('abort', end, { once: true });
      });
    };
    await expect(repository.restore(older.id, device, { signal: stop.signal })).rejects.toThrow('enough');
    expect(writing).toBe(0);
  });

  test('ends a restore at whichever request the store does not answer', async () => {
    const { target, older } = await twoBackups([]);
    const counting = new FaultyTarget(target, scriptedFaults([]));
    const counted = await openIn(counting);
    const opening = counting.callCount('get');
    await counted.restore(older.id, new MemoryDevice(older.bytes.length));
    const last = counting.callCount('get');
    expect(last).toBeGreaterThan(opening + 2);
    for (let nth = opening + 1; nth <= last; nth++) {
      const fault = { operation: 'get', nth, fault: { kind: 'never-answer' } } as const;
      const faulty = new FaultyTarget(target, scriptedFaults([fault]));
      const repository = await openIn(faulty);
      const stop = new AbortController();
      const restoring = repository.restore(older.id, new MemoryDevice(older.bytes.length), { signal: stop.signal });
      const rejected = expect(restoring).rejects.toThrow('enough');
      while (faulty.callCount('get') < nth) await new Promise((resolve) => setImmediate(resolve));
      stop.abort(new Error('enough'));
      await rejected;
    }
  });
});
