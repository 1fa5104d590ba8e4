import { describe, expect, test } from 'vitest';
import { BackupError } from '../../src/common/errors.ts';
import { deviceStack, type SyncBlockDevice } from '../../src/device/block-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { type Fault, scriptedFaults, seededFaults } from '../../src/testing/faults.ts';
import { type DeviceOperation, FaultyDevice } from '../../src/testing/faulty-device.ts';
import { asyncOnly } from '../device/support/doors.ts';
import { SparseDevice } from '../device/support/sparse-device.ts';

const SECTOR = 512;
const SIZE = 16 * SECTOR;

/** A device of ones with one fault in every call of an operation. */
function deviceWith(fault: Fault, operation?: DeviceOperation, nth?: number) {
  const inner = new SparseDevice(SIZE, { sectorSize: SECTOR });
  inner.bytes.fill(1);
  const sleeps: number[] = [];
  const clock = {
    async sleep(delayMs: number, signal?: AbortSignal) {
      sleeps.push(delayMs);
      await Promise.resolve();
      signal?.throwIfAborted();
    },
  };
  const device = new FaultyDevice(inner as SyncBlockDevice, scriptedFaults([{ operation, nth, fault }]), { clock });
  return { inner, device, sleeps };
}

const bytes = (length: number, value = 2) => new Uint8Array(length).fill(value);

describe('FaultyDevice', () => {
  test('fails a call before it does anything', async () => {
    const { inner, device } = deviceWith({ kind: 'fail-before' });
    const into = bytes(SECTOR, 9);
    await expect(device.write(0, bytes(SECTOR))).rejects.toMatchObject({ code: 'DEVICE_IO', retryable: true });
    await expect(device.read(0, into)).rejects.toMatchObject({ code: 'DEVICE_IO' });
    await expect(device.flush()).rejects.toMatchObject({ code: 'DEVICE_IO' });
    await expect(device.writeZeroes?.(0, SECTOR)).rejects.toMatchObject({ code: 'DEVICE_IO' });
    expect(() => device.writeSync(0, bytes(SECTOR))).toThrow(BackupError);
    expect(inner.bytes).toEqual(bytes(SIZE, 1));
    expect(into).toEqual(bytes(SECTOR, 9));
  });

  test('fails a call after it has done it, with the error that the fault names', async () => {
    const lost = new BackupError('DEVICE_BUSY', 'the answer was lost');
    const { inner, device } = deviceWith({ kind: 'fail-after', error: () => lost });
    await expect(device.write(0, bytes(SECTOR))).rejects.toBe(lost);
    expect(() => device.writeSync(SECTOR, bytes(SECTOR, 3))).toThrow(lost);
    expect(inner.bytes.subarray(0, 2 * SECTOR)).toEqual(
      new Uint8Array(Buffer.concat([bytes(SECTOR, 2), bytes(SECTOR, 3)])),
    );
    const into = bytes(SECTOR, 9);
    await expect(device.read(0, into)).rejects.toBe(lost);
    expect(into).toEqual(bytes(SECTOR, 2));
    const extents = async () => {
      for await (const _ of device.extents?.(0, SIZE) ?? []);
    };
    await expect(extents()).rejects.toBe(lost);
  });

  test('delays a call, and does it then', async () => {
    const { inner, device, sleeps } = deviceWith({ kind: 'delay', delayMs: 250 }, 'write');
    const write = device.write(0, bytes(SECTOR));
    expect(inner.bytes[0]).toBe(1);
    await write;
    expect(inner.bytes[0]).toBe(2);
    expect(sleeps).toEqual([250]);
  });

  test('a delayed call that is aborted rejects with the reason and does nothing', async () => {
    const { inner, device } = deviceWith({ kind: 'delay', delayMs: 250 });
    const controller = new AbortController();
    const write = device.write(0, bytes(SECTOR), { signal: controller.signal });
    controller.abort('no more');
    await expect(write).rejects.toBe('no more');
    expect(inner.bytes[0]).toBe(1);
  });

  test('truncates a read to whole sectors and says so', async () => {
    const { device } = deviceWith({ kind: 'truncate', keepBytes: 3 * SECTOR - 1 }, 'read');
    for (const door of ['async', 'sync']) {
      const into = bytes(4 * SECTOR, 9);
      const reading = async () => (door === 'async' ? device.read(0, into) : device.readSync(0, into));
      await expect(reading()).rejects.toMatchObject({ code: 'SHORT_READ' });
      expect(into).toEqual(new Uint8Array(Buffer.concat([bytes(2 * SECTOR, 1), bytes(2 * SECTOR, 9)])));
    }
  });

  test('tears a write, half of it when nothing else is said, and a discard and a write-zeroes alike', async () => {
    const { inner, device } = deviceWith({ kind: 'truncate' });
    await expect(device.write(0, bytes(4 * SECTOR))).rejects.toMatchObject({ code: 'SHORT_WRITE' });
    expect(inner.bytes.indexOf(1)).toBe(2 * SECTOR);
    expect(() => device.writeSync(0, bytes(2 * SECTOR, 3))).toThrow(BackupError);
    expect(inner.bytes.indexOf(2)).toBe(SECTOR);
    await expect(device.writeZeroes?.(0, 6 * SECTOR)).rejects.toMatchObject({ code: 'SHORT_WRITE' });
    expect(inner.bytes.indexOf(1)).toBe(3 * SECTOR);
    await expect(device.discard?.(0, 8 * SECTOR)).rejects.toMatchObject({ code: 'SHORT_WRITE' });
    expect(inner.bytes.indexOf(1)).toBe(4 * SECTOR);
  });

  test('ends extents early, with an error, and refuses whole what is out of range', async () => {
    const { inner, device } = deviceWith({ kind: 'truncate' });
    const seen: number[] = [];
    const extents = async (length: number) => {
      for await (const extent of device.extents?.(0, length) ?? []) seen.push(extent.length);
    };
    await expect(extents(SIZE)).rejects.toMatchObject({ code: 'SHORT_READ' });
    expect(seen).toEqual([SIZE / 2]);
    await expect(device.write(SIZE - SECTOR, bytes(2 * SECTOR))).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
    expect(inner.bytes).toEqual(bytes(SIZE, 1));
  });

  test('corrupts what is read and what is written in one bit, and tells nobody', async () => {
    const { inner, device } = deviceWith({ kind: 'corrupt', bit: 8 * 5 + 3 });
    const from = bytes(SECTOR);
    await device.write(0, from);
    device.writeSync(SECTOR, from);
    expect(from).toEqual(bytes(SECTOR));
    for (const start of [0, SECTOR]) {
      const written = inner.bytes.subarray(start, start + SECTOR);
      expect([...written.keys()].filter((at) => written[at] !== 2)).toEqual([5]);
      expect(written[5]).toBe(2 ^ 8);
    }
    for (const door of ['async', 'sync']) {
      const into = bytes(SECTOR, 9);
      if (door === 'async') await device.read(2 * SECTOR, into);
      else device.readSync(2 * SECTOR, into);
      expect([...into.keys()].filter((at) => into[at] !== 1)).toEqual([5]);
    }
  });

  test('never answers: only an abort or closing settles the call, and its buffer stays as it is', async () => {
    const { device } = deviceWith({ kind: 'never-answer' });
    const into = bytes(SECTOR, 9);
    const controller = new AbortController();
    let settled = 0;
    const count = () => {
      settled++;
    };
    const aborted = device.read(0, into, { signal: controller.signal });
    const cutOff = device.read(0, into);
    aborted.catch(count);
    cutOff.catch(count);
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(settled).toBe(0);
    controller.abort('enough');
    await expect(aborted).rejects.toBe('enough');
    expect(settled).toBe(1);
    await device.close();
    await expect(cutOff).rejects.toMatchObject({ code: 'CLOSED' });
    expect(into).toEqual(bytes(SECTOR, 9));
    expect(() => device.readSync(0, into)).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  });

  test('fails at once through the synchronous door where it would never answer, and passes what it would delay', () => {
    const never = deviceWith({ kind: 'never-answer' });
    expect(() => never.device.flushSync()).toThrow(expect.objectContaining({ code: 'DEVICE_IO' }));
    const late = deviceWith({ kind: 'delay', delayMs: 1000 });
    late.device.writeSync(0, bytes(SECTOR));
    expect(late.inner.bytes[0]).toBe(2);
    expect(late.sleeps).toEqual([]);
  });

  test('closing waits for calls in flight and leaves the inner device open', async () => {
    const inner = new MemoryDevice(SIZE, { sectorSize: SECTOR });
    const order: string[] = [];
    const device = new FaultyDevice(asyncOnly(inner));
    const write = device.write(0, bytes(SECTOR)).then(() => order.push('written'));
    await device.close().then(() => order.push('closed'));
    await write;
    expect(order).toEqual(['written', 'closed']);
    await inner.read(0, new Uint8Array(SECTOR));
  });

  test('a script counts the calls of an operation', async () => {
    const { device } = deviceWith({ kind: 'fail-before' }, 'write', 2);
    await device.read(0, bytes(SECTOR));
    await device.write(0, bytes(SECTOR));
    await expect(device.write(SECTOR, bytes(SECTOR))).rejects.toThrow(BackupError);
    await device.write(2 * SECTOR, bytes(SECTOR));
  });

  test('keeps a log of all calls through both doors, with what befell them', async () => {
    const { device } = deviceWith({ kind: 'corrupt' }, 'read');
    await device.write(SECTOR, bytes(SECTOR));
    device.readSync(2 * SECTOR, bytes(SECTOR));
    await device.flush();
    expect(device.calls).toEqual([
      { operation: 'write', subject: '512', offset: 512, length: 512, door: 'async', fault: undefined },
      { operation: 'read', subject: '1024', offset: 1024, length: 512, door: 'sync', fault: { kind: 'corrupt' } },
      { operation: 'flush', subject: '0', offset: 0, length: 0, door: 'async', fault: undefined },
    ]);
    expect([device.callCount(), device.callCount('read'), device.callCount('discard')]).toEqual([3, 1, 0]);
  });

  test('has what the inner device has, and nothing else', () => {
    const all = new FaultyDevice(new SparseDevice(SIZE, { sectorSize: SECTOR }));
    const none = new FaultyDevice(withoutOptionals(new MemoryDevice(SIZE)));
    for (const name of ['discard', 'writeZeroes', 'extents', 'readSync', 'writeSync', 'flushSync'] as const) {
      expect(typeof (all as never)[name], name).toBe('function');
      expect((none as never)[name], name).toBeUndefined();
    }
  });

  test('tells which device it stands on', () => {
    const inner = new MemoryDevice(SIZE);
    const device = new FaultyDevice(inner);
    expect([...deviceStack(device)]).toEqual([device, inner]);
  });

  test('a seeded plan replays: the same calls meet the same faults', async () => {
    const run = async (seed: number) => {
      const rates = { 'fail-before': 0.2, 'fail-after': 0.1, truncate: 0.1, corrupt: 0.1 };
      const plan = seededFaults<DeviceOperation>({ seed, rates: { read: rates, write: rates } });
      const device = new FaultyDevice(new MemoryDevice(SIZE, { sectorSize: SECTOR }), plan);
      for (let call = 0; call < 200; call++) {
        const offset = (call % 16) * SECTOR;
        if (call % 3 === 0) await device.read(offset, bytes(SECTOR)).catch(() => {});
        else await device.write(offset, bytes(SECTOR, call % 256)).catch(() => {});
      }
      return device.calls;
    };
    const first = await run(7);
    expect(await run(7)).toEqual(first);
    expect(await run(8)).not.toEqual(first);
    expect(new Set(first.map((call) => call.fault?.kind))).toEqual(
      new Set([undefined, 'fail-before', 'fail-after', 'truncate', 'corrupt']),
    );
  });
});

function withoutOptionals(device: MemoryDevice) {
  return {
    size: device.size,
    sectorSize: device.sectorSize,
    read: device.read.bind(device),
    write: device.write.bind(device),
    flush: device.flush.bind(device),
    [Symbol.asyncDispose]: () => device.close(),
  };
}
