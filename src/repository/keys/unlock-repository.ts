import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { openKeySlot } from './key-slot.ts';
import { checkUnlock, type Unlock } from './unlock.ts';

/** A slot that is there to be read. */
export interface StoredSlot {
  /** 16 hex digits. */
  readonly name: string;
  /** Its bytes. Asked for only when the slots before it did not open. */
  read(options: AbortOptions): Promise<Uint8Array>;
}

/** What {@link unlockRepository} looks at. */
export interface UnlockRequest extends AbortOptions {
  readonly repositoryId: Uint8Array;
  readonly slots: readonly StoredSlot[];
  /** The slot that the `format` object names. */
  readonly hint: string | undefined;
  readonly unlock: Unlock | undefined;
}

/**
 * The key of an encrypted repository, out of the first slot that opens: the hinted one, then the others as they are
 * given. One at a time: each passphrase slot takes as much memory as its parameters say.
 *
 * A slot that is damaged, was removed meanwhile or can't be read now does not keep the others from opening. If none
 * opens, the error is the one that tells most: what kept a slot from being tried; else `KEY_REFUSED`; else what is
 * wrong with the slots.
 *
 * @throws TypeError for an `unlock` that is none; `KEY_REQUIRED` without one; `KEY_REFUSED`; `KEY_SLOT_CORRUPT`;
 * `REPOSITORY_UNSUPPORTED`; what reading and providers give
 */
export async function unlockRepository(request: UnlockRequest): Promise<Uint8Array<ArrayBuffer>> {
  const { repositoryId, hint, signal } = request;
  if (request.unlock === undefined) {
    throw new BackupError('KEY_REQUIRED', 'this repository is encrypted: give a passphrase, a key or a provider');
  }
  const unlock = checkUnlock(request.unlock);
  const failures = new Failures();
  for (const slot of hintedFirst(request.slots, hint)) {
    signal?.throwIfAborted();
    try {
      const bytes = await slot.read({ signal });
      return await openKeySlot(bytes, unlock, { repositoryId, slot: slot.name }, { signal });
    } catch (error) {
      signal?.throwIfAborted();
      failures.add(error);
    }
  }
  throw failures.verdict();
}

function hintedFirst(slots: readonly StoredSlot[], hint: string | undefined): StoredSlot[] {
  const isHinted = ({ name }: StoredSlot) => name === hint;
  return [...slots.filter(isHinted), ...slots.filter((slot) => !isHinted(slot))];
}

class Failures {
  #untried: unknown;
  readonly #refusals: unknown[] = [];
  #damage: unknown;

  add(error: unknown): void {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return; // Removed since it was listed.
    if (BackupError.is(error, 'KEY_REFUSED')) this.#refusals.push(error);
    else if (BackupError.is(error, 'KEY_SLOT_CORRUPT') || BackupError.is(error, 'REPOSITORY_UNSUPPORTED'))
      this.#damage ??= error;
    else this.#untried ??= error;
  }

  verdict(): unknown {
    if (this.#untried !== undefined) return this.#untried;
    if (this.#refusals.length === 0 && this.#damage !== undefined) return this.#damage;
    const cause = this.#refusals.length <= 1 ? this.#refusals[0] : new AggregateError(this.#refusals);
    return new BackupError('KEY_REFUSED', 'no key slot of this repository opens with what was given', { cause });
  }
}
