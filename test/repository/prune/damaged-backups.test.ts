import { describe, expect, test } from 'vitest';
import { openMap, type RepositoryContext } from '../../../src/repository/context/repository-context.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { prune } from '../../../src/repository/prune/prune.ts';
import type { PruneOptions } from '../../../src/repository/prune/prune-options.ts';
import { applyRetention } from '../../../src/repository/retention/apply-retention.ts';
import { forgetBackups } from '../../../src/repository/retention/forget.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { packUsage } from '../map/support/map-nodes.ts';
import { Backups, type Content, freshBlock, openHost, packsOf, secrets } from './support/repository.ts';

const AT_ONCE: PruneOptions = { graceMs: 0, repackBelow: 0 };
const BLOCKS = 200;

const changed = (content: Content, step: number): Content =>
  content.map((bytes, block) => (block % step === 0 ? freshBlock() : bytes));

/** Packs that a backup's map needs, each with how many bytes. */
const usageOf = (context: RepositoryContext, id: string) =>
  packUsage(openMap(context, context.log.state.backups.get(id)!.descriptor));

async function world() {
  const target = new MemoryTarget();
  const secret = secrets(true);
  const context = await openHost(target, secret);
  const backups = new Backups();
  return { target, secret, context, backups };
}

describe('one lost pack', () => {
  test('of a damaged backup that is kept does not keep others from being freed', async () => {
    const { target, secret, context, backups } = await world();
    const full = Array.from({ length: BLOCKS }, freshBlock);
    const damaged = await backups.store(context, full, { volume: 'a' });
    const root = context.log.state.backups.get(damaged)!.descriptor.root!.location.pack;
    const others: string[] = [];
    let content: Content = Array.from({ length: BLOCKS }, freshBlock);
    for (let n = 0; n < 3; n++) {
      content = changed(content, 2);
      others.push(await backups.store(context, content, { volume: 'b' }));
    }
    const needed = new Set((await usageOf(context, damaged)).keys());
    await target.delete(packKey(root));
    await forgetBackups(context, others.slice(0, 2));
    const host = await openHost(target, secret);
    const { damagedBackups, freedBytes } = await prune(host, AT_ONCE);
    expect(damagedBackups).toEqual([
      { id: damaged, volume: 'a', error: expect.objectContaining({ code: 'PACK_MISSING' }) },
    ]);
    expect(freedBytes).toBeGreaterThan(BLOCKS * 2048);
    const left = await packsOf(target);
    needed.delete(packKey(root));
    for (const key of needed) expect(left.has(key), key).toBe(true);
    // Sound backups still read back; every prune reports the damaged one until it is forgotten.
    backups.contents.delete(damaged);
    await forgetBackups(host, [damaged]);
    await backups.check(host);
    const after = await prune(host, AT_ONCE);
    expect(after.damagedBackups).toEqual([]);
    expect((await packsOf(target)).size).toBeLessThan(left.size);
    await backups.check(host);
  });

  test('keeps what the damaged backup shares with forgotten ones, though nothing says any more that it does', async () => {
    const { target, secret, context, backups } = await world();
    const first: Content = Array.from({ length: BLOCKS }, freshBlock);
    const base = await backups.store(context, first);
    const damaged = await backups.store(context, changed(first, 3));
    const needed = await usageOf(context, damaged);
    const { descriptor } = context.log.state.backups.get(damaged)!;
    // A run or the root of the newer one, that only it has.
    const lost = packKey((descriptor.runs[0]?.[0] ?? descriptor.root!).location.pack);
    await target.delete(lost);
    await forgetBackups(context, [base]);
    const host = await openHost(target, secret);
    const result = await prune(host, AT_ONCE);
    expect(result.damagedBackups.map(({ id }) => id)).toEqual([damaged]);
    const left = await packsOf(target);
    for (const key of needed.keys()) if (key !== lost) expect(left.has(key), key).toBe(true);
  });

  test('that another backup shares is reported for both, and marking does not skip what they share', async () => {
    const { target, secret, context, backups } = await world();
    const content: Content = Array.from({ length: BLOCKS }, freshBlock);
    const ids = [await backups.store(context, content), await backups.store(context, changed(content, 50))];
    const root = context.log.state.backups.get(ids[0]!)!.descriptor.root!.location.pack;
    await target.delete(packKey(root));
    const host = await openHost(target, secret);
    const before = await packsOf(target);
    const result = await prune(host, { ...AT_ONCE, repackBelow: 1, minRepackGainBytes: 0 });
    expect(result.damagedBackups.map(({ id }) => id).sort()).toEqual([...ids].sort());
    expect(result).toMatchObject({ repackedPacks: 0, freedBytes: 0 });
    expect(await packsOf(target)).toEqual(before);
  });

  test('with the table of a moved pack names the backups that need it, and keeps where it was moved to', async () => {
    const { target, secret, context, backups } = await world();
    let content: Content = Array.from({ length: BLOCKS }, freshBlock);
    const ids: string[] = [];
    for (let n = 0; n < 4; n++) {
      content = changed(content, 2 + n);
      ids.push(await backups.store(context, content));
    }
    await forgetBackups(context, ids.slice(0, 3));
    const repacked = await prune(context, { graceMs: 0, repackBelow: 0.99, minRepackGainBytes: 0, packBytes: 20_000 });
    expect(repacked.repackedPacks).toBeGreaterThan(0);
    const [relocation] = [...context.log.state.relocations.values()];
    const lost = packKey(relocation!.location.pack);
    await target.delete(lost);
    const before = await packsOf(target);
    const host = await openHost(target, secret);
    const result = await prune(host, AT_ONCE);
    expect(result.damagedBackups.map(({ id }) => id)).toEqual([ids[3]]);
    expect(await packsOf(target)).toEqual(before);
  });

  test('does not end a dry run of a retention policy', async () => {
    const { target, secret, context, backups } = await world();
    const damaged = await backups.store(context, Array.from({ length: BLOCKS }, freshBlock), { volume: 'a' });
    const root = context.log.state.backups.get(damaged)!.descriptor.root!.location.pack;
    let content: Content = Array.from({ length: BLOCKS }, freshBlock);
    for (let n = 0; n < 2; n++) {
      content = changed(content, 1);
      await backups.store(context, content, { volume: 'b' });
    }
    await target.delete(packKey(root));
    const host = await openHost(target, secret);
    const reported = await applyRetention(host, { keepLast: 1 }, { volume: 'b', dryRun: true });
    expect(reported.forgotten.length).toBe(1);
    await forgetBackups(
      host,
      reported.forgotten.map(({ id }) => id),
    );
    expect((await prune(host, AT_ONCE)).freedBytes).toBe(reported.freeableBytes);
  });
});
