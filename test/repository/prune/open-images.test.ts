import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { openMap, type RepositoryContext } from '../../../src/repository/context/repository-context.ts';
import type { StoredBackup } from '../../../src/repository/format/log-state.ts';
import { RecordKind } from '../../../src/repository/format/record.ts';
import { prune } from '../../../src/repository/prune/prune.ts';
import type { PruneOptions } from '../../../src/repository/prune/prune-options.ts';
import { forgetBackups } from '../../../src/repository/retention/forget.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { Backups, type Content, freshBlock, openHost, packsOf, secrets } from './support/repository.ts';

/** P8: what somebody has open stays for the grace after it was condemned, and so does the way to it, however often it was moved. */

const HOUR_MS = 3_600_000;
const GRACE_MS = 24 * HOUR_MS;
const MERGE: PruneOptions = { graceMs: GRACE_MS, minRepackGainBytes: 0, packBytes: 40_000, repackBelow: 1 };
const NO_REPACK: PruneOptions = { graceMs: GRACE_MS, repackBelow: 0 };

const changed = (content: Content, isChanged: (block: number) => boolean): Content =>
  content.map((bytes, block) => (isChanged(block) ? freshBlock() : bytes));

/**
 * A backup of which a part was moved once, so long ago that what it was moved out of may go; somebody has it open. Later
 * backups need some of it.
 */
async function world(isEncrypted: boolean) {
  const store = { at: 1_800_000_000_000 };
  const target = new MemoryTarget({ now: () => store.at });
  const secret = secrets(isEncrypted);
  const context = await openHost(target, secret, { now: () => store.at });
  const backups = new Backups();
  const pass = (hours: number) => {
    store.at += hours * HOUR_MS;
  };
  const first = await backups.store(context, Array.from({ length: 90 }, freshBlock));
  const opened = await backups.store(
    context,
    changed(backups.contents.get(first) as Content, (block) => block % 3 === 0),
  );
  await forgetBackups(context, [first]);
  expect((await prune(context, MERGE)).repackedPacks).toBeGreaterThan(2);
  pass(25);
  const image = context.log.state.backups.get(opened) as StoredBackup;
  const openReader = () => openHost(target, secret, { now: () => store.at });
  /** Reads all of it without anything that a cache might keep. */
  const read = async (reader: RepositoryContext) => {
    const content = backups.contents.get(opened) as Content;
    let compared = 0;
    for await (const { block, entry } of openMap(reader, image.descriptor).entries()) {
      const bytes = await reader.records.read(RecordKind.block, entry.id, entry.location, { keep: false });
      expect(Buffer.compare(bytes, content[block] as Uint8Array)).toBe(0);
      compared++;
    }
    expect(compared).toBe(90);
  };
  return { store, target, context, backups, pass, opened, openReader, read };
}

const codeOf = (error: unknown) => (BackupError.is(error) ? error.code : error);

describe.each([{ isEncrypted: false }, { isEncrypted: true }])('encrypted: $isEncrypted', ({ isEncrypted }) => {
  test('a forgotten backup of which nothing is needed is read for the grace after it was condemned', async () => {
    const { target, context, opened, openReader, read, pass } = await world(isEncrypted);
    const [early, late] = [await openReader(), await openReader()];
    await read(early);
    const before = (await packsOf(target)).size;
    await forgetBackups(context, [opened]);
    expect((await prune(context, NO_REPACK)).deletedObjects).toBeGreaterThan(2); // Where it stood at first.
    expect((await packsOf(target)).size).toBeLessThan(before);
    pass(23);
    await prune(context, NO_REPACK);
    for (const reader of [early, late, await openReader()]) await read(reader);
    pass(2);
    await prune(context, NO_REPACK);
    expect((await packsOf(target)).size).toBe(0);
    await expect(read(early)).rejects.toSatisfy((error) => codeOf(error) === 'PACK_MISSING');
    await prune(context, NO_REPACK);
    expect(context.log.state.formerRelocations.size).toBe(0);
  });

  test('also where the rest of what was moved is moved again, once or more', async () => {
    const { context, backups, opened, openReader, read, pass } = await world(isEncrypted);
    const reader = await openReader();
    let content = backups.contents.get(opened) as Content;
    for (let round = 1; round <= 3; round++) {
      const ids = [...context.log.state.backups.keys()];
      content = changed(content, (block) => block % 2 ** round !== 0);
      await backups.store(context, content);
      await forgetBackups(context, ids);
      expect((await prune(context, MERGE)).repackedPacks).toBeGreaterThan(0);
      pass(7); // 21 hours since the first of these.
      await backups.check(context);
      for (const each of [reader, await openReader()]) await read(each);
    }
    expect(context.log.state.formerRelocations.size).toBeGreaterThan(0);
    for (let day = 0; day < 3; day++) {
      pass(25);
      await prune(context, NO_REPACK);
    }
    expect(context.log.state.formerRelocations.size).toBe(0);
    await backups.check(context);
    await expect(read(reader)).rejects.toSatisfy((error) => codeOf(error) === 'PACK_MISSING');
  });

  test('a table that is out of date and damaged keeps nobody from reading what is where it was', async () => {
    const { target, context, backups, opened, openReader, read } = await world(isEncrypted);
    const content = backups.contents.get(opened) as Content;
    await backups.store(
      context,
      changed(content, (block) => block % 2 !== 0),
    );
    await forgetBackups(context, [opened]);
    await prune(context, MERGE);
    const [table] = [...context.log.state.formerRelocations.values()].flat();
    const { pack, offset, storedLength } = table!.location;
    const key = `packs/${pack.session.toString(16).padStart(13, '0')}/${pack.random}`;
    const bytes = Uint8Array.from(await target.get(key));
    bytes[offset + (storedLength >> 1)]! ^= 1;
    await target.put(key, bytes);
    const failure = await read(await openReader()).catch((error: unknown) => error);
    expect([undefined, 'PACK_MISSING']).toContain(failure === undefined ? undefined : codeOf(failure));
    await backups.check(context);
    expect((await prune(context, NO_REPACK)).damagedBackups).toEqual([]);
  });
});
