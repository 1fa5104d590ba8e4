import { createHash } from 'node:crypto';
import { BackupError } from '../../../../src/common/errors.ts';
import { packKey } from '../../../../src/repository/format/object-keys.ts';
import type {
  Location,
  PackName,
  RecordIds,
  RecordKind,
  RecordReader,
  RecordWriter,
} from '../../../../src/repository/format/record.ts';

/** Ids as a plain repository makes them: `docs/FORMAT.md`, section 4. */
export const plainIds: RecordIds = {
  recordId(kind, identityPart) {
    const hash = createHash('sha256').update('cow1 record id').update(Uint8Array.of(kind)).update(identityPart);
    return new Uint8Array(hash.digest());
  },
};

export interface StoredRecord {
  readonly kind: RecordKind;
  readonly id: Uint8Array;
  raw: Uint8Array;
  readonly hint: number;
  readonly location: Location;
}

/** A pack name that no two numbers share. */
export function packNamed(session: number, number: number): PackName {
  return { session, random: number.toString(16).padStart(32, '0') };
}

/** Records in memory, uncompressed; packs of a few records each, so that a map names several. */
export class RecordStore implements RecordReader, RecordWriter {
  readonly records = new Map<string, StoredRecord>();
  /** In the order of the calls. */
  readonly written: StoredRecord[] = [];
  reads = 0;
  readonly readKinds: RecordKind[] = [];
  /** Called before a record is written, and before it is read. */
  beforeWrite: () => Promise<void> = async () => {};
  beforeRead: (record: StoredRecord) => Promise<void> = async () => {};
  readonly #recordsPerPack: number;
  #count = 0;
  #offset = 8;
  #pack: PackName = packNamed(7, 0);

  constructor(recordsPerPack = 5) {
    this.#recordsPerPack = recordsPerPack;
  }

  async write(kind: RecordKind, id: Uint8Array, raw: Uint8Array, hint: number): Promise<Location> {
    if (this.#count % this.#recordsPerPack === 0) {
      this.#pack = packNamed(7, 1000 + this.#count);
      this.#offset = 8;
    }
    this.#count++;
    const location: Location = {
      pack: this.#pack,
      offset: this.#offset,
      storedLength: raw.length,
      codec: 0,
      rawLength: raw.length,
    };
    this.#offset += raw.length;
    const record = { kind, id, raw, hint, location };
    this.records.set(place(location), record);
    this.written.push(record);
    await this.beforeWrite();
    return location;
  }

  async read(kind: RecordKind, id: Uint8Array, location: Location): Promise<Uint8Array> {
    const record = this.records.get(place(location));
    if (record === undefined) throw new BackupError('PACK_MISSING', `no record at ${place(location)}`);
    this.reads++;
    this.readKinds.push(kind);
    await this.beforeRead(record);
    if (record.kind !== kind || Buffer.compare(record.id, id) !== 0) {
      throw new BackupError('RECORD_CORRUPT', 'another record stands there');
    }
    return record.raw;
  }

  /** Bytes written since `from` records had been. */
  bytesSince(from: number): number {
    return this.written.slice(from).reduce((sum, { raw }) => sum + raw.length, 0);
  }
}

function place({ pack, offset }: Location): string {
  return `${packKey(pack)}/${offset}`;
}
