import { afterEach, describe, expect, test, vi } from 'vitest';
import type { PreserveFailure } from '../../src/index.ts';
import { turn } from '../support/turn.ts';
import {
  BLOCK,
  codesOf,
  contentOf,
  errorOf,
  expectFilled,
  expectSame,
  filled,
  isSettled,
  passDeadline,
} from './support/bytes.ts';
import { listenTo } from './support/heard.ts';
import { openSyncVolume, openVolume } from './support/open-volume.ts';
import { ScriptedSyncDevice } from './support/scripted-device.ts';

/** R13: a claim that finds no room waits for some, within its deadline, while there is something that may bring it. */

const BLOCKS = 16;
const DEADLINE_MS = 1000;

afterEach(() => {
  vi.useRealTimers();
});

async function open(onFailure: PreserveFailure = 'break-snapshot', roomBlocks = 1) {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const spillDevice = new ScriptedSyncDevice(0);
  const opened = await openSyncVolume(BLOCKS, {
    preserve: { memoryBytes: roomBlocks * BLOCK, spillDevice, onFailure, deadlineMs: DEADLINE_MS },
  });
  const overwrite = (block: number, byte?: number) => {
    const writing = opened.overwrite(block, byte);
    writing.catch(() => {});
    return writing;
  };
  return { ...opened, overwrite };
}

describe('a block on its way to the store, with no room for its pre-image,', () => {
  test('is waited for; once it is stored it needs no room any more', async () => {
    const { device, volume, overwrite, initial } = await open();
    const snapshot = await volume.createSnapshot();
    await overwrite(0);
    snapshot.mark(1, 'storing');
    const writing = overwrite(1);
    expect(await isSettled(writing)).toBe(false);
    expect(device.count('write')).toBe(1);
    snapshot.mark(1, 'stored');
    await writing;
    expect(snapshot.status).toBe('live');
    expect(volume.preimages.heldBytes).toBe(BLOCK);
    expectSame(await contentOf(snapshot, 0, BLOCK), initial.subarray(0, BLOCK));
    await errorOf(contentOf(snapshot, BLOCK, BLOCK), 'BLOCK_RELEASED');
  });

  test.each<[PreserveFailure]>([['fail-write'], ['lose-block'], ['break-snapshot']])(
    'that does not arrive within the deadline is decided about under %s',
    async (onFailure) => {
      const { volume, overwrite } = await open(onFailure);
      const snapshot = await volume.createSnapshot();
      await overwrite(0);
      snapshot.mark(1, 'storing');
      const heard = listenTo(volume);
      const writing = overwrite(1);
      await passDeadline(writing, DEADLINE_MS);
      const failed = ['PRESERVE_FAILED', 'PREIMAGE_SPACE'];
      if (onFailure === 'fail-write') {
        const error = await errorOf(writing, 'PRESERVE_FAILED');
        expect(codesOf(error)).toEqual(failed);
        expect(error.message).toMatch(
          /4096 bytes of memory and 0 bytes of spill.*raise preserve\.spillBytes or preserve\.memoryBytes/,
        );
      } else {
        await writing;
      }
      if (onFailure === 'break-snapshot') {
        expect(codesOf(snapshot.error)).toEqual(['SNAPSHOT_BROKEN', ...failed]);
        expect(snapshot.error?.message).toMatch(/raise preserve\.spillBytes/);
        return;
      }
      expect(snapshot.states.get(1)).toBe('storing');
      await turn();
      expect(heard.filter(({ name }) => name === 'blockLost')).toEqual([]);
      snapshot.mark(1, 'stored'); // It has arrived after all.
      await turn();
      expect(heard.filter(({ name }) => name === 'blockLost')).toEqual([]);
    },
  );

  test('that fails to be stored has its deadline still: somebody stores, so room may come', async () => {
    const { volume, overwrite } = await open('lose-block');
    const snapshot = await volume.createSnapshot();
    await overwrite(0);
    snapshot.mark(1, 'storing');
    const writing = overwrite(1);
    expect(await isSettled(writing)).toBe(false);
    snapshot.mark(1, 'failed');
    await passDeadline(writing, DEADLINE_MS);
    await writing;
    expect(snapshot.states.get(1)).toBe('lost');
  });
});

describe('a claim that finds no room', () => {
  test('gets the room of a block that is stored meanwhile, in the order of claims', async () => {
    const { volume, overwrite, initial } = await open();
    const snapshot = await volume.createSnapshot();
    await overwrite(0);
    snapshot.mark(0, 'storing');
    const [first, second] = [overwrite(1), overwrite(2)];
    expect(await isSettled(first)).toBe(false);
    snapshot.mark(0, 'stored');
    await first;
    expectSame(await contentOf(snapshot, BLOCK, BLOCK), initial.subarray(BLOCK, 2 * BLOCK));
    // The one who stores has not come to the next block yet: that is no reason to give up.
    expect(await isSettled(second)).toBe(false);
    snapshot.mark(1, 'storing');
    snapshot.mark(1, 'stored');
    await second;
    expectSame(await contentOf(snapshot, 2 * BLOCK, BLOCK), initial.subarray(2 * BLOCK, 3 * BLOCK));
  });

  test('gets the room of one that turned out to be zeroes', async () => {
    const { device, volume, overwrite } = await open();
    device.bytes.fill(0, 0, BLOCK);
    const snapshot = await volume.createSnapshot();
    const slow = device.hold({ kind: 'read', at: 0 });
    const zero = overwrite(0);
    await slow.reached;
    const next = overwrite(1);
    expect(await isSettled(next)).toBe(false);
    slow.release();
    await Promise.all([zero, next]);
    await expectFilled(snapshot, 2, BLOCK);
  });

  test('needs none once the snapshot that wanted it is closed', async () => {
    const { volume, overwrite } = await open();
    const snapshot = await volume.createSnapshot();
    await overwrite(0);
    snapshot.mark(5, 'storing');
    const writing = overwrite(1);
    expect(await isSettled(writing)).toBe(false);
    await snapshot.close();
    await writing;
    expect(volume.preimages.heldBytes).toBe(0);
  });

  test('waits for pre-images that are being freed, and no longer: perhaps another snapshot needs all of them', async () => {
    const held = 5000; // More than are examined in one step.
    const { device, volume } = await openVolume(held + 1, {
      preserve: {
        memoryBytes: held * BLOCK,
        spillBytes: 0,
        onFailure: 'lose-block',
        deadlineMs: Number.POSITIVE_INFINITY,
      },
    });
    device.bytes.fill(1);
    const [first, second] = [await volume.createSnapshot(), await volume.createSnapshot()];
    await volume.write(0, filled(9, held * BLOCK));
    const closing = first.close();
    const writing = volume.write(held * BLOCK, filled(9));
    expect(second.states.get(held)).toBe('pending');
    await writing; // Waited forever.
    expect(second.states.get(held)).toBe('lost');
    await closing;
  });

  test('and nothing that could bring room, is decided about at once', async () => {
    const { volume, overwrite } = await open('fail-write');
    await volume.createSnapshot();
    await overwrite(0);
    await turn();
    expect(codesOf(await errorOf(overwrite(1), 'PRESERVE_FAILED'))).toEqual(['PRESERVE_FAILED', 'PREIMAGE_SPACE']);
  });

  test('waits once: one wait an outage, and the next one when room has come back', async () => {
    const { volume, overwrite } = await open('lose-block');
    const snapshot = await volume.createSnapshot();
    await overwrite(0);
    snapshot.mark(0, 'storing');
    const first = overwrite(1);
    await passDeadline(first, DEADLINE_MS);
    await first;
    await overwrite(2); // The store does not answer, and has been waited for.
    expect([1, 2].map((block) => snapshot.states.get(block))).toEqual(['lost', 'lost']);
    snapshot.mark(0, 'stored');
    await overwrite(3);
    snapshot.mark(3, 'storing');
    const next = overwrite(4);
    expect(await isSettled(next)).toBe(false);
    snapshot.mark(3, 'stored');
    await next;
    expect(snapshot.states.get(4)).toBe('preserved');
  });

  test('at the synchronous door never waits', async () => {
    const { volume, overwrite } = await open('fail-write');
    const snapshot = await volume.createSnapshot();
    await overwrite(0);
    snapshot.mark(0, 'storing');
    await errorOf(() => volume.writeSync(BLOCK, filled(1)), 'PRESERVE_FAILED');
    snapshot.mark(0, 'stored');
    volume.writeSync(BLOCK, filled(1));
    await expectFilled(snapshot, 2, BLOCK);
  });

  test('of a write that is aborted keeps nobody waiting longer than its deadline', async () => {
    const { volume } = await open('lose-block');
    const snapshot = await volume.createSnapshot();
    await volume.write(0, filled(1));
    snapshot.mark(0, 'storing');
    const controller = new AbortController();
    const writing = volume.write(BLOCK, filled(1), { signal: controller.signal });
    writing.catch(() => {});
    await turn();
    controller.abort(new Error('enough'));
    await expect(writing).rejects.toThrow('enough');
    await vi.advanceTimersByTimeAsync(DEADLINE_MS);
    await turn();
    await volume.close();
  });
});

describe('blockLost', () => {
  test('tells of a block that was given up while it was being stored when, and only when, it has failed', async () => {
    const { volume, overwrite } = await open('lose-block');
    const snapshot = await volume.createSnapshot();
    await overwrite(0);
    snapshot.mark({ firstBlock: 1, blockCount: 2 }, 'storing');
    const heard = listenTo(volume);
    const writing = volume.write(BLOCK, filled(9, 2 * BLOCK));
    await passDeadline(writing, DEADLINE_MS);
    await writing;
    await turn();
    expect(heard).toEqual([]);
    snapshot.mark(1, 'stored');
    snapshot.mark(2, 'failed');
    await turn();
    const [lost, ...more] = heard;
    expect(more).toEqual([]);
    expect(lost).toMatchObject({ name: 'blockLost', snapshot, blocks: { firstBlock: 2, blockCount: 1 } });
    expect(codesOf(lost?.error)).toEqual(['PRESERVE_FAILED', 'PREIMAGE_SPACE']);
    expect(snapshot.states.get(2)).toBe('lost');
  });
});

describe('snapshotClosed', () => {
  test('tells of nobody who was never begun, and of each handle once, broken or not', async () => {
    const { volume, overwrite } = await open();
    const closed: unknown[] = [];
    volume.events.on('snapshotClosed', (snapshot) => closed.push(snapshot));
    const mistake = () => {
      throw new Error('not now');
    };
    await expect(volume.createSnapshot({ atInstant: mistake })).rejects.toThrow('not now');
    const snapshot = await volume.createSnapshot();
    const shared = await snapshot.share();
    for (const block of [0, 1]) await overwrite(block);
    expect(snapshot.status).toBe('broken');
    for (const handle of [snapshot, shared, snapshot]) await handle.close();
    await turn();
    expect(closed).toEqual([snapshot, shared]);
  });
});
