import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { decodeCheckpoint, encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import type { LogState } from '../../../src/repository/format/log-state.ts';
import { checkpointKey, parseLogKey } from '../../../src/repository/format/object-keys.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { logKeysOf } from '../log/support/pruned-log.ts';
import { openVolume } from '../support/repositories.ts';

/** P13: in single-writer mode a put that arrives late leaves another checkpoint of a number, and replaces none. */

const OPTIONS = { encryption: 'none', singleWriter: true, threads: 0, packBytes: 65_536 } as const;
const NOW = { graceMs: 0, keepFencedMs: 0, reserveBytes: 0 } as const;

async function pruned() {
  const target = new MemoryTarget({ createOnly: false });
  const repository = await BackupRepository.create(target, OPTIONS);
  const { volume } = await openVolume(1);
  const { id } = await repository.backup(volume, { volume: 'a' });
  const grow = async (count: number) => {
    for (let n = 0; n < count; n++) await (n % 2 === 0 ? repository.hold([id]) : repository.release([id]));
  };
  await grow(50);
  await repository.prune(NOW);
  const checkpoints = async () => (await logKeysOf(target)).filter((key) => key.includes('-c-'));
  /** Puts another checkpoint of the number of this one. */
  const putBeside = async (key: string, change: (state: LogState) => LogState): Promise<string> => {
    const { seq } = parseLogKey(key)!;
    const state = await decodeCheckpoint(undefined, seq, await target.get(key));
    const body = (await encodeCheckpoint(undefined, change(state)))!;
    const other = checkpointKey(seq, createHash('sha256').update(body).digest());
    expect(other).not.toBe(key);
    await target.put(other, body);
    return other;
  };
  return { target, repository, grow, checkpoints, putBeside };
}

const lie = (state: LogState): LogState => ({ ...state, removedSlots: new Set(['0123456789abcdef']) });

test('a prune deletes what is beside the checkpoint of the floor, also with an older state, and never that', async () => {
  const { target, repository, grow, checkpoints, putBeside } = await pruned();
  const [newer, floor, ...rest] = await checkpoints();
  expect(rest).toEqual([]);
  const other = await putBeside(floor!, lie);
  expect((await repository.verify({ depth: 'structure' })).ok).toBe(true);
  expect((await repository.prune(NOW)).deletedObjects).toBe(1);
  expect(await checkpoints()).toEqual([newer, floor]);
  // Above the floor it stays until the floor has passed it.
  const above = checkpointKey(parseLogKey(newer!)!.seq, new Uint8Array(32));
  await target.put(above, Uint8Array.of(1));
  expect((await repository.prune(NOW)).deletedObjects).toBe(0);
  await grow(50);
  await repository.prune(NOW);
  for (const gone of [other, above, floor]) expect(await checkpoints()).not.toContain(gone);
  expect((await repository.verify({ depth: 'structure' })).ok).toBe(true);
  await repository.close();
});

test('verify is content with one sound checkpoint of a number, and names the object that lies', async () => {
  const { target, repository, checkpoints, putBeside } = await pruned();
  const [newer] = (await checkpoints()) as [string];
  const { seq } = parseLogKey(newer)!;
  const damaged = checkpointKey(seq, new Uint8Array(32));
  await target.put(damaged, Uint8Array.of(1, 2, 3));
  expect((await repository.verify({ depth: 'structure' })).ok).toBe(true);
  // It has written no other checkpoint, because one can be read.
  expect((await checkpoints())[0]).toBe(damaged);
  const sound = await target.get(newer);
  await target.delete(newer);
  expect((await repository.verify({ depth: 'structure' })).ok).toBe(true);
  expect(parseLogKey((await checkpoints())[0]!)!.seq).toBeGreaterThan(seq);
  await target.put(newer, sound);
  const lying = await putBeside(newer, lie);
  await expect(repository.verify({ depth: 'structure' })).rejects.toMatchObject({
    code: 'LOG_CORRUPT',
    message: new RegExp(lying),
  });
  await repository.close();
});
