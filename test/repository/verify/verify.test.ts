import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { RecordKind } from '../../../src/repository/format/record.ts';
import { verifyRepository } from '../../../src/repository/verify/verify.ts';
import type { VerifyDepth } from '../../../src/repository/verify/verify-options.ts';
import type { TargetOperation } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { randomBytes, SWEEPS_ALL } from '../../support/randomness.ts';
import { BLOCK, createIn, notedTarget, openIn, openVolume, writeBlock } from '../support/repositories.ts';
import { contextOf, firstOf, flip, flipRecord, Interrupted, storedRows, WithoutChecksums } from './support/damaging.ts';

const DEPTHS: readonly VerifyDepth[] = ['structure', 'checksums', 'data'];
const QUICK = { clock: { sleep: async () => {} } };

/**
 * Backups of two volumes: of the first a full one and an incremental whose changes are a run, over a tree of two levels.
 */
async function sample(target: MemoryTarget, isEncrypted: boolean) {
  await using repository = await createIn(target, isEncrypted);
  const { volume } = await openVolume(300);
  const full = (await repository.backup(volume, { volume: 'a' })).id;
  for (const block of [7, 131, 288]) await writeBlock(volume, block, randomBytes(BLOCK));
  const incremental = (await repository.backup(volume, { volume: 'a' })).id;
  const { volume: second } = await openVolume(20);
  const other = (await repository.backup(second, { volume: 'b' })).id;
  await volume.close();
  await second.close();
  return { full, incremental, other };
}

describe.each([{ isEncrypted: false }, { isEncrypted: true }])(
  'verifying, encrypted: $isEncrypted',
  ({ isEncrypted }) => {
    test('a sound repository is ok at every depth, and is not written to', async () => {
      const { target, calls } = notedTarget();
      await sample(target, isEncrypted);
      await using repository = await openIn(target, isEncrypted);
      for (const depth of DEPTHS) {
        calls.length = 0;
        const result = await repository.verify({ depth });
        expect(result).toMatchObject({
          ok: true,
          damaged: [],
          quarantined: [],
          released: [],
          quarantineError: undefined,
        });
        expect(result.packs).toBeGreaterThan(15);
        const puts = calls.filter(
          (call) => !call.startsWith('get') && !call.startsWith('stat') && !call.startsWith('list'),
        );
        expect(puts).toEqual(depth === 'data' ? ['put cache/verified'] : []);
        if (depth === 'structure') {
          expect(result.verifiedBytes).toBeLessThan(result.packBytes / 10);
          expect(result.verifiedPacks).toBe(0);
        } else {
          expect(result.verifiedBytes).toBe(result.packBytes);
          expect(result.verifiedPacks).toBe(result.packs);
        }
        expect(result.packsWithoutChecksum).toBe(0);
      }
    });

    test('a store without checksums is said to be one', async () => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      const context = await contextOf(new WithoutChecksums(target), isEncrypted);
      const result = await verifyRepository(context, { depth: 'checksums' }, QUICK);
      expect(result).toMatchObject({ ok: true, verifiedPacks: 0, packsWithoutChecksum: result.packs });
    });

    test.each(['structure', 'checksums'] as const)('no block is downloaded by %s', async (depth) => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      const context = await contextOf(target, isEncrypted);
      const blocks = (await storedRows(context)).filter(({ kind }) => kind === RecordKind.block);
      const reads: { key: string; offset: number; length: number }[] = [];
      const get = target.get.bind(target);
      target.get = (key, options) => {
        if (key.startsWith('packs/')) reads.push({ key, ...(options?.range as { offset: number; length: number }) });
        return get(key, options);
      };
      await verifyRepository(context, { depth }, QUICK);
      expect(reads.length).toBeGreaterThan(0);
      const whole = blocks.filter(({ key, offset, storedLength }) =>
        reads.some(
          (read) => read.key === key && read.offset <= offset && read.offset + read.length >= offset + storedLength,
        ),
      );
      // Those that stand between two nodes of a pack are read along.
      expect(whole.length).toBeLessThan(blocks.length / 10);
    });

    test('a damaged node or run is found at every depth, with the backups that need it', async () => {
      const target = new MemoryTarget();
      const { full, incremental } = await sample(target, isEncrypted);
      const context = await contextOf(target, isEncrypted, { readOnly: true });
      const expected = new Map<RecordKind, string[]>([
        [RecordKind.leaf, [full, incremental]],
        [RecordKind.inner, [full, incremental]],
        [RecordKind.runChunk, [incremental]],
      ]);
      for (const [kind, backups] of expected) {
        const row = await firstOf(context, kind);
        const restore = await flipRecord(target, row);
        for (const depth of DEPTHS) {
          const { ok, damaged } = await verifyRepository(context, { depth }, QUICK);
          expect({ ok, damaged }, `kind ${kind}, ${depth}`).toEqual({
            ok: false,
            damaged: [{ pack: row.key, backups, error: expect.any(BackupError) }],
          });
          if (depth !== 'checksums') expect(['RECORD_CORRUPT', 'MAP_CORRUPT']).toContain(damaged[0]!.error.code);
        }
        await restore();
      }
      expect(await verifyRepository(context, { depth: 'data' }, QUICK)).toMatchObject({ ok: true });
    });

    test('a damaged block is found by checksum and by data, and not by structure', async () => {
      const target = new MemoryTarget();
      const { full, incremental } = await sample(target, isEncrypted);
      const context = await contextOf(target, isEncrypted, { readOnly: true });
      const rows = await storedRows(context);
      const ofFull = rows.filter(({ kind, key }) => kind === RecordKind.block && key === rows[0]!.key);
      const hidden = rows.find(({ kind, hint }) => kind === RecordKind.block && hint === 131)!;
      for (const [row, backups] of [
        [ofFull[0]!, [full, incremental]],
        [hidden, [full]], // A run of the incremental one hides it.
      ] as const) {
        const restore = await flipRecord(target, row);
        expect(await verifyRepository(context, { depth: 'structure' }, QUICK)).toMatchObject({ ok: true });
        for (const depth of ['checksums', 'data'] as const) {
          const { ok, damaged } = await verifyRepository(context, { depth }, QUICK);
          expect({ ok, damaged }).toMatchObject({ ok: false, damaged: [{ pack: row.key, backups }] });
          expect(damaged[0]!.error.code).toBe('RECORD_CORRUPT');
        }
        await restore();
      }
    });

    test('what rots below the checksum of the store is found by data', async () => {
      const target = new MemoryTarget();
      const { full, incremental } = await sample(target, isEncrypted);
      const context = await contextOf(target, isEncrypted, { readOnly: true });
      const row = await firstOf(context, RecordKind.block);
      const stat = target.stat.bind(target);
      const before = await stat(row.key);
      target.stat = async (key, options) => (key === row.key ? before : stat(key, options));
      await flipRecord(target, row);
      expect(await verifyRepository(context, { depth: 'checksums' }, QUICK)).toMatchObject({ ok: true });
      const { damaged } = await verifyRepository(context, { depth: 'data' }, QUICK);
      expect(damaged).toMatchObject([{ pack: row.key, backups: [full, incremental] }]);
    });

    test('a checksum that is wrong while the bytes are right is no damage', async () => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      const context = await contextOf(target, isEncrypted);
      const row = await firstOf(context, RecordKind.block);
      const stat = target.stat.bind(target);
      target.stat = async (key, options) => {
        const info = await stat(key, options);
        return info && key === row.key ? { ...info, sha256: '00'.repeat(32) } : info;
      };
      const result = await verifyRepository(context, { depth: 'checksums' }, QUICK);
      expect(result).toMatchObject({ ok: true, packsWithoutChecksum: 1, verifiedPacks: result.packs - 1 });
    });

    test.each([
      ['its head', 0],
      ['its footer', -40],
      ['the length of its footer', -11],
      ['its end', -1],
    ])('a pack damaged in %s is found, and nobody who could not read it is told of', async (_where, at) => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      const { key } = await firstOf(await contextOf(target, isEncrypted), RecordKind.block);
      await flip(target, key, at);
      const damaged = [{ pack: key, backups: [], error: { code: 'PACK_CORRUPT' } }];
      const context = await contextOf(target, isEncrypted, { readOnly: true });
      expect(await verifyRepository(context, { depth: 'structure' }, QUICK)).toMatchObject({ ok: true });
      expect(await verifyRepository(context, { depth: 'checksums' }, QUICK)).toMatchObject({ ok: false, damaged });
      expect(await verifyRepository(context, { depth: 'data' }, QUICK)).toMatchObject({ ok: false, damaged });
      const without = await contextOf(new WithoutChecksums(target), isEncrypted, { readOnly: true });
      const result = await verifyRepository(without, { depth: 'checksums' }, QUICK);
      if (at === 0) expect(result).toMatchObject({ ok: true });
      else expect(result).toMatchObject({ ok: false, damaged });
    });

    test('a pack that is cut off is found at every depth, with the backups that need what is gone', async () => {
      const target = new MemoryTarget();
      const { full, incremental } = await sample(target, isEncrypted);
      const context = await contextOf(target, isEncrypted, { readOnly: true });
      const rows = await storedRows(context);
      // The pack has the old content of a block that the incremental one has changed.
      const hidden = rows.find(({ kind, hint }) => kind === RecordKind.block && hint === 288)!;
      const last = rows.filter(({ key }) => key === hidden.key).at(-1)!;
      const whole = Uint8Array.from(await target.get(hidden.key));
      for (const [bytes, backups] of [
        [last.offset + last.storedLength, []],
        [last.offset + last.storedLength - 1, expect.arrayContaining([full])],
        [10, [full, incremental]],
        [0, [full, incremental]],
      ] as const) {
        await target.put(hidden.key, whole.slice(0, bytes));
        for (const depth of DEPTHS) {
          const { ok, damaged } = await verifyRepository(context, { depth }, QUICK);
          expect({ ok, damaged }, `${bytes} bytes, ${depth}`).toMatchObject({
            ok: false,
            damaged: [{ pack: hidden.key, backups, error: { code: 'PACK_CORRUPT' } }],
          });
        }
      }
      await target.put(hidden.key, Uint8Array.from(Buffer.concat([whole, Buffer.from([1])])));
      for (const depth of DEPTHS) {
        const { damaged } = await verifyRepository(context, { depth }, QUICK);
        expect(damaged).toMatchObject([{ pack: hidden.key, backups: [], error: { code: 'PACK_CORRUPT' } }]);
      }
    });

    test('a pack that is gone is found at every depth', async () => {
      const target = new MemoryTarget();
      const { full, incremental, other } = await sample(target, isEncrypted);
      const context = await contextOf(target, isEncrypted, { readOnly: true });
      const rows = await storedRows(context);
      for (const [key, backups] of [
        [rows[0]!.key, [full, incremental]],
        [rows.at(-1)!.key, [other]],
      ] as const) {
        const whole = Uint8Array.from(await target.get(key));
        await target.delete(key);
        for (const depth of DEPTHS) {
          const { ok, damaged } = await verifyRepository(context, { depth }, QUICK);
          expect({ ok, damaged }, depth).toMatchObject({
            ok: false,
            damaged: [{ pack: key, backups, error: { code: 'PACK_MISSING' } }],
          });
        }
        await target.put(key, whole);
      }
      for await (const { key } of target.list('packs/')) await target.delete(key);
      for (const depth of DEPTHS) {
        const { damaged } = await verifyRepository(context, { depth }, QUICK);
        expect(new Set(damaged.flatMap(({ backups }) => backups))).toEqual(new Set([full, incremental, other]));
      }
    });

    test('another pack in its place is found', async () => {
      const target = new MemoryTarget();
      const { full } = await sample(target, isEncrypted);
      const context = await contextOf(target, isEncrypted, { readOnly: true });
      const keys = [...new Set((await storedRows(context)).map(({ key }) => key))];
      const bySize = new Map<number, string[]>();
      for (const key of keys) {
        const { length } = await target.get(key);
        bySize.set(length, [...(bySize.get(length) ?? []), key]);
      }
      // Sound in itself, and as long as the one that should be there.
      const [a, b] = [...bySize.values()].find((alike) => alike.length > 1) ?? [];
      await target.put(a!, Uint8Array.from(await target.get(b!)));
      for (const depth of ['checksums', 'data'] as const) {
        const { damaged } = await verifyRepository(context, { depth }, QUICK);
        expect(damaged).toMatchObject([{ pack: a, backups: expect.arrayContaining([full]) }]);
      }
    });

    test('a damaged entry of the log rejects, also one that opening does not read', async () => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      const context = await contextOf(target, isEncrypted);
      const keys = (await Array.fromAsync(target.list('log/'))).map(({ key }) => key);
      for (const key of keys) {
        const restore = await flip(target, key, 30);
        for (const depth of DEPTHS) {
          const code = await verifyRepository(context, { depth }, QUICK).catch((error: BackupError) => error.code);
          expect(code, key).toBe('LOG_CORRUPT');
        }
        await restore();
      }
      await target.delete(keys[2]!);
      await expect(verifyRepository(context, { depth: 'structure' }, QUICK)).rejects.toMatchObject({
        code: 'LOG_TRUNCATED',
      });
    });

    test('only what some backups need, where that is asked for', async () => {
      const target = new MemoryTarget();
      const { full, other } = await sample(target, isEncrypted);
      const context = await contextOf(target, isEncrypted, { readOnly: true });
      const row = await firstOf(context, RecordKind.block);
      await flipRecord(target, row);
      const ofOther = await verifyRepository(context, { depth: 'data', backups: [other] }, QUICK);
      expect(ofOther).toMatchObject({ ok: true });
      expect(ofOther.packs).toBeLessThan(5);
      expect(await verifyRepository(context, { depth: 'data', backups: [full] }, QUICK)).toMatchObject({ ok: false });
      await expect(
        verifyRepository(context, { depth: 'data', backups: ['00'.repeat(16)] }, QUICK),
      ).rejects.toMatchObject({
        code: 'BACKUP_NOT_FOUND',
      });
    });

    test('what answers wrongly once is read again before it is believed', async () => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      for (const fault of [{ kind: 'corrupt', bit: 800 }, { kind: 'fail-before' }] as const) {
        // Every other one with `COW_TEST_SWEEP=all`.
        for (let nth = 1; nth <= 100; nth += SWEEPS_ALL ? 2 : 10) {
          const plan = scriptedFaults([{ operation: 'get', subject: /^packs\//, nth, fault }]);
          const context = await contextOf(new FaultyTarget(target, plan), isEncrypted);
          const depth = nth % 3 === 0 ? 'structure' : 'data';
          expect(await verifyRepository(context, { depth }, QUICK), `${fault.kind} ${nth}`).toMatchObject({
            ok: true,
            quarantined: [],
          });
        }
      }
    });

    test('a store that does not answer is no damage: it rejects, and nothing is put into quarantine', async () => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      const { key } = await firstOf(await contextOf(target, isEncrypted), RecordKind.block);
      const newest = (await Array.fromAsync(target.list('log/')))[0]!.key;
      for (const [operation, subject] of [
        ['get', key],
        ['stat', key],
        ['list', 'packs/'],
        ['list', 'log/'],
        ['get', newest],
      ] as const) {
        let isArmed = false;
        const plan = scriptedFaults<TargetOperation>([{ operation, subject, fault: { kind: 'fail-before' } }]);
        const faulty = new FaultyTarget(target, { next: (call) => (isArmed ? plan.next(call) : undefined) });
        const context = await contextOf(faulty, isEncrypted);
        const before = context.log.state.seq;
        isArmed = true;
        const depth = operation === 'stat' ? 'checksums' : 'data';
        await expect(verifyRepository(context, { depth }, QUICK)).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE' });
        expect(faulty.calls.filter((call) => call.fault !== undefined).length).toBeGreaterThan(3);
        isArmed = false;
        expect((await context.log.catchUp()).seq).toBe(before);
      }
    });

    test('what others forget and prune meanwhile is no damage', async () => {
      const target = new MemoryTarget();
      const { full, incremental } = await sample(target, isEncrypted);
      const prune = async () => {
        await using other = await openIn(target, isEncrypted);
        await other.forget([full, incremental]);
        await other.prune({ graceMs: 0 });
      };
      const points = [
        (operation: string, subject: string) => operation === 'get' && subject.startsWith('packs/'),
        (operation: string, subject: string) => operation === 'stat' && subject.startsWith('packs/'),
        (operation: string, subject: string) => operation === 'stat' && subject === 'cache/verified',
      ];
      const objects = await Promise.all(
        (await Array.fromAsync(target.list(''))).map(async ({ key }) => [key, await target.get(key)] as const),
      );
      for (const [index, matches] of points.entries()) {
        for await (const { key } of target.list('')) await target.delete(key);
        for (const [key, body] of objects) await target.put(key, Uint8Array.from(body));
        let hasPruned = false;
        const interrupted = new Interrupted(target, matches, async () => {
          await prune();
          hasPruned = true;
        });
        const context = await contextOf(interrupted, isEncrypted);
        const depth = index === 1 ? 'checksums' : 'data';
        expect(await verifyRepository(context, { depth }, QUICK)).toMatchObject({
          ok: true,
          damaged: [],
          quarantined: [],
        });
        expect(hasPruned).toBe(true);
      }
    });

    test('an abort ends it with its reason', async () => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      for (const phase of ['log', 'listing', 'maps', 'data']) {
        const context = await contextOf(target, isEncrypted);
        const controller = new AbortController();
        const onProgress = ({ phase: now }: { phase: string }) => {
          if (now === phase) controller.abort(new Error(`enough of ${phase}`));
        };
        const verifying = verifyRepository(context, { depth: 'data', signal: controller.signal, onProgress }, QUICK);
        await expect(verifying).rejects.toThrow(`enough of ${phase}`);
      }
    });

    test('tells how far it has got, and keeps to its budget', async () => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      await using repository = await openIn(target, isEncrypted);
      const told: { phase: string; doneBytes: number; totalBytes: number | undefined }[] = [];
      const result = await repository.verify({ depth: 'data', onProgress: (progress) => told.push(progress) });
      expect([...new Set(told.map(({ phase }) => phase))]).toEqual(['log', 'listing', 'maps', 'data', 'done']);
      const last = told.findLast(({ phase }) => phase === 'data');
      expect(last).toMatchObject({ doneBytes: result.packBytes, totalBytes: result.packBytes });
      await expect(repository.verify({ depth: 'data', budget: { downloadBytes: 100_000 } })).rejects.toMatchObject({
        code: 'BUDGET_EXCEEDED',
      });
    });
  },
);

test('refuses what makes no sense', async () => {
  const target = new MemoryTarget();
  await sample(target, false);
  await using repository = await openIn(target);
  for (const options of [
    { depth: 'everything' },
    { depth: 'data', fraction: 0 },
    { depth: 'data', fraction: 1.5 },
    { depth: 'data', maxBytes: 0 },
    { depth: 'structure', fraction: 0.5 },
    { depth: 'checksums', maxBytes: 1000 },
  ]) {
    await expect(repository.verify(options as { depth: 'data' })).rejects.toBeInstanceOf(TypeError);
  }
});
