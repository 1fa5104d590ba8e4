import { type BackupError, isDamage } from '../../common/errors.ts';
import type { FreshRecords } from '../context/fresh-records.ts';
import { packKey } from '../format/object-keys.ts';
import type { Location, PackName, RecordKind } from '../format/record.ts';
import type { Damage } from './pack-check.ts';

interface KnownDamage {
  readonly pack: PackName;
  /** What was found first, or what is wrong with the pack as a whole. */
  error: BackupError;
  isMissing: boolean;
  /** Bytes that there are of the pack. */
  end: number;
  areUnsure: boolean;
  readonly offsets: Set<number>;
  /** Records that were read to see. */
  readonly looked: Map<number, Promise<boolean>>;
}

/** The packs that something is wrong with, and which of their records. */
export class Damages {
  readonly #records: FreshRecords;
  readonly #byKey = new Map<string, KnownDamage>();

  constructor(records: FreshRecords) {
    this.#records = records;
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** Packs by key, with what is wrong. */
  entries(): Iterable<readonly [string, { readonly pack: PackName; readonly error: BackupError }]> {
    return this.#byKey;
  }

  has(key: string): boolean {
    return this.#byKey.has(key);
  }

  add({
    pack,
    error,
    isMissing = false,
    end = Number.POSITIVE_INFINITY,
    offsets = [],
    areUnsure = false,
  }: Damage): void {
    const key = packKey(pack);
    let known = this.#byKey.get(key);
    if (known === undefined) {
      known = { pack, error, isMissing, end, areUnsure, offsets: new Set(), looked: new Map() };
      this.#byKey.set(key, known);
    }
    if (isMissing || end !== Number.POSITIVE_INFINITY) known.error = error;
    known.isMissing ||= isMissing;
    known.areUnsure ||= areUnsure;
    known.end = Math.min(known.end, end);
    for (const offset of offsets) known.offsets.add(offset);
  }

  /** A record that can't be read, as a map or the log names it: what is at fault may be a table that says where it is. */
  async addRecord(location: Location, error: BackupError): Promise<string> {
    const { pack, offset } = await this.#records.culprit(location);
    this.add({ pack, error, offsets: [offset] });
    return packKey(pack);
  }

  /** Whether a record is damaged. @param place - where it is now */
  async isBad(kind: RecordKind, id: Uint8Array, place: Location): Promise<boolean> {
    const known = this.#byKey.get(packKey(place.pack));
    if (known === undefined) return false;
    const { offset, storedLength } = place;
    if (known.isMissing || known.offsets.has(offset) || offset + storedLength > known.end) return true;
    if (!known.areUnsure) return false;
    let look = known.looked.get(offset);
    if (look === undefined) {
      look = this.#look(kind, id, place);
      known.looked.set(offset, look);
    }
    return look;
  }

  async #look(kind: RecordKind, id: Uint8Array, place: Location): Promise<boolean> {
    try {
      await this.#records.read(kind, id, place);
      return false;
    } catch (error) {
      if (!isDamage(error)) throw error;
      return true;
    }
  }
}
