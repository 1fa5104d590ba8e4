import { sha256InSteps } from '../../common/long-bytes.ts';
import { MsgpackReader } from '../../common/msgpack-reader.ts';
import { encodeMsgpackInSteps, MsgpackArray, MsgpackMap } from '../../common/msgpack-writer.ts';
import { runInSteps, type Steps } from '../../common/yield-to-event-loop.ts';
import { storedOf, storedPlain } from './backup-codec.ts';
import { backupKey, type CatalogueTable, type PageRef, packRowKey } from './catalogue-pages.ts';
import { checkVersion, idBytes, logCorrupt, logValue } from './decode-values.ts';
import { committedOf, committedPlain } from './fact-codec.ts';
import type { CommittedPack } from './log-entry.ts';
import { openingObject, sealingObject } from './log-object.ts';
import type { StoredBackup } from './log-state.ts';
import { CONTENT_HEAD_BYTES, compressedContent, contentOf } from './packed-content.ts';
import { backupWeight, mostWeight, WEIGHT } from './state-weight.ts';

/** Pages of the catalogue: `docs/FORMAT.md`, section 9. */

/** A row of the table of backups. Of a forgotten backup that is still the newest of its volume, only this much is kept. */
export type BackupRow = StoredBackup | ForgottenHead;

export interface ForgottenHead {
  readonly volume: string;
  readonly seq: number;
  readonly id: string;
  readonly isForgotten: true;
}

/** By table: its rows, in the order of their keys. */
export interface PageRows {
  readonly backups: readonly BackupRow[];
  readonly packs: readonly CommittedPack[];
}

export type PageRow = BackupRow | CommittedPack;

/** Most bytes of a page's object, and of what it holds. */
export const MAX_PAGE_BYTES = 16 * 1024 * 1024;
const MAX_RAW_BYTES = 64 * 1024 * 1024;

export function rowKey(row: PageRow): string {
  return 'volume' in row ? backupKey(row.volume, row.seq) : packRowKey(row.session, row.random);
}

/**
 * The object of a page.
 *
 * @param rows - at least one, at most `MAX_PAGE_ROWS`
 */
export async function encodePage(
  logKey: Uint8Array | undefined,
  table: CatalogueTable,
  { seq, level }: Pick<PageRef, 'seq' | 'level'>,
  rows: readonly PageRow[],
): Promise<{ readonly ref: PageRef; readonly bytes: Uint8Array<ArrayBuffer> }> {
  const raw = await runInSteps(encodingRows(table, rows));
  const weight = rowsWeight(rows);
  const body = await compressedContent(raw, ({ length }) => weight <= mostWeight(length));
  const bytes = await runInSteps(sealingObject(logKey, 'cow1 page', seq, body));
  const sha256 = await runInSteps(sha256InSteps(bytes));
  const [first, last] = [rows[0], rows.at(-1)] as [PageRow, PageRow];
  const ref = { seq, sha256, size: bytes.length, rows: rows.length, level, first: rowKey(first), last: rowKey(last) };
  return { ref, bytes };
}

function* encodingRows(table: CatalogueTable, rows: readonly PageRow[]): Steps<Uint8Array> {
  const list = MsgpackArray.of(rows.length, rows, rowPlain);
  return yield* encodeMsgpackInSteps(new MsgpackMap({ v: 1, table, rows: list }));
}

function rowPlain(row: PageRow): unknown {
  if ('isForgotten' in row) return [row.volume, row.seq, idBytes(row.id)];
  if ('volume' in row) return storedPlain(row);
  return committedPlain(row);
}

/**
 * Reads the page that a checkpoint names.
 *
 * @throws `LOG_CORRUPT` unless it is that page, whole and valid in every field; `REPOSITORY_UNSUPPORTED`
 */
export async function decodePage<Table extends CatalogueTable>(
  logKey: Uint8Array | undefined,
  table: Table,
  ref: PageRef,
  bytes: Uint8Array,
): Promise<PageRows[Table]> {
  // @mutation page-is-the-named-one
  if (Buffer.compare(await runInSteps(sha256InSteps(bytes)), ref.sha256) !== 0)
    throw logCorrupt('it is not the page that was named');
  const body = await runInSteps(openingObject(logKey, 'cow1 page', ref.seq, bytes));
  const raw = await contentOf(body, 'a page', MAX_RAW_BYTES);
  const most = mostWeight(body.length - CONTENT_HEAD_BYTES);
  return (await runInSteps(rowsFrom(new MsgpackReader(raw, 'LOG_CORRUPT'), table, ref, most))) as PageRows[Table];
}

function* rowsFrom(
  reader: MsgpackReader,
  table: CatalogueTable,
  ref: PageRef,
  mostWeight: number,
): Steps<PageRows[CatalogueTable]> {
  const rows: PageRow[] = [];
  let weight = 0;
  const seen = new Set<string>();
  yield* reader.map(function* (name): Steps<void> {
    seen.add(name);
    if (name === 'v') checkVersion(reader.short(), 'a page');
    else if (name === 'table') logValue.choice(reader.short(), 'the table of a page', [table]);
    else if (name !== 'rows') yield* reader.skip();
    else {
      yield* reader.list((item) => {
        if (rows.length === ref.rows) throw logCorrupt('a page has more rows than were named');
        const row = table === 'backups' ? backupRowOf(item) : committedOf(item);
        weight += rowsWeight([row]);
        // @mutation page-is-weighed
        if (weight > mostWeight) throw logCorrupt('a page would take more memory than its length allows');
        rows.push(row);
      });
    }
  });
  reader.end();
  if (!['v', 'table', 'rows'].every((name) => seen.has(name))) throw logCorrupt('a page lacks a field');
  const keys = rows.map(rowKey);
  const isOrdered = keys.every((key, at) => at === 0 || (keys[at - 1] as string) < key);
  if (!isOrdered || keys.length !== ref.rows || keys[0] !== ref.first || keys.at(-1) !== ref.last) {
    throw logCorrupt('the rows of a page are not those that were named');
  }
  return rows as PageRows[CatalogueTable];
}

function backupRowOf(item: unknown): BackupRow {
  if (!Array.isArray(item)) return storedOf(item);
  const [volume, seq, id] = logValue.tuple(item, 3, 'a forgotten backup');
  return {
    volume: logValue.text(volume, "a backup's volume", 1),
    seq: logValue.seq(seq, "a backup's entry"),
    id: logValue.hexId(id, "a backup's id"),
    isForgotten: true,
  };
}

/** What rows weigh in memory: `state-weight.ts`. */
export function rowsWeight(rows: readonly PageRow[]): number {
  let weight = 0;
  for (const row of rows) weight += 'descriptor' in row ? backupWeight(row) : WEIGHT.pack;
  return weight;
}
