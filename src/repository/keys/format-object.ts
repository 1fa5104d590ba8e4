import { decodePlain, encodePlain } from '../../common/bounded-msgpack.ts';
import { BackupError } from '../../common/errors.ts';
import { REPOSITORY_ID_BYTES } from './derivation.ts';
import { isSlotName } from './key-slot.ts';
import { PlainFields } from './plain-fields.ts';

/** The object `format`, which says how to read all others: `docs/FORMAT.md`, section 2. */
export interface RepositoryFormat {
  readonly version: number;
  /** The least format version that a program must know to read. */
  readonly minReader: number;
  /** The same to write. */
  readonly minWriter: number;
  /** A program that does not know one of them must not write. */
  readonly features: readonly string[];
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

/** `single-writer` where the store can't create atomically. */
export type RepositoryMode = 'shared' | 'single-writer';

/** The version of the format that this library writes, and the newest that it knows. */
export const FORMAT_VERSION = 1;
export const DEFAULT_FAN_OUT = 128;
/** Most bytes of the object. */
export const MAX_FORMAT_BYTES = 64 * 1024;
/** Names of features that this library knows. */
const KNOWN_FEATURES: readonly string[] = [];

const MAGIC = 'cow-cloud-backup';
const MIN_FAN_OUT = 8;
const MAX_FAN_OUT = 248;
const CORRUPT = 'REPOSITORY_CORRUPT';

/** The object's bytes. */
export function encodeFormat(format: RepositoryFormat): Uint8Array<ArrayBuffer> {
  const bytes = encodePlain({
    magic: MAGIC,
    version: format.version,
    minReader: format.minReader,
    minWriter: format.minWriter,
    features: format.features,
    repositoryId: format.repositoryId,
    hash: format.encrypted ? 'hmac-sha256' : 'sha256',
    cipher: format.encrypted ? 'aes-256-gcm' : 'none',
    fanOut: format.fanOut,
    mode: format.mode,
    keySlot: format.keySlot ?? null,
  });
  decodeFormat(bytes); // It is written once, and everything hangs on it.
  return bytes;
}

/**
 * Reads the object, and refuses what this library can't read.
 *
 * @throws `REPOSITORY_CORRUPT`, `REPOSITORY_UNSUPPORTED`
 */
export function decodeFormat(bytes: Uint8Array): RepositoryFormat {
  const what = 'the object `format`';
  if (bytes.length > MAX_FORMAT_BYTES) throw new BackupError(CORRUPT, `${what} is larger than it may be`);
  const fields = new PlainFields(decodePlain(bytes, CORRUPT), CORRUPT, what);
  if (fields.text('magic') !== MAGIC) throw fields.invalid('magic');
  const version = fields.integer('version', 1, Number.MAX_SAFE_INTEGER);
  const minReader = fields.integer('minReader', 1, version);
  const minWriter = fields.integer('minWriter', 1, version);
  // Before any other field: a later version may give them other meanings.
  if (minReader > FORMAT_VERSION) throw unsupported('read', `format version ${minReader}`);
  const encrypted = fields.choice('cipher', ['none', 'aes-256-gcm']) === 'aes-256-gcm';
  if (fields.choice('hash', ['sha256', 'hmac-sha256']) !== (encrypted ? 'hmac-sha256' : 'sha256')) {
    throw fields.corrupt('its hash does not go with its cipher');
  }
  const fanOut = fields.integer('fanOut', MIN_FAN_OUT, MAX_FAN_OUT);
  if (fanOut % 8 !== 0) throw fields.invalid('fanOut');
  const keySlot = fields.absent('keySlot') ? undefined : fields.text('keySlot');
  if (keySlot !== undefined && !(encrypted && isSlotName(keySlot))) throw fields.invalid('keySlot');
  return {
    version,
    minReader,
    minWriter,
    features: fields.texts('features'),
    repositoryId: fields.bytes('repositoryId', REPOSITORY_ID_BYTES),
    encrypted,
    fanOut,
    mode: fields.choice('mode', ['shared', 'single-writer']),
    keySlot,
  };
}

/** @throws `REPOSITORY_UNSUPPORTED` where this library may read the repository but not write to it */
export function checkWritable({ minWriter, features }: RepositoryFormat): void {
  if (minWriter > FORMAT_VERSION) throw unsupported('write to', `format version ${minWriter}`);
  const unknown = features.filter((feature) => !KNOWN_FEATURES.includes(feature));
  if (unknown.length > 0) throw unsupported('write to', `the feature ${JSON.stringify(unknown[0]?.slice(0, 64))}`);
}

function unsupported(action: string, needed: string): BackupError {
  return new BackupError('REPOSITORY_UNSUPPORTED', `to ${action} this repository a program must know ${needed}`);
}
