import { afterEach, describe, expect, test } from 'vitest';
import { turn } from '../support/turn.ts';
import { expectSame, filled, KIB, MIB } from './support/bytes.ts';
import { expectFrozen, openGuest, type Pattern } from './support/guest.ts';
import { ScriptedDevice } from './support/scripted-device.ts';

/**
 * QEMU's tests/qemu-iotests/046: requests that touch a cluster which another request is just copying. There the copy
 * is a qcow2 allocation and is held at its write; here it is a pre-image and is held at its read.
 */

const SIZE = 2 * MIB;
const CLUSTER = 64 * KIB;

interface Case {
  readonly name: string;
  /** Written while the snapshot is live and before the others, as "the next cluster is already allocated". */
  readonly earlier?: Pattern;
  readonly first: Pattern;
  readonly meanwhile: readonly Pattern[];
  /** Where the content is undefined, as two requests of unknown order overlap. */
  readonly overlap?: readonly [offset: number, length: number];
}

const CASES: readonly Case[] = [
  {
    name: 'the middle of cluster 1, then somewhere before and after it',
    first: [10, 0x18000, 0x2000],
    meanwhile: [
      [11, 0x12000, 0x2000],
      [12, 0x1c000, 0x2000],
    ],
  },
  {
    name: 'sequential write: the middle of cluster 2, then overlapping to the next cluster',
    first: [20, 0x28000, 0x2000],
    meanwhile: [[21, 0x2a000, 0x10000]],
  },
  {
    name: 'the same with a gap between both requests',
    first: [40, 0x48000, 0x2000],
    meanwhile: [[41, 0x4c000, 0x10000]],
  },
  {
    name: 'sequential write, but the next cluster is already preserved',
    earlier: [70, 0x76000, 0x8000],
    first: [60, 0x66000, 0x2000],
    meanwhile: [[61, 0x6a000, 0xe000]],
  },
  {
    name: 'reverse sequential write',
    first: [121, 0xdc000, 0x2000],
    meanwhile: [[120, 0xc4000, 0x18000]],
  },
  {
    name: 'reverse sequential write with a gap',
    first: [141, 0xfc000, 0x2000],
    meanwhile: [[140, 0xe4000, 0x14000]],
  },
  {
    name: 'an area in the middle, then a larger request over it',
    first: [161, 0x10c000, 0x8000],
    meanwhile: [[160, 0x104000, 0x18000]],
    overlap: [0x10c000, 0x8000],
  },
];

describe.each(CASES)('046, $name', ({ earlier, first, meanwhile, overlap }) => {
  let closing: (() => Promise<void>) | undefined;
  afterEach(async () => {
    await closing?.();
  });

  async function prepared() {
    const device = new ScriptedDevice(SIZE);
    for (let at = 0; at < SIZE; at += CLUSTER) device.bytes.fill(1 + at / CLUSTER, at, at + CLUSTER);
    const guest = await openGuest(device, 'async', {});
    closing = () => guest.volume.close();
    const before = device.bytes.slice();
    const snapshot = await guest.freeze();
    if (earlier !== undefined) await guest.write(earlier);
    return { device, ...guest, before, snapshot };
  }

  function expectWritten(device: ScriptedDevice, before: Uint8Array) {
    const expected = before.slice();
    for (const [byte, offset, length] of [...(earlier ? [earlier] : []), first, ...meanwhile]) {
      expected.fill(byte, offset, offset + length);
    }
    if (overlap !== undefined) {
      const [offset, length] = overlap;
      const seen = device.bytes.subarray(offset, offset + length);
      expect([first[0], meanwhile[0]?.[0]]).toContain(seen[0]);
      expectSame(seen, filled(seen[0] as number, length), 'the overlap');
      expected.set(seen, offset);
    }
    expectSame(device.bytes, expected, 'the disk');
  }

  test('while the first request is preserving: one pre-image a cluster, and both writes whole', async () => {
    const { device, write, before, snapshot } = await prepared();
    const readsBefore = device.count('read');
    const preserving = device.hold({ kind: 'read' });
    const writes = [first, ...meanwhile].map((pattern) => write(pattern));
    await preserving.reached;
    await turn();
    const touched = new Set<number>();
    for (const [, offset, length] of [first, ...meanwhile]) {
      for (let at = offset - (offset % CLUSTER); at < offset + length; at += CLUSTER) touched.add(at / CLUSTER);
    }
    if (earlier !== undefined) touched.delete(Math.floor(earlier[1] / CLUSTER));
    expect(device.count('read') - readsBefore).toBe(touched.size);
    preserving.release();
    await Promise.all(writes);
    expectWritten(device, before);
    await expectFrozen(snapshot, before);
  });

  test('while the first request is being written: the rest neither waits for it nor undoes it', async () => {
    const { device, write, before, snapshot } = await prepared();
    const landing = device.hold({ kind: 'write' }, 1);
    const writing = write(first);
    await landing.reached;
    for (const pattern of meanwhile) await write(pattern);
    await expectFrozen(snapshot, before);
    landing.release();
    await writing;
    expectWritten(device, before);
    await expectFrozen(snapshot, before);
  });
});
