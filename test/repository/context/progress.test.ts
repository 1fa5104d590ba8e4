import { describe, expect, test } from 'vitest';
import { report } from '../../../src/common/report.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import type { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { type Progress, withProgress } from '../../../src/repository/context/progress.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { createIn, openVolume } from '../support/repositories.ts';

/** Of the process warning. */
const CODE = /^COW_[C]ALLBACK_FAILED$/;

type Watch = (onProgress: (progress: Progress) => unknown) => Promise<unknown>;

/** A repository, and each operation that tells how far it has got. */
async function operations(): Promise<{ repository: BackupRepository; each: Record<string, Watch> }> {
  const repository = await createIn(new MemoryTarget());
  const { volume } = await openVolume(20);
  const { id } = await repository.backup(volume, { volume: 'a' });
  const onto = () => new MemoryDevice(volume.size);
  const each: Record<string, Watch> = {
    restore: (onProgress) => repository.restore(id, onto(), { onProgress, deviceHolds: 'zeroes' }),
    verify: (onProgress) => repository.verify({ depth: 'data', onProgress }),
    prune: (onProgress) => repository.prune({ onProgress }),
    backup: async (onProgress) => {
      await volume.write(4096, new Uint8Array(4096).fill(5));
      await repository.backup(volume, { volume: 'a', onProgress });
    },
    rollback: async (onProgress) => {
      const job = await repository.startBackup(volume, { volume: 'a' });
      await volume.write(0, new Uint8Array(4096).fill(3));
      await repository.restore(job.id, volume, { onProgress, liveVolume: volume });
      await job.cancel();
    },
  };
  return { repository, each };
}

const OPERATIONS = ['restore', 'verify', 'prune', 'backup', 'rollback'];

describe.each(OPERATIONS)('%s', (name) => {
  test('refuses an onProgress that is no function', async () => {
    const { repository, each } = await operations();
    await using _ = repository;
    await expect(each[name]!('often' as never)).rejects.toThrow(TypeError);
  });

  test('goes on when onProgress throws or rejects, and warns once', async () => {
    const { repository, each } = await operations();
    await using _ = repository;
    const warnings: Error[] = [];
    const note = (warning: Error) => warnings.push(warning);
    process.on('warning', note);
    try {
      let calls = 0;
      await each[name]!(() => {
        calls++;
        throw new Error('the host made a mistake');
      });
      await each[name]!(async () => {
        throw new Error('the host made another');
      });
      await new Promise(setImmediate);
      expect(calls).toBeGreaterThan(0);
      const codes = warnings.map((warning) => (warning as Error & { code?: string }).code);
      expect(codes).toEqual([expect.stringMatching(CODE), expect.stringMatching(CODE)]);
    } finally {
      process.off('warning', note);
    }
  });

  test('tells a total that is true or none, and nothing once it is over', async () => {
    const { repository, each } = await operations();
    await using _ = repository;
    const told: Progress[] = [];
    await each[name]!((progress) => told.push(progress));
    const { length } = told;
    expect(length).toBeGreaterThan(0);
    for (const { doneBytes, totalBytes } of told) {
      expect(doneBytes / (totalBytes ?? 1)).not.toBeNaN();
      if (totalBytes !== undefined) expect(totalBytes).toBeGreaterThanOrEqual(doneBytes);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(told.length).toBe(length);
  });
});

test('an operation that is over is not heard any more, though its work goes on behind it', async () => {
  const told: number[] = [];
  let late: (() => void) | undefined;
  const progress = (doneBytes: number): Progress => {
    return { phase: 'x', doneBytes, totalBytes: undefined, transferredBytes: 0, requests: 0 };
  };
  await withProgress({ onProgress: ({ doneBytes }) => told.push(doneBytes) }, async ({ onProgress }) => {
    report('onProgress', onProgress, progress(1));
    late = () => report('onProgress', onProgress, progress(2));
  });
  late?.();
  expect(told).toEqual([1]);
});
