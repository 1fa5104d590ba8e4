import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { packKey } from '../format/object-keys.ts';
import type { Location, PackName } from '../format/record.ts';
import { readPackBytes, readPackFooter } from '../packs/pack-reader.ts';
import type { PackWriter } from '../packs/pack-writer.ts';
import { openRecord } from '../packs/record-sealing.ts';
import { REPACK_SPANS, spansOf, storedIn } from '../packs/record-spans.ts';

/**
 * Records that were copied out of packs, as they are stored: copying needs no decryption. Each is opened all the same, to see
 * that it is what its id says: the old copy will be deleted, and what a request garbled must not replace it.
 */
export class CopiedRecords {
  copiedBytes = 0;
  readonly #context: RepositoryContext;
  readonly #writer: PackWriter;
  readonly #onCopied: (bytes: number) => void;
  /** By key of the old pack, by old offset. */
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
    const rows = footer.filter(({ offset }) => missing.has(offset));
    if (rows.length !== missing.size) {
      throw new BackupError('PACK_CORRUPT', `${key} has no record where maps name one`);
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
