import type { BlockDevice } from '../device/block-device.ts';
import { expectBytes, expectEqual, expectThat } from './conformance.ts';
import type { DeviceCase } from './device-case.ts';
import { content, doorsOf, fill, lacksWrites, pattern, sectors, turns } from './device-doors.ts';
import { listExtents } from './device-range-cases.ts';

const KIB = 1024;

/** Ranges of all kinds within `length` bytes: one sector, odd numbers of them, next to either end, everything. */
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
    expectThat(at < 0, `${what}: byte ${extent.offset + at} is said to be zero and reads ${bytes[at]}`);
  }
  expectEqual(end, offset + length, `${what}: where they end`);
}

/** Discard, write-zeroes and extents, where a device has them. */
export const deviceZeroCases: readonly DeviceCase[] = [
  {
    name: 'write-zeroes leaves zeroes in its range and everything else as it was',
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
    name: 'what follows a discard reads the same until it is written again; everything else is as it was',
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
    name: 'extents cover exactly the range, ascending and without gaps, and what they call zero reads as zeroes',
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
