import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FileDevice, MemoryDevice } from '../../src/index.ts';
import { folderForTest } from '../support/folders.ts';
import { turn } from '../support/turn.ts';
import { contentOf, errorOf, expectFilled, expectSame, filled, KIB, MIB } from './support/bytes.ts';
import { type Door, expectFrozen, expectPatterns, type Guest, openGuest, type Pattern } from './support/guest.ts';
import { ScriptedDevice, ScriptedSyncDevice } from './support/scripted-device.ts';

/**
 * QEMU's tests/qemu-iotests/tests/image-fleecing (once 222): a guest overwrites what an export of the frozen instant
 * is being read from. The same places and sizes, on the same disk of 64 MiB in clusters of 64 KiB.
 */

const SIZE = 64 * MIB;
const CLUSTER = 64 * KIB;

const PATTERNS: readonly Pattern[] = [
  [0x5d, 0, CLUSTER],
  [0xd5, 1 * MIB, CLUSTER],
  [0xdc, 32 * MIB, CLUSTER],
  [0xcd, SIZE - CLUSTER, CLUSTER],
];

const FULL: Pattern = [0xab, 0, CLUSTER];
const PARTIAL_LEFT: Pattern = [0xad, 1 * MIB - 32 * KIB, CLUSTER];
const PARTIAL_RIGHT: Pattern = [0x1d, 32 * MIB + 32 * KIB, CLUSTER];
const ADJACENT_LEFT: Pattern = [0xea, SIZE - 2 * CLUSTER, CLUSTER];
const OVERWRITE = [FULL, PARTIAL_LEFT, PARTIAL_RIGHT, ADJACENT_LEFT];

/** What was zero before and is overwritten. */
const ZEROES: readonly Pattern[] = [
  [0, 1 * MIB - 32 * KIB, 32 * KIB],
  [0, 32 * MIB + CLUSTER, 32 * KIB],
  [0, SIZE - 2 * CLUSTER, CLUSTER],
];

/** What the overwrites leave of the first patterns. */
const REMAINDER: readonly Pattern[] = [
  [0xd5, 1 * MIB + 32 * KIB, 32 * KIB],
  [0xdc, 32 * MIB, 32 * KIB],
  [0xcd, SIZE - CLUSTER, CLUSTER],
];

const first = (offset: number) => Math.floor(offset / CLUSTER);

interface Setup {
  readonly name: string;
  readonly door: Door;
  open(): Promise<Guest>;
}

const SETUPS: readonly Setup[] = [
  {
    name: 'pre-images in memory',
    door: 'async',
    open: () => openGuest(new MemoryDevice(SIZE), 'async', {}),
  },
  {
    name: 'pre-images in a spill file',
    door: 'async',
    open: async () =>
      openGuest(new MemoryDevice(SIZE), 'async', {
        preserve: { memoryBytes: 0, spillPath: join(await folderForTest(), 'spill') },
      }),
  },
  {
    name: 'a sparse image file, pre-images in memory and then in a spill file',
    door: 'async',
    open: async () => {
      const folder = await folderForTest();
      const image = await FileDevice.open(join(folder, 'base.img'), { create: { sizeBytes: SIZE } });
      return openGuest(image, 'async', {
        closeDevice: true,
        preserve: { memoryBytes: 2 * CLUSTER, spillPath: join(folder, 'spill') },
      });
    },
  },
  {
    name: 'the synchronous door',
    door: 'sync',
    open: () => openGuest(new MemoryDevice(SIZE, { sectorSize: 512 }), 'sync', {}),
  },
  {
    name: 'the synchronous door, pre-images in a spill file',
    door: 'sync',
    open: async () =>
      openGuest(new MemoryDevice(SIZE, { sectorSize: 512 }), 'sync', {
        preserve: { memoryBytes: 0, spillPath: join(await folderForTest(), 'spill') },
      }),
  },
];

describe.each(SETUPS)('image-fleecing, $name', ({ open }) => {
  test('the export shows the instant, before and after the overwrites, and the disk shows the overwrites', async () => {
    const guest = await open();
    await using volume = guest.volume;
    for (const pattern of PATTERNS) await guest.write(pattern);
    const snapshot = await guest.freeze();

    // Sanity check.
    await expectPatterns(snapshot, [...PATTERNS, ...ZEROES]);
    const before = await contentOf(volume);

    // Testing COW, verifying data.
    for (const pattern of OVERWRITE) {
      await guest.write(pattern);
      await expectPatterns(snapshot, [...PATTERNS, ...ZEROES]);
    }
    await expectFrozen(snapshot, before);

    // Confirming writes.
    await snapshot.close();
    await expectPatterns(volume, [...OVERWRITE, ...REMAINDER]);
  });

  test('what was overwritten is preserved cluster by cluster, what was zero takes no room', async () => {
    const guest = await open();
    await using volume = guest.volume;
    for (const pattern of PATTERNS) await guest.write(pattern);
    await using snapshot = await guest.freeze();
    for (const pattern of OVERWRITE) await guest.write(pattern);

    expect([...snapshot.states.ranges('preserved', 'zero')]).toEqual([
      { firstBlock: 0, blockCount: 1, state: 'preserved' },
      { firstBlock: first(1 * MIB) - 1, blockCount: 1, state: 'zero' },
      { firstBlock: first(1 * MIB), blockCount: 1, state: 'preserved' },
      { firstBlock: first(32 * MIB), blockCount: 1, state: 'preserved' },
      { firstBlock: first(32 * MIB) + 1, blockCount: 1, state: 'zero' },
      { firstBlock: first(SIZE) - 2, blockCount: 1, state: 'zero' },
    ]);
    expect([...(volume.changedSince(snapshot.point) ?? ['unknown'])]).toEqual([
      { firstBlock: 0, blockCount: 1 },
      { firstBlock: first(1 * MIB) - 1, blockCount: 2 },
      { firstBlock: first(32 * MIB), blockCount: 2 },
      { firstBlock: first(SIZE) - 2, blockCount: 1 },
    ]);
  });
});

describe('image-fleecing, requests under way', () => {
  async function prepared() {
    const device = new ScriptedDevice(SIZE);
    const guest = await openGuest(device, 'async', {});
    for (const pattern of PATTERNS) await guest.write(pattern);
    const snapshot = await guest.freeze();
    return { device, guest, snapshot };
  }

  test.each(
    OVERWRITE.map((pattern, index) => ({
      pattern,
      name: ['full', 'partial-left', 'partial-right', 'adjacent-left'][index],
    })),
  )(
    'an export read that the device is still answering when a $name overwrite passes shows the instant',
    async ({ pattern }) => {
      const { device, guest, snapshot } = await prepared();
      const [, offset, length] = pattern;
      const from = Math.max(0, offset - CLUSTER);
      const before = device.bytes.slice(from, offset + 2 * length);
      const exported = filled(0xee, before.length);
      const exportRead = device.hold({ kind: 'read' }, 1);
      const reading = snapshot.read(from, exported);
      await exportRead.reached;
      await guest.write(pattern);
      exportRead.release(); // The device answers with what it holds by now.
      await reading;
      expectSame(exported, before, 'the export');
      await expectPatterns(guest.volume, [pattern]);
    },
  );

  test('an export that is read while its pre-images are being made shows the instant', async () => {
    const { device, guest, snapshot } = await prepared();
    const preserving = device.hold({ kind: 'read', at: 0 });
    const writing = guest.write(FULL);
    await preserving.reached;
    const exporting = contentOf(snapshot, 0, 2 * CLUSTER);
    await turn();
    expect(preserving.held).toBe(2);
    preserving.release();
    await writing;
    expectSame((await exporting).subarray(0, CLUSTER), filled(0x5d, CLUSTER));
    await expectPatterns(guest.volume, [FULL]);
  });
});

describe('image-fleecing, the other kinds of overwrite', () => {
  test.each(['discard', 'writeZeroes'] as const)('%s in place of write, over the same four places', async (kind) => {
    const device = new ScriptedDevice(SIZE);
    const { volume, write, freeze } = await openGuest(device, 'async', {});
    for (const pattern of PATTERNS) await write(pattern);
    const snapshot = await freeze();
    const before = device.bytes.slice();
    for (const [, offset, length] of OVERWRITE) await volume[kind]?.(offset, length);
    expect(device.count(kind)).toBe(OVERWRITE.length);
    await expectFrozen(snapshot, before);
    for (const [, offset, length] of OVERWRITE) {
      await expectFilled(volume, kind === 'discard' ? 0xdd : 0, offset, length);
    }
    await expectPatterns(volume, REMAINDER);
  });
});

describe('image-fleecing with bitmap', () => {
  test('only what the bitmap names is preserved; the rest, once overwritten, can not be read from the export', async () => {
    const { volume, write, freeze } = await openGuest(new MemoryDevice(SIZE), 'async', {});
    const base = await freeze();
    for (const pattern of PATTERNS) await write(pattern);
    const snapshot = await freeze();
    const dirty = [...(volume.changedSince(base.point) ?? [])];
    expect(dirty).toHaveLength(PATTERNS.length);
    await base.close();
    let clean = 0;
    for (const { firstBlock, blockCount } of [...dirty, { firstBlock: SIZE / CLUSTER, blockCount: 0 }]) {
      if (firstBlock > clean) snapshot.mark({ firstBlock: clean, blockCount: firstBlock - clean }, 'inherited');
      clean = firstBlock + blockCount;
    }

    for (const pattern of OVERWRITE) await write(pattern);

    await expectPatterns(snapshot, PATTERNS);
    for (const [, offset, length] of ZEROES) await errorOf(contentOf(snapshot, offset, length), 'BLOCK_RELEASED');
    // Clean, and not overwritten: still there.
    await expectFilled(snapshot, 0, 2 * MIB, CLUSTER);
    expect(snapshot.states.counts).toMatchObject({ preserved: 3, pending: 1, inherited: SIZE / CLUSTER - 4, zero: 0 });
  });
});

describe('image-fleecing as push backup', () => {
  test('a sweep of the export to a target gives the instant, whatever the guest writes meanwhile', async () => {
    const source = new ScriptedSyncDevice(SIZE);
    const { volume, write, freeze } = await openGuest(source, 'async', {});
    for (const pattern of PATTERNS) await write(pattern);
    const snapshot = await freeze();
    const before = source.bytes.slice();
    const target = new MemoryDevice(SIZE);
    const pending = [...OVERWRITE];
    for (let offset = 0; offset < SIZE; offset += MIB) {
      const blocks = { firstBlock: offset / CLUSTER, blockCount: MIB / CLUSTER };
      const part = new Uint8Array(MIB);
      const [reading] = [snapshot.read(offset, part), offset % (16 * MIB) === 0 ? write(pending.pop() as Pattern) : 0];
      await reading;
      await target.write(offset, part);
      for (let block = blocks.firstBlock; block < blocks.firstBlock + blocks.blockCount; block++) {
        if (snapshot.states.get(block) === 'zero') continue;
        snapshot.mark(block, 'storing');
        snapshot.mark(block, 'stored');
      }
    }
    await turn();
    expect(pending).toEqual([]);
    expectSame(target.bytes, before, 'the target');
    await expectPatterns(volume, [...OVERWRITE, ...REMAINDER]);
    const { stored, zero } = snapshot.states.counts;
    expect(stored + zero).toBe(SIZE / CLUSTER);
  });
});
