import { describe, expect, test } from 'vitest';
import {
  type BlockDevice,
  type BlockRange,
  byteDevice,
  type ChangePoint,
  CopyOnWriteVolume,
  MemoryDevice,
  sliceDevice,
  underlyingDevice,
  type VolumeSnapshot,
} from '../../src/index.ts';
import { randomForTest } from '../support/randomness.ts';
import { turn } from '../support/turn.ts';
import { BLOCK, contentOf, errorOf, expectFilled, expectSame, filled, isSettled } from './support/bytes.ts';
import { listenTo } from './support/heard.ts';
import { ScriptedDevice } from './support/scripted-device.ts';

/** Instants: of one volume, of several at once, and of very many one after the other. */

async function openPair() {
  const devices = [new ScriptedDevice(4 * BLOCK), new ScriptedDevice(4 * BLOCK)] as const;
  const a = await CopyOnWriteVolume.open(devices[0], { blockSize: BLOCK });
  const b = await CopyOnWriteVolume.open(devices[1], { blockSize: BLOCK });
  return { devices, a, b };
}

function counter(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, value);
  return bytes;
}

async function counterIn(snapshot: VolumeSnapshot, offset = 0): Promise<number> {
  const bytes = await contentOf(snapshot, offset, 8);
  return new DataView(bytes.buffer).getFloat64(0);
}

describe('one instant over several volumes', () => {
  test('of writers that write to A and then to B, no pair of snapshots has B newer than A', async () => {
    const random = randomForTest();
    const { devices, a, b } = await openPair();
    // Devices that take their time, a different one for each call.
    for (const device of devices) {
      const { write } = device;
      device.write = async (offset, from) => {
        for (let turns = random.below(4); turns > 0; turns--) await turn();
        await write.call(device, offset, from);
      };
    }
    const LANES = 8;
    const acknowledged = new Array<number>(LANES).fill(0);
    let isDone = false;
    const writers = acknowledged.map(async (_, lane) => {
      for (let value = 1; !isDone; value++) {
        await a.write(lane * 512, counter(value));
        await b.write(lane * 512, counter(value));
        acknowledged[lane] = value;
      }
    });
    for (let pair = 0; pair < 40; pair++) {
      const before = [...acknowledged];
      const [ofA, ofB] = await CopyOnWriteVolume.createSnapshots([a, b]);
      await turn();
      for (let lane = 0; lane < LANES; lane++) {
        const inA = await counterIn(ofA, lane * 512);
        const inB = await counterIn(ofB, lane * 512);
        expect(inB, 'B is not newer than A').toBeLessThanOrEqual(inA);
        expect(inA - inB, 'and at most one write behind').toBeLessThanOrEqual(1);
        expect(inB, 'what was acknowledged is there').toBeGreaterThanOrEqual(before[lane] as number);
      }
      await Promise.all([ofA.close(), ofB.close()]);
    }
    isDone = true;
    await Promise.all(writers);
    expect(Math.min(...acknowledged)).toBeGreaterThan(1);
  });

  test('snapshots taken one after the other have no such order: that is what the group is for', async () => {
    const { a, b } = await openPair();
    const ofA = await a.createSnapshot();
    await a.write(0, counter(1));
    await b.write(0, counter(1));
    const ofB = await b.createSnapshot();
    expect([await counterIn(ofA), await counterIn(ofB)]).toEqual([0, 1]);
  });

  test('writes to all members are held until the slowest write at any of them has landed', async () => {
    const { devices, a, b } = await openPair();
    const landing = devices[1].hold({ kind: 'write' }, 1);
    const slow = b.write(0, filled(0xb1));
    await landing.reached;
    const freezing = CopyOnWriteVolume.createSnapshots([a, b]);
    const held = [a.write(0, filled(0xa2)), a.discard?.(BLOCK, BLOCK), b.writeZeroes?.(BLOCK, BLOCK)];
    expect(await isSettled(Promise.race(held))).toBe(false);
    expect(await isSettled(freezing)).toBe(false);
    expect(devices[0].calls).toEqual([]);
    landing.release();
    const [ofA, ofB] = await freezing;
    await Promise.all([slow, ...held]);
    await expectFilled(ofA, 0, 0, 2 * BLOCK);
    await expectFilled(ofB, 0xb1, 0);
    await expectFilled(ofB, 0, BLOCK);
    expect(ofA.frozenAt).toEqual(ofB.frozenAt);
  });

  test('a write that is still preserving does not lengthen the hold, and is not in the snapshot', async () => {
    const { devices, a, b } = await openPair();
    await a.write(0, filled(1));
    const first = await a.createSnapshot();
    const preserving = devices[0].hold({ kind: 'read' }, 1);
    const writing = a.write(0, filled(2));
    await preserving.reached;
    const [second] = await CopyOnWriteVolume.createSnapshots([a, b]);
    await a.write(BLOCK, filled(3)); // Nobody is held any more.
    preserving.release();
    await writing;
    await expectFilled(first, 1, 0);
    await expectFilled(second, 1, 0);
    await expectFilled(a, 2, 0);
  });

  test('groups that name the same volumes in another order, and single ones, all come about together', async () => {
    const { devices, a, b } = await openPair();
    const landing = devices[0].hold({ kind: 'write' }, 1);
    const slow = a.write(0, filled(0x11));
    await landing.reached;
    const all = Promise.all([
      CopyOnWriteVolume.createSnapshots([a, b]),
      CopyOnWriteVolume.createSnapshots([b, a]),
      a.createSnapshot(),
      b.createSnapshot(),
    ]);
    await turn();
    landing.release();
    const [[ofA, ofB], [alsoOfB, alsoOfA], single] = await all;
    await slow;
    expect(ofA.volume).toBe(alsoOfA.volume);
    expect(ofB.volume).toBe(alsoOfB.volume);
    for (const snapshot of [ofA, alsoOfA, single]) await expectFilled(snapshot, 0x11, 0);
    expect(new Set([ofA, alsoOfA, single].map(({ point }) => point.epoch)).size).toBe(3);
    await a.write(0, filled(0x22));
    for (const snapshot of [ofA, alsoOfA, single]) await expectFilled(snapshot, 0x11, 0);
  });

  test('a group of none is frozen at once', async () => {
    let ran = 0;
    expect(await CopyOnWriteVolume.createSnapshots([], { atInstant: () => ran++ })).toEqual([]);
    expect(ran).toBe(1);
  });
});

describe('volumes that stand on one another', () => {
  const over: [string, (below: BlockDevice) => BlockDevice][] = [
    ['directly', (below) => below],
    ['through a slice', (below) => sliceDevice(below, { offset: BLOCK, length: 2 * BLOCK })],
    ['through byteDevice', (below) => byteDevice(below)],
    [
      'through a slice of a slice of byteDevice',
      (below) =>
        sliceDevice(sliceDevice(byteDevice(below), { offset: 0, length: 3 * BLOCK }), { offset: 0, length: 2 * BLOCK }),
    ],
    [
      "through a host's own device that tells what it stands on",
      (below) => ({
        [underlyingDevice]: below,
        size: below.size,
        sectorSize: below.sectorSize,
        read: (offset, into, options) => below.read(offset, into, options),
        write: (offset, from, options) => below.write(offset, from, options),
        flush: (options) => below.flush(options),
        [Symbol.asyncDispose]: async () => {},
      }),
    ],
    ['through another volume that is not of the group', (below) => below],
  ];

  test.each(over)('are refused as a group: %s', async (name, stack) => {
    const lower = await CopyOnWriteVolume.open(new MemoryDevice(4 * BLOCK), { blockSize: BLOCK });
    const between = name.includes('another volume')
      ? await CopyOnWriteVolume.open(lower, { blockSize: BLOCK })
      : stack(lower);
    const upper = await CopyOnWriteVolume.open(between, { blockSize: BLOCK });
    const other = await CopyOnWriteVolume.open(new MemoryDevice(BLOCK), { blockSize: BLOCK });
    for (const group of [
      [lower, other, upper],
      [upper, lower],
    ]) {
      let ran = false;
      const freezing = CopyOnWriteVolume.createSnapshots(group, {
        atInstant: () => {
          ran = true;
        },
      });
      await errorOf(freezing, 'VOLUME_STACKED');
      expect(ran).toBe(false);
    }
    expect([lower, upper, other].flatMap((volume) => volume.snapshots)).toEqual([]);
    // Nobody is held, and one by one they may be frozen.
    await upper.write(0, filled(0x44));
    const ofUpper = await upper.createSnapshot();
    const ofLower = await lower.createSnapshot();
    await upper.write(0, filled(0x55));
    await expectFilled(ofUpper, 0x44, 0);
    expect((await contentOf(ofLower)).includes(0x44)).toBe(true);
    expect((await contentOf(ofLower)).includes(0x55)).toBe(false);
  });

  test('are refused also over a snapshot of one another', async () => {
    const lower = await CopyOnWriteVolume.open(new MemoryDevice(BLOCK), { blockSize: BLOCK });
    const upper = await CopyOnWriteVolume.open(await lower.createSnapshot(), { blockSize: BLOCK });
    await errorOf(CopyOnWriteVolume.createSnapshots([upper, lower]), 'VOLUME_STACKED');
  });

  test('are no such thing when they are parts of one device side by side', async () => {
    const disk = new MemoryDevice(2 * BLOCK);
    const parts = await Promise.all(
      [0, BLOCK].map((offset) =>
        CopyOnWriteVolume.open(sliceDevice(disk, { offset, length: BLOCK }), { blockSize: BLOCK }),
      ),
    );
    const snapshots = await CopyOnWriteVolume.createSnapshots(parts);
    for (const [index, part] of parts.entries()) await part.write(0, filled(index + 1));
    for (const snapshot of snapshots) await expectFilled(snapshot, 0, 0);
    expectSame(disk.bytes, Buffer.concat([filled(1), filled(2)]));
  });

  test('the same volume twice is a mistake of the caller', async () => {
    const { a, b } = await openPair();
    await expect(CopyOnWriteVolume.createSnapshots([a, b, a])).rejects.toThrow(TypeError);
    expect(a.snapshots).toEqual([]);
  });
});

describe('atInstant', () => {
  test('runs once, while nothing is at any device and new writes are held', async () => {
    const { devices, a, b } = await openPair();
    const landing = devices[0].hold({ kind: 'write' }, 1);
    const earlier = a.write(0, filled(0x11));
    await landing.reached;
    let writesSeen = -1;
    let held: Promise<void> | undefined;
    const freezing = CopyOnWriteVolume.createSnapshots([a, b], {
      atInstant: () => {
        writesSeen = devices[0].count('write') + devices[1].count('write');
        expectSame(devices[0].bytes.subarray(0, BLOCK), filled(0x11));
        held = b.write(0, filled(0x22));
      },
    });
    await turn();
    expect(writesSeen).toBe(-1);
    landing.release();
    const [ofA, ofB] = await freezing;
    await Promise.all([earlier, held]);
    expect(writesSeen).toBe(1);
    await expectFilled(ofA, 0x11, 0);
    await expectFilled(ofB, 0, 0);
    await expectFilled(b, 0x22, 0);
  });

  test.each(['createSnapshots', 'createSnapshotSync'] as const)('when it throws, %s has made nothing', async (how) => {
    const a = await CopyOnWriteVolume.open(new MemoryDevice(BLOCK), { blockSize: BLOCK });
    const b = await CopyOnWriteVolume.open(new MemoryDevice(BLOCK), { blockSize: BLOCK });
    const earlier = await a.createSnapshot();
    await turn();
    const heard = [...[a, b].map(listenTo)];
    const mistake = new Error('no log sequence number');
    const options = {
      atInstant: () => {
        throw mistake;
      },
    };
    const freezing = (async () =>
      how === 'createSnapshots'
        ? await CopyOnWriteVolume.createSnapshots([a, b], options)
        : a.createSnapshotSync(options))();
    await expect(freezing).rejects.toBe(mistake);
    await turn();
    expect(heard).toEqual([[], []]);
    expect(a.snapshots).toEqual([earlier]);
    expect(b.snapshots).toEqual([]);
    // Nobody is held, nothing is preserved for a snapshot that is not there, and the next instant is as good as any.
    await earlier.close();
    await a.write(0, filled(0x11));
    const [ofA] = await CopyOnWriteVolume.createSnapshots([a, b]);
    await a.write(0, filled(0x22));
    await expectFilled(ofA, 0x11, 0);
    expect([...(a.changedSince(ofA.point) ?? ['unknown'])]).toEqual([{ firstBlock: 0, blockCount: 1 }]);
    expect([...(a.changedSince(earlier.point) ?? ['unknown'])]).toEqual([{ firstBlock: 0, blockCount: 1 }]);
  });
});

describe('an instant that does not come about', () => {
  test('aborted while it waits for a write, it lets all members go and has made nothing', async () => {
    const { devices, a, b } = await openPair();
    const landing = devices[0].hold({ kind: 'write' }, 1);
    const slow = a.write(0, filled(0x11));
    await landing.reached;
    const controller = new AbortController();
    const freezing = CopyOnWriteVolume.createSnapshots([a, b], { signal: controller.signal });
    freezing.catch(() => {});
    const held = b.write(0, filled(0x22));
    expect(await isSettled(held)).toBe(false);
    controller.abort(new Error('changed my mind'));
    await expect(freezing).rejects.toThrow('changed my mind');
    await held; // While the slow one is at its device still.
    expect(landing.held).toBe(1);
    await a.write(BLOCK, filled(0x33));
    expect([...a.snapshots, ...b.snapshots]).toEqual([]);
    landing.release();
    await slow;
    await turn();
    expect([...a.snapshots, ...b.snapshots]).toEqual([]);
  });

  test('aborted before it begins, it holds nobody', async () => {
    const { a, b } = await openPair();
    const signal = AbortSignal.abort(new Error('too late'));
    await expect(CopyOnWriteVolume.createSnapshots([a, b], { signal })).rejects.toThrow('too late');
    await a.write(0, filled(1));
  });

  test('a write that is held can be aborted too, and has done nothing', async () => {
    const { devices, a, b } = await openPair();
    const landing = devices[1].hold({ kind: 'write' }, 1);
    const slow = b.write(0, filled(0x11));
    await landing.reached;
    const freezing = CopyOnWriteVolume.createSnapshots([a, b]);
    const controller = new AbortController();
    const held = a.write(0, filled(0x22), { signal: controller.signal });
    held.catch(() => {});
    await turn();
    controller.abort(new Error('never mind'));
    await expect(held).rejects.toThrow('never mind');
    landing.release();
    const [ofA] = await freezing;
    await slow;
    expect(devices[0].count('write')).toBe(0);
    expect([...(a.changedSince(ofA.point) ?? ['unknown'])]).toEqual([]);
  });

  test('one member that is closed refuses the whole group, and holds nobody', async () => {
    const { a, b } = await openPair();
    await b.close();
    await errorOf(CopyOnWriteVolume.createSnapshots([a, b]), 'CLOSED');
    await a.write(0, filled(1));
    expect(a.snapshots).toEqual([]);
  });

  test('a member that closes while the group waits refuses it as a whole', async () => {
    const { devices, a, b } = await openPair();
    const landing = devices[0].hold({ kind: 'write' }, 1);
    const slow = a.write(0, filled(0x11));
    await landing.reached;
    const freezing = CopyOnWriteVolume.createSnapshots([a, b]);
    freezing.catch(() => {});
    await turn();
    await b.close();
    landing.release();
    await errorOf(freezing, 'CLOSED');
    await slow;
    expect(a.snapshots).toEqual([]);
    await a.write(0, filled(0x22));
  });
});

describe('very many instants', () => {
  const MOST = 254;

  test('so many snapshots may be open, each with its own content; one more is refused by code', async () => {
    const volume = await CopyOnWriteVolume.open(new MemoryDevice(2 * BLOCK), { blockSize: BLOCK });
    const other = await CopyOnWriteVolume.open(new MemoryDevice(BLOCK), { blockSize: BLOCK });
    const open: VolumeSnapshot[] = [];
    for (let count = 0; count < MOST; count++) {
      await volume.write(0, filled(count + 1));
      open.push(await volume.createSnapshot());
    }
    await volume.write(0, filled(0xff));
    await errorOf(volume.createSnapshot(), 'SNAPSHOT_LIMIT');
    await errorOf(() => volume.createSnapshotSync(), 'SNAPSHOT_LIMIT');
    // In a group it is refused before anything has moved in the others.
    await errorOf(CopyOnWriteVolume.createSnapshots([other, volume]), 'SNAPSHOT_LIMIT');
    expect(other.snapshots).toEqual([]);
    expect(volume.snapshots).toEqual(open);
    for (const [index, snapshot] of open.entries()) await expectFilled(snapshot, index + 1, 0);

    // Handles on the same instant are not instants.
    const shared = await open[7]?.share();
    expect(volume.snapshots).toHaveLength(MOST + 1);
    await open[7]?.close();
    await errorOf(volume.createSnapshot(), 'SNAPSHOT_LIMIT');
    await shared?.close();
    const next = await volume.createSnapshot();
    await volume.write(0, filled(0x55));
    await expectFilled(next, 0xff, 0);
    for (const [index, snapshot] of open.entries()) if (index !== 7) await expectFilled(snapshot, index + 1, 0);
    expect([...(volume.changedSince((open[0] as VolumeSnapshot).point) ?? ['unknown'])]).toEqual([
      { firstBlock: 0, blockCount: 1 },
    ]);
  });

  test('a thousand of them: what changed since any that is kept stays right, one that is dropped rounds down', async () => {
    const random = randomForTest();
    const BLOCKS = 64;
    const INSTANTS = 1000;
    const volume = await CopyOnWriteVolume.open(new MemoryDevice(BLOCKS * BLOCK), { blockSize: BLOCK });
    // The naive model: how many instants there had been when a block was last written.
    const written = new Array<number>(BLOCKS).fill(0);
    const points: ChangePoint[] = [];
    const held = new Map<number, { snapshot: VolumeSnapshot; content: Uint8Array }>();
    const changedSince = (instant: number) => written.flatMap((at, block) => (at >= instant ? [block] : []));
    let rounded = 0;

    const check = () => {
      for (const [index, point] of points.entries()) {
        const instant = index + 1;
        // The first instant is held all the time, so there is always something to round down to.
        const ranges = [...(volume.changedSince(point) as Iterable<BlockRange>)];
        const blocks = ranges.flatMap(({ firstBlock, blockCount }) =>
          Array.from({ length: blockCount }, (_, at) => firstBlock + at),
        );
        let kept = instant;
        while (kept > 0 && changedSince(kept).join() !== blocks.join()) kept--;
        expect(kept, `since instant ${instant} there is an instant of which this is true`).toBeGreaterThan(0);
        // Points go by 32, the oldest unheld first: the newest ones are exact, and so are those held.
        if (held.has(instant) || instant > points.length - (MOST - 32 - held.size)) expect(kept).toBe(instant);
        if (kept < instant) rounded++;
      }
    };

    for (let instant = 1; instant <= INSTANTS; instant++) {
      const content = await contentOf(volume);
      const snapshot = await volume.createSnapshot();
      points.push(snapshot.point);
      held.set(instant, { snapshot, content });
      for (let writes = random.below(3); writes > 0; writes--) {
        // Some blocks often and some hardly ever, so that also long ago makes a difference.
        const block = Math.floor(BLOCKS * random() ** 4);
        await volume.write(block * BLOCK + random.below(BLOCK - 1), filled(1 + random.below(255), 1));
        written[block] = instant;
      }
      // A few are held for long, most are dropped soon.
      for (const at of [...held.keys()]) {
        if (at > 1 && held.size > 6 && random() < (at % 50 === 0 ? 0.002 : 0.5)) {
          await held.get(at)?.snapshot.close();
          held.delete(at);
        }
      }
      if (instant % 100 === 0 || (instant > 250 && instant < 262)) {
        check();
        for (const [at, one] of held) expectSame(await contentOf(one.snapshot), one.content, `instant ${at}`);
      }
    }
    expect(new Set(points.map(({ epoch }) => epoch)).size).toBe(INSTANTS);
    expect(rounded).toBeGreaterThan(0);
  });

  test('a point of before the first renumbering, held all the time, tells everything since', async () => {
    const volume = await CopyOnWriteVolume.open(new MemoryDevice(8 * BLOCK), { blockSize: BLOCK });
    await volume.write(0, filled(1));
    const first = await volume.createSnapshot();
    await volume.write(2 * BLOCK, filled(1));
    for (let count = 0; count < 600; count++) await (await volume.createSnapshot()).close();
    await volume.write(4 * BLOCK, filled(1));
    expect([...(volume.changedSince(first.point) ?? ['unknown'])]).toEqual([
      { firstBlock: 2, blockCount: 1 },
      { firstBlock: 4, blockCount: 1 },
    ]);
    await expectFilled(first, 0, 2 * BLOCK);
  });

  test('with nothing kept that is as old, nothing is known; nor of points that were never given out', async () => {
    const volume = await CopyOnWriteVolume.open(new MemoryDevice(BLOCK), { blockSize: BLOCK });
    const first = await volume.createSnapshot();
    const { point } = first;
    await first.close();
    expect([...(volume.changedSince(point) ?? ['unknown'])]).toEqual([]);
    for (let count = 0; count < MOST; count++) await (await volume.createSnapshot()).close();
    expect(volume.changedSince(point)).toBeUndefined();
    expect(volume.changedSince({ ...point, epoch: 10_000 })).toBeUndefined();
    expect(volume.changedSince({ ...point, epoch: 0 })).toBeUndefined();
    expect(volume.changedSince({ ...point, trackingId: 'another' })).toBeUndefined();
  });
});
