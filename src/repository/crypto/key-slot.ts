import type { AbortOptions } from '../../common/abort.ts';
import { NONCE_BYTES, opening, sealing, TAG_BYTES } from '../../common/aead.ts';
import { wipeBytes } from '../../common/bytes.ts';
import { BackupError } from '../../common/errors.ts';
import { hedgedBytes, hedgedHex } from '../../common/hedged-random.ts';
import { decodeMsgpack, encodeMsgpack } from '../../common/msgpack.ts';
import { runAtOnce } from '../../common/yield-to-event-loop.ts';
import { type PlainMap, ValueCheck } from '../format/decode-values.ts';
import { hkdf, KEY_BYTES, REPOSITORY_ID_BYTES } from '../format/derivation.ts';
import {
  decodeFormatBody,
  isSignedWith,
  openSignedObject,
  type RepositoryFormat,
  type SignedObject,
  signObject,
} from '../format/format-object.ts';
import { isSlotName } from '../format/object-keys.ts';
import { DEFAULT_SCRYPT_COST, type ScryptCost, scryptCostIsAllowed } from './scrypt.ts';
import { corrupt, corruptSlot, newer, refused, withObject } from './slot-errors.ts';
import {
  type CheckedUnlock,
  type KeyProvider,
  MAX_WRAPPED_BYTES,
  SLOT_KINDS,
  secretOf,
  unwrapByProvider,
  withWrappingKey,
  wrapByProvider,
} from './unlock.ts';

/**
 * Key slots: `docs/FORMAT.md`, section 3. A slot is bound to its repository and its own name, and signed as a whole with
 * the key that it wraps. So a program that has the key finds every slot, and every bit of it, that somebody changed.
 */

/** Which slot of which repository. */
export interface SlotName {
  /** `undefined` where the slot's own copy of `format` says it. */
  readonly repositoryId: Uint8Array | undefined;
  /** 16 hex digits. */
  readonly slot: string;
}

/** Most bytes of a slot. */
export const MAX_SLOT_BYTES = 64 * 1024;
const SALT_BYTES = 32;
const VERSION = 1;
const check = new ValueCheck(corrupt);

interface SlotHead {
  /** The copy of `format` that the slot keeps. */
  readonly format: RepositoryFormat;
  readonly wrapped: Uint8Array;
  readonly signed: SignedObject;
}
interface SaltedSlot extends SlotHead {
  readonly salt: Uint8Array;
  readonly nonce: Uint8Array;
}

/** A slot as it is stored. */
export type KeySlot =
  | ({ readonly kind: 'passphrase'; readonly cost: ScryptCost } & SaltedSlot)
  | ({ readonly kind: 'key' } & SaltedSlot)
  | ({ readonly kind: 'provider'; readonly provider: string } & SlotHead);

/** What an open slot gives. */
export interface OpenedSlot {
  readonly key: Uint8Array<ArrayBuffer>;
  /** The copy of `format` in the slot, which the key's MAC covers. */
  readonly format: RepositoryFormat;
}

/** A name for a new slot. */
export function newSlotName(repositoryKey: Uint8Array, unlock: CheckedUnlock): string {
  return hedgedHex(8, repositoryKey, 'name of a key slot', unlock.kind, openerOf(unlock));
}

/** A key for a new repository. */
export function newRepositoryKey(unlock: CheckedUnlock): Uint8Array<ArrayBuffer> {
  return hedgedBytes(KEY_BYTES, undefined, 'repository key', unlock.kind, openerOf(unlock));
}

/** By this, copies of one process memory that make different slots or repositories differ. */
function openerOf(unlock: CheckedUnlock): Uint8Array | string {
  return unlock.kind === 'provider' ? unlock.provider.id : secretOf(unlock);
}

/**
 * Wraps a repository's key.
 *
 * @param name - the repository's format, of which the slot keeps a copy, and the slot's name
 * @param cost - for tests only: what a passphrase costs
 */
export async function makeKeySlot(
  repositoryKey: Uint8Array,
  unlock: CheckedUnlock,
  name: { readonly format: RepositoryFormat; readonly slot: string },
  options: AbortOptions = {},
  cost: ScryptCost = DEFAULT_SCRYPT_COST,
): Promise<Uint8Array<ArrayBuffer>> {
  const { format, slot } = name;
  const { repositoryId, body } = format;
  checkName(slot, repositoryId);
  if (repositoryKey.length !== KEY_BYTES) throw new TypeError(`a repository key has ${KEY_BYTES} bytes`);
  const head = { version: VERSION, kind: unlock.kind, format: body };
  if (unlock.kind === 'provider') {
    const wrapped = await wrapByProvider(unlock.provider, repositoryKey, options);
    return signed(repositoryKey, name, { ...head, provider: unlock.provider.id, wrapped });
  }
  const uses = [repositoryId, slot, unlock.kind, secretOf(unlock)] as const;
  const salt = hedgedBytes(SALT_BYTES, repositoryKey, 'salt of a key slot', ...uses);
  const sealed = await withWrappingKey(unlock, salt, cost, options, (kek) =>
    runAtOnce(sealing(kek, associated(repositoryId, slot), repositoryKey)),
  );
  const nonce = sealed.subarray(0, NONCE_BYTES);
  const wrapped = sealed.subarray(NONCE_BYTES);
  const costFields = unlock.kind === 'passphrase' ? { n: cost.n, r: cost.r, p: cost.p } : {};
  return signed(repositoryKey, name, { ...head, salt, ...costFields, nonce, wrapped });
}

/**
 * Reads a slot's fields, with every limit checked; opens nothing.
 *
 * @param slot - its name, for the messages of errors
 * @throws `KEY_SLOT_CORRUPT`, and `REPOSITORY_UNSUPPORTED` for a slot of a newer version or of a kind unknown here
 */
export function decodeKeySlot(bytes: Uint8Array, slot?: string): KeySlot {
  try {
    return decoded(bytes);
  } catch (error) {
    throw slot === undefined ? error : withObject(error, slot);
  }
}

function decoded(bytes: Uint8Array): KeySlot {
  if (bytes.length > MAX_SLOT_BYTES) throw corrupt('it is larger than a key slot may be');
  const signedObject = openSignedObject('cow1 key slot', bytes);
  if (signedObject === undefined) throw corrupt('its checksum is wrong');
  const fields = check.map(decodeMsgpack(signedObject.content, 'KEY_SLOT_CORRUPT'), 'its body');
  if (check.int(fields.version, 'its version', 1) > VERSION) throw newer('version of the format');
  const named = check.text(fields.kind, 'its kind');
  const kind = SLOT_KINDS.find((known) => known === named);
  if (kind === undefined) throw newer('kind');
  const head = { format: formatOf(fields), signed: signedObject };
  if (kind === 'provider') {
    const provider = check.text(fields.provider, 'its provider', 1, MAX_SLOT_BYTES);
    return { kind, provider, wrapped: check.bytes(fields.wrapped, 'its wrapped key', 1, MAX_WRAPPED_BYTES), ...head };
  }
  const salted = {
    salt: check.bytes(fields.salt, 'its salt', SALT_BYTES),
    nonce: check.bytes(fields.nonce, 'its nonce', NONCE_BYTES),
    wrapped: check.bytes(fields.wrapped, 'its wrapped key', KEY_BYTES + TAG_BYTES),
    ...head,
  };
  if (kind === 'key') return { kind, ...salted };
  const cost = {
    n: check.int(fields.n, 'its n', 1),
    r: check.int(fields.r, 'its r', 1),
    p: check.int(fields.p, 'its p', 1),
  };
  if (!scryptCostIsAllowed(cost)) throw corrupt('its scrypt parameters are not allowed');
  return { kind, cost, ...salted };
}

/**
 * The repository's key out of a slot.
 *
 * @throws `KEY_REFUSED` when this is not what opens it, or it is a slot of another repository; `KEY_SLOT_CORRUPT`; what a
 * provider gives
 */
export async function openKeySlot(
  slot: KeySlot,
  unlock: CheckedUnlock,
  name: SlotName,
  options: AbortOptions = {},
): Promise<OpenedSlot> {
  checkName(name.slot, name.repositoryId);
  if (slot.kind !== unlock.kind) throw refused(`it is one for a ${slot.kind}, not for a ${unlock.kind}`);
  const { format } = slot;
  if (isOfAnother(format, name.repositoryId)) throw refused('it is a slot of another repository');
  const key = await unwrap(slot, unlock, associated(format.repositoryId, name.slot), options);
  let isOurs = false;
  try {
    isOurs = isSigned(key, format.repositoryId, slot.signed, name.slot);
  } finally {
    if (!isOurs) wipeBytes(key);
  }
  if (isOurs) return { key, format };
  // A provider may have given another key without noticing; GCM would have noticed, so there the slot was tampered with.
  if (slot.kind === 'provider') throw refused('its provider gave another key');
  throw corruptSlot(name.slot, 'its MAC is not the one of the key in it');
}

/**
 * What keeps a slot from being one of this key: `undefined` where it is whole. Nothing that opens it is needed, and every
 * bit of it counts, also in a slot that a newer program made.
 */
export function checkKeySlot(
  bytes: Uint8Array,
  key: Uint8Array,
  name: SlotName & { readonly repositoryId: Uint8Array },
): BackupError | undefined {
  checkName(name.slot, name.repositoryId);
  const { repositoryId, slot } = name;
  const signedObject = openSignedObject('cow1 key slot', bytes);
  const isOurs = signedObject !== undefined && isSigned(key, repositoryId, signedObject, slot);
  try {
    const { format } = decodeKeySlot(bytes, slot);
    if (isOfAnother(format, repositoryId)) return corruptSlot(slot, 'it is a slot of another repository');
  } catch (error) {
    if (!BackupError.is(error)) throw error;
    if (isOurs || signedObject === undefined) return error;
  }
  // @mutation slot-is-signed
  return isOurs ? undefined : corruptSlot(slot, "its MAC is not the one of the repository's key");
}

function isOfAnother({ repositoryId }: RepositoryFormat, expected: Uint8Array | undefined): boolean {
  return expected !== undefined && Buffer.compare(repositoryId, expected) !== 0;
}

function formatOf(fields: PlainMap): RepositoryFormat {
  try {
    const format = decodeFormatBody(check.bytes(fields.format, 'its copy of `format`', 1, MAX_SLOT_BYTES));
    if (format.encrypted) return format;
  } catch (error) {
    if (BackupError.is(error, 'REPOSITORY_UNSUPPORTED')) throw error;
  }
  throw corrupt('its copy of `format` is not valid');
}

async function unwrap(
  slot: KeySlot,
  unlock: CheckedUnlock,
  aad: Uint8Array,
  options: AbortOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  if (slot.kind === 'provider') {
    const { provider } = unlock as { provider: KeyProvider };
    if (slot.provider !== provider.id) throw refused('it belongs to another key provider');
    return unwrapByProvider(provider, slot.wrapped, options);
  }
  const cost = slot.kind === 'passphrase' ? slot.cost : undefined;
  return withWrappingKey(unlock, slot.salt, cost, options, (kek) => {
    const key = runAtOnce(opening(kek, aad, Buffer.concat([slot.nonce, slot.wrapped])));
    if (key === undefined) throw refused('it does not open');
    return key as Uint8Array<ArrayBuffer>; // In memory of its own.
  });
}

function signed(
  repositoryKey: Uint8Array,
  { format, slot }: { readonly format: RepositoryFormat; readonly slot: string },
  fields: Readonly<Record<string, unknown>>,
): Uint8Array<ArrayBuffer> {
  const macKey = macKeyOf(repositoryKey, format.repositoryId);
  try {
    return signObject('cow1 key slot', macKey, encodeMsgpack(fields), slot);
  } finally {
    wipeBytes(macKey);
  }
}

function isSigned(key: Uint8Array, repositoryId: Uint8Array, signedObject: SignedObject, slot: string): boolean {
  const macKey = macKeyOf(key, repositoryId);
  try {
    return isSignedWith(macKey, signedObject, slot);
  } finally {
    wipeBytes(macKey);
  }
}

/** The MAC is of the wrapped key itself, so a slot commits to it: GCM alone would let one ciphertext open to two keys. */
function macKeyOf(repositoryKey: Uint8Array, repositoryId: Uint8Array): Uint8Array<ArrayBuffer> {
  return hkdf(repositoryKey, repositoryId, 'cow1 slot mac');
}

function associated(repositoryId: Uint8Array, slot: string): Uint8Array {
  return Buffer.concat([Buffer.from('cow1 slot'), repositoryId, Buffer.from(slot, 'ascii')]);
}

function checkName(slot: string, repositoryId: Uint8Array | undefined): void {
  if (repositoryId !== undefined && repositoryId.length !== REPOSITORY_ID_BYTES) {
    throw new TypeError(`a repository id has ${REPOSITORY_ID_BYTES} bytes`);
  }
  if (!isSlotName(slot)) throw new TypeError("a slot's name is 16 hex digits");
}
