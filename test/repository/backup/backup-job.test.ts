import { describe, expect, test } from 'vitest';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import { randomBytes, randomForTest } from '../../support/randomness.ts';
import { errorOf, expectSame } from '../../volume/support/bytes.ts';
import {
  BLOCK,
  contentOfBackup,
  createIn,
  notedTarget,
  openIn,
  openVolume,
  SMALL,
  until,
  writeBlock,
} from '../support/repositories.ts';

describe.each([false, true])('encrypted: %s', (isEncrypted) => {
  test('a full backup reads back byte for byte, also by another host', async () => {
    const target = new MemoryTarget();
    const repository = await createIn(target, isEncrypted);
    const { device, volume } = await openVolume();
    const result = await repository.backup(volume, { volume: 'disk', metadata: { why: 'test' } });
    expect(result).toMatchObject({
      volume: 'disk',
      size: device.size,
      blockSize: BLOCK,
      base: undefined,
      intact: true,
    });
    expect(result).toMatchObject({ changeSource: 'everything', readBytes: device.size, warnings: [], lostBytes: 0 });
    expectSame(await contentOfBackup(repository, result.id), device.bytes);
    const other = await openIn(target, isEncrypted);
    expectSame(await contentOfBackup(other, result.id), device.bytes);
    expect(await Array.fromAsync(other.listBackups())).toMatchObject([{ id: result.id, metadata: { why: 'test' } }]);
  });

  test('an incremental reads and stores what was written, in four requests', async () => {
    const { target, calls } = notedTarget();
    const repository = await createIn(target, isEncrypted);
    const { device, volume } = await openVolume();
    const first = await repository.backup(volume, { volume: 'disk' });
    const before = device.bytes.slice();
    await writeBlock(volume, 11);
    calls.length = 0;
    const second = await repository.backup(volume, { volume: 'disk' });
    expect(second).toMatchObject({ base: first.id, changeSource: 'tracked', readBytes: BLOCK, requests: 4 });
    expect(calls.map((call) => call.replace(/[0-9a-f]{13,}/g, '#'))).toEqual([
      'put log/#',
      'put packs/#/#',
      'put log/#',
      'list log/',
    ]);
    expectSame(await contentOfBackup(repository, second.id), device.bytes);
    expectSame(await contentOfBackup(repository, first.id), before);
    expect(await Array.fromAsync(repository.diff(first.id, second.id))).toEqual([
      { offset: 11 * BLOCK, length: BLOCK },
    ]);
  });

  test('a lazy backup stores what is overwritten, and the sweep the rest', async () => {
    const repository = await createIn(new MemoryTarget(), isEncrypted);
    const { device, volume } = await openVolume();
    const frozen = device.bytes.slice();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    expect(job).toMatchObject({ status: 'lazy', volume: 'disk' });
    for (const block of [1, 2, 8, 49, 30]) await writeBlock(volume, block);
    await volume.write(50 * BLOCK, randomBytes(1000));
    await until(() => job.states.counts.storing + job.states.counts.stored + job.states.counts.zero === 6);
    expect(job.states.counts.pending).toBe(51 - 6);
    expect(job.sweep()).toBe(job);
    for (const block of [3, 2, 40, 20]) await writeBlock(volume, block);
    const result = await job.done;
    expect(job.status).toBe('committed');
    expect(repository.jobs).toEqual([]);
    expectSame(await contentOfBackup(repository, result.id), frozen);
  });

  test('a lazy backup whose every block was overwritten completes by itself', async () => {
    const repository = await createIn(new MemoryTarget(), isEncrypted);
    const { device, volume } = await openVolume(20);
    const frozen = device.bytes.slice();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    await volume.write(0, randomBytes(device.size));
    const result = await job.done;
    expectSame(await contentOfBackup(repository, result.id), frozen);
  });

  test('blocks that become zeroes, and blocks that were, are what they were at each instant', async () => {
    const repository = await createIn(new MemoryTarget(), isEncrypted);
    const { device, volume } = await openVolume();
    await repository.backup(volume, { volume: 'disk' });
    await writeBlock(volume, 3, new Uint8Array(BLOCK)); // Found zero by the sweep.
    await writeBlock(volume, 4, new Uint8Array(BLOCK)); // Found zero when it is overwritten.
    await writeBlock(volume, 5, randomBytes(BLOCK)); // Was zeroes.
    const frozen = device.bytes.slice();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    await writeBlock(volume, 4);
    const { id } = await job.sweep().done;
    expectSame(await contentOfBackup(repository, id), frozen);
    const third = await repository.backup(volume, { volume: 'disk' });
    expectSame(await contentOfBackup(repository, third.id), device.bytes);
  });

  test('many incrementals on each other, each read back in the end', async () => {
    const target = new MemoryTarget();
    const repository = await createIn(target, isEncrypted);
    const { device, volume } = await openVolume(200);
    const contents = new Map<string, Uint8Array>();
    const random = randomForTest();
    for (let round = 0; round < 24; round++) {
      for (let n = 0; n < round % 5; n++) {
        const block = random.below(200);
        await writeBlock(volume, block, round % 3 ? randomBytes(BLOCK) : new Uint8Array(BLOCK));
      }
      const { id } = await repository.backup(volume, { volume: 'disk' });
      contents.set(id, device.bytes.slice());
    }
    const other = await openIn(target, isEncrypted);
    for (const [id, bytes] of contents) expectSame(await contentOfBackup(other, id), bytes);
  });
});

describe('where the knowledge of what changed comes from', () => {
  test('another volume object has another tracking id: contents are compared, and only differences are stored', async () => {
    const target = new MemoryTarget();
    const repository = await createIn(target);
    const { device, volume } = await openVolume();
    const first = await repository.backup(volume, { volume: 'disk' });
    await volume.close();
    const again = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    await writeBlock(again, 7);
    await writeBlock(again, 8, new Uint8Array(BLOCK));
    const second = await repository.backup(again, { volume: 'disk' });
    expect(second).toMatchObject({ changeSource: 'compared', base: first.id, readBytes: device.size });
    expect(second.uploadedBytes).toBeLessThan(3 * BLOCK);
    expectSame(await contentOfBackup(repository, second.id), device.bytes);
    expect(await Array.fromAsync(repository.diff(first.id, second.id))).toEqual([
      { offset: 7 * BLOCK, length: 2 * BLOCK },
    ]);
  });

  test('a grown and a shrunk volume are compared too', async () => {
    const repository = await createIn(new MemoryTarget());
    const small = await openVolume(20);
    await repository.backup(small.volume, { volume: 'disk' });
    const large = await openVolume(300);
    large.device.bytes.set(small.device.bytes);
    const grown = await repository.backup(large.volume, { volume: 'disk' });
    expect(grown).toMatchObject({ changeSource: 'compared', size: large.device.size });
    expectSame(await contentOfBackup(repository, grown.id), large.device.bytes);
    const shrunk = await openVolume(9);
    shrunk.device.bytes.set(large.device.bytes.subarray(0, shrunk.device.size));
    const result = await repository.backup(shrunk.volume, { volume: 'disk' });
    expectSame(await contentOfBackup(repository, result.id), shrunk.device.bytes);
  });

  test("another block size, or base: 'none', is everything", async () => {
    const repository = await createIn(new MemoryTarget());
    const { device, volume } = await openVolume();
    const first = await repository.backup(volume, { volume: 'disk' });
    const full = await repository.backup(volume, { volume: 'disk', base: 'none' });
    expect(full).toMatchObject({ changeSource: 'everything', base: undefined });
    const older = await repository.backup(volume, { volume: 'disk', base: first.id });
    expect(older).toMatchObject({ changeSource: 'compared', changeReason: 'base-not-newest', base: first.id });
    await volume.close();
    const other = await CopyOnWriteVolume.open(device, { blockSize: 2 * BLOCK });
    const result = await repository.backup(other, { volume: 'disk' });
    expect(result).toMatchObject({ changeSource: 'everything', blockSize: 2 * BLOCK });
    expectSame(await contentOfBackup(repository, result.id), device.bytes);
    await errorOf(Array.fromAsync(repository.diff(first.id, result.id)), 'BLOCK_SIZE_MISMATCH');
  });

  test('writes that went past the volume are found by the sample, and everything is compared', async () => {
    const repository = await createIn(new MemoryTarget());
    const { device, volume } = await openVolume();
    await repository.backup(volume, { volume: 'disk' });
    device.bytes.set(randomBytes(30 * BLOCK), 10 * BLOCK); // Nobody saw it.
    await writeBlock(volume, 2);
    const result = await repository.backup(volume, { volume: 'disk', sampleBlocks: 50 });
    expect(result.changeSource).toBe('compared');
    expect(result.warnings.map(({ code }) => code)).toEqual(['CHANGE_TRACKING_WRONG']);
    expectSame(await contentOfBackup(repository, result.id), device.bytes);
  });
});

describe('lost blocks', () => {
  test('are said, read as BLOCK_LOST, and healed by the next backup', async () => {
    const repository = await createIn(new MemoryTarget());
    const { device, volume } = await openVolume(50, {
      preserve: { memoryBytes: 0, spillBytes: 0, onFailure: 'lose-block' },
    });
    await repository.backup(volume, { volume: 'disk' });
    await writeBlock(volume, 12);
    const job = await repository.startBackup(volume, { volume: 'disk' });
    const frozen = device.bytes.slice();
    await writeBlock(volume, 12);
    await writeBlock(volume, 13); // Inherited: not wanted, so not lost.
    const result = await job.sweep().done;
    expect(result).toMatchObject({ intact: false, lostBytes: BLOCK });
    await using image = await repository.openBackup(result.id);
    await errorOf(image.read(12 * BLOCK, new Uint8Array(BLOCK)), 'BLOCK_LOST');
    const rest = new Uint8Array(device.size - 13 * BLOCK);
    await image.read(13 * BLOCK, rest);
    expectSame(rest, frozen.subarray(13 * BLOCK));
    const next = await repository.backup(volume, { volume: 'disk' });
    expect(next).toMatchObject({ intact: true, changeSource: 'tracked' });
    expectSame(await contentOfBackup(repository, next.id), device.bytes);
  });

  test('a broken snapshot fails its job', async () => {
    const repository = await createIn(new MemoryTarget());
    const { volume } = await openVolume(400, {
      preserve: { memoryBytes: 2 ** 20, spillBytes: 0, onFailure: 'break-snapshot' },
    });
    const job = await repository.startBackup(volume, { volume: 'disk' });
    job.pause();
    for (let block = 0; block < 400; block++) await writeBlock(volume, block);
    await errorOf(job.done, 'SNAPSHOT_BROKEN');
    expect(job.status).toBe('failed');
    await volume.close();
  });
});

describe('steering', () => {
  test('pause stores nothing, what is overwritten is preserved, resume goes on', async () => {
    const repository = await createIn(new MemoryTarget());
    const { device, volume } = await openVolume();
    const frozen = device.bytes.slice();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    job.pause();
    expect(job.status).toBe('paused');
    job.sweep();
    await writeBlock(volume, 1);
    await until(() => job.states.get(1) === 'preserved');
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(job.states.counts).toMatchObject({ storing: 0, stored: 0 });
    job.resume();
    expect(job.status).toBe('sweeping');
    expectSame(await contentOfBackup(repository, (await job.done).id), frozen);
  });

  test('cancel needs no network, frees the snapshot and the volume', async () => {
    const inner = new MemoryTarget();
    const repository = await createIn(inner);
    const { volume } = await openVolume();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    await writeBlock(volume, 1);
    inner.put = () => new Promise(() => {}); // The network is gone.
    const first = job.cancel();
    await first;
    expect(job.status).toBe('cancelled');
    await expect(job.done).rejects.toMatchObject({ name: 'AbortError' });
    expect(volume.snapshots).toEqual([]);
    await job.cancel();
  });

  test('a signal cancels with its reason, before and during', async () => {
    const repository = await createIn(new MemoryTarget());
    const { device, volume } = await openVolume();
    const reason = new Error('enough');
    await expect(repository.startBackup(volume, { volume: 'disk', signal: AbortSignal.abort(reason) })).rejects.toBe(
      reason,
    );
    const controller = new AbortController();
    const job = await repository.startBackup(volume, { volume: 'disk', signal: controller.signal });
    controller.abort(reason);
    await expect(job.done).rejects.toBe(reason);
    expect(job.status).toBe('cancelled');
    const { id } = await repository.backup(volume, { volume: 'disk' });
    expectSame(await contentOfBackup(repository, id), device.bytes);
  });

  test('closing the volume cancels, closing the repository cancels or finishes', async () => {
    const repository = await createIn(new MemoryTarget());
    const { volume } = await openVolume();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    await volume.close();
    await expect(job.done).rejects.toMatchObject({ name: 'AbortError' });
    const other = await openVolume();
    const second = await repository.startBackup(other.volume, { volume: 'disk' });
    second.pause();
    await repository.close({ jobs: 'finish' });
    expect(second.status).toBe('committed');
    await errorOf(repository.backup(other.volume, { volume: 'disk' }), 'CLOSED');
    expect(other.volume.snapshots).toEqual([]);
  });

  test("a host's own snapshot may be closed at once, and stays open when the job is over", async () => {
    const repository = await createIn(new MemoryTarget());
    const { device, volume } = await openVolume();
    const own = await volume.createSnapshot();
    const frozen = device.bytes.slice();
    await writeBlock(volume, 4);
    const job = await repository.startBackup(own, { volume: 'disk' });
    await own.close();
    expectSame(await contentOfBackup(repository, (await job.sweep().done).id), frozen);
    const kept = await volume.createSnapshot();
    await repository.backup(kept, { volume: 'disk' });
    expect(kept.status).toBe('live');
  });

  test('watch tells of progress and of the end; what onProgress throws stops nothing', async () => {
    const repository = await createIn(new MemoryTarget());
    const { volume } = await openVolume();
    const seen: string[] = [];
    const job = await repository.startBackup(volume, { volume: 'disk', onProgress: ({ status }) => seen.push(status) });
    const watched = Array.fromAsync(job.watch({ intervalMs: 0 }));
    job.sweep();
    const progress = await watched;
    expect(progress.at(0)).toMatchObject({ status: 'lazy', doneBytes: 0 });
    const { doneBytes, totalBytes } = progress.at(-1)!;
    expect(progress.at(-1)).toMatchObject({ status: 'committed', phase: 'committed' });
    expect(doneBytes).toBe(totalBytes);
    await until(() => seen.at(-1) === 'committed');
    expect(await Array.fromAsync(job.watch())).toHaveLength(1);
  });
});

describe('failures of the target', () => {
  test('a pack that cannot be stored fails the job; the next backup is good', async () => {
    const inner = new MemoryTarget();
    const repository = await createIn(inner);
    const { device, volume } = await openVolume();
    const put = inner.put.bind(inner);
    inner.put = async (key, ...rest) => {
      if (key.startsWith('packs/')) throw new Error('no room');
      return put(key, ...rest);
    };
    await expect(repository.backup(volume, { volume: 'disk' })).rejects.toThrow('no room');
    expect(volume.snapshots).toEqual([]);
    inner.put = put;
    const { id } = await repository.backup(volume, { volume: 'disk' });
    expectSame(await contentOfBackup(repository, id), device.bytes);
  });

  test('a lost answer to the commit is no loss', async () => {
    const inner = new MemoryTarget();
    const faults = scriptedFaults([]);
    const target = new FaultyTarget(inner, faults);
    const repository = await createIn(target);
    const { device, volume } = await openVolume();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    let isFirst = true;
    const put = inner.put.bind(inner);
    inner.put = async (key, ...rest) => {
      await put(key, ...rest);
      if (key.startsWith('log/') && isFirst) {
        isFirst = false;
        throw Object.assign(new Error('the answer got lost'));
      }
    };
    const { id } = await job.sweep().done;
    expect(isFirst).toBe(false);
    expectSame(await contentOfBackup(await openIn(inner), id), device.bytes);
  });

  test('a budget is kept', async () => {
    const { target, calls } = notedTarget();
    const repository = await createIn(target);
    const { volume } = await openVolume();
    calls.length = 0;
    await errorOf(repository.backup(volume, { volume: 'disk', budget: { puts: 2 } }), 'BUDGET_EXCEEDED');
    await repository.close();
    expect(calls.filter((call) => call.startsWith('put packs/'))).toHaveLength(1);
  });
});

describe('one writer a volume', () => {
  test('a second job of one volume is refused, here and by another host; takeOver fences the first', async () => {
    const target = new MemoryTarget();
    const repository = await createIn(target);
    const { device, volume } = await openVolume();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    await errorOf(repository.startBackup(volume, { volume: 'disk' }), 'VOLUME_BUSY');
    const other = await openIn(target);
    await errorOf(other.startBackup(volume, { volume: 'disk' }), 'VOLUME_BUSY');
    await (await other.startBackup(volume, { volume: 'another' })).cancel();
    const taker = await other.startBackup(volume, { volume: 'disk', takeOver: true });
    await errorOf(job.sweep().done, 'SESSION_FENCED');
    const { id } = await taker.sweep().done;
    expectSame(await contentOfBackup(other, id), device.bytes);
  });

  test('what this process has left open is taken over without being asked for', async () => {
    const inner = new MemoryTarget();
    const repository = await createIn(inner);
    const { volume } = await openVolume();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    const put = inner.put.bind(inner);
    inner.put = () => Promise.reject(new Error('the network is gone'));
    await job.cancel();
    inner.put = put;
    await repository.backup(volume, { volume: 'disk' });
  });
});

describe('groups', () => {
  test('are frozen at one instant and committed in one entry', async () => {
    const { target, calls } = notedTarget();
    const repository = await createIn(target);
    const [a, b] = [await openVolume(10), await openVolume(70)];
    calls.length = 0;
    const group = await repository.startGroup([
      { source: a.volume, volume: 'a' },
      { source: b.volume, volume: 'b', metadata: { part: '2' } },
    ]);
    const frozen = [a.device.bytes.slice(), b.device.bytes.slice()];
    await writeBlock(a.volume, 1);
    await writeBlock(b.volume, 60);
    for (const job of group.jobs) job.sweep();
    const [first, second] = await group.done;
    expect(calls.filter((call) => call.startsWith('put log/'))).toHaveLength(2);
    expectSame(await contentOfBackup(repository, first.id), frozen[0]!);
    expectSame(await contentOfBackup(repository, second.id), frozen[1]!);
    expect(second.metadata).toEqual({ part: '2' });
  });

  test('one that fails, or is cancelled, fails all', async () => {
    const repository = await createIn(new MemoryTarget());
    const [a, b] = [await openVolume(10), await openVolume(10)];
    const group = await repository.startGroup([
      { source: a.volume, volume: 'a' },
      { source: b.volume, volume: 'b' },
    ]);
    group.jobs[0]!.sweep();
    await group.jobs[1]!.cancel();
    await expect(group.done).rejects.toMatchObject({ name: 'AbortError' });
    expect(await Array.fromAsync(repository.listBackups())).toEqual([]);
    expect([...a.volume.snapshots, ...b.volume.snapshots]).toEqual([]);
    await expect(
      repository.startGroup([
        { source: a.volume, volume: 'a' },
        { source: b.volume, volume: 'a' },
      ]),
    ).rejects.toThrow(TypeError);
  });
});

test('a repository is created once, and opened as it was created', async () => {
  const target = new MemoryTarget();
  await errorOf(BackupRepository.open(target), 'REPOSITORY_NOT_FOUND');
  const repository = await BackupRepository.open(target, {
    createIfMissing: { encryption: { passphrase: 'x' } },
    ...SMALL,
  });
  await errorOf(BackupRepository.create(target, { encryption: 'none' }), 'REPOSITORY_EXISTS');
  await errorOf(BackupRepository.open(target), 'KEY_REQUIRED');
  await errorOf(BackupRepository.open(target, { unlock: { passphrase: 'y' } }), 'KEY_REFUSED');
  const reader = await BackupRepository.open(target, { unlock: { passphrase: 'x' }, readOnly: true });
  const { volume } = await openVolume(3);
  await errorOf(reader.backup(volume, { volume: 'disk' }), 'READ_ONLY');
  expect(reader.readOnly).toBe(true);
  const { id } = await repository.backup(volume, { volume: 'disk' });
  expect((await reader.latestBackup('disk'))?.id).toBe(id);
  await errorOf(
    BackupRepository.create(new MemoryTarget({ createOnly: false }), { encryption: 'none' }),
    'SINGLE_WRITER_REQUIRED',
  );
  const single = new MemoryTarget({ createOnly: false });
  const own = await BackupRepository.create(single, { encryption: 'none', singleWriter: true, ...SMALL });
  await own.backup(volume, { volume: 'disk' });
  await errorOf(BackupRepository.open(single), 'SINGLE_WRITER_REQUIRED');
  expect(await (await BackupRepository.open(single, { readOnly: true })).latestBackup('disk')).toBeDefined();
});

describe('equal contents', () => {
  test('of several volumes are stored once, and outlive the backup that brought them', async () => {
    const target = new MemoryTarget();
    const repository = await createIn(target);
    const { device, volume } = await openVolume(60);
    const clone = await openVolume(60);
    clone.device.bytes.set(device.bytes);
    const first = await repository.backup(volume, { volume: 'original' });
    const second = await repository.backup(clone.volume, { volume: 'clone' });
    expect(first.uploadedBytes).toBeGreaterThan(40 * BLOCK);
    expect(second.uploadedBytes).toBeLessThan(4 * BLOCK);
    await repository.forget([first.id]);
    await repository.prune({ graceMs: 0, repackBelow: 1, minRepackGainBytes: 0 });
    const other = await openIn(target);
    expectSame(await contentOfBackup(other, second.id), device.bytes);
    const third = await repository.backup(volume, { volume: 'original' });
    expectSame(await contentOfBackup(other, third.id), device.bytes);
    expect((await other.verify({ depth: 'data' })).ok).toBe(true);
  });

  test('that are condemned before the commit refuse it; the next try stores them', async () => {
    const target = new MemoryTarget();
    const repository = await createIn(target);
    const { device, volume } = await openVolume(60);
    const first = await repository.backup(volume, { volume: 'original' });
    const job = await repository.startBackup(volume, { volume: 'again' });
    job.sweep();
    await until(() => job.states.counts.pending === 0);
    const other = await openIn(target);
    await other.forget([first.id]);
    await other.prune({ graceMs: 0 });
    const outcome = await job.done.then(
      () => 'committed',
      (error) => error.code,
    );
    // Which of them was first is a matter of chance; either way nothing refers to what is gone.
    expect(['committed', 'PACK_CONDEMNED']).toContain(outcome);
    const next = await repository.backup(volume, { volume: 'again' });
    expectSame(await contentOfBackup(other, next.id), device.bytes);
    expect((await other.verify({ depth: 'data' })).ok).toBe(true);
  });

  test('a commit that has been overtaken by a collection is refused', async () => {
    const { target } = notedTarget();
    const repository = await createIn(target);
    const { device, volume } = await openVolume(60);
    const first = await repository.backup(volume, { volume: 'original' });
    const other = await openIn(target);
    const put = target.put.bind(target);
    let isOvertaken = false;
    target.put = async (key, ...rest) => {
      if (key.startsWith('packs/') && !isOvertaken) {
        isOvertaken = true; // Its blocks refer to the first backup's packs by now.
        await other.forget([first.id]);
        await other.prune({ graceMs: 0 });
      }
      await put(key, ...rest);
    };
    await errorOf(repository.backup(volume, { volume: 'again' }), 'PACK_CONDEMNED');
    expect(isOvertaken).toBe(true);
    const next = await repository.backup(volume, { volume: 'again' });
    expect(next.uploadedBytes).toBeGreaterThan(40 * BLOCK);
    expectSame(await contentOfBackup(other, next.id), device.bytes);
  });
});
