import type { AbortOptions } from '../../common/abort.ts';
import { textArgument } from '../../common/arguments.ts';
import { KEY_BYTES } from './derivation.ts';

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
   * call has settled.
   */
  wrap(key: Uint8Array, options?: AbortOptions): Promise<Uint8Array>;
  /**
   * The key again. A `BackupError` of another code than `KEY_REFUSED` is passed on as it is (a service that can't be
   * reached, say); anything else that it rejects with is taken for a refusal.
   */
  unwrap(wrapped: Uint8Array, options?: AbortOptions): Promise<Uint8Array>;
}

/**
 * What a repository is unlocked with.
 *
 * - `passphrase`: text that is not empty. Its Unicode form does not matter. Bytes are UTF-8, for callers who want to
 *   zero them afterwards
 * - `key`: 32 bytes of good randomness, not a passphrase
 * - `provider`: somebody else wraps the key
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

export type SlotKind = 'passphrase' | 'key' | 'provider';

/** An {@link Unlock}, checked, with the passphrase as the bytes that scrypt takes. */
export type CheckedUnlock =
  | { readonly kind: 'passphrase'; readonly passphrase: Uint8Array }
  | { readonly kind: 'key'; readonly key: Uint8Array }
  | { readonly kind: 'provider'; readonly provider: KeyProvider };

const CHOICES = 'unlock takes exactly one of passphrase, key and provider';

/** @throws TypeError where it is none of the three, or empty, or of a wrong length; the message never quotes it */
export function checkUnlock(unlock: Unlock): CheckedUnlock {
  if (typeof unlock !== 'object' || unlock === null) throw new TypeError(CHOICES);
  const { passphrase, key, provider } = unlock as Partial<Record<SlotKind, unknown>>;
  const given = [passphrase, key, provider].filter((value) => value !== undefined);
  if (given.length !== 1) throw new TypeError(CHOICES);
  if (passphrase !== undefined) return { kind: 'passphrase', passphrase: passphraseBytes(passphrase) };
  if (provider !== undefined) return { kind: 'provider', provider: checkProvider(provider) };
  if (!(key instanceof Uint8Array) || key.length !== KEY_BYTES) {
    throw new TypeError(`unlock.key must be a Uint8Array of ${KEY_BYTES} bytes`);
  }
  return { kind: 'key', key };
}

/** UTF-8 in NFC, so that a passphrase opens on every system, however its keyboard composes letters. */
function passphraseBytes(passphrase: unknown): Uint8Array {
  let text: string;
  if (typeof passphrase === 'string') text = passphrase;
  else if (passphrase instanceof Uint8Array) {
    if (passphrase.length > 0 && passphrase.every((byte) => byte < 0x80)) return passphrase; // Never becomes a string.
    try {
      text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(passphrase);
    } catch {
      throw new TypeError('unlock.passphrase must be UTF-8 where it is given as bytes');
    }
  } else throw new TypeError('unlock.passphrase must be a string or a Uint8Array');
  if (text.length === 0) throw new TypeError('unlock.passphrase must not be empty');
  // Encoding would turn every lone surrogate into the same character, so that other passphrases opened the slot too.
  if (!text.isWellFormed()) throw new TypeError('unlock.passphrase must be well-formed Unicode');
  return new TextEncoder().encode(text.normalize('NFC'));
}

function checkProvider(provider: unknown): KeyProvider {
  const { id, wrap, unwrap } = (provider ?? {}) as Partial<KeyProvider>;
  textArgument('unlock.provider.id', id);
  if (typeof wrap !== 'function' || typeof unwrap !== 'function') {
    throw new TypeError('unlock.provider must have wrap and unwrap');
  }
  return provider as KeyProvider;
}
