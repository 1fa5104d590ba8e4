import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { RecordKind } from '../../../src/repository/format/record.ts';
import { verifyRepository } from '../../../src/repository/verify/verify.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import { randomBytes } from '../../support/randomness.ts';
import { BLOCK, contentOfBackup, createIn, openIn, openVolume, writeBlock } from '../support/repositories.ts';
import { contextOf, firstOf, flip, flipRecord, storedRows } from './support/damaging.ts';

const QUICK = { clock: { sleep: async () => {} } };

const quarantined = async (target: MemoryTarget, isEncrypted: boolean) => [
  ...(await contextOf(target, isEncrypted)).log.state.quarantined.keys(),
];

describe.each([{ isEncrypted: false }, { isEncrypted: true }])(
  'quarantine, encrypted: $isEncrypted',
  ({ isEncrypted }) => {
    /** A full backup and an incremental one of a volume that stays open. */
    async function sample(target: MemoryTarget) {
      const repository = await createIn(target, isEncrypted);
      const { volume, device } = await openVolume(300);
      const backup = async () => {
        const expected = device.bytes.slice();
        const result = await repository.backup(volume, { volume: 'a' });
        return { ...result, expected };
      };
      const first = await backup();
      await writeBlock(volume, 131);
      const second = await backup();
      return { repository, volume, device, backup, first, second };
    }

    test('damaged packs are noted in the log, once, and let out when they are good again', async () => {
      const target = new MemoryTarget();
      await sample(target);
      const { key, offset } = await firstOf(await contextOf(target, isEncrypted), RecordKind.block);
      const restore = await flip(target, key, offset + 30);
      const context = await contextOf(target, isEncrypted);
      const before = context.log.state.seq;
      const verify = () => verifyRepository(context, { depth: 'data' }, QUICK);
      expect(await verify()).toMatchObject({ quarantined: [key], released: [], quarantineError: undefined });
      expect(context.log.state.seq).toBe(before + 1);
      expect(await quarantined(target, isEncrypted)).toEqual([key]);
      expect(await verify()).toMatchObject({ ok: false, quarantined: [], released: [] });
      expect(context.log.state.seq).toBe(before + 1);
      await restore();
      // Only who has read all of it can say that it is good.
      for (const depth of ['structure', 'checksums'] as const) {
        expect(await verifyRepository(context, { depth }, QUICK)).toMatchObject({ ok: true, released: [] });
      }
      expect(await verify()).toMatchObject({ ok: true, quarantined: [], released: [key] });
      expect(await quarantined(target, isEncrypted)).toEqual([]);
    });

    test('nothing is noted when that is not wanted, or not allowed', async () => {
      const target = new MemoryTarget();
      await sample(target);
      const { key } = await firstOf(await contextOf(target, isEncrypted), RecordKind.block);
      await target.delete(key);
      const readOnly = await contextOf(target, isEncrypted, { readOnly: true });
      const damaged = [{ pack: key }];
      expect(await verifyRepository(readOnly, { depth: 'data' }, QUICK)).toMatchObject({ damaged, quarantined: [] });
      const context = await contextOf(target, isEncrypted);
      const options = { depth: 'data', quarantine: false } as const;
      expect(await verifyRepository(context, options, QUICK)).toMatchObject({ damaged, quarantined: [] });
      expect(await quarantined(target, isEncrypted)).toEqual([]);
    });

    test('what could not be noted is told all the same', async () => {
      const target = new MemoryTarget();
      await sample(target);
      const { key } = await firstOf(await contextOf(target, isEncrypted), RecordKind.block);
      await target.delete(key);
      const context = await contextOf(target, isEncrypted);
      const put = target.put.bind(target);
      target.put = async (where, ...rest) => {
        if (where.startsWith('log/')) throw new BackupError('PERMISSION_DENIED', 'no');
        return put(where, ...rest);
      };
      const result = await verifyRepository(context, { depth: 'data' }, QUICK);
      expect(result).toMatchObject({ ok: false, damaged: [{ pack: key }], quarantined: [] });
      expect(result.quarantineError).toBeDefined();
    });

    const damages = {
      'a flipped bit in a block': (target: MemoryTarget) => damageFirst(target, RecordKind.block, 'flip'),
      'a flipped bit in a leaf': (target: MemoryTarget) => damageFirst(target, RecordKind.leaf, 'flip'),
      'a flipped bit in an inner node': (target: MemoryTarget) => damageFirst(target, RecordKind.inner, 'flip'),
      'a flipped bit in a run': (target: MemoryTarget) => damageFirst(target, RecordKind.runChunk, 'flip'),
      'a missing pack of blocks': (target: MemoryTarget) => damageFirst(target, RecordKind.block, 'delete'),
      'a missing pack with a leaf': (target: MemoryTarget) => damageFirst(target, RecordKind.leaf, 'delete'),
      'a missing pack with the root': (target: MemoryTarget) => damageFirst(target, RecordKind.inner, 'delete'),
      'a missing pack with a run': (target: MemoryTarget) => damageFirst(target, RecordKind.runChunk, 'delete'),
    };

    async function damageFirst(target: MemoryTarget, kind: RecordKind, how: 'flip' | 'delete') {
      const row = await firstOf(await contextOf(target, isEncrypted), kind);
      if (how === 'flip') await flipRecord(target, row);
      else await target.delete(row.key);
      return row.key;
    }

    for (const [what, damage] of Object.entries(damages)) {
      for (const how of ['in the same process', 'by a process that knows nothing']) {
        test(`the next backup heals ${what}, ${how}`, async () => {
          const target = new MemoryTarget();
          const { repository, volume, device, backup, second } = await sample(target);
          const key = await damage(target);
          expect(await repository.verify({ depth: 'data' })).toMatchObject({ ok: false, quarantined: [key] });
          await writeBlock(volume, 200, randomBytes(BLOCK));
          let id: string;
          let expected = device.bytes.slice();
          if (how === 'in the same process') {
            const healed = await backup();
            ({ id, expected } = healed);
            // A block is healed by a pack's worth of data. Without a node or run that says where things are, all is stored.
            if (what.includes('in a block')) expect(healed.uploadedBytes).toBeLessThan(3 * 65536);
          } else {
            await volume.close();
            await using other = await openIn(target, isEncrypted);
            await using again = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
            const result = await other.backup(again, { volume: 'a' });
            ({ id } = result);
            expect(['compared', 'everything']).toContain(result.changeSource);
          }
          await using fresh = await openIn(target, isEncrypted);
          expect(Buffer.compare(await contentOfBackup(fresh, id), expected)).toBe(0);
          // What was damaged stays so for those before, and the new backup needs none of it.
          const { damaged } = await fresh.verify({ depth: 'data' });
          expect(damaged.map(({ pack }) => pack)).toEqual([key]);
          expect(damaged[0]!.backups).toContain(second.id);
          expect(damaged[0]!.backups).not.toContain(id);
          if (how === 'in the same process') {
            // And those that follow are small again.
            await writeBlock(volume, 250, randomBytes(BLOCK));
            const next = await backup();
            expect(next.uploadedBytes).toBeLessThan(5 * BLOCK);
            expect(Buffer.compare(await contentOfBackup(fresh, next.id), next.expected)).toBe(0);
            expect((await fresh.verify({ depth: 'data', backups: [next.id] })).ok).toBe(true);
          }
        });
      }
    }

    test('without a quarantine nothing is read for it', async () => {
      const target = new MemoryTarget();
      const { volume, backup } = await sample(target);
      await writeBlock(volume, 9);
      expect((await backup()).requests).toBe(4);
    });

    test('blocks that nobody has overwritten are healed from the volume, also those that a run hides are left alone', async () => {
      const target = new MemoryTarget();
      const { repository, backup } = await sample(target);
      const rows = await storedRows(await contextOf(target, isEncrypted));
      const hidden = rows.find(({ kind, hint }) => kind === RecordKind.block && hint === 131)!;
      await flipRecord(target, hidden);
      const { damaged } = await repository.verify({ depth: 'data' });
      expect(damaged).toMatchObject([{ pack: hidden.key, backups: [expect.any(String)] }]);
      const healed = await backup();
      expect(Buffer.compare(await contentOfBackup(repository, healed.id), healed.expected)).toBe(0);
      expect(healed.uploadedBytes).toBeLessThan(3 * 65536);
    });
  },
);
