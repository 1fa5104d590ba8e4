import { createHash } from 'node:crypto';
import type { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { BLOCK, createIn, openVolume, writeBlock } from '../../repository/support/repositories.ts';

/** The key of `createIn`, hex. */
export const freshUnlock = '07'.repeat(32);

const PRUNING = { graceMs: 0, fenceAfterMs: 0, keepFencedMs: 0, repackBelow: 0.9, minRepackGainBytes: 0 } as const;

export interface Fresh {
  readonly target: MemoryTarget;
  /** Of each backup that is kept. */
  readonly contents: ReadonlyMap<string, Uint8Array>;
  readonly digests: Readonly<Record<string, string>>;
  /** The id of each backup, oldest first, and when it was frozen, in ISO 8601. */
  readonly frozenAt: readonly (readonly [string, string])[];
}

/** Two volumes, incremental backups, one that was forgotten, packs that were repacked, a checkpoint and entries after it. */
export async function freshRepository(isEncrypted: boolean): Promise<Fresh> {
  const target = new MemoryTarget();
  await using repository = await createIn(target, isEncrypted);
  const contents = new Map<string, Uint8Array>();
  const disk = await openVolume(20);
  const data = await openVolume(12);
  const store = async ({ device, volume }: typeof disk, name: string) => {
    const { id } = await repository.backup(volume, { volume: name });
    contents.set(id, device.bytes.slice());
    return id;
  };
  const first = await store(disk, 'disk');
  await store(data, 'data');
  for (const block of [1, 2, 4, 6, 7, 8]) await writeBlock(disk.volume, block);
  await writeBlock(disk.volume, 9, new Uint8Array(BLOCK));
  await store(disk, 'disk');
  await repository.forget([first]);
  contents.delete(first);
  await repackAll(repository);
  await untilCheckpoint(target, repository, [...contents.keys()]);
  for (const block of [0, 3, 11]) await writeBlock(data.volume, block);
  await store(data, 'data');
  await disk.volume.write(20 * BLOCK, new Uint8Array(1000).fill(0x61));
  await store(disk, 'disk');
  await Promise.all([disk.volume.close(), data.volume.close()]);
  const digests = [...contents].map(([id, bytes]) => [id, createHash('sha256').update(bytes).digest('hex')]);
  const listed = await Array.fromAsync(repository.listBackups());
  const frozenAt = listed.reverse().map(({ id, frozenAt }) => [id, frozenAt.toISOString()] as const);
  return { target, contents, digests: Object.fromEntries(digests), frozenAt };
}

async function repackAll(repository: BackupRepository): Promise<void> {
  const { repackedPacks } = await repository.prune(PRUNING);
  if (repackedPacks === 0) throw new Error('nothing was repacked');
}

async function untilCheckpoint(
  target: MemoryTarget,
  repository: BackupRepository,
  ids: readonly string[],
): Promise<void> {
  for (let round = 0; round < 100; round++) {
    await repository.hold(ids);
    await repository.release(ids);
    if ((await Array.fromAsync(target.list('log/'))).some(({ key }) => key.endsWith('-c'))) return;
  }
  throw new Error('no checkpoint was written');
}
