import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { KEYS_PREFIX } from '../format/object-keys.ts';
import { decodeKeySlot, type KeySlot, type OpenedSlot, openKeySlot } from './key-slot.ts';
import { DEFAULT_SCRYPT_COST, scryptWork } from './scrypt.ts';
import type { CheckedUnlock } from './unlock.ts';

/** A slot that is there to be read. */
export interface StoredSlot {
  /** 16 hex digits. */
  readonly name: string;
  /** Its bytes. Asked for only when the slots before it did not open. */
  read(options: AbortOptions): Promise<Uint8Array>;
}

/** What {@link unlockRepository} looks at. */
export interface UnlockRequest extends AbortOptions {
  /** Slots of other repositories stay closed. `undefined` where `format` is gone: then the slot that opens says. */
  readonly repositoryId: Uint8Array | undefined;
  readonly slots: readonly StoredSlot[];
  /** The slot that the `format` object names. */
  readonly hint: string | undefined;
  readonly unlock: CheckedUnlock;
}

/** The opened slot, and which one it is. */
export interface UnlockedRepository extends OpenedSlot {
  /** The slot's name. */
  readonly slot: string;
}

/** What one slot of the usual cost takes. A call of a provider, which may be charged for, counts as one. */
const USUAL_WORK = scryptWork(DEFAULT_SCRYPT_COST);
/**
 * What all slots together may take, some 20 seconds: slots are objects that a stranger can put there, and each of them asks
 * for work before a reader can tell it from an honest one.
 */
const MAX_WORK = 64 * USUAL_WORK;

/**
 * The key of an encrypted repository, out of the first slot that opens: the hinted one, then the others as they are
 * given, those that cost more than usual last. One at a time: each passphrase slot takes as much memory as its parameters
 * say.
 *
 * A slot that is damaged, was removed meanwhile or can't be read now does not keep the others from opening. If none
 * opens, the error is the one that explains most: what kept a slot from being tried; else `KEY_REFUSED`; else what is
 * wrong with the slots.
 *
 * @throws `KEY_REFUSED`; `KEY_SLOT_CORRUPT`; `REPOSITORY_UNSUPPORTED`; `LIMIT_EXCEEDED` when there are slots left after as
 * much work as may be spent; what reading and providers give
 */
export async function unlockRepository(request: UnlockRequest): Promise<UnlockedRepository> {
  const { repositoryId, hint, unlock, signal } = request;
  const failures = new Failures();
  const costly: { readonly slot: KeySlot; readonly name: string; readonly work: number }[] = [];
  let left = MAX_WORK;
  const opened = async (slot: KeySlot, name: string): Promise<UnlockedRepository | undefined> => {
    const work = workOf(slot, unlock);
    left -= work;
    try {
      // @mutation work-is-bounded
      if (left < 0) throw tooMuch();
      return { ...(await openKeySlot(slot, unlock, { repositoryId, slot: name }, { signal })), slot: name };
    } catch (error) {
      signal?.throwIfAborted();
      failures.add(error);
      return undefined;
    }
  };
  for (const { name, read } of hintedFirst(request.slots, hint)) {
    signal?.throwIfAborted();
    let slot: KeySlot;
    try {
      slot = decodeKeySlot(await read({ signal }), name);
    } catch (error) {
      signal?.throwIfAborted();
      failures.add(error);
      continue;
    }
    const work = workOf(slot, unlock);
    if (work > USUAL_WORK && name !== hint) {
      costly.push({ slot, name, work });
      continue;
    }
    const found = await opened(slot, name);
    if (found !== undefined) return found;
  }
  for (const { slot, name } of costly.sort((a, b) => a.work - b.work)) {
    const found = await opened(slot, name);
    if (found !== undefined) return found;
  }
  throw failures.verdict();
}

function workOf(slot: KeySlot, unlock: CheckedUnlock): number {
  if (slot.kind !== unlock.kind || slot.kind === 'key') return 0;
  return slot.kind === 'passphrase' ? scryptWork(slot.cost) : USUAL_WORK;
}

function hintedFirst(slots: readonly StoredSlot[], hint: string | undefined): StoredSlot[] {
  const isHinted = ({ name }: StoredSlot) => name === hint;
  return [...slots.filter(isHinted), ...slots.filter((slot) => !isHinted(slot))];
}

function tooMuch(): BackupError {
  const message = 'the key slots would take more work to try than is allowed: remove the key slots that are not yours';
  return new BackupError('LIMIT_EXCEEDED', message);
}

class Failures {
  #isEmpty = true;
  #untried: unknown;
  readonly #refusals: unknown[] = [];
  #damage: unknown;

  add(error: unknown): void {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return; // Removed since it was listed.
    this.#isEmpty = false;
    if (BackupError.is(error, 'KEY_REFUSED')) this.#refusals.push(error);
    else if (BackupError.is(error, 'KEY_SLOT_CORRUPT') || BackupError.is(error, 'REPOSITORY_UNSUPPORTED'))
      this.#damage ??= error;
    else this.#untried ??= error;
  }

  verdict(): unknown {
    if (this.#isEmpty) {
      const advice = `restore the objects under ${KEYS_PREFIX} from a copy of the store`;
      return new BackupError(
        'KEY_REFUSED',
        `there is no key slot, without which nothing opens the repository: ${advice}`,
      );
    }
    if (this.#untried !== undefined) return this.#untried;
    if (this.#refusals.length === 0 && this.#damage !== undefined) return this.#damage;
    const reasons = this.#damage === undefined ? this.#refusals : [...this.#refusals, this.#damage];
    const cause = reasons.length <= 1 ? reasons[0] : new AggregateError(reasons);
    const more = this.#damage === undefined ? '' : ', and not all of them can be read: the cause says why';
    return new BackupError('KEY_REFUSED', `no key slot of this repository opens with what was given${more}`, { cause });
  }
}
