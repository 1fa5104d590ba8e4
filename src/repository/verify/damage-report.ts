import { BackupError, isDamage } from '../../common/errors.ts';
import { packKey } from '../format/object-keys.ts';
import type { Location, PackName, RecordKind } from '../format/record.ts';
import type { RecordStore } from '../packs/record-store.ts';

/** Damage of one pack, and which of its records it concerns. */
export interface Damage {
  readonly pack: PackName;
  readonly error: BackupError;
  /** All records are damaged. */
  readonly isMissing?: boolean | undefined;
  /** Records that end after so many bytes are damaged: the pack has no more. */
  readonly end?: number | undefined;
  /** Records that begin at these offsets are damaged. */
  readonly offsets?: Iterable<number> | undefined;
  /** Other records may be damaged too: each has to be read to find out. */
  readonly areUnsure?: boolean | undefined;
}

interface KnownDamage {
  readonly pack: PackName;
  /** The first error that was found, or the one that concerns the pack as a whole. */
  error: BackupError;
  isMissing: boolean;
  /** How many bytes there are of the pack. */
  end: number;
  areUnsure: boolean;
  readonly offsets: Set<number>;
  /** By offset: whether a record that was read to find out is damaged. */
  readonly readBad: Map<number, Promise<boolean>>;
}

/** What a verification knows to be damaged: packs, and which of their records. */
export class DamageReport {
  readonly #records: RecordStore;
  readonly #byKey = new Map<string, KnownDamage>();

  constructor(records: RecordStore) {
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
      known = { pack, error, isMissing, end, areUnsure, offsets: new Set(), readBad: new Map() };
      this.#byKey.set(key, known);
    }
    if (isMissing || end !== Number.POSITIVE_INFINITY) known.error = error;
    known.isMissing ||= isMissing;
    known.areUnsure ||= areUnsure;
    known.end = Math.min(known.end, end);
    for (const offset of offsets) known.offsets.add(offset);
  }

  /**
   * Adds a record that can't be read, by its location in a map or the log. At fault may be a table that says where it is.
   *
   * @returns the key of the pack that is at fault
   */
  async addRecord(location: Location, error: BackupError): Promise<string> {
    const { pack, offset } = await this.#records.relocations.culprit(location);
    this.add({ pack, error, offsets: [offset] });
    return packKey(pack);
  }

  /** Whether a record is damaged. @param location - where it is now */
  async isBad(kind: RecordKind, id: Uint8Array, location: Location): Promise<boolean> {
    const known = this.#byKey.get(packKey(location.pack));
    if (known === undefined) return false;
    const { offset, storedLength } = location;
    if (known.isMissing || known.offsets.has(offset) || offset + storedLength > known.end) return true;
    if (!known.areUnsure) return false;
    const look = known.readBad.get(offset) ?? this.#look(kind, id, location);
    known.readBad.set(offset, look);
    return look;
  }

  async #look(kind: RecordKind, id: Uint8Array, location: Location): Promise<boolean> {
    try {
      await this.#records.read(kind, id, location);
      return false;
    } catch (error) {
      if (!isDamage(error)) throw error;
      return true;
    }
  }
}

export function packCorrupt(pack: PackName, how: string): BackupError {
  return new BackupError('PACK_CORRUPT', `${packKey(pack)} is damaged: ${how}`);
}
