import { type BlockDevice, hasSyncDoor } from '../device/block-device.ts';
import { expectBytes, expectThat } from './conformance.ts';
import { content, type DeviceCase, doorsOf, fill, KIB, lacksWrites, pattern, sectors, turns } from './device-cases.ts';
import { seededRandom } from './seeded-random.ts';

/** Cuts a range into pieces of whole sectors, up to `most` bytes each, whose lengths and order depend on a seed. */
function pieces(device: BlockDevice, length: number, most: number, seed: number): { offset: number; length: number }[] {
  const random = seededRandom(seed);
  const mostSectors = sectors(device, most) / device.sectorSize;
  const list: { offset: number; length: number }[] = [];
  for (let offset = 0; offset < length; ) {
    const wanted = (1 + Math.floor(random() * mostSectors)) * device.sectorSize;
    const piece = { offset, length: Math.min(wanted, length - offset) };
    list.push(piece);
    offset += piece.length;
  }
  return list.sort(() => random() - 0.5);
}

/** Half of the bytes that one call takes, in whole sectors. */
function halfOf(device: BlockDevice): number {
  return (
    Math.floor(sectors(device, Math.max(16 * KIB, 2 * device.sectorSize)) / 2 / device.sectorSize) * device.sectorSize
  );
}

/** Cases about the bytes that reads and writes move, and about their buffers. */
export const deviceTransferCases: readonly DeviceCase[] = [
  {
    name: 'fills the whole buffer of a read and writes the whole buffer of a write',
    lacks: lacksWrites,
    async run(device) {
      for (const wanted of [1, 4 * KIB, 60 * KIB, 512 * KIB]) {
        const length = sectors(device, wanted);
        for (const [at, door] of doorsOf(device).entries()) {
          const written = pattern(wanted + at, length);
          await door.write(device.sectorSize, written);
          for (const reader of doorsOf(device)) {
            const seen = written.map((byte) => byte ^ 0xff);
            await reader.read(device.sectorSize, seen);
            expectBytes(seen, written, `${length} bytes through ${door.name}, read through ${reader.name}`);
          }
        }
      }
    },
  },
  {
    name: 'respects views: bytes around them are neither read nor written, and the buffer of a write is not changed',
    lacks: lacksWrites,
    async run(device) {
      const length = sectors(device, 12 * KIB);
      for (const door of doorsOf(device)) {
        const around = pattern(3, length + 200);
        const original = around.slice();
        await door.write(0, around.subarray(77, 77 + length));
        expectBytes(around, original, `the caller's memory after a write through ${door.name}`);
        const memory = pattern(4, length + 200);
        const expected = memory.slice();
        expected.set(original.subarray(77, 77 + length), 133);
        await door.read(0, memory.subarray(133, 133 + length));
        expectBytes(memory, expected, `the caller's memory after a read through ${door.name}`);
      }
    },
  },
  {
    name: 'changes nothing outside the range of a write',
    lacks: lacksWrites,
    async run(device) {
      const unit = sectors(device, 5 * KIB);
      for (const door of doorsOf(device)) {
        const expected = pattern(5, 3 * unit);
        await fill(device, 0, expected);
        await door.write(unit, pattern(6, unit));
        expected.set(pattern(6, unit), unit);
        expectBytes(await content(device, 0, 3 * unit), expected, `the neighbours of a write through ${door.name}`);
      }
    },
  },
  {
    name: 'keeps no reference to a buffer once the call has settled',
    lacks: lacksWrites,
    async run(device) {
      const length = sectors(device, 16 * KIB);
      for (const door of doorsOf(device)) {
        const buffer = pattern(7, length);
        await door.write(0, buffer);
        buffer.fill(0xee);
        expectBytes(await content(device, 0, length), pattern(7, length), `a write whose buffer was used again`);
        await door.read(0, buffer);
        buffer.fill(0xdd);
        await door.write(length, pattern(8, length));
        await door.flush();
        await turns(8);
        expectThat(
          buffer.every((byte) => byte === 0xdd),
          `the buffer of an earlier read through ${door.name} was written to`,
        );
        expectBytes(await content(device, 0, length), pattern(7, length), 'what was read into that buffer');
      }
    },
  },
  {
    name: 'a read that begins after a write has resolved sees it',
    lacks: lacksWrites,
    async run(device) {
      const length = Math.max(sectors(device, 96 * KIB), device.sectorSize * 3);
      const model = pattern(11, length);
      await fill(device, 0, model);
      const random = seededRandom(12);
      const place = () => {
        const [a, b] = [random(), random()].map(
          (x) => Math.floor((x * length) / device.sectorSize) * device.sectorSize,
        );
        const offset = Math.min(a as number, b as number);
        const end = Math.max(a as number, b as number) + device.sectorSize;
        return { offset, length: Math.min(end - offset, device.maxTransferBytes ?? end) };
      };
      const doors = doorsOf(device);
      for (let round = 0; round < 120; round++) {
        const write = place();
        const bytes = pattern(100 + round, write.length);
        await doors[round % doors.length]?.write(write.offset, bytes);
        model.set(bytes, write.offset);
        const read = place();
        const seen = new Uint8Array(read.length);
        await doors[Math.floor(random() * doors.length)]?.read(read.offset, seen);
        const expected = model.subarray(read.offset, read.offset + read.length);
        expectBytes(seen, expected, `write ${round} and the read of ${read.length} bytes at ${read.offset} after it`);
      }
      expectBytes(await content(device, 0, length), model, 'everything in the end');
    },
  },
  {
    name: 'takes many calls at once: adjacent writes all take effect, and simultaneous reads all get their own bytes',
    lacks: lacksWrites,
    async run(device) {
      for (const most of [3 * device.sectorSize, 32 * KIB]) {
        const length = sectors(device, Math.min(device.size / 2, 64 * most)); // About 128 calls.
        const expected = pattern(most, length);
        const writes = pieces(device, length, most, 13);
        await Promise.all(
          writes.map(({ offset, length: bytes }) => device.write(offset, expected.subarray(offset, offset + bytes))),
        );
        expectBytes(await content(device, 0, length), expected, 'writes that were in flight together');
        const seen = new Uint8Array(length);
        await Promise.all(
          pieces(device, length, most, 14).map(({ offset, length: bytes }) =>
            device.read(offset, seen.subarray(offset, offset + bytes)),
          ),
        );
        expectBytes(seen, expected, 'reads that were in flight together');
      }
    },
  },
  {
    name: 'overlapping writes end in any order: every byte comes from one of them',
    lacks: (device) => lacksWrites(device) ?? (halfOf(device) > 0 ? undefined : 'a call moves one sector'),
    async run(device) {
      const half = halfOf(device);
      const length = 3 * half;
      for (let round = 0; round < 8; round++) {
        await fill(device, 0, new Uint8Array(length));
        const first = pattern(20, 2 * half).map((byte) => byte | 1);
        const second = pattern(21, 2 * half).map((byte) => byte | 1);
        const writes = [device.write(0, first), device.write(half, second), device.flush()];
        await Promise.all(writes);
        const seen = await content(device, 0, length);
        expectBytes(seen.subarray(0, half), first.subarray(0, half), 'what only the first write covers');
        expectBytes(seen.subarray(2 * half), second.subarray(half), 'what only the second write covers');
        const middle = seen.subarray(half, 2 * half);
        const strange = middle.findIndex((byte, at) => byte !== first[half + at] && byte !== second[at]);
        expectThat(strange < 0, `byte ${half + strange} comes from neither of two overlapping writes`);
      }
    },
  },
  {
    name: 'flushes, even with nothing written or with writes in flight, without changing any content',
    async run(device) {
      const length = sectors(device, 32 * KIB);
      for (const door of doorsOf(device)) await door.flush();
      if (device.readOnly === true) return;
      await Promise.all([device.write(0, pattern(30, length)), device.flush(), device.flush()]);
      for (const door of doorsOf(device)) await door.flush();
      expectBytes(await content(device, 0, length), pattern(30, length), 'a write that was flushed');
    },
  },
  {
    name: 'synchronous and asynchronous calls may be in use at once and agree',
    lacks: (device) => lacksWrites(device) ?? (hasSyncDoor(device) ? undefined : 'there are no synchronous calls'),
    async run(device) {
      if (!hasSyncDoor(device)) return;
      const unit = sectors(device, 8 * KIB);
      // A device may lock whole pages while a write is in flight, so the two kinds of calls keep a distance.
      const place = (index: number) => index * Math.max(unit, 8 * KIB);
      const count = Math.min(12, Math.floor(device.size / place(2)));
      for (let round = 0; round < 6; round++) {
        const inFlight = Array.from({ length: count }, (_, index) =>
          device.write(place(2 * index), pattern(1000 * round + index, unit)),
        );
        try {
          for (let index = 0; index < count; index++) {
            device.writeSync(place(2 * index + 1), pattern(1000 * round + 500 + index, unit));
          }
          device.flushSync();
        } finally {
          await Promise.allSettled(inFlight); // Even if a synchronous call fails, so that no call is left in flight.
        }
        await Promise.all(inFlight);
        const seen = new Uint8Array(unit);
        for (let index = 0; index < count; index++) {
          device.readSync(place(2 * index), seen);
          expectBytes(seen, pattern(1000 * round + index, unit), 'an asynchronous write, read synchronously');
          await device.read(place(2 * index + 1), seen);
          expectBytes(seen, pattern(1000 * round + 500 + index, unit), 'a synchronous write, read asynchronously');
        }
      }
    },
  },
];
