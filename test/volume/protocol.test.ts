import { afterEach, describe, expect, test, vi } from 'vitest';
import { CopyOnWriteVolume, type SyncVolumeAccess } from '../../src/volume/copy-on-write-volume.ts';
import type { VolumeOptions } from '../../src/volume/volume-options.ts';
import type { VolumeSnapshot } from '../../src/volume/volume-snapshot.ts';
import { ControlledDevice, completeAll, settleMicrotasks } from './support/controlled-device.ts';
import { coreOf } from './support/protocol-inspector.ts';

/**
 * The traces that break the protocol when one of its rules is missing, each under its rule. `npm run test:mutations`
 * takes the rules out one by one and sees these fail.
 */

const BLOCK = 4096;

afterEach(() => {
  vi.useRealTimers();
});

async function open(options: VolumeOptions['preserve'] = {}) {
  const device = new ControlledDevice(4 * BLOCK);
  for (let block = 0; block < 4; block++) device.bytes.fill(10 + block, block * BLOCK, (block + 1) * BLOCK);
  const volume: CopyOnWriteVolume & SyncVolumeAccess = await CopyOnWriteVolume.open(device, {
    blockSize: BLOCK,
    preserve: options,
  });
  return { device, volume };
}

/** The call of that kind that the device has been waiting with longest. */
function call(device: ControlledDevice, kind: 'read' | 'write') {
  const found = device.pending.find((one) => one.kind === kind);
  if (found === undefined) throw new Error(`no ${kind} is at the device`);
  return found;
}

function finish(device: ControlledDevice, kind: 'read' | 'write') {
  const found = call(device, kind);
  found.advance();
  found.advance();
}

function block(fill: number): Uint8Array {
  return new Uint8Array(BLOCK).fill(fill);
}

/** One block of a snapshot, read while nothing else moves. */
async function readBlock(device: ControlledDevice, snapshot: VolumeSnapshot, at: number): Promise<Uint8Array> {
  const into = new Uint8Array(BLOCK);
  const reading = snapshot.read(at * BLOCK, into);
  reading.catch(() => {});
  await completeAll(device);
  await reading;
  return into;
}

describe('R1: the epoch stored is the newest ever given out, also when no snapshot lives', () => {
  test('a write after the only snapshot was dropped is known as a change since it', async () => {
    const { device, volume } = await open();
    const snapshot = await volume.createSnapshot();
    await snapshot.close();
    const writing = volume.write(2 * BLOCK, block(1));
    await completeAll(device);
    await writing;
    expect([...(volume.changedSince(snapshot.point) ?? ['unknown'])]).toEqual([{ firstBlock: 2, blockCount: 1 }]);
  });
});

describe('R2: the last test, the epochs, the claims and the call of the device are one step', () => {
  test('a second writer of a claimed block does not pass before there is a pre-image', async () => {
    const { device, volume } = await open();
    const snapshot = await volume.createSnapshot();
    const first = volume.write(0, block(1));
    await settleMicrotasks();
    const second = volume.write(100, block(2).subarray(0, 50));
    await settleMicrotasks();
    expect(device.pending.map(({ kind }) => kind)).toEqual(['read']);
    await completeAll(device);
    await Promise.all([first, second]);
    expect(await readBlock(device, snapshot, 0)).toEqual(block(10));
  });

  test('a reader does not take a block that is being overwritten from the device', async () => {
    const { device, volume } = await open();
    const snapshot = await volume.createSnapshot();
    snapshot.mark(0, 'storing');
    snapshot.mark(0, 'stored'); // Exempt: its overwrite goes to the device without a pre-image.
    const writing = volume.write(0, block(1));
    await settleMicrotasks();
    call(device, 'write').advance(); // Half of it is there.
    const reading = snapshot.read(0, new Uint8Array(BLOCK));
    await expect(reading).rejects.toMatchObject({ code: 'BLOCK_RELEASED' });
    await completeAll(device);
    await writing;
  });

  test('a write that failed half-way is known as a change', async () => {
    const { device, volume } = await open();
    const snapshot = await volume.createSnapshot();
    const writing = volume.write(0, block(1));
    writing.catch(() => {});
    await settleMicrotasks();
    finish(device, 'read');
    await settleMicrotasks();
    const write = call(device, 'write');
    write.advance();
    write.fail();
    await expect(writing).rejects.toMatchObject({ code: 'DEVICE_IO' });
    expect(device.bytes[0]).toBe(1); // Torn.
    expect([...(volume.changedSince(snapshot.point) ?? ['unknown'])]).toEqual([{ firstBlock: 0, blockCount: 1 }]);
    expect(await readBlock(device, snapshot, 0)).toEqual(block(10));
  });

  test('a write preserves also for a snapshot whose instant passed while it was preserving', async () => {
    const { device, volume } = await open();
    const first = await volume.createSnapshot();
    first.mark(1, 'inherited'); // So the write waits for the pre-image of block 0 only.
    const writing = volume.write(0, new Uint8Array(2 * BLOCK).fill(1));
    await settleMicrotasks();
    const second = await volume.createSnapshot();
    await completeAll(device);
    await writing;
    for (const at of [0, 1]) expect(await readBlock(device, second, at)).toEqual(block(10 + at));
    expect(await readBlock(device, first, 0)).toEqual(block(10));
  });
});

describe('R2, the removal of claims', () => {
  test('a claim on a block that was overwritten because nobody wanted it any more adds nothing', async () => {
    const { device, volume } = await open();
    const first = await volume.createSnapshot();
    const waiting = volume.write(0, block(1));
    await settleMicrotasks();
    const late = call(device, 'read');
    late.advance();
    first.mark(0, 'inherited');
    const passing = volume.write(0, block(2));
    await settleMicrotasks();
    while (device.writesInFlight.length > 0) device.writesInFlight[0]?.advance();
    await Promise.all([waiting, passing]);
    const second = await volume.createSnapshot();
    const now = device.bytes[0] as number;
    late.advance();
    await settleMicrotasks();
    volume.writeSync(0, block(3));
    expect(await readBlock(device, second, 0)).toEqual(block(now));
  });
});

describe('R4: what a reader got from the device counts only if the block was neither overwritten nor preserved', () => {
  test.each(['stored', 'inherited'] as const)(
    'a %s block overwritten under a read is not returned torn',
    async (mark) => {
      const { device, volume } = await open();
      const snapshot = await volume.createSnapshot();
      const into = new Uint8Array(BLOCK);
      const reading = snapshot.read(0, into);
      await settleMicrotasks();
      if (mark === 'stored') snapshot.mark(0, 'storing');
      snapshot.mark(0, mark);
      const writing = volume.write(0, block(1));
      await settleMicrotasks();
      call(device, 'write').advance();
      finish(device, 'read');
      await expect(reading).rejects.toMatchObject({ code: 'BLOCK_RELEASED' });
      await completeAll(device);
      await writing;
    },
  );

  test('a lost block overwritten under a read is lost, not torn', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { device, volume } = await open({ onFailure: 'lose-block', deadlineMs: 100 });
    const snapshot = await volume.createSnapshot();
    const reading = snapshot.read(0, new Uint8Array(BLOCK));
    await settleMicrotasks();
    const readerCall = call(device, 'read');
    const writing = volume.write(0, block(1));
    await settleMicrotasks();
    vi.advanceTimersByTime(100);
    await settleMicrotasks();
    call(device, 'write').advance();
    readerCall.advance();
    readerCall.advance();
    await expect(reading).rejects.toMatchObject({ code: 'BLOCK_LOST' });
    await completeAll(device);
    await writing;
  });

  test('a block preserved under a read is answered from its pre-image', async () => {
    const { device, volume } = await open();
    const snapshot = await volume.createSnapshot();
    const into = new Uint8Array(BLOCK);
    const reading = snapshot.read(0, into);
    await settleMicrotasks();
    const readerCall = call(device, 'read');
    volume.writeSync(0, block(1));
    readerCall.advance();
    readerCall.advance();
    await reading;
    expect(into).toEqual(block(10));
  });

  test('a read error counts no more than bytes do once the block has moved', async () => {
    const { device, volume } = await open();
    const snapshot = await volume.createSnapshot();
    const into = new Uint8Array(2 * BLOCK);
    const reading = snapshot.read(0, into);
    await settleMicrotasks();
    const readerCall = call(device, 'read');
    volume.writeSync(0, block(1));
    readerCall.fail();
    await completeAll(device);
    await reading;
    expect(into.subarray(0, BLOCK)).toEqual(block(10));
    expect(into.subarray(BLOCK)).toEqual(block(11));
  });

  test("a read error of a block that is still the device's is the answer", async () => {
    const { device, volume } = await open();
    const snapshot = await volume.createSnapshot();
    const reading = snapshot.read(0, new Uint8Array(BLOCK));
    await settleMicrotasks();
    call(device, 'read').fail();
    await expect(reading).rejects.toMatchObject({ code: 'DEVICE_IO' });
  });

  test('a read over more places than are read at a time is as of the instant in all of them', async () => {
    const device = new ControlledDevice(64 * BLOCK);
    for (let at = 0; at < device.size; at++) device.bytes[at] = (at >> 12) + 1;
    const before = device.bytes.slice();
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const snapshot = volume.createSnapshotSync();
    for (let at = 0; at < 64; at += 2) volume.writeSync(at * BLOCK, block(200));
    const into = new Uint8Array(device.size);
    const reading = snapshot.read(0, into);
    await settleMicrotasks();
    expect(device.pending.length).toBeLessThanOrEqual(16);
    for (let at = 1; at < 64; at += 2) volume.writeSync(at * BLOCK, block(201));
    await completeAll(device);
    await reading;
    expect(Buffer.compare(into, before)).toBe(0);
  });

  test('extents that the device reported of a block overwritten meanwhile promise nothing', async () => {
    const { device, volume: plain } = await open();
    await plain.close();
    const reported = Promise.withResolvers<void>();
    const asked = Promise.withResolvers<void>();
    Object.assign(device, {
      extents: async function* (offset: number, length: number) {
        asked.resolve();
        await reported.promise;
        yield { offset, length, kind: 'zero' as const };
      },
    });
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const snapshot = await volume.createSnapshot();
    const telling = Array.fromAsync(snapshot.extents(0, BLOCK));
    await asked.promise;
    volume.writeSync(0, new Uint8Array(BLOCK)); // The device is all zeroes here from now on; the snapshot is not.
    reported.resolve();
    expect(await telling).toEqual([{ offset: 0, length: BLOCK, kind: 'data' }]);
  });
});

describe('R5: a removed claim registers nothing, and keeps its room until its I/O has come to rest', () => {
  test("a pre-image that comes after `lose-block` does not become the next snapshot's", async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { device, volume } = await open({
      onFailure: 'lose-block',
      deadlineMs: 100,
      memoryBytes: 2 * BLOCK,
      spillBytes: 0,
    });
    const first = await volume.createSnapshot();
    const writing = volume.write(0, block(1));
    await settleMicrotasks();
    const late = call(device, 'read');
    late.advance(); // Half of the old content ...
    vi.advanceTimersByTime(100);
    await settleMicrotasks();
    finish(device, 'write');
    await writing;
    expect(first.states.get(0)).toBe('lost');
    const second = await volume.createSnapshot();
    const rooms = () => {
      const { buffers } = coreOf(volume);
      const taken = [1, 2, 3].map(() => buffers.allocate()).filter((room) => room !== undefined);
      for (const room of taken) buffers.release(room);
      return taken.length;
    };
    expect(rooms()).toBe(1); // One of two is still the late read's.
    late.advance(); // ... and half of the new.
    await settleMicrotasks();
    expect(rooms()).toBe(2);
    const again = volume.write(0, block(2));
    await completeAll(device);
    await again;
    expect(await readBlock(device, second, 0)).toEqual(block(1));
    await expect(readBlock(device, first, 0)).rejects.toMatchObject({ code: 'BLOCK_LOST' });
  });
});

describe('R6: whom a pre-image serves is computed when it is there, and again at the overwrite', () => {
  test('one that no snapshot wants any more is dropped, and its room with it', async () => {
    const { device, volume } = await open({ memoryBytes: BLOCK, spillBytes: 0 });
    const snapshot = await volume.createSnapshot();
    const writing = volume.write(0, block(1));
    await settleMicrotasks();
    await snapshot.close();
    await completeAll(device);
    await writing;
    expect(coreOf(volume).buffers.allocate()).toBeDefined();
    expect(coreOf(volume).preimages.find(0, 1)).toBeUndefined();
  });

  test('one read for a write that was then aborted serves a later snapshot without a second read', async () => {
    const { device, volume } = await open();
    const first = await volume.createSnapshot();
    const abort = new AbortController();
    const aborted = volume.write(0, block(1), { signal: abort.signal });
    aborted.catch(() => {});
    await settleMicrotasks();
    abort.abort();
    finish(device, 'read');
    await expect(aborted).rejects.toThrow('aborted');
    const second = await volume.createSnapshot();
    const writing = volume.write(0, block(2));
    await settleMicrotasks();
    expect(device.pending.map(({ kind }) => kind)).toEqual(['write']);
    await completeAll(device);
    await writing;
    for (const snapshot of [first, second]) expect(await readBlock(device, snapshot, 0)).toEqual(block(10));
    expect(second.states.get(0)).toBe('preserved');
  });

  test('a later snapshot is not served what was overwritten before it', async () => {
    const { device, volume } = await open();
    const first = await volume.createSnapshot();
    volume.writeSync(0, block(1));
    const second = await volume.createSnapshot();
    volume.writeSync(0, block(2));
    expect(await readBlock(device, first, 0)).toEqual(block(10));
    expect(await readBlock(device, second, 0)).toEqual(block(1));
  });
});

describe('R7: the synchronous door reads, preserves and writes in one step', () => {
  test('it overtakes a claim, and who waited for the claim goes on', async () => {
    const { device, volume } = await open();
    const snapshot = await volume.createSnapshot();
    const writing = volume.write(0, block(1));
    await settleMicrotasks();
    const late = call(device, 'read');
    volume.writeSync(0, block(2));
    expect(device.bytes[0]).toBe(2);
    await settleMicrotasks();
    finish(device, 'write');
    await writing;
    expect(device.bytes[0]).toBe(1);
    late.advance();
    late.advance(); // Reads what is newer than the snapshot.
    await settleMicrotasks();
    expect(await readBlock(device, snapshot, 0)).toEqual(block(10));
  });

  test('what it has preserved stays when it fails later on, and the claim it overtook adds nothing', async () => {
    const { device, volume } = await open({ onFailure: 'fail-write', memoryBytes: 2 * BLOCK, spillBytes: 0 });
    const first = await volume.createSnapshot();
    const writing = volume.write(0, block(1));
    await settleMicrotasks();
    const late = call(device, 'read');
    // One room is the claim's, one goes to block 0, and there is none for block 1.
    expect(() => volume.writeSync(0, new Uint8Array(2 * BLOCK).fill(2))).toThrow('block 1');
    late.advance();
    late.advance();
    await completeAll(device);
    await writing;
    const second = await volume.createSnapshot();
    volume.writeSync(0, block(3));
    expect(await readBlock(device, first, 0)).toEqual(block(10));
    expect(await readBlock(device, second, 0)).toEqual(block(1));
  });
});

describe('R8: wanted are pending, preserved and storing blocks', () => {
  test('an overwrite while storing preserves, and failing falls back to the pre-image', async () => {
    const { device, volume } = await open();
    const snapshot = await volume.createSnapshot();
    snapshot.mark(0, 'storing');
    volume.writeSync(0, block(1));
    expect(snapshot.states.get(0)).toBe('storing');
    expect(await readBlock(device, snapshot, 0)).toEqual(block(10));
    snapshot.mark(0, 'failed');
    expect(snapshot.states.get(0)).toBe('preserved');
    expect(await readBlock(device, snapshot, 0)).toEqual(block(10));
  });

  test('failing without an overwrite falls back to pending', async () => {
    const { volume } = await open();
    const snapshot = await volume.createSnapshot();
    snapshot.mark(0, 'storing');
    snapshot.mark(0, 'failed');
    expect(snapshot.states.get(0)).toBe('pending');
  });

  test('a storing block that was given up goes on storing, and failing then means lost', async () => {
    const { volume } = await open({ onFailure: 'lose-block', memoryBytes: 0, spillBytes: 0 });
    const snapshot = await volume.createSnapshot();
    snapshot.mark({ firstBlock: 0, blockCount: 2 }, 'storing');
    volume.writeSync(0, new Uint8Array(2 * BLOCK).fill(1));
    expect(snapshot.states.counts.storing).toBe(2);
    snapshot.mark(0, 'stored');
    snapshot.mark(1, 'failed');
    expect(snapshot.states.get(0)).toBe('stored');
    expect(snapshot.states.get(1)).toBe('lost');
  });

  test('late marks on a closed or broken snapshot do nothing', async () => {
    const { volume } = await open({ memoryBytes: 0, spillBytes: 0 });
    const [broken, closed] = [await volume.createSnapshot(), await volume.createSnapshot()];
    await closed.close();
    volume.writeSync(0, block(1));
    expect(broken.status).toBe('broken');
    for (const snapshot of [broken, closed]) {
      snapshot.mark(0, 'stored');
      expect(snapshot.states.get(0)).toBe('pending');
    }
  });
});

describe('R9: the hold is no longer than the slowest write at the device', () => {
  test('a write that is preserving does not lengthen the drain, and meets no hold', async () => {
    const { device, volume } = await open();
    const first = await volume.createSnapshot();
    const preserving = volume.write(0, block(1));
    await settleMicrotasks();
    const second = await volume.createSnapshot(); // Resolves although the claim's read has not.
    await completeAll(device);
    await preserving;
    for (const snapshot of [first, second]) expect(await readBlock(device, snapshot, 0)).toEqual(block(10));
  });

  test('a write that has preserved while a drain goes on waits for the instant, and does not lengthen it', async () => {
    const { device, volume } = await open();
    const first = await volume.createSnapshot();
    first.mark(3, 'inherited');
    const atDevice = volume.write(3 * BLOCK, block(9));
    const preserving = volume.write(0, block(1));
    await settleMicrotasks();
    const freezing = volume.createSnapshot();
    finish(device, 'read');
    await settleMicrotasks();
    expect(device.writesInFlight.map(({ offset }) => offset)).toEqual([3 * BLOCK]);
    finish(device, 'write');
    await atDevice;
    const second = await freezing;
    await completeAll(device);
    await preserving;
    expect(device.bytes[0]).toBe(1);
    for (const snapshot of [first, second]) expect(await readBlock(device, snapshot, 0)).toEqual(block(10));
    expect(await readBlock(device, second, 3)).toEqual(block(9));
  });

  test('a write issued by then is waited for, a new one is held and not in the snapshot', async () => {
    const { device, volume } = await open();
    const early = volume.write(0, block(1));
    const freezing = volume.createSnapshot();
    const held = volume.write(BLOCK, block(2));
    await settleMicrotasks();
    expect(device.pending.map(({ offset }) => offset)).toEqual([0]);
    finish(device, 'write');
    await early;
    const snapshot = await freezing;
    await completeAll(device);
    await held;
    expect(await readBlock(device, snapshot, 0)).toEqual(block(1));
    expect(await readBlock(device, snapshot, 1)).toEqual(block(11));
  });

  test('overlapping instants join one drain', async () => {
    const { device, volume } = await open();
    const early = volume.write(0, block(1));
    const both = Promise.all([volume.createSnapshot(), volume.createSnapshot()]);
    await settleMicrotasks();
    finish(device, 'write');
    await early;
    const [first, second] = await both;
    expect(first.point.epoch).not.toBe(second.point.epoch);
    const writing = volume.write(0, block(2));
    await completeAll(device);
    await writing;
    for (const snapshot of [first, second]) expect(await readBlock(device, snapshot, 0)).toEqual(block(1));
  });

  test('a drain that is aborted lets held writes go', async () => {
    const { device, volume } = await open();
    const early = volume.write(0, block(1));
    const abort = new AbortController();
    const freezing = volume.createSnapshot({ signal: abort.signal });
    freezing.catch(() => {});
    const held = volume.write(BLOCK, block(2));
    await settleMicrotasks();
    abort.abort(new Error('no longer'));
    await expect(freezing).rejects.toThrow('no longer');
    await completeAll(device);
    await Promise.all([early, held]);
    expect(volume.snapshots).toEqual([]);
  });

  test('an asynchronous `atInstant` is refused, and leaves no snapshot behind', async () => {
    const { volume } = await open();
    const freezing = volume.createSnapshot({ atInstant: async () => Promise.reject(new Error('late')) });
    await expect(freezing).rejects.toThrow(TypeError);
    expect(volume.snapshots).toEqual([]);
  });

  test('the epoch has moved when `atInstant` runs', async () => {
    const { device, volume } = await open();
    const snapshot = await volume.createSnapshot({ atInstant: () => volume.writeSync(0, block(1)) });
    expect(await readBlock(device, snapshot, 0)).toEqual(block(10));
  });
});

describe('R10: no epoch byte crosses an await', () => {
  test('renumbering under a claim and under a read leaves both right', async () => {
    const { device, volume } = await open();
    for (let i = 0; i < 200; i++) await volume.createSnapshotSync().close();
    const snapshot = await volume.createSnapshot();
    const writing = volume.write(0, block(1));
    const into = new Uint8Array(BLOCK);
    const reading = snapshot.read(2 * BLOCK, into);
    await settleMicrotasks();
    for (let i = 0; i < 300; i++) await volume.createSnapshotSync().close();
    volume.writeSync(2 * BLOCK, block(3));
    await completeAll(device);
    await Promise.all([writing, reading]);
    expect(into).toEqual(block(12));
    expect(await readBlock(device, snapshot, 0)).toEqual(block(10));
    expect(await readBlock(device, snapshot, 2)).toEqual(block(12));
    expect([...(volume.changedSince(snapshot.point) ?? ['unknown'])]).toEqual([
      { firstBlock: 0, blockCount: 1 },
      { firstBlock: 2, blockCount: 1 },
    ]);
  });

  test('a group that is refused renumbers nobody: a late claim does not become the next snapshot', async () => {
    const { device, volume } = await open();
    const full = await open();
    for (let i = 0; i < 254; i++) await full.volume.createSnapshot();
    for (let i = 0; i < 253; i++) volume.createSnapshotSync();
    const abort = new AbortController();
    const aborted = volume.write(0, block(1), { signal: abort.signal });
    aborted.catch(() => {});
    await settleMicrotasks();
    const late = call(device, 'read');
    late.advance();
    for (const snapshot of volume.snapshots) snapshot.mark(0, 'inherited');
    await volume.createSnapshotSync().close();
    await volume.createSnapshotSync().close();
    volume.writeSync(0, block(2));
    abort.abort();
    const group = CopyOnWriteVolume.createSnapshots([volume, full.volume]);
    await expect(group).rejects.toMatchObject({ code: 'SNAPSHOT_LIMIT' });
    volume.writeSync(0, block(3));
    const next = volume.createSnapshotSync();
    late.advance();
    await settleMicrotasks();
    volume.writeSync(0, block(4));
    expect(await readBlock(device, next, 0)).toEqual(block(3));
  });

  test('a point is a serial that never returns; one no longer kept rounds down, or is not known', async () => {
    const { volume } = await open();
    const points = [];
    const held = volume.createSnapshotSync();
    for (let i = 0; i < 600; i++) {
      const snapshot = volume.createSnapshotSync();
      points.push(snapshot.point);
      await snapshot.close();
      if (i === 5) volume.writeSync(0, block(1));
    }
    expect(new Set(points.map(({ epoch }) => epoch)).size).toBe(600);
    // The oldest points are gone and round down to the held one, which is older: too much is reported, never too little.
    expect([...(volume.changedSince(points[10] as never) ?? ['unknown'])]).toEqual([{ firstBlock: 0, blockCount: 1 }]);
    expect([...(volume.changedSince(points[599] as never) ?? ['unknown'])]).toEqual([]);
    await held.close();
    for (let i = 0; i < 300; i++) await volume.createSnapshotSync().close();
    expect(volume.changedSince(held.point)).toBeUndefined();
    expect(volume.changedSince({ trackingId: volume.trackingId, epoch: 1e9 })).toBeUndefined();
    expect(volume.changedSince({ trackingId: 'another', epoch: 899 })).toBeUndefined();
  });
});

describe('R11: what an incremental wants', () => {
  test('changes asked for after the instant hold every block that differs from the base', async () => {
    const { device, volume } = await open();
    const base = await volume.createSnapshot();
    const writing = volume.write(BLOCK, block(1));
    await settleMicrotasks();
    finish(device, 'read');
    await settleMicrotasks();
    const freezing = volume.createSnapshot(); // Waits for the write at the device.
    await settleMicrotasks();
    finish(device, 'write');
    await writing;
    const next = await freezing;
    expect([...(volume.changedSince(base.point) ?? ['unknown'])]).toEqual([{ firstBlock: 1, blockCount: 1 }]);
    expect(await readBlock(device, next, 1)).toEqual(block(1));
  });

  test("a block lost in the base need not have changed since: the base's lost blocks are wanted too", async () => {
    const { device, volume } = await open({ onFailure: 'lose-block', memoryBytes: BLOCK, spillBytes: 0 });
    const base = await volume.createSnapshot();
    const abort = new AbortController();
    // There is room for one of two pre-images: block 1 is given up while block 0 is still being read.
    const aborted = volume.write(0, new Uint8Array(2 * BLOCK), { signal: abort.signal });
    aborted.catch(() => {});
    await settleMicrotasks();
    abort.abort();
    await completeAll(device);
    await expect(aborted).rejects.toThrow('aborted');
    expect(base.states.get(1)).toBe('lost');
    expect([...(volume.changedSince(base.point) ?? ['unknown'])]).toEqual([]);
  });
});
