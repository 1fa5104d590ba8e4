import { describe, expect, test } from 'vitest';
import type { BackupJob, BackupProgress } from '../../../src/repository/backup/backup-job.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { BLOCK, createIn, openIn, openVolume, until, writeBlock } from '../support/repositories.ts';

/** A target whose puts are looked into: `during` is awaited before each pack is stored. */
function watchedTarget(
  during: (tell: (bytes: number) => void, size: number) => Promise<void>,
  duringOthers: () => Promise<void> = async () => {},
) {
  const target = new MemoryTarget();
  const put = target.put.bind(target);
  let storedBytes = 0;
  target.put = async (key, body, options) => {
    if (key.startsWith('packs/')) await during((bytes) => options?.onSent?.(bytes), body.length);
    else await duringOthers();
    await put(key, body, options);
    storedBytes += body.length;
  };
  return { target, stored: () => storedBytes };
}

function expectNoneGoesBack(seen: readonly BackupProgress[]): void {
  for (const name of ['doneBytes', 'transferredBytes', 'requests'] as const) {
    const values = seen.map((each) => each[name]);
    expect(values, name).toEqual(values.toSorted((a, b) => a - b));
  }
}

describe('the progress of a backup', () => {
  test('counts bytes once the store has them, and commits only after all packs are there', async () => {
    const seen: BackupProgress[] = [];
    const phases = new Set<string>();
    let job: BackupJob | undefined;
    // The store answers once the watcher has seen the phase, so that it misses none.
    const phaseIsSeen = () => until(() => job === undefined || phases.has(job.progress().phase));
    const { target, stored } = watchedTarget(async () => {
      const now = job?.progress();
      if (now === undefined) return;
      seen.push(now);
      expect(now.transferredBytes).toBe(stored() - before);
      expect(now.phase).not.toBe('committing');
      await phaseIsSeen();
    }, phaseIsSeen);
    const repository = await createIn(target);
    const { volume, device } = await openVolume(60);
    const before = stored();
    const started = await repository.startBackup(volume, { volume: 'disk' });
    job = started;
    const watching = (async () => {
      for await (const each of started.watch({ intervalMs: 0 })) {
        phases.add(each.phase);
        seen.push(each);
      }
    })();
    await started.sweep().done;
    await watching;
    expectNoneGoesBack(seen);
    expect(phases).toEqual(new Set(['lazy', 'sweeping', 'uploading', 'committing', 'committed']));
    const last = seen.at(-1)!;
    expect(last).toMatchObject({ doneBytes: device.size, totalBytes: device.size, outage: undefined });
    expect(last.transferredBytes).toBe(stored() - before);
  });

  test('goes on within a pack where the target tells of what it sends, and never back where it sends again', async () => {
    const seen: BackupProgress[] = [];
    let hasFailed = false;
    const { target } = watchedTarget(async (tell, size) => {
      for (let part = 0; part < 4; part++) {
        seen.push(job.progress());
        tell(Math.floor(size / 4));
      }
      seen.push(job.progress());
      if (hasFailed) return;
      hasFailed = true;
      const { BackupError } = await import('../../../src/common/errors.ts');
      throw new BackupError('TARGET_UNREACHABLE', 'once', { retryable: true });
    });
    const repository = await createIn(target);
    const { volume, device } = await openVolume(60);
    const job = await repository.startBackup(volume, { volume: 'disk' });
    await job.sweep().done;
    expect(hasFailed).toBe(true);
    expectNoneGoesBack(seen);
    const within = new Set(seen.map(({ doneBytes }) => doneBytes));
    expect(within.size).toBeGreaterThan(8);
    expect(job.progress().doneBytes).toBe(device.size);
    expect(job.progress().transferredBytes).toBeGreaterThan(device.size / 2);
  });

  test('is told at the end, and never after the promise has settled', async () => {
    const repository = await createIn(new MemoryTarget());
    const { volume } = await openVolume();
    let isOver = false;
    const late: BackupProgress[] = [];
    const seen: BackupProgress[] = [];
    const onProgress = (each: BackupProgress) => {
      (isOver ? late : seen).push(each);
    };
    await repository.backup(volume, { volume: 'disk', onProgress });
    isOver = true;
    expect(seen.at(-1)).toMatchObject({ status: 'committed', phase: 'committed' });
    isOver = false;
    const job = await repository.startBackup(volume, { volume: 'disk', onProgress });
    await job.cancel();
    isOver = true;
    expect(seen.at(-1)).toMatchObject({ status: 'cancelled', phase: 'cancelled' });
    job.pause();
    job.sweep();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(late).toEqual([]);
  });

  test('has no total where there is nothing to do', async () => {
    const repository = await createIn(new MemoryTarget());
    const { volume } = await openVolume();
    await repository.backup(volume, { volume: 'disk' });
    const job = await repository.startBackup(volume, { volume: 'disk' });
    expect(job.progress()).toMatchObject({ doneBytes: 0, totalBytes: undefined });
    await job.sweep().done;
  });
});

describe('what a backup has taken', () => {
  test('is kept with it: bytes of its packs, and of what had changed', async () => {
    const target = new MemoryTarget();
    const repository = await createIn(target);
    const { volume } = await openVolume(50);
    const packBytes = async () => {
      const sizes = (await Array.fromAsync(target.list('packs/'))).map(({ size }) => size);
      return sizes.reduce((sum, size) => sum + size, 0);
    };
    const first = await repository.backup(volume, { volume: 'disk' });
    const afterFirst = await packBytes();
    expect(first.uploadedBytes).toBe(afterFirst);
    // Every fifth block of 50 is zeroes, but for two that were filled again, and so is the short one at the end.
    expect(first.changedBytes).toBe(42 * BLOCK);
    await writeBlock(volume, 7);
    await writeBlock(volume, 8, new Uint8Array(BLOCK));
    const second = await repository.backup(volume, { volume: 'disk' });
    expect(second).toMatchObject({ changedBytes: 2 * BLOCK, uploadedBytes: (await packBytes()) - afterFirst });
    const listed = await Array.fromAsync((await openIn(target)).listBackups());
    expect(listed).toMatchObject(
      [second, first].map(({ uploadedBytes, changedBytes }) => ({ uploadedBytes, changedBytes })),
    );
  });

  test('of one backup of a group is what its own blocks took', async () => {
    const repository = await createIn(new MemoryTarget());
    const [a, b] = [await openVolume(10), await openVolume(100)];
    const group = await repository.startGroup([
      { source: a.volume, volume: 'a' },
      { source: b.volume, volume: 'b' },
    ]);
    for (const job of group.jobs) job.sweep();
    const [first, second] = await group.done;
    expect(second!.uploadedBytes).toBeGreaterThan(5 * first!.uploadedBytes);
    expect(first!.uploadedBytes).toBeGreaterThan(5 * BLOCK);
  });
});

test('close is cancel', async () => {
  const repository = await createIn(new MemoryTarget());
  const { volume } = await openVolume();
  const job = await repository.startBackup(volume, { volume: 'disk' });
  await job.close();
  expect(job.status).toBe('cancelled');
  await until(() => volume.snapshots.length === 0);
});
