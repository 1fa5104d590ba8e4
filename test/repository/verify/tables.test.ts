import { describe, expect, test } from 'vitest';
import { inRanges } from '../../../src/common/block-range.ts';
import { damagedBlocksOf, needsRebuild } from '../../../src/repository/backup/quarantined-base.ts';
import { freshRecords } from '../../../src/repository/context/fresh-records.ts';
import { mapOver, openMap, type RepositoryContext } from '../../../src/repository/context/repository-context.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { type Location, RecordKind } from '../../../src/repository/format/record.ts';
import { packTables } from '../../../src/repository/log/entries/known-names.ts';
import { prune } from '../../../src/repository/prune/prune.ts';
import type { PruneOptions } from '../../../src/repository/prune/prune-options.ts';
import { forgetBackups } from '../../../src/repository/retention/forget.ts';
import { verifyRepository } from '../../../src/repository/verify/verify.ts';
import type { VerifyDepth } from '../../../src/repository/verify/verify-options.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { Backups, type Content, freshBlock, openHost, openWhole, secrets } from '../prune/support/repository.ts';
import { flip, Interrupted } from './support/damaging.ts';

const QUICK = { clock: { sleep: async () => {} } };
const DEPTHS: readonly VerifyDepth[] = ['structure', 'checksums', 'data'];
const REPACK: PruneOptions = { graceMs: 0, minRepackGainBytes: 0, packBytes: 60_000 };
const LOOK = { quarantine: false } as const;

const volume = (blocks: number): Content => Array.from({ length: blocks }, freshBlock);

/** Two volumes; all packs of the first one's older backup were sparse, and have been moved. */
async function movedRepository(context: RepositoryContext) {
  const backups = new Backups();
  const content = volume(120);
  const first = await backups.store(context, content);
  const live = await backups.store(
    context,
    content.map((bytes, block) => (block % 4 === 0 ? bytes : freshBlock())),
  );
  const other = await backups.store(context, volume(10), { volume: 'other' });
  await forgetBackups(context, [first]);
  expect((await prune(context, REPACK)).repackedPacks).toBeGreaterThan(5);
  return { backups, live, other };
}

const middle = ({ offset, storedLength }: Location) => offset + Math.floor(storedLength / 2);

describe.each([{ isEncrypted: false }, { isEncrypted: true }])('tables, encrypted: $isEncrypted', ({ isEncrypted }) => {
  test('a repository whose packs were moved is sound', async () => {
    const context = await openWhole(new MemoryTarget(), secrets(isEncrypted));
    await movedRepository(context);
    for (const depth of DEPTHS) {
      expect(await verifyRepository(context, { depth }, QUICK)).toMatchObject({ ok: true, packsWithoutChecksum: 0 });
    }
    const part = await verifyRepository(context, { depth: 'data', fraction: 0.3 }, QUICK);
    expect(part.ok).toBe(true);
    expect(part.verifiedPacks).toBeLessThan(part.packs);
  });

  test('tables that are answered wrongly once are read again', async () => {
    const target = new MemoryTarget();
    const host = secrets(isEncrypted);
    await movedRepository(await openWhole(target, host));
    for (let nth = 1; nth <= 12; nth++) {
      const plan = scriptedFaults([{ operation: 'get', subject: /^packs/, nth, fault: { kind: 'corrupt', bit: 300 } }]);
      const context = await openHost(new FaultyTarget(target, plan), host);
      expect(await verifyRepository(context, { depth: 'structure' }, QUICK)).toMatchObject({
        ok: true,
        quarantined: [],
      });
    }
  });

  test('a damaged relocation table is found at every depth, with the backups that it leads nowhere', async () => {
    const target = new MemoryTarget();
    const context = await openWhole(target, secrets(isEncrypted));
    const { live } = await movedRepository(context);
    for (const { location } of [...context.log.state.relocations.values()].slice(0, 2)) {
      const key = packKey(location.pack);
      const restore = await flip(target, key, middle(location));
      for (const depth of DEPTHS) {
        const { damaged } = await verifyRepository(context, { depth, ...LOOK }, QUICK);
        expect(damaged, depth).toMatchObject([{ pack: key, backups: [live] }]);
      }
      await restore();
    }
  });

  test('a pack into which records were moved is found to be gone, and its blocks are stored again', async () => {
    const target = new MemoryTarget();
    const host = secrets(isEncrypted);
    const context = await openWhole(target, host);
    const { live } = await movedRepository(context);
    const targets = new Set<string>();
    for (const relocation of context.log.state.relocations.values()) {
      const { relocations } = freshRecords(context, {});
      for (const { pack } of await relocations.targets(relocation)) targets.add(packKey(pack));
    }
    const [key] = targets;
    await target.delete(key!);
    const result = await verifyRepository(context, { depth: 'structure' }, QUICK);
    expect(result.damaged).toMatchObject([{ pack: key, backups: [live], error: { code: 'PACK_MISSING' } }]);
    expect(result.quarantined).toEqual([key]);
    const map = openMap(context, context.log.state.backups.get(live)!.descriptor);
    const damaged = await damagedBlocksOf(context, map, {});
    expect(damaged.length).toBeGreaterThan(0);
    // Exactly those blocks can't be read, and those of which no node says any more where they are.
    const other = await openHost(target, host);
    const fresh = freshRecords(other, {});
    const isBroken = await needsRebuild(context, map, {});
    let unreadable = 0;
    for (let block = 0; block < 120; block++) {
      const readable = await mapOver(other, fresh, map.descriptor)
        .lookup(block, 1)
        .then(async ({ entries: [entry] }) => {
          await fresh.read(RecordKind.block, entry!.id, entry!.location);
          return true;
        })
        .catch(() => false);
      if (!readable) unreadable++;
      expect(inRanges(damaged, block), `block ${block}`).toBe(!readable);
    }
    expect(unreadable).toBeGreaterThan(0);
    expect(unreadable).toBeLessThan(120);
    expect(typeof isBroken).toBe('boolean');
  });

  test('packs that are listed in tables are held to what the tables say', async () => {
    const target = new MemoryTarget();
    const context = await openWhole(target, secrets(isEncrypted));
    const backups = new Backups();
    const id = await backups.store(context, volume(1100));
    const [table] = packTables(context.log.state);
    expect(table?.packs).toBeGreaterThan(64);
    const sound = await verifyRepository(context, { depth: 'checksums' }, QUICK);
    expect(sound).toMatchObject({ ok: true, packsWithoutChecksum: 0 });
    expect(sound.verifiedPacks).toBe(sound.packs);
    const [first] = await Array.fromAsync(target.list('packs/'));
    const whole = Uint8Array.from(await target.get(first!.key));
    await target.put(first!.key, Uint8Array.from(Buffer.concat([whole, Buffer.from([0])])));
    expect((await verifyRepository(context, { depth: 'structure', ...LOOK }, QUICK)).damaged).toMatchObject([
      { pack: first!.key },
    ]);
    await target.put(first!.key, whole);
    const key = packKey(table!.location.pack);
    await flip(target, key, middle(table!.location));
    for (const depth of DEPTHS) {
      const { damaged } = await verifyRepository(context, { depth, ...LOOK }, QUICK);
      expect(damaged, depth).toMatchObject([{ pack: key, backups: [] }]);
    }
    // Without it nobody knows the checksums any more, and the packs are looked at in other ways.
    const result = await verifyRepository(context, { depth: 'checksums', ...LOOK }, QUICK);
    expect(result.packsWithoutChecksum).toBeGreaterThan(64);
    expect(context.log.state.backups.has(id)).toBe(true);
  });

  test('packs that others move meanwhile are no damage', async () => {
    const target = new MemoryTarget();
    const host = secrets(isEncrypted);
    const writer = await openWhole(target, host);
    const backups = new Backups();
    const content = volume(120);
    const first = await backups.store(writer, content);
    await backups.store(
      writer,
      content.map((bytes, block) => (block % 4 === 0 ? bytes : freshBlock())),
    );
    await forgetBackups(writer, [first]);
    let hasMoved = false;
    const isRead = (operation: string, subject: string) => operation === 'get' && subject.startsWith('packs/');
    const interrupted = new Interrupted(target, isRead, async () => {
      expect((await prune(writer, REPACK)).repackedPacks).toBeGreaterThan(5);
      hasMoved = true;
    });
    const context = await openHost(interrupted, host);
    expect(await verifyRepository(context, { depth: 'data' }, QUICK)).toMatchObject({ ok: true, quarantined: [] });
    expect(hasMoved).toBe(true);
  });

  test('only the blocks in quarantine are damaged ones, and a map that can be read is no broken one', async () => {
    const target = new MemoryTarget();
    const context = await openWhole(target, secrets(isEncrypted));
    const backups = new Backups();
    const id = await backups.store(context, volume(200));
    const map = openMap(context, context.log.state.backups.get(id)!.descriptor);
    expect(await damagedBlocksOf(context, map, {})).toEqual([]);
    const entries = await Array.fromAsync(map.entries());
    const { location } = entries[50]!.entry;
    await flip(target, packKey(location.pack), middle(location));
    await verifyRepository(context, { depth: 'data' }, QUICK);
    const damaged = await damagedBlocksOf(context, map, {});
    for (const { block, entry } of entries) {
      expect(inRanges(damaged, block)).toBe(packKey(entry.location.pack) === packKey(location.pack));
    }
    expect(await needsRebuild(context, map, {})).toBe(false);
    const { root } = map.descriptor;
    await target.delete(packKey(root!.location.pack));
    await verifyRepository(context, { depth: 'structure' }, QUICK);
    expect(await needsRebuild(context, map, {})).toBe(true);
    expect(await damagedBlocksOf(context, map, {})).toEqual([{ firstBlock: 0, blockCount: 200 }]);
    await expect(freshRecords(context, {}).read(RecordKind.inner, root!.id, root!.location)).rejects.toMatchObject({
      code: 'PACK_MISSING',
    });
  });
});
