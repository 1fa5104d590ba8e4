import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { wipeBytes } from '../../common/bytes.ts';
import { corruptError } from '../../common/errors.ts';
import { decodeMsgpack, encodeMsgpack } from '../../common/msgpack.ts';
import { ValueCheck } from './decode-values.ts';
import { hkdf, REPOSITORY_ID_BYTES } from './derivation.ts';
import { requireReaderFeatures, requireWriterFeatures, unsupported } from './features.ts';
import { MAX_FAN_OUT, MIN_FAN_OUT } from './map-geometry.ts';
import { isSlotName } from './object-keys.ts';

/**
 * The object `format`, which says how to read all others, its copies, and how it and key slots are signed: `docs/FORMAT.md`,
 * section 2. The checksum shows accidents to every reader; the MAC shows any other change to a reader that has the
 * repository's key. Both cover all bytes before them, also fields that a later version adds.
 */

/** What the body of `format` says. */
export interface FormatFields {
  readonly version: number;
  /** The least format version that a program must know to read. */
  readonly minReader: number;
  /** The same to write. */
  readonly minWriter: number;
  /** A program that does not know one of them must not write. */
  readonly features: readonly string[];
  /** A program that does not know one of them must not read either. */
  readonly readerFeatures: readonly string[];
  /** 16 random bytes. */
  readonly repositoryId: Uint8Array;
  /** `cipher` is `aes-256-gcm` and `hash` is `hmac-sha256`, or `none` and `sha256`. */
  readonly encrypted: boolean;
  /** Entries of a map node. */
  readonly fanOut: number;
  readonly mode: RepositoryMode;
  /** The slot that was made with the repository. */
  readonly keySlot: string | undefined;
}

/** A format together with the bytes that say it, which copies of it keep as they are. */
export interface RepositoryFormat extends FormatFields {
  readonly body: Uint8Array<ArrayBuffer>;
}

/** The object `format` as it was read. */
export interface StoredFormat {
  readonly format: RepositoryFormat;
  readonly signed: SignedObject;
}

/** `single-writer` where the store can't create atomically. */
export type RepositoryMode = 'shared' | 'single-writer';

/** The version of the format that this library writes, and the newest that it knows. */
export const FORMAT_VERSION = 1;
export const DEFAULT_FAN_OUT = 128;
/** Exactly so many bytes has the object, so that a reader fetches no more of it, however much a stranger has put there. */
export const FORMAT_BYTES = 1024;

const MAGIC = new TextEncoder().encode('cow-cloud-backup');
const BODY_AT = MAGIC.length + 4;
const MAC_BYTES = 32;
/** The MAC and the checksum. */
const SIGNATURE_BYTES = MAC_BYTES + 32;
const MAX_BODY_BYTES = FORMAT_BYTES - SIGNATURE_BYTES - BODY_AT;
const damaged = corruptError('REPOSITORY_CORRUPT', 'the object `format`');
const check = new ValueCheck(damaged);

/** The format with its bytes. @throws `REPOSITORY_CORRUPT` for one that no reader would take */
export function encodeFormat(format: FormatFields): RepositoryFormat {
  const body = encodeMsgpack({
    version: format.version,
    minReader: format.minReader,
    minWriter: format.minWriter,
    features: format.features,
    readerFeatures: format.readerFeatures,
    repositoryId: format.repositoryId,
    hash: format.encrypted ? 'hmac-sha256' : 'sha256',
    cipher: format.encrypted ? 'aes-256-gcm' : 'none',
    fanOut: format.fanOut,
    mode: format.mode,
    keySlot: format.keySlot ?? null,
  });
  return decodeFormatBody(body); // It is written once, and everything hangs on it.
}

/** The object's bytes; the same each time. @param repositoryKey - of an encrypted repository */
export function formatObject(format: RepositoryFormat, repositoryKey: Uint8Array | undefined): Uint8Array<ArrayBuffer> {
  const content = new Uint8Array(FORMAT_BYTES - SIGNATURE_BYTES);
  content.set(MAGIC);
  new DataView(content.buffer).setUint32(MAGIC.length, format.body.length, true);
  content.set(format.body, BODY_AT);
  const macKey = macKeyOf(format, repositoryKey);
  try {
    return signObject('cow1 format', macKey, content);
  } finally {
    wipeBytes(macKey);
  }
}

/**
 * Reads the object, and refuses what this library can't read. Accidents show here; changes that were made on purpose show
 * in {@link isAuthentic}.
 *
 * @throws `REPOSITORY_CORRUPT`, `REPOSITORY_UNSUPPORTED`
 */
export function decodeFormat(bytes: Uint8Array): StoredFormat {
  if (bytes.length !== FORMAT_BYTES) throw damaged(`it has ${bytes.length} bytes instead of ${FORMAT_BYTES}`);
  if (Buffer.compare(bytes.subarray(0, MAGIC.length), MAGIC) !== 0) throw damaged('it does not begin as one');
  const signed = openSignedObject('cow1 format', bytes);
  if (signed === undefined) throw damaged('its checksum is wrong');
  const { content } = signed;
  const length = new DataView(content.buffer, content.byteOffset).getUint32(MAGIC.length, true);
  if (length > MAX_BODY_BYTES) throw damaged('its length is wrong');
  const format = decodeFormatBody(content.subarray(BODY_AT, BODY_AT + length));
  if (content.subarray(BODY_AT + length).some((byte) => byte !== 0)) throw damaged('something follows it');
  return { format, signed };
}

/** Whether the object's MAC is the one of the repository's key. In a plain repository there is nothing to prove. */
export function isAuthentic(
  { format, signed }: { readonly format: FormatFields; readonly signed: SignedObject },
  repositoryKey: Uint8Array | undefined,
): boolean {
  const macKey = macKeyOf(format, repositoryKey);
  try {
    return isSignedWith(macKey, signed);
  } finally {
    wipeBytes(macKey);
  }
}

/** The same of bytes that this library may be too old to read. @param format - of the repository that they are to be of */
export function isSignedFormat(
  bytes: Uint8Array,
  format: FormatFields,
  repositoryKey: Uint8Array | undefined,
): boolean {
  const signed = openSignedObject('cow1 format', bytes);
  return signed !== undefined && isAuthentic({ format, signed }, repositoryKey);
}

/** Reads the part of `format` that is copied into key slots and log entries. @throws as {@link decodeFormat} */
export function decodeFormatBody(body: Uint8Array): RepositoryFormat {
  if (body.length > MAX_BODY_BYTES) throw damaged('it is larger than it may be');
  const fields = check.map(decodeMsgpack(body, 'REPOSITORY_CORRUPT'), 'its body');
  // Before any other field, because a later version may give them other meanings.
  const minReader = check.int(fields.minReader, 'its minReader', 1);
  if (minReader > FORMAT_VERSION) throw unsupported('read', `format version ${minReader}`);
  const readerFeatures = featuresIn(fields.readerFeatures, 'its list of readerFeatures');
  // @mutation reader-knows-the-features
  requireReaderFeatures(readerFeatures);
  const version = check.int(fields.version, 'its version', minReader);
  const minWriter = check.int(fields.minWriter, 'its minWriter', 1, version);
  const encrypted = check.choice(fields.cipher, 'its cipher', ['none', 'aes-256-gcm']) === 'aes-256-gcm';
  if (check.choice(fields.hash, 'its hash', ['sha256', 'hmac-sha256']) !== (encrypted ? 'hmac-sha256' : 'sha256')) {
    throw damaged('its hash does not go with its cipher');
  }
  const fanOut = check.int(fields.fanOut, 'its fanOut', MIN_FAN_OUT, MAX_FAN_OUT);
  if (fanOut % 8 !== 0) throw damaged('its fanOut is not a multiple of 8');
  const keySlot = check.optional(fields.keySlot, (slot) => check.text(slot, 'its keySlot'));
  if (keySlot !== undefined && !(encrypted && isSlotName(keySlot))) throw damaged('its keySlot names no key slot');
  return {
    version,
    minReader,
    minWriter,
    features: featuresIn(fields.features, 'its list of features'),
    readerFeatures,
    repositoryId: check.bytes(fields.repositoryId, 'its repositoryId', REPOSITORY_ID_BYTES),
    encrypted,
    fanOut,
    mode: check.choice(fields.mode, 'its mode', ['shared', 'single-writer']),
    keySlot,
    body: Uint8Array.from(body),
  };
}

/** @throws `REPOSITORY_UNSUPPORTED` where this library may read the repository but not write to it */
export function checkWritable({ minWriter, features }: FormatFields): void {
  if (minWriter > FORMAT_VERSION) throw unsupported('write to', `format version ${minWriter}`);
  requireWriterFeatures(features);
}

function featuresIn(value: unknown, what: string): string[] {
  return check.list(value, what, (name) => check.text(name, 'a feature', 1));
}

function macKeyOf(format: FormatFields, repositoryKey: Uint8Array | undefined): Uint8Array<ArrayBuffer> | undefined {
  if (format.encrypted !== (repositoryKey !== undefined)) throw new TypeError('a format goes with its own keys');
  return repositoryKey && hkdf(repositoryKey, format.repositoryId, 'cow1 format mac');
}

export type SignedLabel = 'cow1 format' | 'cow1 key slot';

/** An object whose checksum is right. */
export interface SignedObject {
  readonly content: Uint8Array;
  readonly mac: Uint8Array;
}

/** `content || MAC || checksum`. @param macKey - 32 bytes; `undefined` in a plain repository, where the MAC is zeroes */
export function signObject(
  label: SignedLabel,
  macKey: Uint8Array | undefined,
  content: Uint8Array,
  context = '',
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(content.length + SIGNATURE_BYTES);
  bytes.set(content);
  bytes.set(macOf(macKey, content, context), content.length);
  const signed = bytes.subarray(0, content.length + MAC_BYTES);
  bytes.set(checksumOf(label, signed), signed.length);
  return bytes;
}

/** Takes an object apart; `undefined` where its checksum is wrong. */
export function openSignedObject(label: SignedLabel, bytes: Uint8Array): SignedObject | undefined {
  const end = bytes.length - SIGNATURE_BYTES;
  if (end < 0) return undefined;
  const signed = bytes.subarray(0, end + MAC_BYTES);
  if (!timingSafeEqual(checksumOf(label, signed), bytes.subarray(end + MAC_BYTES))) return undefined;
  return { content: bytes.subarray(0, end), mac: bytes.subarray(end, end + MAC_BYTES) };
}

/** Whether the MAC is the one of this key. */
export function isSignedWith(macKey: Uint8Array | undefined, { content, mac }: SignedObject, context = ''): boolean {
  return timingSafeEqual(macOf(macKey, content, context), mac);
}

function macOf(macKey: Uint8Array | undefined, content: Uint8Array, context: string): Uint8Array {
  if (macKey === undefined) return new Uint8Array(MAC_BYTES);
  return createHmac('sha256', macKey).update(context).update(content).digest();
}

function checksumOf(label: SignedLabel, signed: Uint8Array): Uint8Array {
  return createHash('sha256').update(label).update(signed).digest();
}
