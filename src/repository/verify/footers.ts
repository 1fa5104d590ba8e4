import type { CloudTarget } from '../../targets/cloud-target.ts';
import { packKey } from '../format/object-keys.ts';
import type { FooterRow } from '../format/pack-footer.ts';
import type { Location, PackName, RecordKind } from '../format/record.ts';
import { readPackFooter } from '../packs/pack-reader.ts';

/** Rows kept, some 150 bytes each. */
const MAX_ROWS_KEPT = 400_000;

/** What packs say of themselves, for comparing with what maps say of them. Those used last are kept. */
export class Footers {
  readonly #target: CloudTarget;
  readonly #footerKey: Uint8Array | undefined;
  readonly #signal: AbortSignal | undefined;
  /** By pack key; the least recently used comes first. */
  readonly #byPack = new Map<string, Promise<ReadonlyMap<number, FooterRow>>>();
  readonly #rows = new Map<string, number>();
  #rowsKept = 0;

  constructor(target: CloudTarget, footerKey: Uint8Array | undefined, signal: AbortSignal | undefined) {
    this.#target = target;
    this.#footerKey = footerKey;
    this.#signal = signal;
  }

  /** Rows by their offsets. @throws `PACK_CORRUPT`, `PACK_MISSING`, and what the target gives */
  of(pack: PackName, packBytes: number): Promise<ReadonlyMap<number, FooterRow>> {
    const key = packKey(pack);
    let rows = this.#byPack.get(key);
    this.#byPack.delete(key);
    rows ??= this.#read(pack, key, packBytes);
    this.#byPack.set(key, rows);
    return rows;
  }

  async #read(pack: PackName, key: string, packBytes: number): Promise<ReadonlyMap<number, FooterRow>> {
    try {
      const rows = await readPackFooter(this.#target, pack, packBytes, this.#footerKey, this.#signal);
      this.#rows.set(key, rows.length);
      this.#rowsKept += rows.length;
      this.#drop(key);
      return new Map(rows.map((row) => [row.offset, row]));
    } catch (error) {
      this.#byPack.delete(key);
      throw error;
    }
  }

  #drop(newest: string): void {
    for (const key of this.#byPack.keys()) {
      if (this.#rowsKept <= MAX_ROWS_KEPT) return;
      const rows = this.#rows.get(key);
      if (key === newest || rows === undefined) continue; // On its way.
      this.#byPack.delete(key);
      this.#rows.delete(key);
      this.#rowsKept -= rows;
    }
  }
}

/** Whether a pack's footer and a map say the same of a record. */
export function agrees(row: FooterRow | undefined, kind: RecordKind, id: Uint8Array, place: Location): boolean {
  return (
    row !== undefined &&
    row.kind === kind &&
    row.storedLength === place.storedLength &&
    row.rawLength === place.rawLength &&
    row.codec === place.codec &&
    Buffer.compare(row.id, id) === 0
  );
}
