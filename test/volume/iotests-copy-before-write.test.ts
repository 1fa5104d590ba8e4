import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { PreserveFailure } from '../../src/index.ts';
import { turn } from '../support/turn.ts';
import { codesOf, contentOf, errorOf, expectFilled, expectSame, filled, KIB, MIB } from './support/bytes.ts';
import { openGuest } from './support/guest.ts';
import { ScriptedDevice } from './support/scripted-device.ts';

/**
 * QEMU's tests/qemu-iotests/tests/copy-before-write: a disk of 1 MiB, and a place for pre-images that fails once or
 * gets too slow. Its `break-guest-write` is our `fail-write`, its `cbw-timeout` our `deadlineMs`.
 */

const SIZE = 1 * MIB;
const CLUSTER = 64 * KIB;
const CLUSTERS = SIZE / CLUSTER;
const OLD = 0xcd;

async function setUp(onFailure: PreserveFailure, deadlineMs?: number) {
  const source = new ScriptedDevice(SIZE);
  source.bytes.fill(OLD);
  const temp = new ScriptedDevice(SIZE);
  const { volume, write, freeze } = await openGuest(source, 'async', {
    preserve: { memoryBytes: 0, spillDevice: temp, onFailure, deadlineMs },
  });
  return { source, temp, volume, write, snapshot: await freeze() };
}

describe('copy-before-write, on-cbw-error: one write to the place for pre-images fails with EIO', () => {
  async function cbwError(onFailure: PreserveFailure) {
    const setup = await setUp(onFailure);
    setup.temp.failOn({ kind: 'write' }, 'DEVICE_IO', 1);
    return setup;
  }

  test('test_break_snapshot_on_cbw_error: the guest write succeeds, the snapshot can not be read any more', async () => {
    const { write, volume, snapshot } = await cbwError('break-snapshot');
    await write([0x11, 0, SIZE]);
    await turn(); // The spill is written behind.
    await expectFilled(volume, 0x11, 0, SIZE);
    const error = await errorOf(contentOf(snapshot), 'SNAPSHOT_BROKEN');
    expect(codesOf(error)).toEqual(['SNAPSHOT_BROKEN', 'PRESERVE_FAILED', 'SPILL_FAILED', 'DEVICE_IO']);
    expect(snapshot.status).toBe('broken');
    expect(snapshot.error).toBe(error);
  });

  test('test_break_guest_write_on_cbw_error: the guest write fails, the snapshot can still be read', async () => {
    const { source, write, volume, snapshot } = await cbwError('fail-write');
    const error = await errorOf(write([0x11, 0, SIZE]), 'PRESERVE_FAILED');
    expect(codesOf(error)).toEqual(['PRESERVE_FAILED', 'SPILL_FAILED', 'DEVICE_IO']);
    expect(source.count('write')).toBe(0);
    await expectFilled(snapshot, OLD, 0, SIZE);
    await expectFilled(volume, OLD, 0, SIZE);
    // The error was there once.
    await write([0x11, 0, SIZE]);
    await expectFilled(snapshot, OLD, 0, SIZE);
    await expectFilled(volume, 0x11, 0, SIZE);
    expect(snapshot.states.counts.preserved).toBe(CLUSTERS);
  });

  test('with lose-block the guest write succeeds and one cluster of the snapshot is lost', async () => {
    const { write, volume, snapshot } = await cbwError('lose-block');
    await write([0x11, 0, SIZE]);
    await turn(); // The spill is written behind.
    await expectFilled(volume, 0x11, 0, SIZE);
    const lost = [...snapshot.states.ranges('lost')];
    expect(lost).toEqual([{ firstBlock: expect.any(Number), blockCount: 1, state: 'lost' }]);
    for (let cluster = 0; cluster < CLUSTERS; cluster++) {
      if (cluster === lost[0]?.firstBlock) await errorOf(contentOf(snapshot, cluster * CLUSTER, CLUSTER), 'BLOCK_LOST');
      else await expectFilled(snapshot, OLD, cluster * CLUSTER, CLUSTER);
    }
  });
});

describe('copy-before-write, cbw-timeout: the second write to the place for pre-images takes too long', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  async function throttledWrite(onFailure: PreserveFailure) {
    const setup = await setUp(onFailure, 1000);
    await setup.write([0x11, 0, SIZE / 2]);
    await turn();
    const throttled = setup.temp.hold({ kind: 'write' });
    const second = setup.write([0x22, SIZE / 2, SIZE / 2]);
    second.catch(() => {});
    await throttled.reached;
    return { ...setup, second, throttled };
  }

  test('test_timeout_break_guest: the first write succeeds, the second fails, the snapshot can be read', async () => {
    const { source, second, snapshot, throttled } = await throttledWrite('fail-write');
    await vi.advanceTimersByTimeAsync(999);
    expect(source.count('write')).toBe(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(codesOf(await errorOf(second, 'PRESERVE_FAILED'))).toEqual(['PRESERVE_FAILED', 'PRESERVE_DEADLINE']);
    await expectFilled(snapshot, OLD, 0, SIZE);
    throttled.release();
    await turn();
    await expectFilled(snapshot, OLD, 0, SIZE);
    expectSame(source.bytes.subarray(0, SIZE / 2), filled(0x11, SIZE / 2));
    expectSame(source.bytes.subarray(SIZE / 2), filled(OLD, SIZE / 2));
  });

  // Qemu's filter waits for the copy whatever the policy, so there the snapshot is given up.
  test.each(['break-snapshot', 'lose-block'] as const)(
    'test_timeout_break_snapshot, with %s: both writes succeed, nobody waits, and the snapshot can be read',
    async (onFailure) => {
      const { source, second, snapshot, throttled } = await throttledWrite(onFailure);
      await second;
      expectSame(source.bytes.subarray(0, SIZE / 2), filled(0x11, SIZE / 2));
      expectSame(source.bytes.subarray(SIZE / 2), filled(0x22, SIZE / 2));
      await vi.advanceTimersByTimeAsync(1000);
      expect(snapshot.states.counts.preserved).toBe(CLUSTERS);
      await expectFilled(snapshot, OLD, 0, SIZE);
      throttled.release();
      await turn();
      await expectFilled(snapshot, OLD, 0, SIZE);
    },
  );
});

describe('backup-discard-source: what has been stored is neither kept nor preserved', () => {
  test('test_discard_written: storing what was preserved gives its room back', async () => {
    const { temp, write, snapshot } = await setUp('fail-write');
    await write([0x11, 0, SIZE]);
    expect(temp.count('write')).toBe(CLUSTERS);
    snapshot.mark({ firstBlock: 0, blockCount: CLUSTERS }, 'storing');
    await expectFilled(snapshot, OLD, 0, SIZE);
    snapshot.mark({ firstBlock: 0, blockCount: CLUSTERS }, 'stored');
    await errorOf(contentOf(snapshot), 'BLOCK_RELEASED');
    // All of its room serves the next one, although the spill holds no more than one disk.
    const next = await snapshot.volume.createSnapshot();
    await write([0x22, 0, SIZE]);
    expect(temp.count('write')).toBe(2 * CLUSTERS);
    await expectFilled(next, 0x11, 0, SIZE);
  });

  test('test_discard_cbw: a guest write to what has been stored copies nothing', async () => {
    const { source, temp, write, snapshot } = await setUp('fail-write');
    snapshot.mark({ firstBlock: 0, blockCount: CLUSTERS }, 'storing');
    snapshot.mark({ firstBlock: 0, blockCount: CLUSTERS }, 'stored');
    await expectFilled(snapshot, OLD, 0, SIZE);
    const reads = source.count('read');
    await write([0x11, 0, SIZE]);
    expect(temp.count('write')).toBe(0);
    expect(source.count('read')).toBe(reads);
    await errorOf(contentOf(snapshot), 'BLOCK_RELEASED');
  });
});
