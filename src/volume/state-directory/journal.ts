import { crc32 } from 'node:zlib';
import { encodeRecord, type JournalRecord } from './journal-records.ts';
import type { StateFile } from './state-storage.ts';

/**
 * The journal of a state: records in the order of their steps, in groups that are made durable together. Rule C13.
 *
 * A group begins at a multiple of 4 KiB, so that no byte that is durable is written again, and names the checksum of the group before,
 * also across files. After a crash a prefix of the groups is there, and where it ends, nothing behind it was relied on.
 *
 *     magic u32, bytes of records u32, number of the group u64, newest group known to be durable u64, CRC-32 of the group before u32,
 *     CRC-32 of this group (of these 28 bytes and of the records) u32; the records; zeroes
 */
export const GROUP_MAGIC = 0x4a776f63;
export const GROUP_HEAD_BYTES = 32;
export const GROUP_UNIT = 4096;

/** What a journal goes on from. */
export interface JournalPlace {
  /** The number of the next group. */
  readonly group: number;
  /** CRC-32 of the group before. */
  readonly crc: number;
}

interface Group {
  readonly number: number;
  readonly at: number;
  readonly bytes: Uint8Array;
  readonly durable: PromiseWithResolvers<void>;
}

/** Records that no group has yet. */
interface Gathering {
  readonly records: Uint8Array[];
  bytes: number;
  readonly durable: PromiseWithResolvers<void>;
}

export interface JournalStart {
  readonly place: JournalPlace;
  /** The newest group that is known to be durable. */
  readonly durable: number;
  /** The file before, whose last groups may still be on their way: nothing of this one counts before they are durable. */
  readonly before?: Journal | undefined;
  /**
   * Whether the groups before are all there. If not, only a checkpoint leads to what is written here, and none of it may be called durable
   * before that has its name.
   */
  readonly isFound: boolean;
}

/** One file of the journal. Records that are appended in one turn of the event loop, and while a group is being written, share a group. */
export class Journal {
  readonly #file: StateFile;
  #place: JournalPlace;
  #durable: number;
  #before: Journal | undefined;
  #isFound: boolean;
  #at = 0;
  #gathering: Gathering | undefined;
  /** Groups that are not known to be durable. */
  #pending: Group[] = [];
  #writing: Promise<void> | undefined;
  #isEnded = false;
  #failure: unknown;

  constructor(file: StateFile, { place, durable, before, isFound }: JournalStart) {
    this.#file = file;
    this.#place = place;
    this.#durable = durable;
    this.#before = before;
    this.#isFound = isFound;
  }

  /** The newest group that is known to be durable. */
  get durable(): number {
    return this.#durable;
  }

  /** Bytes that were given to the file. */
  get bytes(): number {
    return this.#at;
  }

  /** What has failed. Nothing may be appended then. Rule C17. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Whether a later process finds what is written here. */
  get isFound(): boolean {
    return this.#isFound && this.#failure === undefined;
  }

  /** A checkpoint leads here. */
  found(): void {
    this.#isFound = true;
  }

  /** Appends a record. It resolves when that is durable, and everything that was appended before. */
  append(record: JournalRecord): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const bytes = encodeRecord(record);
    if (this.#gathering === undefined) {
      this.#gathering = { records: [], bytes: 0, durable: Promise.withResolvers<void>() };
      this.#gathering.durable.promise.catch(() => {}); // Those who wait for it see the error.
      queueMicrotask(() => this.#begin());
    }
    this.#gathering.records.push(bytes);
    this.#gathering.bytes += bytes.length;
    return this.#gathering.durable.promise;
  }

  /** Makes everything durable that was appended, in this step. */
  commitSync(): void {
    if (this.#failure !== undefined) throw this.#failure;
    this.#before?.commitSync();
    this.#closeGroup();
    try {
      // A group that is on its way may land later than one that continues it: the same bytes are written once more.
      for (const { at, bytes } of this.#pending) this.#file.writeSync?.(at, bytes);
      this.#file.syncSync?.();
    } catch (error) {
      this.#fail(error);
      throw error;
    }
    for (const group of this.#pending) this.#done(group);
    // A write that is under way keeps the first one until it has landed.
    this.#pending = this.#writing === undefined ? [] : this.#pending.slice(0, 1);
  }

  /** Nothing is appended any more. @returns where the next file begins */
  end(): JournalPlace {
    this.#closeGroup();
    this.#isEnded = true;
    this.#begin();
    return this.#place;
  }

  /** Resolves when everything that was appended is durable or has failed. Never rejects. */
  async settled(): Promise<void> {
    while (this.#gathering !== undefined || this.#writing !== undefined) {
      await this.#gathering?.durable.promise.catch(() => {});
      await this.#writing;
    }
  }

  #begin(): void {
    if (this.#writing !== undefined || this.#failure !== undefined) return;
    this.#writing = this.#write().finally(() => {
      this.#writing = undefined;
    });
  }

  async #write(): Promise<void> {
    await this.#before?.settled();
    if (this.#before?.failure !== undefined) this.#fail(this.#before.failure);
    this.#before = undefined;
    for (;;) {
      if (!this.#isEnded) this.#closeGroup();
      const group = this.#pending[0];
      if (group === undefined || this.#failure !== undefined) return;
      try {
        await this.#file.write(group.at, group.bytes);
        await this.#file.sync();
        this.#done(group);
      } catch (error) {
        this.#fail(error);
      }
      this.#pending.shift();
    }
  }

  #done({ number, durable }: Group): void {
    if (this.#isFound) this.#durable = Math.max(this.#durable, number);
    durable.resolve();
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    for (const { durable } of this.#pending) durable.reject(error);
    this.#gathering?.durable.reject(error);
    this.#gathering = undefined;
  }

  /** Ends the group that is gathering, if one is. */
  #closeGroup(): void {
    const gathering = this.#gathering;
    if (gathering === undefined) return;
    this.#gathering = undefined;
    const bytes = new Uint8Array(Math.ceil((GROUP_HEAD_BYTES + gathering.bytes) / GROUP_UNIT) * GROUP_UNIT);
    const head = new DataView(bytes.buffer);
    head.setUint32(0, GROUP_MAGIC, true);
    head.setUint32(4, gathering.bytes, true);
    head.setBigUint64(8, BigInt(this.#place.group), true);
    head.setBigUint64(16, BigInt(this.#durable), true);
    head.setUint32(24, this.#place.crc, true);
    let at = GROUP_HEAD_BYTES;
    for (const record of gathering.records) {
      bytes.set(record, at);
      at += record.length;
    }
    const crc = groupCrc(bytes, gathering.bytes);
    head.setUint32(28, crc, true);
    this.#pending.push({ number: this.#place.group, at: this.#at, bytes, durable: gathering.durable });
    this.#place = { group: this.#place.group + 1, crc };
    this.#at += bytes.length;
  }
}

/** The checksum of a group: of its head without the checksum itself, and of its records. */
export function groupCrc(group: Uint8Array, recordBytes: number): number {
  return crc32(
    group.subarray(GROUP_HEAD_BYTES, GROUP_HEAD_BYTES + recordBytes),
    crc32(group.subarray(0, GROUP_HEAD_BYTES - 4)),
  );
}
