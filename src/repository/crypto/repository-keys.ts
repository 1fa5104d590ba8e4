import { createHash } from 'node:crypto';
import { wipeBytes } from '../../common/bytes.ts';
import { BackupError } from '../../common/errors.ts';
import { contentId, hkdf, hmac, KEY_BYTES, REPOSITORY_ID_BYTES } from '../format/derivation.ts';
import type { RecordIds, RecordKind } from '../format/record.ts';

/**
 * The keys of a repository. This folder derives them (this file), wraps them in key slots (`key-slot.ts`), and opens slots with
 * what the host gives (`unlock.ts`, `unlock-repository.ts`). It reads and writes no store.
 */

interface Secrets {
  readonly repository: Uint8Array<ArrayBuffer>;
  readonly contentId: Uint8Array<ArrayBuffer>;
  readonly recordId: Uint8Array<ArrayBuffer>;
  readonly record: Uint8Array<ArrayBuffer>;
  readonly footer: Uint8Array<ArrayBuffer>;
  readonly log: Uint8Array<ArrayBuffer>;
}

/**
 * The keys that `docs/FORMAT.md`, section 4, derives from a repository's key, and what takes their part in a plain repository.
 * Keys are private fields, so that neither an error nor an inspected object shows them. What the getters
 * give are the keys themselves, not copies: {@link RepositoryKeys.wipe} zeroes those too.
 *
 * @throws `CLOSED` from everything after {@link RepositoryKeys.wipe}: anybody can open what a zeroed key has sealed
 */
export class RepositoryKeys implements RecordIds {
  /** Whether records, footers and log entries are encrypted. */
  readonly encrypted: boolean;
  readonly #secrets: Secrets | undefined;
  #wiped = false;

  private constructor(secrets: Secrets | undefined) {
    this.#secrets = secrets;
    this.encrypted = secrets !== undefined;
  }

  /** The keys of a repository without encryption. */
  static plain(): RepositoryKeys {
    return new RepositoryKeys(undefined);
  }

  /** @param repositoryKey - 32 bytes, copied */
  static encrypted(repositoryKey: Uint8Array, repositoryId: Uint8Array): RepositoryKeys {
    if (repositoryKey.length !== KEY_BYTES) throw new TypeError(`a repository key has ${KEY_BYTES} bytes`);
    if (repositoryId.length !== REPOSITORY_ID_BYTES) {
      throw new TypeError(`a repository id has ${REPOSITORY_ID_BYTES} bytes`);
    }
    const derived = (label: string) => hkdf(repositoryKey, repositoryId, label);
    return new RepositoryKeys({
      repository: Uint8Array.from(repositoryKey),
      contentId: derived('cow1 content id'),
      recordId: derived('cow1 record id'),
      record: derived('cow1 record key'),
      footer: derived('cow1 footer key'),
      log: derived('cow1 log key'),
    });
  }

  /** The key that key slots wrap. It is `undefined` in a plain repository, like all of these keys. */
  get repositoryKey(): Uint8Array | undefined {
    return this.#live()?.repository;
  }

  get contentIdKey(): Uint8Array | undefined {
    return this.#live()?.contentId;
  }

  get recordKey(): Uint8Array | undefined {
    return this.#live()?.record;
  }

  get footerKey(): Uint8Array | undefined {
    return this.#live()?.footer;
  }

  get logKey(): Uint8Array | undefined {
    return this.#live()?.log;
  }

  /** 32 bytes, of a block that does not read as zeroes. */
  contentId(block: Uint8Array): Uint8Array<ArrayBuffer> {
    return contentId(this.contentIdKey, block);
  }

  recordId(kind: RecordKind, identityPart: Uint8Array): Uint8Array<ArrayBuffer> {
    const secrets = this.#live();
    const kindByte = Uint8Array.of(kind);
    if (secrets !== undefined) return hmac(secrets.recordId, kindByte, identityPart);
    return new Uint8Array(createHash('sha256').update('cow1 record id').update(kindByte).update(identityPart).digest());
  }

  /** Zeroes every key. Idempotent. */
  wipe(): void {
    this.#wiped = true;
    if (this.#secrets !== undefined) wipeBytes(...Object.values(this.#secrets));
  }

  #live(): Secrets | undefined {
    if (this.#wiped) throw new BackupError('CLOSED', 'the keys of this repository have been wiped');
    return this.#secrets;
  }
}
