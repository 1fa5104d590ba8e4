import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { runInSteps, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { RepositoryKeys } from '../crypto/repository-keys.ts';
import type { Relocation } from '../format/log-entry.ts';
import { packKey } from '../format/object-keys.ts';
import type { FooterRow } from '../format/pack-footer.ts';
import { type Location, type PackName, RecordKind } from '../format/record.ts';
import { encodingRelocationTable, type RelocationRow } from '../format/relocation-table.ts';
import { NodeWriter } from '../packs/node-writer.ts';
import { readPackBytes, readPackFooter } from '../packs/pack-reader.ts';
import type { PackWriter } from '../packs/pack-writer.ts';
import { openRecord } from '../packs/record-sealing.ts';
import { REPACK_SPANS, spansOf, storedIn } from '../packs/record-spans.ts';

/**
 * Copies records into new packs as they are stored, which needs no decryption. Each record is opened and checked against its id
 * all the same: the old copy will be deleted, and must not be replaced by bytes that a request garbled.
 */
export class CopiedRecords {
  copiedBytes = 0;
  readonly #context: RepositoryContext;
  readonly #writer: PackWriter;
  readonly #onCopied: (bytes: number) => void;
  /** New locations, by the key of the old pack and the offset in it. */
  readonly #locations = new Map<string, Map<number, Location>>();

  constructor(context: RepositoryContext, writer: PackWriter, onCopied: (bytes: number) => void) {
    this.#context = context;
    this.#writer = writer;
    this.#onCopied = onCopied;
  }

  /** Where the copy of the record at an old location is. */
  location(pack: PackName, offset: number): Location | undefined {
    return this.#locations.get(packKey(pack))?.get(offset);
  }

  /**
   * Copies the records at some offsets of a pack that have not been copied yet.
   *
   * @param mostBytes - nothing is copied if there would be more bytes than that
   * @returns whether everything is copied now
   * @throws `PACK_MISSING`, `PACK_CORRUPT`, `RECORD_CORRUPT` of the old pack, and what target and writer throw
   */
  async copy(
    { pack, size, mostBytes }: { readonly pack: PackName; readonly size: number; readonly mostBytes: number },
    offsets: ReadonlySet<number>,
    options: AbortOptions,
  ): Promise<boolean> {
    const key = packKey(pack);
    const locations = this.#locations.get(key) ?? new Map<number, Location>();
    const missing = new Set([...offsets].filter((offset) => !locations.has(offset)));
    if (missing.size === 0) return true;
    const { target, keys, format } = this.#context;
    const footer = await readPackFooter(target, pack, size, keys.footerKey, options.signal);
    const rows: FooterRow[] = [];
    for (const offset of [...missing].sort((a, b) => a - b)) {
      const row = footer.rows.at(offset);
      if (row !== undefined) rows.push(row);
    }
    if (rows.length !== missing.size) {
      throw new BackupError(
        'PACK_CORRUPT',
        `the footer of ${key} has no record at a location that a block map names: run verify to find the damaged backups`,
      );
    }
    if (rows.reduce((sum, { storedLength }) => sum + storedLength, 0) > mostBytes) return false;
    this.#locations.set(key, locations);
    for (const span of spansOf(rows, REPACK_SPANS)) {
      const length = span.end - span.offset;
      const bytes = await readPackBytes(target, pack, span.offset, length, options.signal);
      for (const row of span.records) {
        const stored = storedIn(span, row, bytes);
        openRecord(keys, format.fanOut, row, stored);
        const { kind, id, codec, rawLength, hint } = row;
        locations.set(row.offset, await this.#writer.add({ kind, id, codec, rawLength, bytes: stored, hint }));
        this.copiedBytes += row.storedLength;
      }
      this.#onCopied(length);
    }
    return true;
  }
}

/** Writes the tables of repacked packs, which say where the live records of a pack were copied to. */
export class RelocationTableWriter {
  readonly #keys: RepositoryKeys;
  readonly #nodes: NodeWriter;
  readonly #emptyNodes: NodeWriter;
  /** The table that was written last, by the key of the old pack. */
  readonly #written = new Map<string, { readonly raw: Uint8Array; readonly relocation: Relocation }>();

  /** @param emptyWriter - writes the tables of packs of which no record is live */
  constructor(keys: RepositoryKeys, writer: PackWriter, emptyWriter: PackWriter) {
    this.#keys = keys;
    this.#nodes = new NodeWriter(keys, writer);
    this.#emptyNodes = new NodeWriter(keys, emptyWriter);
  }

  /** Writes the table of a pack, unless the last one that was written for it is the same. */
  async write(pack: PackName, rows: readonly RelocationRow[]): Promise<Relocation> {
    const raw = await runInSteps(encodingRelocationTable(rows.length > 0 ? rows : emptyTable(pack)));
    const key = packKey(pack);
    const written = this.#written.get(key);
    if (written !== undefined && Buffer.compare(written.raw, raw) === 0) return written.relocation;
    await yieldToEventLoop();
    const id = this.#keys.recordId(RecordKind.relocation, raw);
    const nodes = rows.length > 0 ? this.#nodes : this.#emptyNodes;
    const relocation = { pack, id, location: await nodes.write(RecordKind.relocation, id, raw, 0) };
    this.#written.set(key, { raw, relocation });
    return relocation;
  }
}

/**
 * The table of a repacked pack of which no record is live any more. A table needs at least one row, so this one is about offset 0
 * of the pack, where no record can be.
 */
function emptyTable(pack: PackName): RelocationRow[] {
  return [{ offset: 0, to: { pack, offset: 0, storedLength: 1 } }];
}
