import type { DeviceStamp } from '../../device/block-device.ts';

/** The records of a state journal: what has happened to a volume, in the order of the steps in which it did. */

/** What a device said of itself, and when. */
export interface TakenStamp extends DeviceStamp {
  /** Milliseconds since 1970 by the clock of this host. */
  readonly takenAt: number;
}

export type JournalRecord =
  /** A process has opened the volume. */
  | { readonly type: 'opened'; readonly stamp: TakenStamp | undefined }
  /** While writes go on, once a minute. */
  | { readonly type: 'stamp'; readonly stamp: TakenStamp | undefined }
  /** The volume was closed: nothing is marked, and nothing has been written since. */
  | { readonly type: 'closed'; readonly stamp: TakenStamp | undefined }
  /** Regions that may be written from here on. Rule C1. */
  | { readonly type: 'mark'; readonly regions: readonly number[] }
  /** A region that is quiet, and the epochs of its blocks. Rule C2. */
  | { readonly type: 'clean'; readonly region: number; readonly epochs: Uint8Array }
  /** An instant. It counts once it is sealed. Rule C4. */
  | { readonly type: 'instant'; readonly serial: number; readonly epoch: number }
  | { readonly type: 'seal'; readonly serial: number }
  /** The points that are kept before the next instant; all others are dropped. */
  | { readonly type: 'kept'; readonly serials: readonly number[] }
  /** Epochs are renumbered by the points that are kept. Rule C12. */
  | { readonly type: 'renumbered' }
  /** An instant became a backup. Rule C20. */
  | ({ readonly type: 'committed' } & CommittedInstant);

/** Which instant became which backup of which repository. */
export interface CommittedInstant {
  readonly serial: number;
  /** 16 bytes. */
  readonly repositoryId: Uint8Array;
  /** The name under which the volume is backed up there. */
  readonly volume: string;
  /** SHA-256 of the backup's whole record. */
  readonly digest: Uint8Array;
}

const TYPES = [
  'opened',
  'stamp',
  'closed',
  'mark',
  'clean',
  'instant',
  'seal',
  'kept',
  'renumbered',
  'committed',
] as const satisfies readonly JournalRecord['type'][];
const HEAD_BYTES = 4;
/** The most regions that one record marks. (The length of a record's body has three bytes.) */
export const MAX_MARKED_AT_ONCE = 2 ** 16;
const ID_BYTES = 16;
const DIGEST_BYTES = 32;

/** A record of another shape or an unknown type: the journal is not one that this program has written. */
export class UnknownRecord extends Error {}

export function encodeRecord(record: JournalRecord): Uint8Array {
  const body = bodyOf(record);
  const bytes = new Uint8Array(HEAD_BYTES + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, (TYPES.indexOf(record.type) + 1) | (body.length << 8), true);
  bytes.set(body, HEAD_BYTES);
  return bytes;
}

/** The records of a group. @throws {@link UnknownRecord} */
export function* decodeRecords(bytes: Uint8Array): Generator<JournalRecord> {
  const view = viewOf(bytes);
  for (let at = 0; at < bytes.length; ) {
    if (at + HEAD_BYTES > bytes.length) throw new UnknownRecord('a record is cut off');
    const head = view.getUint32(at, true);
    const end = at + HEAD_BYTES + (head >>> 8);
    const type = TYPES[(head & 0xff) - 1];
    if (type === undefined || end > bytes.length) throw new UnknownRecord('a record is of an unknown type');
    yield recordOf(type, bytes.subarray(at + HEAD_BYTES, end));
    at = end;
  }
}

function bodyOf(record: JournalRecord): Uint8Array {
  switch (record.type) {
    case 'opened':
    case 'stamp':
    case 'closed':
      return stampBytes(record.stamp);
    case 'mark':
      return new Uint8Array(Uint32Array.from(record.regions).buffer);
    case 'clean': {
      const body = new Uint8Array(4 + record.epochs.length);
      new DataView(body.buffer).setUint32(0, record.region, true);
      body.set(record.epochs, 4);
      return body;
    }
    case 'instant':
      return Uint8Array.of(...serialBytes(record.serial), record.epoch);
    case 'seal':
      return serialBytes(record.serial);
    case 'kept':
      return Buffer.concat(record.serials.map(serialBytes));
    case 'renumbered':
      return new Uint8Array(0);
    case 'committed':
      return committedBytes(record);
  }
}

function recordOf(type: JournalRecord['type'], body: Uint8Array): JournalRecord {
  const view = viewOf(body);
  switch (type) {
    case 'opened':
    case 'stamp':
    case 'closed':
      return { type, stamp: stampOf(body) };
    case 'mark':
      return { type, regions: Array.from(wordsOf(body, 4), (at) => view.getUint32(at, true)) };
    case 'clean':
      requireLength(body.length > 4);
      return { type, region: view.getUint32(0, true), epochs: body.slice(4) };
    case 'instant':
      requireLength(body.length === 9);
      return { type, serial: serialAt(view, 0), epoch: view.getUint8(8) };
    case 'seal':
      requireLength(body.length === 8);
      return { type, serial: serialAt(view, 0) };
    case 'kept':
      return { type, serials: Array.from(wordsOf(body, 8), (at) => serialAt(view, at)) };
    case 'renumbered':
      requireLength(body.length === 0);
      return { type };
    case 'committed':
      return { type, ...committedOf(body) };
  }
}

export function committedBytes({ serial, repositoryId, volume, digest }: CommittedInstant): Uint8Array {
  return Buffer.concat([serialBytes(serial), repositoryId, digest, Buffer.from(volume)]);
}

/** @throws {@link UnknownRecord} */
export function committedOf(body: Uint8Array): CommittedInstant {
  const named = 8 + ID_BYTES + DIGEST_BYTES;
  requireLength(body.length >= named);
  return {
    serial: serialAt(viewOf(body), 0),
    repositoryId: body.slice(8, 8 + ID_BYTES),
    digest: body.slice(8 + ID_BYTES, named),
    volume: Buffer.from(body.subarray(named)).toString(),
  };
}

export function stampBytes(stamp: TakenStamp | undefined): Uint8Array {
  if (stamp === undefined) return new Uint8Array(0);
  const times = new Uint8Array(16);
  const view = new DataView(times.buffer);
  view.setFloat64(0, stamp.version, true);
  view.setFloat64(8, stamp.takenAt, true);
  return Buffer.concat([times, Buffer.from(stamp.identity)]);
}

/** @throws {@link UnknownRecord} */
export function stampOf(body: Uint8Array): TakenStamp | undefined {
  if (body.length === 0) return undefined;
  requireLength(body.length > 16);
  const view = viewOf(body);
  return {
    version: view.getFloat64(0, true),
    takenAt: view.getFloat64(8, true),
    identity: Buffer.from(body.subarray(16)).toString(),
  };
}

function serialBytes(serial: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(serial), true);
  return bytes;
}

function serialAt(view: DataView, at: number): number {
  const serial = Number(view.getBigUint64(at, true));
  requireLength(Number.isSafeInteger(serial));
  return serial;
}

function* wordsOf(body: Uint8Array, wordBytes: number): Generator<number> {
  requireLength(body.length % wordBytes === 0);
  for (let at = 0; at < body.length; at += wordBytes) yield at;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function requireLength(isRight: boolean): void {
  if (!isRight) throw new UnknownRecord('a record has another length than those of its type');
}
