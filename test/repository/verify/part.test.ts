import { describe, expect, test } from 'vitest';
import { VERIFIED_KEY } from '../../../src/repository/format/object-keys.ts';
import { RecordKind } from '../../../src/repository/format/record.ts';
import { prune } from '../../../src/repository/prune/prune.ts';
import { forgetBackups } from '../../../src/repository/retention/forget.ts';
import { verifyRepository } from '../../../src/repository/verify/verify.ts';
import type { VerifyOptions } from '../../../src/repository/verify/verify-options.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { createIn, openVolume, writeBlock } from '../support/repositories.ts';
import { contextOf, flip, storedRows } from './support/damaging.ts';

const QUICK = { clock: { sleep: async () => {} } };

async function sample(target: MemoryTarget, isEncrypted: boolean, blocks = 300) {
  await using repository = await createIn(target, isEncrypted);
  const { volume } = await openVolume(blocks);
  await repository.backup(volume, { volume: 'a' });
  await writeBlock(volume, 3);
  await repository.backup(volume, { volume: 'a' });
  await volume.close();
}

/** Verifies a part at some time. @returns keys of the packs that were read in full */
async function verifyPart(
  target: MemoryTarget,
  isEncrypted: boolean,
  options: Partial<VerifyOptions> & { at?: number; saveEveryPacks?: number } = {},
) {
  const { at = 1_800_000_000_000, saveEveryPacks, ...rest } = options;
  const read = new Set<string>();
  const get = target.get.bind(target);
  target.get = async (key, how) => {
    if (key.startsWith('packs/') && how?.range?.offset === 0) read.add(key); // Nobody else reads a pack's head.
    return get(key, how);
  };
  try {
    const context = { ...(await contextOf(target, isEncrypted)), now: () => at };
    const result = await verifyRepository(context, { depth: 'data', ...rest }, { ...QUICK, saveEveryPacks });
    return { result, read };
  } finally {
    target.get = get;
  }
}

const packKeys = async (target: MemoryTarget) => (await Array.fromAsync(target.list('packs/'))).map(({ key }) => key);

describe.each([{ isEncrypted: false }, { isEncrypted: true }])(
  'verifying a part of the data, encrypted: $isEncrypted',
  ({ isEncrypted }) => {
    test('goes round: what was verified least recently comes first', async () => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      const all = await packKeys(target);
      const verifiedOn = new Map(all.map((key) => [key, 0]));
      for (let day = 1; day <= 12; day++) {
        const { result, read } = await verifyPart(target, isEncrypted, { fraction: 0.25, at: day * 86_400_000 });
        expect(result).toMatchObject({ ok: true, packs: all.length, verifiedPacks: read.size });
        expect(result.verifiedBytes).toBeLessThan(0.4 * result.packBytes);
        const days = (keys: string[]) => keys.map((key) => verifiedOn.get(key) as number);
        const others = all.filter((key) => !read.has(key));
        expect(Math.max(...days([...read]))).toBeLessThanOrEqual(Math.min(...days(others)));
        for (const key of read) verifiedOn.set(key, day);
        if (day >= 4) expect(Math.min(...verifiedOn.values())).toBeGreaterThan(day - 5);
      }
    });

    test('no more than so many bytes, and one pack at least', async () => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      const { result } = await verifyPart(target, isEncrypted, { maxBytes: 200_000 });
      expect(result.verifiedBytes).toBeLessThanOrEqual(200_000);
      expect(result.verifiedPacks).toBeGreaterThan(1);
      expect((await verifyPart(target, isEncrypted, { maxBytes: 1 })).result).toMatchObject({ verifiedPacks: 1 });
    });

    test('an aborted verification is gone on with where it ended', async () => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      const all = await packKeys(target);
      const controller = new AbortController();
      let done = 0;
      const onProgress = ({
        phase,
        doneBytes,
        totalBytes,
      }: {
        phase: string;
        doneBytes: number;
        totalBytes: number | undefined;
      }) => {
        if (phase === 'data') done = doneBytes / totalBytes!;
        if (done > 0.5) controller.abort(new Error('enough'));
      };
      const options = { signal: controller.signal, onProgress, saveEveryPacks: 1, at: 86_400_000 };
      await expect(verifyPart(target, isEncrypted, options)).rejects.toThrow('enough');
      expect(await target.stat(VERIFIED_KEY)).toBeDefined();
      const { read } = await verifyPart(target, isEncrypted, { fraction: 0.4, at: 2 * 86_400_000 });
      const { read: rest } = await verifyPart(target, isEncrypted, { fraction: 0.4, at: 3 * 86_400_000 });
      // With what came before the abort that is all of it, and nothing twice before everything was verified once.
      for (const key of rest) expect(read).not.toContain(key);
      expect(read.size + rest.size).toBeGreaterThan(0.7 * all.length);
    });

    test('a damaged pack is no verified one: it comes first again', async () => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      const context = await contextOf(target, isEncrypted);
      // Not one that would come first by its name.
      const { key, offset } = (await storedRows(context)).findLast(({ kind }) => kind === RecordKind.block)!;
      const restore = await flip(target, key, offset + 20);
      expect((await verifyPart(target, isEncrypted)).result.damaged).toMatchObject([{ pack: key }]);
      const { result, read } = await verifyPart(target, isEncrypted, { maxBytes: 1 });
      expect(read).toEqual(new Set([key]));
      expect(result).toMatchObject({ ok: false, quarantined: [] });
      await restore();
      expect((await verifyPart(target, isEncrypted, { maxBytes: 1 })).result).toMatchObject({
        ok: true,
        released: [key],
      });
      expect((await contextOf(target, isEncrypted)).log.state.quarantined.size).toBe(0);
    });

    test('damage outside the part is not looked for', async () => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      const { read } = await verifyPart(target, isEncrypted, { fraction: 0.3 });
      const rows = await storedRows(await contextOf(target, isEncrypted));
      const { key, offset } = rows.find((row) => row.kind === RecordKind.block && read.has(row.key))!;
      await flip(target, key, offset + 20);
      expect((await verifyPart(target, isEncrypted, { fraction: 0.3 })).result).toMatchObject({ ok: true });
      expect((await verifyPart(target, isEncrypted)).result).toMatchObject({ ok: false });
    });

    test('the note of it may be lost, damaged, old, or not to be had', async () => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      await verifyPart(target, isEncrypted);
      const whole = Uint8Array.from(await target.get(VERIFIED_KEY));
      for (const bytes of [whole.slice(0, 10), new Uint8Array(0), new Uint8Array(100).fill(3), whole.slice(1)]) {
        await target.put(VERIFIED_KEY, Uint8Array.from(bytes));
        expect((await verifyPart(target, isEncrypted, { fraction: 0.2 })).result).toMatchObject({ ok: true });
      }
      await target.put(VERIFIED_KEY, whole.slice());
      const plan = scriptedFaults([{ operation: 'stat', subject: VERIFIED_KEY, fault: { kind: 'fail-before' } }]);
      const context = await contextOf(new FaultyTarget(target, plan), isEncrypted);
      expect(await verifyRepository(context, { depth: 'data' }, QUICK)).toMatchObject({ ok: true });
      // What could not be read was not overwritten.
      expect(await target.get(VERIFIED_KEY)).toEqual(whole);
    });

    test('hosts add to what each other noted, and what is pruned is forgotten', async () => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      const size = async () => (await target.stat(VERIFIED_KEY))!.size;
      await verifyPart(target, isEncrypted, { fraction: 0.3 });
      const one = await size();
      await verifyPart(target, isEncrypted, { fraction: 0.3 });
      const both = await size();
      expect(both).toBeGreaterThan(one);
      await verifyPart(target, isEncrypted);
      const all = await size();
      const context = await contextOf(target, isEncrypted);
      expect(all - both).toBeGreaterThan(0);
      const [first] = context.log.state.backups.keys();
      await forgetBackups(context, [first!]);
      await prune(context, { graceMs: 0, minRepackGainBytes: 0, repackBelow: 1, packBytes: 65536 });
      expect(await target.stat(VERIFIED_KEY)).toBeDefined();
      await verifyPart(target, isEncrypted);
      const packs = (await packKeys(target)).length;
      expect(await size()).toBe((isEncrypted ? 28 : 32) + 1 + 12 * packs);
    });

    test('nothing is noted in a repository that is open for reading only', async () => {
      const target = new MemoryTarget();
      await sample(target, isEncrypted);
      const context = await contextOf(target, isEncrypted, { readOnly: true });
      expect(await verifyRepository(context, { depth: 'data' }, QUICK)).toMatchObject({ ok: true });
      expect(await target.stat(VERIFIED_KEY)).toBeUndefined();
    });
  },
);
