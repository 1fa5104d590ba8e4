import { describe, expect, test } from 'vitest';
import type { BackupRepository } from '../../../src/repository/backup-repository.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { appendAsNewer, NEWER } from '../log/support/newer-program.ts';
import { createIn, openIn, openVolume, writeBlock } from '../support/repositories.ts';
import { contextOf } from '../verify/support/damaging.ts';

/** A newer program says in the log what others must know: those that are running stop, whatever they were about to do. */

const unsupported = withCode('REPOSITORY_UNSUPPORTED');
const UPDATE = /update/;

/** A repository with a backup, another one that was forgotten, whose packs are condemned, and a job that is under way. */
async function running(isEncrypted: boolean) {
  const target = new MemoryTarget();
  const repository = await createIn(target, isEncrypted);
  const { volume } = await openVolume(4);
  const gone = await openVolume(3);
  const { id } = await repository.backup(volume, { volume: 'disk' });
  await repository.forget([(await repository.backup(gone.volume, { volume: 'gone' })).id]);
  expect((await repository.prune()).condemnedPacks).toBeGreaterThan(0);
  await writeBlock(volume, 2);
  const job = await repository.startBackup(volume, { volume: 'disk' });
  return { target, repository, volume, id, job };
}

async function keysIn(target: CloudTarget, prefix: string): Promise<string[]> {
  return (await Array.fromAsync(target.list(prefix))).map(({ key }) => key);
}

type Running = Awaited<ReturnType<typeof running>>;

const OPERATIONS: Record<string, (given: Running) => Promise<unknown>> = {
  'a backup under way': ({ job }) => job.sweep().done,
  'a backup': ({ repository, volume }) => repository.backup(volume, { volume: 'other' }),
  forget: ({ repository, id }) => repository.forget([id]),
  hold: ({ repository, id }) => repository.hold([id]),
  retention: ({ repository }) => repository.applyRetention({ keepLast: 1 }, { allVolumes: true }),
  prune: ({ repository }) => repository.prune({ graceMs: 0, fenceAfterMs: 0 }),
};

describe.each([false, true])('encrypted: %s,', (isEncrypted) => {
  describe.each(NEWER)('$what', (newer) => {
    test.each(Object.keys(OPERATIONS))('stops %s, and nothing is appended or deleted', async (name) => {
      const given = await running(isEncrypted);
      const { target, repository } = given;
      const context = await contextOf(target, isEncrypted, { readOnly: true });
      await appendAsNewer({ target, logKey: context.keys.logKey }, context.log.state, newer);
      const [log, packs] = [await keysIn(target, 'log/'), await keysIn(target, 'packs/')];
      const operation = OPERATIONS[name] as (typeof OPERATIONS)[string];
      await expect(operation(given)).rejects.toEqual(unsupported);
      // And again, when it knows already.
      await expect(repository.forget([given.id])).rejects.toThrow(UPDATE);
      await repository.close();
      expect(await keysIn(target, 'log/')).toEqual(log);
      const left = new Set(await keysIn(target, 'packs/'));
      expect(packs.filter((key) => !left.has(key))).toEqual([]);
    });

    test('stops readers, or does not', async () => {
      const { target, repository, id } = await running(isEncrypted);
      await using reader = await openIn(target, isEncrypted, { readOnly: true });
      const { keys, log } = await contextOf(target, isEncrypted, { readOnly: true });
      await appendAsNewer({ target, logKey: keys.logKey }, log.state, newer);
      const list = async (by: BackupRepository) => (await Array.fromAsync(by.listBackups())).map((info) => info.id);
      const verify = async (by: BackupRepository) => (await by.verify({ depth: 'data' })).ok;
      await expect(openIn(target, isEncrypted)).rejects.toEqual(unsupported);
      for (const program of [repository, reader]) {
        if (newer.stopsReaders) {
          await expect(list(program)).rejects.toEqual(unsupported);
          await expect(verify(program)).rejects.toEqual(unsupported);
        } else {
          expect(await list(program)).toEqual([id]);
          expect(await verify(program)).toBe(true);
        }
      }
      const opening = openIn(target, isEncrypted, { readOnly: true });
      if (newer.stopsReaders) await expect(opening).rejects.toEqual(unsupported);
      else await (await opening).close();
      await repository.close();
    });
  });
});
