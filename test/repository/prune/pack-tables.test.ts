import { describe, expect, test } from 'vitest';
import { commitPacks } from '../../../src/repository/backup/backup-session.ts';
import { RepositoryKeys } from '../../../src/repository/crypto/repository-keys.ts';
import type { CommittedPack } from '../../../src/repository/format/log-entry.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { MAX_TABLE_PACKS } from '../../../src/repository/format/pack-table-record.ts';
import { RecordKind } from '../../../src/repository/format/record.ts';
import { PackWriter } from '../../../src/repository/packs/pack-writer.ts';
import { prune } from '../../../src/repository/prune/prune.ts';
import { forgetBackups } from '../../../src/repository/retention/forget.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { randomBytes } from '../../support/randomness.ts';
import { withCode } from '../../support/with-code.ts';
import { decodePackTable, encodePackTable } from '../format/support/codecs-at-once.ts';
import { Backups, freshBlock, openHost, packsOf, secrets } from './support/repository.ts';

const packs = (count: number, session = 7): CommittedPack[] =>
  Array.from({ length: count }, (_, index) => ({
    session,
    random: randomBytes(16).toString('hex'),
    size: 1000 + index,
    sha256: Uint8Array.from(randomBytes(32)),
  }));

describe('a table of packs', () => {
  test('reads as it was written, of 60 bytes a row', () => {
    const rows = [...packs(3), ...packs(2, 2 ** 52 - 2), { ...packs(1)[0]!, size: 2 ** 32 - 1 }];
    const raw = encodePackTable(rows);
    expect(raw.length).toBe(6 * 60);
    expect(decodePackTable(raw, 6)).toEqual(rows);
    const [first] = rows;
    const expected = Buffer.concat([
      Buffer.from('0700000000000000', 'hex'),
      Buffer.from(first!.random, 'hex'),
      Buffer.from('e8030000', 'hex'),
      first!.sha256,
    ]);
    expect(Buffer.compare(raw.subarray(0, 60), expected)).toBe(0);
    expect(decodePackTable(new Uint8Array(0), 0)).toEqual([]);
    expect(encodePackTable(new Array(MAX_TABLE_PACKS).fill(rows[0])).length).toBeLessThanOrEqual(4 * 2 ** 20);
    expect(() => encodePackTable(new Array(MAX_TABLE_PACKS + 1).fill(rows[0]))).toThrow(RangeError);
  });

  test('refuses what is none', () => {
    const raw = encodePackTable(packs(4));
    for (const count of [3, 5, 0, -1, 0.5])
      expect(() => decodePackTable(raw, count)).toThrow(withCode('RECORD_CORRUPT'));
    for (const length of [0, 59, 239]) {
      expect(() => decodePackTable(raw.subarray(0, length), 4)).toThrow(withCode('RECORD_CORRUPT'));
    }
    const noSession = raw.slice();
    noSession.fill(0, 0, 8);
    expect(() => decodePackTable(noSession, 4)).toThrow(withCode('RECORD_CORRUPT'));
    const tooHigh = raw.slice();
    tooHigh.fill(0xff, 0, 8);
    expect(() => decodePackTable(tooHigh, 4)).toThrow(withCode('RECORD_CORRUPT'));
    const twice = raw.slice();
    twice.copyWithin(60, 0, 60);
    expect(() => decodePackTable(twice, 4)).toThrow(withCode('RECORD_CORRUPT'));
  });
});

describe('the packs of a commit', () => {
  const keys = RepositoryKeys.plain();
  const writerOf = (target: MemoryTarget) =>
    new PackWriter({ target, session: 7, footerKey: undefined, createOnly: true, packBytes: 2 ** 20, parallelPuts: 1 });

  test('are listed in its entry while they are few', async () => {
    const target = new MemoryTarget();
    const few = packs(64);
    const listed = await commitPacks({ keys }, writerOf(target), few);
    expect(listed).toEqual({ packs: few, packTables: [], tabled: new Set() });
    expect(await packsOf(target)).toEqual(new Map());
  });

  test('are listed in tables where they are many, each table in a pack that the entry lists', async () => {
    const target = new MemoryTarget();
    const writer = writerOf(target);
    const many = [...packs(MAX_TABLE_PACKS), ...packs(10, 3)]; // An adopted session's too.
    // What the writer has not sent yet belongs to the commit too.
    const record = {
      kind: RecordKind.block,
      id: new Uint8Array(32),
      codec: 0,
      rawLength: 9,
      bytes: new Uint8Array(9),
      hint: 0,
    } as const;
    await writer.add(record);
    const listed = await commitPacks({ keys }, writer, many);
    const [unsent, ...holders] = writer.stored;
    expect(listed.packs).toEqual(holders.map((holder) => ({ ...holder, session: 7 })));
    expect(listed.packTables.map((table) => table.packs)).toEqual([MAX_TABLE_PACKS, 11]);
    const all = [...many, { ...unsent!, session: 7 }];
    expect(listed.tabled).toEqual(new Set(all.map(packKey)));
    const names = new Set(listed.packs.map(packKey));
    for (const { location } of listed.packTables) expect(names.has(packKey(location.pack))).toBe(true);
  }, 20_000);
});

describe('packs that tables list', () => {
  test('are condemned, deleted and forgotten by name; the pack of a table stays as long as what it lists', async () => {
    const target = new MemoryTarget();
    const secret = secrets(true);
    const context = await openHost(target, secret);
    const backups = new Backups();
    const content = Array.from({ length: 100 }, freshBlock);
    const first = await backups.store(context, content, { packBytes: 5000 }); // A block a pack.
    expect([...context.log.state.known.values()][0]).toMatchObject({ tables: [{ packs: 103 }] });
    const tableHolder = [...context.log.state.known.values()][0]!.packs;
    expect(tableHolder.size).toBe(1);
    const next = content.map((bytes, block) => (block < 90 ? freshBlock() : bytes));
    const second = await backups.store(context, next, { packBytes: 5000 });
    await forgetBackups(context, [first]);
    const options = { graceMs: 0, repackBelow: 0 };
    const result = await prune(await openHost(target, secret), options);
    expect(result.deletedObjects).toBeGreaterThan(90);
    expect([...(await packsOf(target)).keys()].some((key) => key.endsWith([...tableHolder.keys()][0] as string))).toBe(
      true,
    );
    const other = await openHost(target, secret);
    await backups.check(other);
    // An orphan of the session that has the table is told apart from what the table lists.
    const orphan = { session: 1, random: 'cd'.repeat(16) };
    await target.put(packKey(orphan), new Uint8Array(70));
    expect(await prune(other, options)).toMatchObject({ condemnedBytes: 70, freedBytes: 70, deletedObjects: 1 });
    await backups.check(other);
    // Packs with tables are never moved, others are.
    await prune(other, { graceMs: 0, minRepackGainBytes: 0, repackBelow: 1 });
    await backups.check(other);
    await forgetBackups(other, [second]);
    await prune(other, options);
    expect(await packsOf(target)).toEqual(new Map());
  });

  test('are left alone while their table can not be read, and other sessions are not', async () => {
    const target = new MemoryTarget();
    const secret = secrets(false);
    const context = await openHost(target, secret);
    const backups = new Backups();
    const content = Array.from({ length: 100 }, freshBlock);
    const tabled = await backups.store(context, content, { packBytes: 5000 });
    const other = await backups.store(context, content.slice(0, 30), { volume: 'other' });
    const holder = [...(context.log.state.known.get(1)?.packs.keys() ?? [])][0] as string;
    await target.delete(packKey({ session: 1, random: holder }));
    await forgetBackups(context, [tabled, other]);
    const before = await packsOf(target);
    const host = await openHost(target, secret);
    expect((await prune(host, { graceMs: 0 })).deletedObjects).toBeGreaterThan(0);
    const after = await packsOf(target);
    const ofSession = (keys: Iterable<string>) => [...keys].filter((key) => key.startsWith('packs/0000000000001/'));
    expect(ofSession(after.keys())).toEqual(ofSession(before.keys()));
    expect(ofSession(after.keys()).length).toBe(after.size);
  });
});
