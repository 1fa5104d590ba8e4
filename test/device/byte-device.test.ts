import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { byteDevice } from '../../src/device/byte-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { scriptedFaults } from '../../src/testing/faults.ts';
import { FaultyDevice } from '../../src/testing/faulty-device.ts';
import { property } from '../support/randomness.ts';
import { asyncOnly, limited } from './support/doors.ts';
import { SparseDevice } from './support/sparse-device.ts';

const SECTOR = 512;
const SIZE = 12 * SECTOR;
const random = () => new SparseDevice(SIZE, { sectorSize: SECTOR });

/** A range of any alignment within the device. */
const ranges = fc
  .tuple(fc.integer({ min: 0, max: SIZE }), fc.integer({ min: 0, max: 3 * SECTOR + 7 }))
  .map(([offset, length]) => ({ offset, length: Math.min(length, SIZE - offset) }));

type Write = { kind: 'write' | 'writeZeroes'; door: 'async' | 'sync'; offset: number; length: number; value: number };
const writes: fc.Arbitrary<Write> = fc
  .tuple(
    ranges,
    fc.constantFrom('write', 'write', 'writeZeroes'),
    fc.constantFrom('async', 'sync'),
    fc.integer({ min: 1, max: 255 }),
  )
  .map(([range, kind, door, value]) => ({ ...range, kind, door, value }));

/** Cuts from each write what an earlier one of the same round has, so that their order does not matter. */
function apart(round: readonly Write[]): Write[] {
  const taken = new Uint8Array(SIZE);
  const result: Write[] = [];
  for (const write of round) {
    let { offset } = write;
    let end = offset + write.length;
    while (offset < end && taken[offset] === 1) offset++;
    const next = taken.indexOf(1, offset);
    if (next >= 0) end = Math.min(end, next);
    if (end <= offset) continue;
    taken.fill(1, offset, end);
    result.push({ ...write, offset, length: end - offset });
  }
  return result;
}

describe('byteDevice', () => {
  test('is a plain array of bytes to whoever writes it at once through both doors, sectors shared or not', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(writes, { maxLength: 8 }), { minLength: 1, maxLength: 6 }),
        ranges,
        async (rounds, read) => {
          const inner = random();
          const slow = Object.assign(asyncOnly(inner), {
            readSync: inner.readSync.bind(inner),
            writeSync: inner.writeSync.bind(inner),
            flushSync: inner.flushSync.bind(inner),
          });
          const device = byteDevice(slow);
          const model = new Uint8Array(SIZE);
          for (const round of rounds) {
            const inFlight: Promise<void>[] = [];
            for (const { kind, door, offset, length, value } of apart(round)) {
              if (kind === 'writeZeroes') {
                model.fill(0, offset, offset + length);
                inFlight.push(device.writeZeroes?.(offset, length) ?? Promise.reject(new Error('no write-zeroes')));
                continue;
              }
              const bytes = new Uint8Array(length).fill(value);
              if (door === 'async') {
                model.set(bytes, offset);
                inFlight.push(device.write(offset, bytes));
                continue;
              }
              // A synchronous write takes effect at once, or says that it would have to wait and has done nothing.
              try {
                device.writeSync(offset, bytes);
                model.set(bytes, offset);
              } catch (error) {
                expect(error).toMatchObject({ code: 'WRITES_IN_FLIGHT', retryable: true });
                expect(inFlight.length).toBeGreaterThan(0);
              }
            }
            await Promise.all(inFlight);
            const seen = new Uint8Array(read.length);
            await device.read(read.offset, seen);
            expect(seen).toEqual(model.slice(read.offset, read.offset + read.length));
            device.readSync(read.offset, seen.fill(0));
            expect(seen).toEqual(model.slice(read.offset, read.offset + read.length));
          }
          expect(inner.bytes).toEqual(model);
        },
      ),
      property(300),
    );
  });

  test('a discard changes only whole sectors within its range', async () => {
    await fc.assert(
      fc.asyncProperty(ranges, async ({ offset, length }) => {
        const inner = random();
        inner.bytes.fill(1);
        await byteDevice(inner).discard?.(offset, length);
        const expected = new Uint8Array(SIZE).fill(1);
        const first = Math.ceil(offset / SECTOR) * SECTOR;
        const end = Math.floor((offset + length) / SECTOR) * SECTOR;
        if (end > first) expected.fill(0, first, end);
        expect(inner.bytes).toEqual(expected);
      }),
      property(200),
    );
  });

  test('asks no more of the inner device in one call than it takes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(SECTOR, 2 * SECTOR, 4 * SECTOR), ranges, async (most, { offset, length }) => {
        const inner = random();
        const device = byteDevice(limited(inner, most));
        const bytes = new Uint8Array(Math.min(length, device.maxTransferBytes as number)).fill(9);
        await device.write(offset, bytes);
        const seen = new Uint8Array(bytes.length);
        await device.read(offset, seen);
        expect(seen).toEqual(bytes);
      }),
      property(200),
    );
  });

  test('does whole sectors without reading, and parts of them with one read each', async () => {
    const inner = new FaultyDevice(asyncOnly(random()));
    const device = byteDevice(inner);
    await device.write(SECTOR, new Uint8Array(3 * SECTOR));
    expect(inner.calls.map(({ operation, offset, length }) => [operation, offset, length])).toEqual([
      ['write', 512, 1536],
    ]);
    await device.write(SECTOR - 1, new Uint8Array(2 * SECTOR));
    expect(inner.calls.slice(1).map(({ operation, offset, length }) => [operation, offset, length])).toEqual([
      ['read', 0, 512],
      ['read', 1024, 512],
      ['write', 0, 1536],
    ]);
  });

  test('a write that waits for one that fails goes through all the same', async () => {
    const inner = random();
    const faults = scriptedFaults([{ operation: 'write', nth: 1, fault: { kind: 'fail-before' } }]);
    const device = byteDevice(new FaultyDevice(asyncOnly(inner), faults));
    const first = device.write(0, new Uint8Array(10).fill(1));
    const second = device.write(20, new Uint8Array(10).fill(2));
    await expect(first).rejects.toMatchObject({ code: 'DEVICE_IO' });
    await second;
    expect([inner.bytes[5], inner.bytes[25]]).toEqual([0, 2]);
  });

  test('a synchronous write waits for nobody: it passes beside a write in flight and is refused on the same sector', async () => {
    const inner = random();
    const device = byteDevice(
      Object.assign(asyncOnly(inner), {
        readSync: inner.readSync.bind(inner),
        writeSync: inner.writeSync.bind(inner),
        flushSync: inner.flushSync.bind(inner),
      }),
    );
    const inFlight = device.write(10, new Uint8Array(10).fill(1));
    expect(() => device.writeSync(30, new Uint8Array(5))).toThrow(
      expect.objectContaining({ code: 'WRITES_IN_FLIGHT' }),
    );
    device.writeSync(SECTOR + 1, new Uint8Array(5).fill(3));
    await inFlight;
    device.writeSync(30, new Uint8Array(5).fill(4));
    expect([inner.bytes[10], inner.bytes[SECTOR + 1], inner.bytes[30]]).toEqual([1, 3, 4]);
  });

  test('what never reaches the inner device is refused all the same: read-only, aborted', async () => {
    const inner = Object.defineProperty(random(), 'readOnly', { value: true });
    const device = byteDevice(inner);
    const refused = expect.objectContaining({ code: 'READ_ONLY' });
    await expect(device.discard?.(1, 5)).rejects.toEqual(refused);
    await expect(device.write(1, new Uint8Array(0))).rejects.toEqual(refused);
    await expect(device.writeZeroes?.(1, 5)).rejects.toEqual(refused);
    expect(() => device.writeSync(1, new Uint8Array(5))).toThrow(refused);
    const signal = AbortSignal.abort('no');
    await expect(byteDevice(random()).discard?.(1, 5, { signal })).rejects.toBe('no');
    await expect(byteDevice(random()).read(1, new Uint8Array(0), { signal })).rejects.toBe('no');
  });

  test('closing it leaves the inner device open', async () => {
    const inner: BlockDevice & { close(): Promise<void> } = new MemoryDevice(SIZE, { sectorSize: SECTOR });
    await byteDevice(inner)[Symbol.asyncDispose]();
    await inner.read(0, new Uint8Array(SECTOR));
  });
});
