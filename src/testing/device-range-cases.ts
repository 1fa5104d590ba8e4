import type { BackupErrorCode } from '../common/errors.ts';
import type { BlockDevice, Extent } from '../device/block-device.ts';
import { expectBytes, expectCode, expectEqual, expectThat } from './conformance.ts';
import {
  CONFORMANCE_SIZE,
  content,
  type DeviceCase,
  doorsOf,
  fill,
  KIB,
  lacksWrites,
  pattern,
  sectors,
  turns,
} from './device-cases.ts';

/** A call of a device that takes a range, with a buffer of its own. */
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

/** All extents of a range. `extents` may throw when it is called or at the first step. */
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

/** Cases about sizes, sectors, and which ranges are accepted. */
export const deviceRangeCases: readonly DeviceCase[] = [
  {
    name: 'has a size of whole sectors, no less than requested, that does not change',
    async run(device) {
      const { size, sectorSize, maxTransferBytes, readOnly } = device;
      expectThat(Number.isSafeInteger(sectorSize) && sectorSize >= 1, `the sector is ${sectorSize} bytes`);
      expectThat(Number.isSafeInteger(size) && size % sectorSize === 0, `${size} bytes are not whole sectors`);
      expectThat(size >= CONFORMANCE_SIZE, `the size is ${size}, less than the requested ${CONFORMANCE_SIZE}`);
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
    name: 'accepts a length of zero anywhere, including the end, and does nothing',
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
    name: 'refuses ranges that do not lie within its size with OUT_OF_RANGE, without any effect',
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
    name: 'refuses ranges that are not whole sectors with MISALIGNED, without any effect',
    lacks: (device) => (device.sectorSize === 1 ? 'every range is whole sectors of one byte' : undefined),
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
    name: 'refuses every kind of write with READ_ONLY if it is read-only, without any effect',
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

/** Ranges of all kinds within `length` bytes: one sector, several sectors, at both ends, and everything. */
function rangesOf(device: BlockDevice, length: number): { offset: number; length: number }[] {
  const sector = device.sectorSize;
  const third = sectors(device, length / 3);
  const ranges = [
    { offset: 0, length: sector },
    { offset: sector, length: sector },
    { offset: sector, length: third },
    { offset: third, length: third + sector },
    { offset: length - sector, length: sector },
    { offset: 0, length },
  ];
  return ranges.filter((range) => range.length <= (device.maxTransferBytes ?? length));
}

async function expectTrueExtents(device: BlockDevice, offset: number, length: number): Promise<void> {
  const what = `the extents of ${length} bytes at ${offset}`;
  let end = offset;
  for (const extent of await listExtents(device, offset, length)) {
    expectThat(extent.kind === 'data' || extent.kind === 'zero', `${what}: there is one of kind ${extent.kind}`);
    expectEqual(extent.offset, end, `${what}: where the next one begins`);
    expectThat(Number.isSafeInteger(extent.length) && extent.length > 0, `${what}: one of length ${extent.length}`);
    end += extent.length;
    expectThat(end <= offset + length, `${what}: they end at ${end}, behind the range`);
    if (extent.kind === 'data') continue;
    const bytes = await content(device, extent.offset, extent.length);
    const at = bytes.findIndex((byte) => byte !== 0);
    expectThat(at < 0, `${what}: byte ${extent.offset + at} is in a zero extent and reads as ${bytes[at]}`);
  }
  expectEqual(end, offset + length, `${what}: where they end`);
}

/** Cases about discard, write-zeroes and extents, for devices that have them. */
export const deviceZeroCases: readonly DeviceCase[] = [
  {
    name: 'write-zeroes leaves zeroes in its range and everything else unchanged',
    lacks: (device) => lacksWrites(device) ?? (device.writeZeroes ? undefined : 'there is no write-zeroes'),
    async run(device) {
      const length = 3 * sectors(device, 16 * KIB);
      for (const range of rangesOf(device, length)) {
        const expected = pattern(40, length + device.sectorSize).map((byte) => byte | 1);
        await fill(device, 0, expected);
        await device.writeZeroes?.(range.offset, range.length);
        expected.fill(0, range.offset, range.offset + range.length);
        const what = `after write-zeroes of ${range.length} bytes at ${range.offset}`;
        expectBytes(await content(device, 0, expected.length), expected, what);
      }
    },
  },
  {
    name: 'a discarded range reads the same until it is written again, and everything else is unchanged',
    lacks: (device) => lacksWrites(device) ?? (device.discard ? undefined : 'there is no discard'),
    async run(device) {
      const length = 3 * sectors(device, 16 * KIB);
      const around = pattern(41, length + device.sectorSize);
      for (const { offset, length: bytes } of rangesOf(device, length)) {
        const expected = around.slice();
        await fill(device, 0, expected);
        await device.discard?.(offset, bytes);
        const left = await content(device, offset, bytes);
        expected.set(left, offset);
        await device.flush();
        await turns(2);
        for (const door of doorsOf(device)) {
          const again = new Uint8Array(sectors(device, bytes));
          await door.read(offset, again);
          expectBytes(again, left.subarray(0, again.length), `a discarded range read again through ${door.name}`);
        }
        expectBytes(
          await content(device, 0, expected.length),
          expected,
          `after a discard of ${bytes} bytes at ${offset}`,
        );
        await fill(device, offset, pattern(42, bytes));
        expectBytes(await content(device, offset, bytes), pattern(42, bytes), 'a discarded range written again');
      }
    },
  },
  {
    name: 'writes, discards and write-zeroes side by side all take effect',
    lacks: (device) =>
      lacksWrites(device) ?? (device.discard || device.writeZeroes ? undefined : 'there is no other kind of write'),
    async run(device) {
      const unit = 5 * device.sectorSize;
      const count = Math.min(48, Math.floor(device.size / unit));
      await fill(device, 0, pattern(43, unit * count));
      const kinds = Array.from({ length: count }, (_, index) => index % 3);
      await Promise.all(
        kinds.map((kind, index) => {
          if (kind === 0) return fill(device, index * unit, pattern(2000 + index, unit));
          if (kind === 1) return device.discard?.(index * unit, unit);
          return device.writeZeroes?.(index * unit, unit);
        }),
      );
      for (const [index, kind] of kinds.entries()) {
        const seen = await content(device, index * unit, unit);
        if (kind === 0) expectBytes(seen, pattern(2000 + index, unit), 'a write among discards and write-zeroes');
        if (kind === 2 && device.writeZeroes) expectBytes(seen, new Uint8Array(unit), 'a write-zeroes among others');
      }
    },
  },
  {
    name: 'extents cover exactly the range, ascending and without gaps, and zero extents read as zeroes',
    lacks: (device) => (device.extents ? undefined : 'there are no extents'),
    async run(device) {
      const length = 3 * sectors(device, 16 * KIB);
      for (const range of rangesOf(device, length)) await expectTrueExtents(device, range.offset, range.length);
      await expectTrueExtents(device, device.size - device.sectorSize, device.sectorSize);
      if (device.readOnly === true) return;
      const third = length / 3;
      await fill(device, 0, new Uint8Array(length));
      await fill(device, third, pattern(44, third));
      for (const range of rangesOf(device, length)) await expectTrueExtents(device, range.offset, range.length);
      await device.writeZeroes?.(third, device.sectorSize);
      await device.discard?.(2 * third - device.sectorSize, device.sectorSize);
      for (const range of rangesOf(device, length)) await expectTrueExtents(device, range.offset, range.length);
      await fill(device, 0, pattern(45, length));
      for (const range of rangesOf(device, length)) await expectTrueExtents(device, range.offset, range.length);
    },
  },
];
