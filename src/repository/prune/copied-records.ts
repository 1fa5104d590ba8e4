import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { packKey } from '../format/object-keys.ts';
import type { FooterRow } from '../format/pack-footer.ts';
import type { Location, PackName } from '../format/record.ts';
import { readPackBytes, readPackFooter } from '../packs/pack-reader.ts';
import type { PackWriter } from '../packs/pack-writer.ts';
import { openRecord } from '../packs/record-sealing.ts';

/** Bytes that nobody needs are read along when that saves a request. */
const MAX_GAP_BYTES = 256 * 1024;
/** The most bytes of one request. */
const MAX_REQUEST_BYTES = 8 * 1024 * 1024;

/**
 * Records that were copied out of packs, as they are stored: moving needs no decryption. Each is opened all the same, to
 * see that it is what its id says: the old copy goes, and what a request garbled must not take its place.
 */
export class CopiedRecords {
  copiedBytes = 0;
  readonly #context: RepositoryContext;
  readonly #writer: PackWriter;
  readonly #onCopied: (bytes: number) => void;
  /** By key of the old pack, by old offset. */
  readonly #places = new Map<string, Map<number, Location>>();

  constructor(context: RepositoryContext, writer: PackWriter, onCopied: (bytes: number) => void) {
    this.#context = context;
    this.#writer = writer;
    this.#onCopied = onCopied;
  }

  /** Where the record from an old place stands now. */
  place(pack: PackName, offset: number): Location | undefined {
    return this.#places.get(packKey(pack))?.get(offset);
  }

  /**
   * Copies what stands at some offsets of a pack, as far as it has not been copied yet.
   *
   * @param mostBytes - nothing is copied where there would be more than so many
   * @returns whether everything is copied now
   * @throws `PACK_MISSING`, `PACK_CORRUPT`, `RECORD_CORRUPT` of the old pack, and what target and writer give
   */
  async copy(
    { pack, size, mostBytes }: { readonly pack: PackName; readonly size: number; readonly mostBytes: number },
    offsets: ReadonlySet<number>,
    options: AbortOptions,
  ): Promise<boolean> {
    const key = packKey(pack);
    const places = this.#places.get(key) ?? new Map<number, Location>();
    const missing = new Set([...offsets].filter((offset) => !places.has(offset)));
    if (missing.size === 0) return true;
    const { target, keys, format } = this.#context;
    const footer = await readPackFooter(target, pack, size, keys.footerKey, options.signal);
    const rows = footer.filter(({ offset }) => missing.has(offset));
    if (rows.length !== missing.size) {
      throw new BackupError('PACK_CORRUPT', `${key} has no record where maps name one`);
    }
    if (rows.reduce((sum, { storedLength }) => sum + storedLength, 0) > mostBytes) return false;
    this.#places.set(key, places);
    for (const group of groupsOf(rows)) {
      const start = (group[0] as FooterRow).offset;
      const last = group.at(-1) as FooterRow;
      const end = last.offset + last.storedLength;
      const bytes = await readPackBytes(target, pack, start, end - start, options.signal);
      for (const row of group) {
        const stored = bytes.subarray(row.offset - start, row.offset - start + row.storedLength);
        openRecord(keys, format.fanOut, row, stored);
        const { kind, id, codec, rawLength, hint } = row;
        places.set(row.offset, await this.#writer.add({ kind, id, codec, rawLength, bytes: stored, hint }));
        this.copiedBytes += row.storedLength;
      }
      this.#onCopied(end - start);
    }
    return true;
  }
}

/** Rows that are read with one request. */
function* groupsOf(rows: readonly FooterRow[]): Generator<FooterRow[]> {
  let group: FooterRow[] = [];
  for (const row of rows) {
    const first = group[0];
    const last = group.at(-1);
    const joins =
      first === undefined ||
      last === undefined ||
      (row.offset - last.offset - last.storedLength <= MAX_GAP_BYTES &&
        row.offset + row.storedLength - first.offset <= MAX_REQUEST_BYTES);
    if (!joins) {
      yield group;
      group = [];
    }
    group.push(row);
  }
  if (group.length > 0) yield group;
}
