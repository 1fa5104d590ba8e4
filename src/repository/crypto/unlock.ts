import { type AbortOptions, abortable } from '../../common/abort.ts';
import { bytesArgument, described, functionArgument, optionsArgument, textArgument } from '../../common/arguments.ts';
import { wipeBytes } from '../../common/bytes.ts';
import { BackupError } from '../../common/errors.ts';
import { isBytes } from '../../common/realms.ts';
import { hkdf, KEY_BYTES } from '../format/derivation.ts';
import { DEFAULT_SCRYPT_COST, passphraseKey, type ScryptCost } from './scrypt.ts';

/**
 * Wraps the key of a repository in a way of its own: a key management service, a hardware token, an operating
 * system's keychain.
 *
 * @public
 */
export interface KeyProvider {
  /**
   * Kept in the key slot in the clear, and must be the same whenever that slot is opened. It names the kind of
   * provider, and may name the master key; not a secret.
   */
  readonly id: string;
  /**
   * Makes of a repository's key, 32 bytes, what a key slot stores: 1 byte to 16 KiB. The array is zeroed once the
   * call has settled. A `BackupError` is passed on as it is; any other failure, and any other answer, is `KEY_REFUSED`.
   * A call that does not heed the signal is left behind when it aborts.
   */
  wrap(key: Uint8Array, options?: AbortOptions): Promise<Uint8Array>;
  /**
   * The key again. A `BackupError` of another code than `KEY_REFUSED` is passed on as it is (a service that can't be
   * reached, say); any other failure, and any answer but 32 bytes, is taken for a refusal. A call that does not heed the
   * signal is left behind when it aborts.
   */
  unwrap(wrapped: Uint8Array, options?: AbortOptions): Promise<Uint8Array>;
}

/**
 * What a repository is unlocked with.
 *
 * - `passphrase`: text that is not empty. Its Unicode form does not matter. Bytes are UTF-8, for callers who want to
 *   zero them afterwards
 * - `key`: 32 bytes of good randomness, not a passphrase
 * - `provider`: a key provider of the host wraps the key
 *
 * @public
 */
export type Unlock =
  | {
      /** Text that is not empty, or its UTF-8 bytes. */
      passphrase: string | Uint8Array;
    }
  | {
      /** 32 bytes. */
      key: Uint8Array;
    }
  | {
      /** Wraps and unwraps the repository's key. */
      provider: KeyProvider;
    };

export const SLOT_KINDS = ['passphrase', 'key', 'provider'] as const;

export type SlotKind = (typeof SLOT_KINDS)[number];

/** An {@link Unlock}, checked, with the passphrase as the bytes that scrypt takes. */
export type CheckedUnlock =
  | { readonly kind: 'passphrase'; readonly passphrase: Uint8Array }
  | { readonly kind: 'key'; readonly key: Uint8Array }
  | { readonly kind: 'provider'; readonly provider: KeyProvider };

const KNOWN = { passphrase: true, key: true, provider: true } as const;

/**
 * @param name - how errors call the argument
 * @throws TypeError where it is none of the three, or empty, or of a wrong length; the message never quotes it
 */
export function checkUnlock(unlock: Unlock, name = 'unlock'): CheckedUnlock {
  const choices = `${name} must be an object with exactly one of passphrase, key and provider`;
  // Before anything describes it: a bare string is a passphrase at the wrong place.
  if (typeof unlock !== 'object') throw new TypeError(choices);
  const { passphrase, key, provider } = optionsArgument<Partial<Record<SlotKind, unknown>>>(name, unlock, KNOWN);
  const given = [passphrase, key, provider].filter((value) => value !== undefined);
  if (given.length !== 1) throw new TypeError(choices);
  if (passphrase !== undefined) {
    return { kind: 'passphrase', passphrase: passphraseBytes(passphrase, `${name}.passphrase`) };
  }
  if (provider !== undefined) return { kind: 'provider', provider: checkProvider(provider, `${name}.provider`) };
  if (typeof key === 'string' || bytesArgument(`${name}.key`, key).length !== KEY_BYTES) {
    throw new TypeError(`${name}.key must be a Uint8Array of ${KEY_BYTES} bytes`);
  }
  return { kind: 'key', key: key as Uint8Array };
}

/** UTF-8 in NFC, so that a passphrase opens on every system, however its keyboard composes letters. */
function passphraseBytes(passphrase: unknown, name: string): Uint8Array {
  let text: string;
  if (typeof passphrase === 'string') text = passphrase;
  else {
    if (typeof passphrase !== 'object') throw new TypeError(`${name} must be a string or a Uint8Array`);
    const bytes = bytesArgument(name, passphrase);
    if (bytes.length > 0 && bytes.every((byte) => byte < 0x80)) return bytes; // Never becomes a string.
    try {
      text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new TypeError(`${name} must be UTF-8 where it is given as bytes`);
    }
  }
  if (text.length === 0) throw new TypeError(`${name} must not be empty`);
  // Encoding would turn every lone surrogate into the same character, so that other passphrases opened the slot too.
  if (!text.isWellFormed()) throw new TypeError(`${name} must be well-formed Unicode`);
  return new TextEncoder().encode(text.normalize('NFC'));
}

/** A provider may be an instance of any class, so names that are not known here are its own. */
function checkProvider(provider: unknown, name: string): KeyProvider {
  if (typeof provider !== 'object' || provider === null) throw new TypeError(`${name} must be an object`);
  const { id, wrap, unwrap } = provider as Partial<KeyProvider>;
  textArgument(`${name}.id`, id);
  functionArgument(`${name}.wrap`, wrap);
  functionArgument(`${name}.unwrap`, unwrap);
  return provider as KeyProvider;
}

/** Calls `work` with the key that wraps the repository's key, and zeroes that key, also after an abort. */
export async function withWrappingKey<T>(
  unlock: CheckedUnlock,
  salt: Uint8Array,
  cost: ScryptCost | undefined,
  { signal }: AbortOptions,
  work: (kek: Uint8Array) => T,
): Promise<T> {
  const making =
    unlock.kind === 'passphrase'
      ? passphraseKey(unlock.passphrase, salt, cost ?? DEFAULT_SCRYPT_COST)
      : Promise.resolve(hkdf(secretOf(unlock), salt, 'cow1 raw key'));
  let kek: Uint8Array;
  try {
    kek = await abortable(making, signal);
  } catch (error) {
    making.then(wipeBytes, () => {});
    throw error;
  }
  try {
    return work(kek);
  } finally {
    wipeBytes(kek);
  }
}

/** The secret that the wrapping key is made of. */
export function secretOf(unlock: CheckedUnlock): Uint8Array {
  return unlock.kind === 'passphrase' ? unlock.passphrase : (unlock as { key: Uint8Array }).key;
}

/** A provider is the host's code: its calls may fail, return anything, or never settle. */

/** Most bytes that a provider makes of a key. */
export const MAX_WRAPPED_BYTES = 16 * 1024;

/** @throws `KEY_REFUSED`, a `BackupError` of the provider's, `signal.reason` */
export async function wrapByProvider(
  provider: KeyProvider,
  repositoryKey: Uint8Array,
  options: AbortOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  const given = Uint8Array.from(repositoryKey);
  const wrapped = await answerOf('wrap', options, async () => {
    try {
      const answer: unknown = await provider.wrap(given, options);
      // A copy before `given` is zeroed: they may be one array.
      return isBytes(answer) ? Uint8Array.from(answer) : answer;
    } finally {
      wipeBytes(given); // Also after an abort, when the answer comes late.
    }
  });
  if (isBytes(wrapped) && wrapped.length > 0 && wrapped.length <= MAX_WRAPPED_BYTES) return Uint8Array.from(wrapped);
  throw refused(`its wrap gave ${sizeOf(wrapped)} instead of 1 to ${MAX_WRAPPED_BYTES} bytes`);
}

/** @throws as {@link wrapByProvider} */
export async function unwrapByProvider(
  provider: KeyProvider,
  wrapped: Uint8Array,
  options: AbortOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  const key = await answerOf('unwrap', options, async (): Promise<unknown> => provider.unwrap(wrapped, options));
  if (!isBytes(key) || key.length !== KEY_BYTES) throw refused(`its unwrap gave ${sizeOf(key)} instead of a key`);
  return Uint8Array.from(key);
}

async function answerOf(call: string, { signal }: AbortOptions, work: () => Promise<unknown>): Promise<unknown> {
  signal?.throwIfAborted();
  try {
    return await abortable(work(), signal);
  } catch (cause) {
    signal?.throwIfAborted();
    if (BackupError.is(cause)) throw cause;
    throw refused(`its ${call} failed`, cause);
  }
}

/** The kind and size of an answer, without its content: it may be half a key. */
function sizeOf(answer: unknown): string {
  if (isBytes(answer)) return `${answer.length} bytes`;
  return typeof answer === 'string' ? 'a string' : described(answer);
}

function refused(how: string, cause?: unknown): BackupError {
  return new BackupError('KEY_REFUSED', `the key provider did not do what was asked: ${how}`, { cause });
}
