/** Records, packs and locations, with the kinds, codecs and limits of the format: `docs/FORMAT.md`, sections 4 to 6. */

/** Kinds of sealed records by their number. */
export const RecordKind = {
  block: 1,
  leaf: 2,
  inner: 3,
  runChunk: 4,
  table: 5,
  relocation: 6,
} as const;
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind];

/** The most raw bytes that a record of each kind may have. */
export const MAX_RAW_LENGTH: Readonly<Record<RecordKind, number>> = {
  1: 4 * 1024 * 1024,
  2: 4 * 1024 * 1024,
  3: 16 * 1024 * 1024 - 1,
  4: 4 * 1024 * 1024,
  5: 4 * 1024 * 1024,
  6: 4 * 1024 * 1024,
};

/** The most bytes that a sealed record may have: a location has 24 bits for its length. */
export const MAX_STORED_LENGTH = 2 ** 24 - 1;

/** How a record's raw bytes are compressed. */
export const Codec = { raw: 0, zstd: 1 } as const;
export type Codec = (typeof Codec)[keyof typeof Codec];

/** A pack by its name: `packs/<session>/<random>`. */
export interface PackName {
  /** Sequence of the session's `open` entry. */
  readonly session: number;
  /** 32 hex digits. */
  readonly random: string;
}

/** Where a sealed record is. */
export interface Location {
  readonly pack: PackName;
  /** Bytes from the start of the pack. */
  readonly offset: number;
  /** Bytes of the sealed record. */
  readonly storedLength: number;
  readonly codec: Codec;
  /** Bytes of the opened record. */
  readonly rawLength: number;
}

export interface ReadRecordOptions {
  readonly signal?: AbortSignal | undefined;
  /** Whether to keep the record in memory; `false` for a walk over everything. @defaultValue true */
  readonly keep?: boolean | undefined;
}

/** Reads records, opens them, and checks them against their ids. */
export interface RecordReader {
  /** @throws `RECORD_CORRUPT` when the bytes are not what the id says, `PACK_MISSING`, and what the target gives */
  read(kind: RecordKind, id: Uint8Array, location: Location, options?: ReadRecordOptions): Promise<Uint8Array>;
}

/** Stores records. Several writes may be under way at once. */
export interface RecordWriter {
  /**
   * Seals `raw` and adds it to a pack. Resolves once the location is known; the pack may be uploaded later.
   *
   * @param hint - the block's number, or the first block that a node or run chunk covers
   */
  write(kind: RecordKind, id: Uint8Array, raw: Uint8Array, hint: number): Promise<Location>;
}

/** Makes the ids of records from their identity parts; see `docs/FORMAT.md`, section 4. */
export interface RecordIds {
  /** 32 bytes. */
  recordId(kind: RecordKind, identityPart: Uint8Array): Uint8Array;
}
