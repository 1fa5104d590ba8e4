import { afterEach, describe, expect, test, vi } from 'vitest';
import { BackupError, type PreserveOptions, type VolumeSnapshot } from '../../src/index.ts';
import { turn } from '../support/turn.ts';
import { BLOCK, codesOf, contentOf, errorOf, expectFilled, expectSame, filled, isSettled } from './support/bytes.ts';
import { listenTo } from './support/heard.ts';
import { openVolume } from './support/open-volume.ts';
import { ScriptedDevice } from './support/scripted-device.ts';

/** The spill is written behind: a write waits until its pre-image has been read, and the spill has its time. */

const BLOCKS = 8;
const BEHIND = ['lose-block', 'break-snapshot'] as const;
/** Of these only four may be in transit at a time. */
const LARGE = 128 * BLOCK;

afterEach(() => {
  vi.useRealTimers();
});

async function open(preserve: PreserveOptions = {}, blockSize = BLOCK) {
  const spill = new ScriptedDevice(BLOCKS * blockSize);
  const opened = await openVolume(BLOCKS, {
    blockSize,
    preserve: { memoryBytes: 0, spillDevice: spill, onFailure: 'lose-block', ...preserve },
  });
  const finish = (snapshot: VolumeSnapshot, block: number) => {
    snapshot.mark(block, 'storing');
    snapshot.mark(block, 'stored');
  };
  return { ...opened, spill, finish };
}

/** A write of blocks 0 and 1 that is aborted while block 0 is at the spill, and block 1 has not been read yet. */
async function openWithAbortedWrite() {
  const opened = await open();
  const { device, spill, volume } = opened;
  const first = await volume.createSnapshot();
  const busy = spill.hold({ kind: 'write' });
  const slow = device.hold({ kind: 'read', at: BLOCK }, 1);
  const controller = new AbortController();
  const writing = volume.write(0, filled(0xaa, 2 * BLOCK), { signal: controller.signal });
  writing.catch(() => {});
  await busy.reached;
  controller.abort(new Error('enough'));
  return { ...opened, first, busy, slow, writing };
}

const spillError = () => new BackupError('NO_SPACE', 'injected');

describe.each(BEHIND)('under %s', (onFailure) => {
  test('a write goes on while the spill is busy; its pre-image is read from memory, and then from the spill', async () => {
    const { spill, volume, overwrite, initial } = await open({ onFailure });
    const snapshot = await volume.createSnapshot();
    const busy = spill.hold({ kind: 'write' });
    for (let block = 0; block < BLOCKS; block++) await overwrite(block);
    await turn();
    expect(busy.held).toBe(BLOCKS);
    expect(snapshot.states.counts.preserved).toBe(BLOCKS);
    expectSame(await contentOf(snapshot), initial);
    expectSame(await contentOf(snapshot, BLOCK + 7, 100), initial.subarray(BLOCK + 7, BLOCK + 107));
    expect(spill.count('read')).toBe(0);
    busy.release();
    await turn();
    expectSame(await contentOf(snapshot), initial);
    expect(spill.count('read')).toBe(BLOCKS);
  });

  test('with every transit buffer taken by a spill that hangs, the next write waits for its deadline', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { device, spill, volume, overwrite, initial } = await open({ onFailure, deadlineMs: 50 }, LARGE);
    const snapshot = await volume.createSnapshot();
    const hanging = spill.hold({ kind: 'write' });
    for (let block = 0; block < 4; block++) await overwrite(block);
    const fifth = overwrite(4);
    await turn();
    await vi.advanceTimersByTimeAsync(49);
    expect(await isSettled(fifth)).toBe(false);
    expect(device.count('read')).toBe(4);
    await vi.advanceTimersByTimeAsync(1);
    await fifth;
    if (onFailure === 'lose-block') {
      expect(snapshot.states.counts).toMatchObject({ preserved: 4, lost: 1 });
      expectSame(await contentOf(snapshot, 0, 4 * LARGE), initial.subarray(0, 4 * LARGE));
    } else {
      expect(codesOf(snapshot.error)).toEqual(['SNAPSHOT_BROKEN', 'PRESERVE_FAILED', 'PRESERVE_DEADLINE']);
    }
    hanging.release();
    await turn();
    const next = await volume.createSnapshot();
    const before = device.bytes.slice();
    for (let block = 0; block < 3; block++) await overwrite(block, 0xbb);
    await turn();
    expectSame(await contentOf(next), before);
  });

  test('a spill that fails behind lets the write stand, and decides about everybody whom that pre-image serves', async () => {
    const { device, spill, volume, overwrite, initial } = await open({ onFailure, spillBytes: 3 * BLOCK });
    const oldest = await volume.createSnapshot();
    await overwrite(0, 0x30);
    await turn();
    const [first, second] = [await volume.createSnapshot(), await volume.createSnapshot()];
    const indifferent = await volume.createSnapshot();
    indifferent.mark(0, 'inherited');
    const heard = listenTo(volume);
    const busy = spill.hold({ kind: 'write' });
    await overwrite(0, 0x40);
    await turn();
    const shared = await first.share();
    const later = await volume.createSnapshot();
    await expectFilled(shared, 0x30, 0);
    expect(heard.map(({ name, snapshot }) => [name, snapshot])).toEqual([
      ['blockPreserved', first],
      ['blockPreserved', second],
      ['snapshotBegun', later],
    ]);
    heard.length = 0;
    busy.fail(spillError());
    await turn();
    expect(device.bytes[0]).toBe(0x40);
    const concerned = [first, second, shared];
    expect(heard.map(({ snapshot }) => snapshot)).toEqual(concerned);
    for (const snapshot of concerned) {
      if (onFailure === 'lose-block') {
        expect(snapshot.states.get(0)).toBe('lost');
        await errorOf(contentOf(snapshot, 0, BLOCK), 'BLOCK_LOST');
        expectSame(await contentOf(snapshot, BLOCK), initial.subarray(BLOCK));
      } else {
        expect(await errorOf(contentOf(snapshot), 'SNAPSHOT_BROKEN')).toBe(snapshot.error);
      }
    }
    for (const { name, error } of heard) {
      expect(name).toBe(onFailure === 'lose-block' ? 'blockLost' : 'snapshotBroken');
      const codes = ['PRESERVE_FAILED', 'SPILL_FAILED', 'NO_SPACE'];
      expect(codesOf(error)).toEqual(onFailure === 'lose-block' ? codes : ['SNAPSHOT_BROKEN', ...codes]);
    }
    expectSame(await contentOf(oldest), initial);
    await expectFilled(later, 0x40, 0);
    await errorOf(contentOf(indifferent, 0, BLOCK), 'BLOCK_RELEASED');
    // Two of three slots serve again, and no more.
    for (const block of [1, 2]) await overwrite(block);
    await turn();
    expect(later.states.counts.preserved).toBe(2);
    expectSame(await contentOf(later, BLOCK), initial.subarray(BLOCK));
    await overwrite(3);
    expect(later.status === 'broken' || later.states.get(3) === 'lost').toBe(true);
  });

  test('a spill that fails at once does not turn a write over several blocks in circles', async () => {
    const { device, spill, volume } = await open({ onFailure });
    const snapshot = await volume.createSnapshot();
    spill.failOn({ kind: 'write' }, 'NO_SPACE');
    const slow = device.hold({ kind: 'read', at: BLOCK }, 1);
    const writing = volume.write(0, filled(0xaa, 2 * BLOCK));
    await slow.reached;
    await turn(); // Block 0 has been preserved, and its pre-image is gone before the write could be issued.
    slow.release();
    await writing;
    expect(device.count('read')).toBe(2);
    await turn();
    if (onFailure === 'lose-block') expect(snapshot.states.counts.lost).toBe(2);
    else expect(snapshot.status).toBe('broken');
  });
});

test('nobody looks into a slot whose writing has failed: the block is lost in the step in which it fails', async () => {
  const { spill, volume, overwrite } = await open();
  const snapshot = await volume.createSnapshot();
  const busy = spill.hold({ kind: 'write' });
  await overwrite(0);
  await busy.reached;
  busy.fail(spillError());
  // Reads at every microtask from here on: as of the instant from memory, or lost, and never from the slot.
  for (let step = 0; step < 30; step++) {
    const into = new Uint8Array(16);
    void snapshot.read(0, into).then(
      () => expectSame(into, filled(1, 16)),
      () => {},
    );
    await Promise.resolve();
  }
  await turn();
  expect(spill.count('read')).toBe(0);
  expect(snapshot.states.get(0)).toBe('lost');
});

test('a block that is being stored when its pre-image is lost stays storing, without a way back', async () => {
  const { spill, volume, overwrite } = await open();
  const snapshot = await volume.createSnapshot();
  const busy = spill.hold({ kind: 'write' });
  await overwrite(0);
  await turn();
  snapshot.mark(0, 'storing');
  busy.fail(spillError());
  await turn();
  expect(snapshot.states.get(0)).toBe('storing');
  snapshot.mark(0, 'failed');
  expect(snapshot.states.get(0)).toBe('lost');
});

test('a pre-image in transit whose block has not been overwritten yet serves a later snapshot too', async () => {
  const { device, volume, overwrite, first, busy, slow, writing } = await openWithAbortedWrite();
  await expect(writing).rejects.toThrow('enough');
  const second = await volume.createSnapshot();
  await overwrite(0);
  slow.release();
  for (const snapshot of [first, second]) await expectFilled(snapshot, 1, 0);
  expect(device.calls.filter(({ kind, offset }) => kind === 'read' && offset === 0)).toHaveLength(1);
  await first.close();
  busy.release();
  await turn();
  await expectFilled(second, 1, 0);
});

test('epochs that are renumbered while a pre-image is in transit change nothing about whom it serves', async () => {
  const { spill, volume, overwrite } = await open();
  const snapshot = await volume.createSnapshot();
  const busy = spill.hold({ kind: 'write' });
  await overwrite(0, 0x40);
  for (let count = 0; count < 300; count++) await (await volume.createSnapshot()).close();
  const later = await volume.createSnapshot();
  await expectFilled(snapshot, 1, 0);
  await expectFilled(later, 0x40, 0);
  busy.release();
  await turn();
  await expectFilled(snapshot, 1, 0);
});

describe('a pre-image that is freed in transit', () => {
  test('keeps its slot and its buffer until the spill is done with them', async () => {
    const { device, spill, volume, overwrite, finish } = await open({}, LARGE);
    const snapshot = await volume.createSnapshot();
    const busy = spill.hold({ kind: 'write' });
    for (let block = 0; block < 4; block++) await overwrite(block);
    await turn();
    for (let block = 0; block < 4; block++) finish(snapshot, block);
    const fifth = overwrite(4);
    await turn();
    expect(device.count('read')).toBe(4);
    busy.release();
    await fifth;
    await turn();
    // What went to the spill is what was read, and the fifth got a slot of its own.
    for (let slot = 0; slot < 5; slot++) await expectFilled(spill, slot + 1, slot * LARGE, LARGE);
    await expectFilled(snapshot, 5, 4 * LARGE, LARGE);
  });

  test('counts against the limit until then', async () => {
    const { spill, volume, overwrite, finish } = await open({ spillBytes: BLOCK });
    const snapshot = await volume.createSnapshot();
    const busy = spill.hold({ kind: 'write' });
    await overwrite(0);
    await turn();
    finish(snapshot, 0);
    const waiting = overwrite(1);
    expect(await isSettled(waiting)).toBe(false);
    busy.release();
    await waiting;
    await turn();
    await expectFilled(snapshot, 2, BLOCK);
    expect(await isSettled(overwrite(2))).toBe(false);
  });

  test('is not written when nobody wants it by the time that it has been read', async () => {
    const { device, spill, volume, overwrite } = await open({ spillBytes: BLOCK });
    const snapshot = await volume.createSnapshot();
    const slow = device.hold({ kind: 'read' }, 1);
    const writing = overwrite(0);
    await slow.reached;
    snapshot.mark(0, 'inherited');
    slow.release();
    await writing;
    expect(spill.calls).toEqual([]);
    await overwrite(1); // The only slot is free.
    await expectFilled(snapshot, 2, BLOCK);
  });

  test('concerns nobody when its spill fails', async () => {
    const { spill, volume, overwrite, finish } = await open();
    const snapshot = await volume.createSnapshot();
    const busy = spill.hold({ kind: 'write' });
    await overwrite(0);
    await turn();
    finish(snapshot, 0);
    const heard = listenTo(volume);
    busy.fail(spillError());
    await turn();
    expect(heard).toEqual([]);
    expect(snapshot.states.get(0)).toBe('stored');
  });

  test('before its block is overwritten concerns no later snapshot either: the device has the content', async () => {
    const { volume, overwrite, first, busy, slow } = await openWithAbortedWrite();
    slow.release();
    await first.close();
    const next = await volume.createSnapshot();
    busy.fail(spillError());
    await turn();
    expect(next.states.get(0)).toBe('pending');
    await overwrite(0);
    await turn();
    await expectFilled(next, 1, 0);
  });

  test('by its snapshot, which closes, leaves the next one all the room', async () => {
    const { spill, volume, overwrite } = await open({ spillBytes: 2 * BLOCK, onFailure: 'break-snapshot' });
    const snapshot = await volume.createSnapshot();
    const busy = spill.hold({ kind: 'write' });
    await overwrite(0);
    await overwrite(1);
    await turn();
    await snapshot.close();
    busy.fail(spillError());
    await turn();
    expect(snapshot.status).toBe('closed');
    const next = await volume.createSnapshot();
    await overwrite(2);
    await overwrite(3);
    await turn();
    await expectFilled(next, 3, 2 * BLOCK);
    await expectFilled(next, 4, 3 * BLOCK);
  });
});

test('a volume that closes waits for what is on its way to the spill', async () => {
  const { spill, volume, overwrite } = await open();
  const snapshot = await volume.createSnapshot();
  const busy = spill.hold({ kind: 'write' });
  await overwrite(0);
  await busy.reached;
  const closing = volume.close();
  expect(await isSettled(closing)).toBe(false);
  await errorOf(contentOf(snapshot), 'CLOSED');
  busy.release();
  await closing;
});

test('a spilled block is checked against what was in transit', async () => {
  const { spill, volume, overwrite, initial } = await open({ verifySpill: true });
  const snapshot = await volume.createSnapshot();
  await overwrite(0);
  await overwrite(1);
  await turn();
  expectSame(await contentOf(snapshot), initial);
  spill.bytes[0]! ^= 1;
  await errorOf(contentOf(snapshot, 0, BLOCK), 'SPILL_CORRUPT');
  expect(snapshot.states.get(0)).toBe('lost');
});

test('under fail-write a write waits for the spill, and is refused when that fails', async () => {
  const { device, spill, volume, overwrite, initial } = await open({ onFailure: 'fail-write' });
  const snapshot = await volume.createSnapshot();
  const busy = spill.hold({ kind: 'write' });
  const writing = overwrite(0);
  writing.catch(() => {});
  await busy.reached;
  expect(await isSettled(writing)).toBe(false);
  expect(snapshot.states.get(0)).toBe('pending');
  busy.fail(spillError());
  await errorOf(writing, 'PRESERVE_FAILED');
  expectSame(device.bytes, initial);
  expectSame(await contentOf(snapshot), initial);
});
