import { createCipheriv, createDecipheriv, createSecretKey, hash, randomFillSync, timingSafeEqual } from 'node:crypto';
import { AEAD_BYTES, NONCE_BYTES, TAG_BYTES } from '../../common/aead.ts';
import { compress, compressBound, DEFAULT_LEVEL, decompress, releaseBuffer } from '../../common/compression.ts';
import { BackupError } from '../../common/errors.ts';
import { hedgedBytes } from '../../common/hedged-random.ts';
import type { RepositoryKeys } from '../crypto/repository-keys.ts';
import { hmac, ID_BYTES, KEY_BYTES } from '../format/derivation.ts';
import { Codec, MAX_RAW_LENGTH, MAX_STORED_LENGTH, RecordKind } from '../format/record.ts';
import { identityPart, isLocationPartSound } from '../format/record-parts.ts';

/** Sealed records: `docs/FORMAT.md`, section 4. */

/** What a record is, apart from its bytes. */
export interface RecordHead {
  readonly kind: RecordKind;
  /** 32 bytes. */
  readonly id: Uint8Array;
}

/** The most bytes that a record of `rawLength` bytes takes once it is sealed. */
export function maxStoredLength(rawLength: number): number {
  return rawLength + AEAD_BYTES;
}

/** Seals a record into memory of its own. @param recordKey - of an encrypted repository */
export function sealRecord(
  recordKey: Uint8Array | undefined,
  head: RecordHead,
  raw: Uint8Array,
  level: number = DEFAULT_LEVEL,
): { readonly codec: Codec; readonly bytes: Uint8Array<ArrayBuffer> } {
  const bytes = new Uint8Array(maxStoredLength(raw.length));
  const { codec, storedLength } = sealRecordInto(bytes, recordKey, head, raw, level);
  return { codec, bytes: bytes.subarray(0, storedLength) };
}

/**
 * Seals a record into the start of `out`, which has {@link maxStoredLength} bytes or more and does not overlap `raw`.
 * Both may be views of shared memory, as long as `raw` does not change meanwhile.
 */
export function sealRecordInto(
  out: Uint8Array,
  recordKey: Uint8Array | undefined,
  head: RecordHead,
  raw: Uint8Array,
  level: number = DEFAULT_LEVEL,
): { readonly codec: Codec; readonly storedLength: number } {
  if (!(raw.length <= MAX_RAW_LENGTH[head.kind])) throw new RangeError('the record is longer than its kind allows');
  const frame = compress(raw, level);
  const codec = frame === undefined ? Codec.raw : Codec.zstd;
  const content = frame ?? raw;
  if (recordKey === undefined) {
    const storedLength = content.length;
    out.set(content);
    releaseBuffer(frame, compressBound(raw.length));
    return { codec, storedLength };
  }
  const storedLength = maxStoredLength(content.length);
  if (storedLength > MAX_STORED_LENGTH) throw new RangeError('the record is too long to be located once it is sealed');
  const associated = associatedData(head, codec, raw.length);
  const key = hmac(recordKey, associated);
  const nonce = nonceFor(key, head.kind, content, level);
  const cipher = createCipheriv('aes-256-gcm', createSecretKey(key), nonce).setAAD(associated);
  out.set(nonce);
  const encrypted = cipher.update(content);
  out.set(encrypted, NONCE_BYTES); // All of it: a stream cipher keeps nothing back for `final`.
  cipher.final();
  out.set(cipher.getAuthTag(), storedLength - TAG_BYTES);
  releaseBuffer(encrypted, content.length);
  releaseBuffer(frame, compressBound(raw.length));
  return { codec, storedLength };
}

/**
 * A nonce that no two texts share under one record key, even where two copies of a process draw the same random numbers.
 * A block's id, which the key is derived from, covers all of its content, so its text can differ by how it was compressed
 * and by nothing else. The ids of other records do not cover the locations in them, so their text itself goes in.
 */
function nonceFor(key: Uint8Array, kind: RecordKind, content: Uint8Array, level: number): Uint8Array {
  if (kind !== RecordKind.block) return hedgedBytes(NONCE_BYTES, key, content);
  // The same in one hash of fixed length, because there are very many small blocks.
  randomFillSync(blockNonceInput, 0, KEY_BYTES);
  blockNonceInput.set(key, KEY_BYTES);
  blockNonceInput[2 * KEY_BYTES] = level;
  blockNonceInput.writeUInt32LE(content.length, 2 * KEY_BYTES + 1);
  return hash('sha256', blockNonceInput, 'buffer').subarray(0, NONCE_BYTES);
}

/** Random bytes, record key, level, length of the text, and the version of zstd that made it. */
const blockNonceInput = Buffer.concat([Buffer.alloc(2 * KEY_BYTES + 5), Buffer.from(process.versions.zstd ?? '')]);

/** What a location or a pack's footer says about a stored record before it is opened. */
export interface StoredRecord extends RecordHead {
  readonly codec: Codec;
  readonly rawLength: number;
}

/**
 * The raw bytes of a sealed record, which are what its id says. They may be a view of `stored`.
 *
 * @param fanOut - of the repository: where the identity part of a node ends depends on it
 * @throws `RECORD_CORRUPT`
 */
export function openRecord(keys: RepositoryKeys, fanOut: number, record: StoredRecord, stored: Uint8Array): Uint8Array {
  const { kind, id, codec, rawLength } = record;
  checkLengths(record, stored.length - (keys.encrypted ? AEAD_BYTES : 0));
  const { recordKey } = keys;
  const content = recordKey === undefined ? stored : decrypt(recordKey, record, stored);
  const raw = codec === Codec.raw ? content : decompressed(content, rawLength);
  const identity = identityPart(kind, raw, fanOut);
  const expected = kind === RecordKind.block ? keys.contentId(raw) : keys.recordId(kind, identity);
  if (!timingSafeEqual(expected, id)) throw corrupt('its content is not what its id says');
  // The id does not cover the location part: an answer that is garbled there must neither be kept nor copied to another pack.
  if (!isLocationPartSound(raw, identity.length)) throw corrupt('its location part does not match its check');
  return raw;
}

/** Checks a record before any memory is allocated for it. */
function checkLengths({ kind, id, codec, rawLength }: StoredRecord, contentLength: number): void {
  const most = MAX_RAW_LENGTH[kind] as number | undefined;
  if (most === undefined) throw corrupt('its kind is not known');
  if (id.length !== ID_BYTES) throw corrupt('its id has another length than ids have');
  if (!Number.isInteger(rawLength) || rawLength < 0 || rawLength > most) throw corrupt('its length is not allowed');
  if (codec === Codec.raw) {
    if (contentLength !== rawLength) throw corrupt('it has another length than expected');
  } else if (codec === Codec.zstd) {
    // A writer compresses only what gets smaller, so nothing that it stored is longer than the raw bytes.
    if (contentLength <= 0 || contentLength >= rawLength) throw corrupt('it has another length than expected');
  } else throw corrupt('its codec is not known');
}

function decrypt(recordKey: Uint8Array, record: StoredRecord, stored: Uint8Array): Uint8Array {
  const associated = associatedData(record, record.codec, record.rawLength);
  const end = stored.length - TAG_BYTES;
  try {
    const key = hmac(recordKey, associated);
    const decipher = createDecipheriv('aes-256-gcm', createSecretKey(key), stored.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(associated).setAuthTag(stored.subarray(end));
    const content = decipher.update(stored.subarray(NONCE_BYTES, end));
    decipher.final();
    return content;
  } catch (cause) {
    throw corrupt('it does not decrypt', cause);
  }
}

function decompressed(frame: Uint8Array, rawLength: number): Uint8Array {
  try {
    return decompress(frame, rawLength);
  } catch (cause) {
    throw corrupt('it does not decompress to what it should', cause);
  }
}

/** `cow1 record` || kind u8 || codec u8 || raw length u32 || id */
function associatedData({ kind, id }: RecordHead, codec: Codec, rawLength: number): Uint8Array {
  const label = 'cow1 record';
  const bytes = Buffer.alloc(label.length + 6 + ID_BYTES);
  bytes.write(label, 'ascii');
  bytes[label.length] = kind;
  bytes[label.length + 1] = codec;
  bytes.writeUInt32LE(rawLength, label.length + 2);
  bytes.set(id, label.length + 6);
  return bytes;
}

function corrupt(how: string, cause?: unknown): BackupError {
  return new BackupError('RECORD_CORRUPT', `a stored record is damaged: ${how}`, { cause });
}
