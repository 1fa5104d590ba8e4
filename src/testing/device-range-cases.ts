import type { BackupErrorCode } from '../common/errors.ts';
import type { BlockDevice, Extent } from '../device/block-device.ts';
import { expectBytes, expectCode, expectEqual, expectThat } from './conformance.ts';
import type { DeviceCase } from './device-case.ts';
import { CONFORMANCE_SIZE, content, doorsOf, fill, lacksWrites, pattern, sectors } from './device-doors.ts';

/** Every call of a device that takes a range, with a buffer of its own. */
type RangeCall = [name: string, (offset: number, length: number) => Promise<unknown>];

function rangeCalls(device: BlockDevice): RangeCall[] {
  const { discard, writeZeroes, extents } = device;
  const calls: RangeCall[] = [];
  for (const door of doorsOf(device)) {
    calls.push([`a read through ${door.name}`, (offset, length) => door.read(offset, new Uint8Array(length))]);
    if (device.readOnly === true) continue;
    calls.push([`a write through ${door.name}`, (offset, length) => door.write(offset, pattern(9, length))]);
  }
  if (device.readOnly !== true) {
    if (discard) calls.push(['a discard', (offset, length) => discard.call(device, offset, length)]);
    if (writeZeroes) calls.push(['a write-zeroes', (offset, length) => writeZeroes.call(device, offset, length)]);
  }
  if (extents) calls.push(['extents', (offset, length) => listExtents(device, offset, length)]);
  return calls;
}

/** All extents of a range; an error when `extents` is called is as good as one at the first step. */
export async function listExtents(device: BlockDevice, offset: number, length: number): Promise<Extent[]> {
  const list: Extent[] = [];
  for await (const extent of device.extents?.(offset, length) ?? []) list.push(extent);
  return list;
}

async function expectRefused(
  device: BlockDevice,
  code: BackupErrorCode,
  ranges: readonly (readonly [offset: number, length: number])[],
): Promise<void> {
  const edge = sectors(device, 64 * 1024);
  if (device.readOnly !== true) {
    await fill(device, 0, pattern(1, edge));
    await fill(device, device.size - edge, pattern(2, edge));
  }
  const before = [await content(device, 0, edge), await content(device, device.size - edge, edge)] as const;
  for (const [name, call] of rangeCalls(device)) {
    for (const [offset, length] of ranges) {
      await expectCode(call(offset, length), code, `${name} of ${length} bytes at ${offset}`);
    }
  }
  expectBytes(await content(device, 0, edge), before[0], 'the beginning, after calls that were refused');
  expectBytes(await content(device, device.size - edge, edge), before[1], 'the end, after calls that were refused');
}

/** Sizes, sectors, and which ranges are taken. */
export const deviceRangeCases: readonly DeviceCase[] = [
  {
    name: 'tells a size of whole sectors, no less than what was asked for, that does not change',
    async run(device) {
      const { size, sectorSize, maxTransferBytes, readOnly } = device;
      expectThat(Number.isSafeInteger(sectorSize) && sectorSize >= 1, `the sector is ${sectorSize} bytes`);
      expectThat(Number.isSafeInteger(size) && size % sectorSize === 0, `${size} bytes are not whole sectors`);
      expectThat(size >= CONFORMANCE_SIZE, `the size is ${size}, less than the ${CONFORMANCE_SIZE} asked for`);
      expectThat(readOnly === undefined || typeof readOnly === 'boolean', 'readOnly is not a boolean');
      if (maxTransferBytes !== undefined) {
        const fits = maxTransferBytes >= sectorSize && maxTransferBytes % sectorSize === 0;
        expectThat(fits, `maxTransferBytes of ${maxTransferBytes} are not whole sectors`);
      }
      if (readOnly !== true) await fill(device, size - sectorSize, pattern(1, sectorSize));
      await content(device, 0, sectorSize);
      expectEqual([device.size, device.sectorSize], [size, sectorSize], 'size and sector after I/O');
    },
  },
  {
    name: 'takes a length of zero anywhere, the end included, and does nothing',
    async run(device) {
      const length = 2 * device.sectorSize;
      if (device.readOnly !== true) await fill(device, 0, pattern(1, length));
      const before = await content(device, 0, length);
      for (const [, call] of rangeCalls(device)) {
        for (const offset of [0, device.sectorSize, device.size]) await call(offset, 0);
      }
      if (device.extents) expectEqual(await listExtents(device, 0, 0), [], 'the extents of nothing');
      expectBytes(await content(device, 0, length), before, 'what is there after calls of length zero');
    },
  },
  {
    name: 'refuses what does not lie within its size with OUT_OF_RANGE, having done nothing',
    async run(device) {
      const { size, sectorSize } = device;
      await expectRefused(device, 'OUT_OF_RANGE', [
        [size, sectorSize],
        [size - sectorSize, 2 * sectorSize],
        [size + sectorSize, 0],
        [-sectorSize, sectorSize],
        [-sectorSize, 2 * sectorSize],
        [sectorSize * Math.floor(2 ** 52 / sectorSize), sectorSize],
      ]);
    },
  },
  {
    name: 'refuses what is not whole sectors with MISALIGNED, having done nothing',
    lacks: (device) => (device.sectorSize === 1 ? 'a sector of one byte fits everything' : undefined),
    async run(device) {
      const { sectorSize } = device;
      await expectRefused(device, 'MISALIGNED', [
        [1, sectorSize],
        [0, 1],
        [0, sectorSize + 1],
        [sectorSize - 1, sectorSize],
        [sectorSize, sectorSize - 1],
        [1, sectorSize - 1],
      ]);
    },
  },
  {
    name: 'refuses every kind of write with READ_ONLY when it is read-only, having done nothing',
    lacks: (device) => (device.readOnly === true ? undefined : 'the device can be written'),
    async run(device) {
      const length = sectors(device, 16 * 1024);
      const before = await content(device, 0, length);
      const { discard, writeZeroes } = device;
      for (const door of doorsOf(device)) {
        await expectCode(door.write(0, pattern(1, length)), 'READ_ONLY', `a write through ${door.name}`);
      }
      if (discard) await expectCode(discard.call(device, 0, length), 'READ_ONLY', 'a discard');
      if (writeZeroes) await expectCode(writeZeroes.call(device, 0, length), 'READ_ONLY', 'a write-zeroes');
      expectBytes(await content(device, 0, length), before, 'what is there after writes that were refused');
    },
  },
  {
    name: 'reads the same twice while nobody writes',
    async run(device) {
      const length = sectors(device, 64 * 1024);
      for (const offset of [0, device.size - length]) {
        const first = await content(device, offset, length);
        for (const door of doorsOf(device)) {
          const again = new Uint8Array(length).fill(0xa5);
          await door.read(offset, again);
          expectBytes(again, first, `the second read at ${offset} through ${door.name}`);
        }
      }
    },
  },
  {
    name: 'keeps what is written at both ends apart',
    lacks: lacksWrites,
    async run(device) {
      const { size, sectorSize } = device;
      for (const door of doorsOf(device)) {
        await door.write(0, pattern(1, sectorSize));
        await door.write(size - sectorSize, pattern(2, sectorSize));
        for (const reader of doorsOf(device)) {
          const bytes = new Uint8Array(sectorSize);
          await reader.read(0, bytes);
          expectBytes(bytes, pattern(1, sectorSize), `the first sector, written through ${door.name}`);
          await reader.read(size - sectorSize, bytes);
          expectBytes(bytes, pattern(2, sectorSize), `the last sector, written through ${door.name}`);
        }
      }
    },
  },
];
