import { createCipheriv, createDecipheriv, randomBytes, timingSafeEqual } from 'node:crypto';
import { type AbortOptions, abortable } from '../../common/abort.ts';
import { decodePlain, encodePlain } from '../../common/bounded-msgpack.ts';
import { BackupError } from '../../common/errors.ts';
import { hkdf, hmac, KEY_BYTES, REPOSITORY_ID_BYTES, wipeBytes } from './derivation.ts';
import { PlainFields } from './plain-fields.ts';
import { DEFAULT_SCRYPT_COST, passphraseKey, type ScryptCost, scryptCostIsAllowed } from './scrypt.ts';
import type { CheckedUnlock, KeyProvider, SlotKind } from './unlock.ts';

/** Key slots: `docs/FORMAT.md`, section 3. A slot is bound to its repository and its own name. */

/** Which slot of which repository. */
export interface SlotName {
  readonly repositoryId: Uint8Array;
  /** 16 hex digits. */
  readonly slot: string;
}

/** Most bytes of a slot. */
export const MAX_SLOT_BYTES = 64 * 1024;
const MAX_WRAPPED_BYTES = 16 * 1024;
const SALT_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const VERSION = 1;

interface SlotHead {
  readonly commitment: Uint8Array;
  readonly wrapped: Uint8Array;
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

/** A name for a new slot. */
export function newSlotName(): string {
  return randomBytes(8).toString('hex');
}

/** Whether these are the 16 hex digits of a slot's name. */
export function isSlotName(name: string): boolean {
  return /^[0-9a-f]{16}$/.test(name);
}

/**
 * Wraps a repository's key.
 *
 * @param cost - for tests only: what a passphrase costs
 */
export async function makeKeySlot(
  repositoryKey: Uint8Array,
  unlock: CheckedUnlock,
  name: SlotName,
  options: AbortOptions = {},
  cost: ScryptCost = DEFAULT_SCRYPT_COST,
): Promise<Uint8Array<ArrayBuffer>> {
  checkName(name);
  if (repositoryKey.length !== KEY_BYTES) throw new TypeError(`a repository key has ${KEY_BYTES} bytes`);
  const commitment = commitmentOf(repositoryKey, name);
  if (unlock.kind === 'provider') {
    const wrapped = await wrapByProvider(unlock.provider, repositoryKey, options);
    return encodePlain({ version: VERSION, kind: unlock.kind, provider: unlock.provider.id, wrapped, commitment });
  }
  const salt = randomBytes(SALT_BYTES);
  const nonce = randomBytes(NONCE_BYTES);
  const kek = await abortable(wrappingKey(unlock, salt, cost), options.signal);
  const cipher = createCipheriv('aes-256-gcm', kek, nonce).setAAD(associated(name));
  const wrapped = Buffer.concat([cipher.update(repositoryKey), cipher.final(), cipher.getAuthTag()]);
  wipeBytes(kek);
  const costFields = unlock.kind === 'passphrase' ? { n: cost.n, r: cost.r, p: cost.p } : {};
  return encodePlain({ version: VERSION, kind: unlock.kind, salt, ...costFields, nonce, wrapped, commitment });
}

/**
 * Reads a slot's fields, with every limit checked; opens nothing.
 *
 * @throws `KEY_SLOT_CORRUPT`, and `REPOSITORY_UNSUPPORTED` for a slot of a newer version
 */
export function decodeKeySlot(bytes: Uint8Array): KeySlot {
  if (bytes.length > MAX_SLOT_BYTES) throw corrupt('it is larger than a key slot may be');
  const fields = new PlainFields(decodePlain(bytes, 'KEY_SLOT_CORRUPT'), 'KEY_SLOT_CORRUPT', 'a key slot');
  if (fields.integer('version', 1, Number.MAX_SAFE_INTEGER) > VERSION) {
    throw new BackupError('REPOSITORY_UNSUPPORTED', 'a key slot was made by a newer version of the format');
  }
  const kind: SlotKind = fields.choice('kind', ['passphrase', 'key', 'provider']);
  const commitment = fields.bytes('commitment', 32);
  if (kind === 'provider') {
    const provider = fields.text('provider');
    if (provider.length === 0) throw fields.invalid('provider');
    return { kind, provider, wrapped: fields.bytes('wrapped', 1, MAX_WRAPPED_BYTES), commitment };
  }
  const sealed = {
    salt: fields.bytes('salt', SALT_BYTES),
    nonce: fields.bytes('nonce', NONCE_BYTES),
    wrapped: fields.bytes('wrapped', KEY_BYTES + TAG_BYTES),
    commitment,
  };
  if (kind === 'key') return { kind, ...sealed };
  const parameter = (name: string) => fields.integer(name, 1, Number.MAX_SAFE_INTEGER);
  const cost = { n: parameter('n'), r: parameter('r'), p: parameter('p') };
  if (!scryptCostIsAllowed(cost)) throw corrupt('its scrypt parameters are not allowed');
  return { kind, cost, ...sealed };
}

/**
 * The repository's key out of a slot.
 *
 * @throws `KEY_REFUSED` when this is not what opens it; `KEY_SLOT_CORRUPT`; `REPOSITORY_UNSUPPORTED`; what a
 * provider gives
 */
export async function openKeySlot(
  bytes: Uint8Array,
  unlock: CheckedUnlock,
  name: SlotName,
  options: AbortOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  checkName(name);
  const slot = decodeKeySlot(bytes);
  if (slot.kind !== unlock.kind) throw refused(`it is one for a ${slot.kind}, not for a ${unlock.kind}`);
  const key =
    slot.kind === 'provider'
      ? await unwrapByProvider((unlock as { provider: KeyProvider }).provider, slot, options)
      : await unwrap(slot, unlock, name, options);
  if (timingSafeEqual(commitmentOf(key, name), slot.commitment)) return key;
  wipeBytes(key);
  // A provider may have given another key without noticing; GCM would have noticed, so there the slot was tampered with.
  if (slot.kind === 'provider') throw refused('its provider gave another key');
  throw corrupt('the key in it is not the one that it commits to');
}

/**
 * What keeps a slot from being one of this key, as far as that shows without what opens it: `undefined` where its fields
 * are valid and it commits to the key.
 */
export function checkKeySlot(bytes: Uint8Array, key: Uint8Array, name: SlotName): BackupError | undefined {
  checkName(name);
  try {
    const { commitment } = decodeKeySlot(bytes);
    return timingSafeEqual(commitmentOf(key, name), commitment) ? undefined : corrupt('it commits to another key');
  } catch (error) {
    if (!BackupError.is(error)) throw error;
    return error;
  }
}

async function unwrap(
  slot: Exclude<KeySlot, { kind: 'provider' }>,
  unlock: CheckedUnlock,
  name: SlotName,
  { signal }: AbortOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  const cost = slot.kind === 'passphrase' ? slot.cost : undefined;
  const kek = await abortable(wrappingKey(unlock, slot.salt, cost), signal);
  try {
    const decipher = createDecipheriv('aes-256-gcm', kek, slot.nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(associated(name)).setAuthTag(slot.wrapped.subarray(KEY_BYTES));
    const opened = Buffer.concat([decipher.update(slot.wrapped.subarray(0, KEY_BYTES)), decipher.final()]);
    const key = Uint8Array.from(opened);
    wipeBytes(opened);
    return key;
  } catch (cause) {
    throw refused('it does not open', cause);
  } finally {
    wipeBytes(kek);
  }
}

/** The key that wraps the repository's key. */
async function wrappingKey(
  unlock: CheckedUnlock,
  salt: Uint8Array,
  cost: ScryptCost | undefined,
): Promise<Uint8Array<ArrayBuffer>> {
  if (unlock.kind === 'passphrase') return passphraseKey(unlock.passphrase, salt, cost ?? DEFAULT_SCRYPT_COST);
  return hkdf((unlock as { key: Uint8Array }).key, salt, 'cow1 raw key');
}

async function wrapByProvider(
  provider: KeyProvider,
  repositoryKey: Uint8Array,
  options: AbortOptions,
): Promise<Uint8Array> {
  const given = Uint8Array.from(repositoryKey);
  try {
    const wrapped: unknown = await provider.wrap(given, options);
    if (!(wrapped instanceof Uint8Array) || wrapped.length === 0 || wrapped.length > MAX_WRAPPED_BYTES) {
      throw new TypeError(`a key provider's wrap must give a Uint8Array of 1 to ${MAX_WRAPPED_BYTES} bytes`);
    }
    return Uint8Array.from(wrapped); // Before `given` is zeroed: they may be one array.
  } finally {
    wipeBytes(given);
  }
}

async function unwrapByProvider(
  provider: KeyProvider,
  slot: KeySlot & { kind: 'provider' },
  options: AbortOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  if (slot.provider !== provider.id) throw refused('it belongs to another key provider');
  let key: unknown;
  try {
    key = await provider.unwrap(slot.wrapped, options);
  } catch (error) {
    options.signal?.throwIfAborted();
    if (BackupError.is(error)) throw error;
    throw refused('its key provider refused', error);
  }
  if (!(key instanceof Uint8Array) || key.length !== KEY_BYTES) throw refused('its provider gave no key');
  return Uint8Array.from(key);
}

/** GCM alone would let a ciphertext be made that two keys open. */
function commitmentOf(key: Uint8Array, { repositoryId, slot }: SlotName): Uint8Array {
  const committing = hkdf(key, repositoryId, 'cow1 commitment');
  const commitment = hmac(committing, repositoryId, slot);
  wipeBytes(committing);
  return commitment;
}

function associated({ repositoryId, slot }: SlotName): Uint8Array {
  return Buffer.concat([Buffer.from('cow1 slot'), repositoryId, Buffer.from(slot, 'ascii')]);
}

function checkName({ repositoryId, slot }: SlotName): void {
  if (repositoryId.length !== REPOSITORY_ID_BYTES) {
    throw new TypeError(`a repository id has ${REPOSITORY_ID_BYTES} bytes`);
  }
  if (!isSlotName(slot)) throw new TypeError("a slot's name is 16 hex digits");
}

function corrupt(how: string): BackupError {
  return new BackupError('KEY_SLOT_CORRUPT', `a key slot is damaged: ${how}`);
}

function refused(how: string, cause?: unknown): BackupError {
  return new BackupError('KEY_REFUSED', `a key slot stays closed: ${how}`, { cause });
}
