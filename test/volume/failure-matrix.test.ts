import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { CopyOnWriteVolume, type PreserveFailure, type VolumeSnapshot } from '../../src/index.ts';
import { turn } from '../support/turn.ts';
import { BLOCK, codesOf, contentOf, errorOf, expectSame, filled, passDeadline } from './support/bytes.ts';
import { mountSmallDisk } from './support/full-disk.ts';
import { type Door, openGuest } from './support/guest.ts';
import { type Heard, listenTo } from './support/heard.ts';
import { numberedDevice } from './support/open-volume.ts';
import { ScriptedDevice, ScriptedSyncDevice } from './support/scripted-device.ts';

/** Each policy under each cause for which a pre-image can't be kept, through each door. */

const BLOCKS = 16;
const POLICIES: readonly PreserveFailure[] = ['fail-write', 'lose-block', 'break-snapshot'];
const DEADLINE_MS = 1000;

/** The block whose pre-image can't be kept. It goes in one write with its neighbour, whose can. */
const HURT = 3;
const NEIGHBOUR = 2;
const OTHER = 5;
/** Pre-images kept before: the oldest snapshot's of HURT, everybody's of OTHER, and NEIGHBOUR's on the way. */
const USED = 3;

/** One way in which HURT's pre-image can't be kept. */
interface Cause {
  readonly name: string;
  readonly doors: readonly Door[];
  /** The policies under which it is a cause at all. @defaultValue all */
  readonly policies?: readonly PreserveFailure[];
  /** What the error tells, below `PRESERVE_FAILED`. */
  readonly codes: readonly string[];
  open(): Promise<Rig> | Rig;
}

interface Rig {
  readonly device: ScriptedSyncDevice;
  readonly preserve: { memoryBytes: number; spillDevice?: ScriptedDevice; spillPath?: string; spillBytes?: number };
  /** Pre-images that there is room for, in all. */
  readonly roomBlocks: number;
  /** From now on. */
  begin(): void;
  /** The write is on its way: what has to pass until its failure falls due. */
  fallDue?(write: Promise<void>): Promise<void>;
  /** The cause goes, and I/O that was late comes to rest. */
  end(): void;
}

const smallDisk = mountSmallDisk(64 * 1024);
afterAll(() => smallDisk?.unmount());
afterEach(() => {
  vi.useRealTimers();
});

const CAUSES: readonly Cause[] = [
  {
    name: 'the device can not be read',
    doors: ['async', 'sync'],
    codes: ['DEVICE_IO'],
    open: () => {
      const device = numberedDevice(BLOCKS);
      let end = () => {};
      return {
        device,
        preserve: { memoryBytes: (USED + 1) * BLOCK, spillBytes: 0 },
        roomBlocks: USED + 1,
        begin: () => {
          end = device.failOn({ kind: 'read', at: HURT * BLOCK });
        },
        end: () => end(),
      };
    },
  },
  {
    name: 'the spill device is full (injected)',
    doors: ['async', 'sync'],
    codes: ['SPILL_FAILED', 'NO_SPACE'],
    open: () => {
      const spillDevice = new ScriptedSyncDevice(2 * BLOCK);
      let end = () => {};
      return {
        device: numberedDevice(BLOCKS),
        preserve: { memoryBytes: USED * BLOCK, spillDevice },
        roomBlocks: USED + 2,
        begin: () => {
          end = spillDevice.failOn({ kind: 'write' }, 'NO_SPACE');
        },
        end: () => end(),
      };
    },
  },
  ...(smallDisk === undefined
    ? []
    : [
        {
          name: 'the disk of the spill file is full (really)',
          doors: ['async', 'sync'],
          codes: ['SPILL_FAILED', 'NO_SPACE'],
          open: () => ({
            device: numberedDevice(BLOCKS),
            preserve: {
              memoryBytes: USED * BLOCK,
              spillPath: join(smallDisk.folder, 'spill'),
              spillBytes: 2 * BLOCK,
            },
            roomBlocks: USED + 2,
            begin: () => smallDisk.fill(),
            end: () => smallDisk.clear(),
          }),
        } satisfies Cause,
      ]),
  {
    name: 'the device does not answer within the deadline',
    doors: ['async'],
    codes: ['PRESERVE_DEADLINE'],
    open: () => {
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
      const device = numberedDevice(BLOCKS);
      let end = () => {};
      return {
        device,
        preserve: { memoryBytes: (USED + 1) * BLOCK, spillBytes: 0 },
        roomBlocks: USED + 1,
        begin: () => {
          end = device.hold({ kind: 'read', at: HURT * BLOCK }, 1).release;
        },
        fallDue: (write) => passDeadline(write, DEADLINE_MS),
        end: () => end(),
      };
    },
  },
  {
    name: 'the spill does not answer within the deadline',
    doors: ['async'],
    policies: ['fail-write'], // Under the others nobody waits for the spill: write-behind.test.ts.
    codes: ['PRESERVE_DEADLINE'],
    open: () => {
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
      const spillDevice = new ScriptedDevice(2 * BLOCK);
      let end = () => {};
      return {
        device: numberedDevice(BLOCKS),
        preserve: { memoryBytes: USED * BLOCK, spillDevice },
        roomBlocks: USED + 2,
        begin: () => {
          end = spillDevice.hold({ kind: 'write' }).release;
        },
        fallDue: (write) => passDeadline(write, DEADLINE_MS),
        end: () => end(),
      };
    },
  },
  {
    name: 'the memory limit is reached, and there is no spill',
    doors: ['async', 'sync'],
    codes: ['PREIMAGE_SPACE'],
    open: () => ({
      device: numberedDevice(BLOCKS),
      preserve: { memoryBytes: USED * BLOCK, spillBytes: 0 },
      roomBlocks: USED,
      begin: () => {},
      end: () => {},
    }),
  },
  {
    name: 'the memory limit and the spill limit are reached',
    doors: ['async', 'sync'],
    codes: ['PREIMAGE_SPACE'],
    open: () => ({
      device: numberedDevice(BLOCKS),
      preserve: { memoryBytes: BLOCK, spillDevice: new ScriptedSyncDevice(8 * BLOCK), spillBytes: (USED - 1) * BLOCK },
      roomBlocks: USED,
      begin: () => {},
      end: () => {},
    }),
  },
];

const CELLS = CAUSES.flatMap((cause) => cause.doors.map((door) => ({ ...cause, door })));

/** The scene of every cell, up to and with the write of which HURT's pre-image can't be kept. */
async function play(cause: Cause & { door: Door }, onFailure: PreserveFailure) {
  const rig = await cause.open();
  const { device } = rig;
  const { volume, write, freeze } = await openGuest(device, cause.door, {
    blockSize: BLOCK,
    preserve: { ...rig.preserve, deadlineMs: DEADLINE_MS, onFailure },
  });
  onTestFinished(() => volume.close());

  const initial = device.bytes.slice();
  const oldest = await freeze();
  await write([0x30, HURT * BLOCK, BLOCK]); // The oldest snapshot has a pre-image of HURT of its own.
  const frozen = device.bytes.slice();
  const first = await freeze();
  const second = await freeze();
  const indifferent = await freeze();
  indifferent.mark(HURT, 'inherited');
  await write([0x50, OTHER * BLOCK, BLOCK]);
  const before = device.bytes.slice();
  await turn();
  const heard = listenTo(volume);

  rig.begin();
  const writing = write([0x77, NEIGHBOUR * BLOCK, 2 * BLOCK]);
  writing.catch(() => {});
  await rig.fallDue?.(writing);
  const after = before.slice();
  after.fill(0x77, NEIGHBOUR * BLOCK, (NEIGHBOUR + 2) * BLOCK);
  return {
    rig,
    device,
    volume,
    write,
    freeze,
    heard,
    initial,
    frozen,
    before,
    after,
    writing,
    oldest,
    first,
    second,
    indifferent,
  };
}

type Scene = Awaited<ReturnType<typeof play>>;

/** All blocks of a snapshot but HURT. */
async function expectOthersFrozen(snapshot: VolumeSnapshot, frozen: Uint8Array): Promise<void> {
  expectSame(await contentOf(snapshot, 0, HURT * BLOCK), frozen.subarray(0, HURT * BLOCK));
  expectSame(await contentOf(snapshot, (HURT + 1) * BLOCK), frozen.subarray((HURT + 1) * BLOCK));
}

/** Who has a copy of its own, or does not want one, is not concerned. */
async function expectOthersUntouched({ oldest, indifferent, initial, frozen }: Scene): Promise<void> {
  expect(oldest.status).toBe('live');
  expectSame(await contentOf(oldest), initial, 'the oldest snapshot');
  expect(indifferent.status).toBe('live');
  expect(indifferent.states.get(HURT)).toBe('inherited');
  await expectOthersFrozen(indifferent, frozen);
}

/** All room serves again once nobody uses it: as many blocks as it is for, and not one more. */
async function expectNoRoomLeaked({ rig, volume, write, freeze }: Scene): Promise<void> {
  for (const snapshot of volume.snapshots) await snapshot.close();
  const snapshot = await freeze();
  for (let block = 0; block < rig.roomBlocks; block++) await write([0x99, block * BLOCK, BLOCK]);
  expect(snapshot.states.counts.preserved).toBe(rig.roomBlocks);
  await write([0x99, rig.roomBlocks * BLOCK, BLOCK]).catch(() => {});
  expect(snapshot.states.counts.preserved).toBe(rig.roomBlocks);
}

const namesOf = (heard: readonly Heard[]) => [...new Set(heard.map(({ name }) => name))];

/** The spill is written behind, and a real disk takes its time to fail. */
async function heardOf(heard: readonly Heard[], name: Heard['name']): Promise<void> {
  await turn();
  await vi.waitFor(() => expect(namesOf(heard)).toContain(name));
}

describe.each(CELLS)('$door door, $name', (cause) => {
  const codes = ['PRESERVE_FAILED', ...cause.codes];
  const testUnder = (policy: PreserveFailure) => test.runIf((cause.policies ?? POLICIES).includes(policy));

  testUnder('fail-write')('fail-write refuses the write as a whole, and every snapshot stays whole', async () => {
    const scene = await play(cause, 'fail-write');
    const { device, writing, heard, before, after, frozen, first, second, indifferent, oldest } = scene;
    const error = await errorOf(writing, 'PRESERVE_FAILED');
    expect(codesOf(error)).toEqual(codes);
    expect(error.retryable).toBe(true);
    expectSame(device.bytes, before, 'the device');
    await turn(); // The neighbour's copy is made all the same, and kept.
    expect(namesOf(heard)).toEqual(['blockPreserved']);

    // HURT itself may not be readable yet.
    for (const snapshot of [first, second]) {
      expect(snapshot.status).toBe('live');
      expect(snapshot.states.get(HURT)).toBe('pending');
      expect(snapshot.states.get(NEIGHBOUR)).toBe('preserved');
      await expectOthersFrozen(snapshot, frozen);
    }
    await expectOthersUntouched(scene);

    scene.rig.end();
    await turn();
    for (const snapshot of [first, second, indifferent]) expectSame(await contentOf(snapshot), frozen);
    await oldest.close(); // Where there was no room, there is now.
    await scene.write([0x77, NEIGHBOUR * BLOCK, 2 * BLOCK]);
    expectSame(device.bytes, after, 'the device');
    for (const snapshot of [first, second, indifferent]) expectSame(await contentOf(snapshot), frozen);
    expect(indifferent.states.get(HURT)).toBe('inherited');
    expect(heard.every(({ name }) => name === 'blockPreserved')).toBe(true);
    await expectNoRoomLeaked(scene);
  });

  testUnder('lose-block')(
    'lose-block lets the write through and loses that block of the snapshots that wanted it',
    async () => {
      const scene = await play(cause, 'lose-block');
      const { device, writing, heard, after, frozen, first, second, indifferent } = scene;
      await writing;
      expectSame(device.bytes, after, 'the device');
      await heardOf(heard, 'blockLost');
      const lost = heard.filter(({ name }) => name === 'blockLost');
      expect(lost.map(({ snapshot }) => snapshot)).toEqual([first, second]);
      for (const { blocks, error } of lost) {
        expect(blocks).toEqual({ firstBlock: HURT, blockCount: 1 });
        expect(codesOf(error)).toEqual(codes);
      }
      expect(namesOf(heard).toSorted()).toEqual(['blockLost', 'blockPreserved']);

      for (const late of [false, true]) {
        if (late) scene.rig.end(); // What comes late changes nothing any more.
        await turn();
        for (const snapshot of [first, second]) {
          expect(snapshot.status).toBe('live');
          expect(snapshot.states.counts).toMatchObject({ lost: 1 });
          expect(snapshot.states.get(HURT)).toBe('lost');
          await errorOf(contentOf(snapshot, HURT * BLOCK, BLOCK), 'BLOCK_LOST');
          await errorOf(contentOf(snapshot), 'BLOCK_LOST');
          await expectOthersFrozen(snapshot, frozen);
        }
        await expectOthersUntouched(scene);
        await errorOf(contentOf(indifferent, HURT * BLOCK, BLOCK), 'BLOCK_RELEASED');
      }
      expectSame(device.bytes, after, 'the device');
      await expectNoRoomLeaked(scene);
    },
  );

  testUnder('break-snapshot')(
    'break-snapshot lets the write through and breaks the snapshots that wanted the block',
    async () => {
      const scene = await play(cause, 'break-snapshot');
      const { device, volume, writing, heard, after, frozen, first, second, indifferent, oldest } = scene;
      await writing;
      expectSame(device.bytes, after, 'the device');
      await heardOf(heard, 'snapshotBroken');
      const broken = heard.filter(({ name }) => name === 'snapshotBroken');
      expect(broken.map(({ snapshot }) => snapshot)).toEqual([first, second]);
      expect(namesOf(heard)).not.toContain('blockLost');
      expect(volume.snapshots).toEqual([oldest, indifferent]);

      for (const late of [false, true]) {
        if (late) scene.rig.end();
        await turn();
        for (const [index, snapshot] of [first, second].entries()) {
          expect(snapshot.status).toBe('broken');
          expect(codesOf(snapshot.error)).toEqual(['SNAPSHOT_BROKEN', ...codes]);
          expect(broken[index]?.error).toBe(snapshot.error);
          expect(await errorOf(contentOf(snapshot, 0, BLOCK), 'SNAPSHOT_BROKEN')).toBe(snapshot.error);
          snapshot.mark(HURT, 'stored'); // Comes too late to matter.
          await expect(snapshot.share()).rejects.toThrow(snapshot.error);
        }
        await expectOthersUntouched(scene);
        await errorOf(contentOf(indifferent, HURT * BLOCK, BLOCK), 'BLOCK_RELEASED');
      }

      // Those left are preserved for as before.
      await oldest.close();
      await scene.write([0x88, 7 * BLOCK, BLOCK]);
      expect(indifferent.states.get(7)).toBe('preserved');
      await expectOthersFrozen(indifferent, frozen);
      await expectNoRoomLeaked(scene);
    },
  );
});

test.each(['lose-block', 'break-snapshot'] as const)(
  'an error that comes after the deadline, under %s, concerns nobody any more',
  async (onFailure) => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const device = numberedDevice(BLOCKS);
    const volume = await CopyOnWriteVolume.open(device, {
      blockSize: BLOCK,
      preserve: { deadlineMs: DEADLINE_MS, onFailure },
    });
    await volume.createSnapshot();
    const stuck = device.hold({ kind: 'read' }, 1);
    const writing = volume.write(HURT * BLOCK, filled(0x77));
    await stuck.reached;
    await vi.advanceTimersByTimeAsync(DEADLINE_MS);
    await writing;
    const next = await volume.createSnapshot();
    const heard = listenTo(volume);
    stuck.fail(new Error('at last'));
    await turn();
    expect(heard).toEqual([]);
    expect(next.status).toBe('live');
    expect(next.states.get(HURT)).toBe('pending');
    await volume.write(HURT * BLOCK, filled(0x88));
    expectSame(await contentOf(next, HURT * BLOCK, BLOCK), filled(0x77));
  },
);

describe('the synchronous door with a spill device that has none', () => {
  test.each(POLICIES)('under %s is a failure of the spill', async (onFailure) => {
    const device = numberedDevice(BLOCKS);
    const volume = await CopyOnWriteVolume.open(device, {
      blockSize: BLOCK,
      preserve: { memoryBytes: 0, spillDevice: new ScriptedDevice(BLOCK), onFailure },
    });
    const snapshot = volume.createSnapshotSync();
    const write = () => volume.writeSync(0, filled(0x77));
    if (onFailure === 'fail-write') {
      expect(codesOf(await errorOf(write, 'PRESERVE_FAILED'))).toEqual(['PRESERVE_FAILED', 'SPILL_FAILED']);
      expectSame(await contentOf(snapshot, 0, BLOCK), filled(1));
    } else {
      write();
      await errorOf(contentOf(snapshot, 0, BLOCK), onFailure === 'lose-block' ? 'BLOCK_LOST' : 'SNAPSHOT_BROKEN');
    }
    expect(device.bytes[0]).toBe(onFailure === 'fail-write' ? 1 : 0x77);
  });
});

describe.each(POLICIES)('a spill that reads back wrong, under %s', (onFailure) => {
  async function prepared() {
    const device = numberedDevice(BLOCKS);
    const spill = new ScriptedSyncDevice(4 * BLOCK);
    const volume = await CopyOnWriteVolume.open(device, {
      blockSize: BLOCK,
      preserve: { memoryBytes: 0, spillDevice: spill, verifySpill: true, onFailure },
    });
    const older = await volume.createSnapshot();
    await volume.write(HURT * BLOCK, filled(0x30));
    const first = await volume.createSnapshot();
    const second = await volume.createSnapshot();
    const frozen = device.bytes.slice();
    await volume.write(HURT * BLOCK, filled(0x77));
    await volume.write(OTHER * BLOCK, filled(0x50));
    await turn(); // All are in their slots.
    const heard = listenTo(volume);
    /** Finds the place where a pre-image full of `byte` went, and flips a bit of it. */
    const corrupt = (byte: number) => {
      const at = spill.bytes.indexOf(byte);
      expect(at).toBeGreaterThanOrEqual(0);
      spill.bytes[at + 100]! ^= 1;
    };
    return { device, spill, volume, older, first, second, frozen, heard, corrupt };
  }

  test('is never passed off as content: the block is lost to everybody whom that copy served', async () => {
    const { device, volume, older, first, second, frozen, heard, corrupt } = await prepared();
    corrupt(0x30);
    await errorOf(contentOf(first, HURT * BLOCK, BLOCK), 'SPILL_CORRUPT');
    for (const snapshot of [first, second]) {
      expect(snapshot.status).toBe('live');
      expect(snapshot.states.get(HURT)).toBe('lost');
      await errorOf(contentOf(snapshot, HURT * BLOCK, BLOCK), 'BLOCK_LOST');
      await expectOthersFrozen(snapshot, frozen);
    }
    expectSame(await contentOf(older, HURT * BLOCK, BLOCK), filled(HURT + 1));
    expect(heard.map(({ name, snapshot }) => [name, snapshot])).toEqual([
      ['blockLost', first],
      ['blockLost', second],
    ]);
    expect(codesOf(heard[0]?.error)).toEqual(['SPILL_CORRUPT']);
    expect(device.bytes[HURT * BLOCK]).toBe(0x77);
    // Its room serves again: four slots, of which two are in use.
    await volume.write(0, filled(0x61));
    await volume.write(BLOCK, filled(0x62));
    expect(first.states.counts).toMatchObject({ preserved: 3, lost: 1 });
    expectSame(await contentOf(first, 0, 2 * BLOCK), frozen.subarray(0, 2 * BLOCK));
  });

  test('while it is being stored leaves it storing, without a way back', async () => {
    const { first, second, corrupt } = await prepared();
    first.mark(HURT, 'storing');
    corrupt(0x30);
    await errorOf(contentOf(second, HURT * BLOCK, BLOCK), 'SPILL_CORRUPT');
    expect(first.states.get(HURT)).toBe('storing');
    first.mark(HURT, 'failed');
    expect(first.states.get(HURT)).toBe('lost');
  });

  test('and one that can not be read at all loses nothing: it may be read later', async () => {
    const { spill, first, heard } = await prepared();
    spill.failOn({ kind: 'read' }, 'DEVICE_IO', 1);
    const error = await errorOf(contentOf(first, HURT * BLOCK, BLOCK), 'SPILL_FAILED');
    expect(error.retryable).toBe(true);
    expect(codesOf(error)).toEqual(['SPILL_FAILED', 'DEVICE_IO']);
    expectSame(await contentOf(first, HURT * BLOCK, BLOCK), filled(0x30));
    expect(heard).toEqual([]);
  });
});

test('a spilled copy that reads back wrong before its block was overwritten loses nothing: the device has it', async () => {
  const device = numberedDevice(BLOCKS);
  const spill = new ScriptedDevice(4 * BLOCK);
  const volume = await CopyOnWriteVolume.open(device, {
    blockSize: BLOCK,
    preserve: { memoryBytes: 0, spillDevice: spill, verifySpill: true, onFailure: 'fail-write' },
  });
  const frozen = device.bytes.slice();
  const snapshot = await volume.createSnapshot();
  const end = device.failOn({ kind: 'read', at: HURT * BLOCK });
  await errorOf(volume.write(NEIGHBOUR * BLOCK, filled(0x77, 2 * BLOCK)), 'PRESERVE_FAILED');
  end();
  await turn();
  expect(snapshot.states.get(NEIGHBOUR)).toBe('preserved');
  spill.bytes.fill(0xff);
  expectSame(await contentOf(snapshot, NEIGHBOUR * BLOCK, BLOCK), filled(NEIGHBOUR + 1));
  await volume.write(NEIGHBOUR * BLOCK, filled(0x77, 2 * BLOCK));
  expectSame(
    await contentOf(snapshot, NEIGHBOUR * BLOCK, 2 * BLOCK),
    frozen.subarray(NEIGHBOUR * BLOCK, (NEIGHBOUR + 2) * BLOCK),
  );
});
