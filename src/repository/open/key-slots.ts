import { type AbortOptions, abortOptionsArgument, pastAbort } from '../../common/abort.ts';
import { textArgument } from '../../common/arguments.ts';
import { wipeBytes } from '../../common/bytes.ts';
import { BackupError } from '../../common/errors.ts';
import { withRetries } from '../../targets/decorators/with-retries.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { decodeKeySlot, makeKeySlot, newSlotName, openKeySlot } from '../crypto/key-slot.ts';
import type { ScryptCost } from '../crypto/scrypt.ts';
import { checkUnlock, type Unlock } from '../crypto/unlock.ts';
import type { LogState } from '../format/log-state.ts';
import { slotKey } from '../format/object-keys.ts';
import type { Decision } from '../log/entries/decision.ts';
import { decideSlotAddition } from '../log/entries/keys.ts';
import { createObject, type Pacing } from './create-object.ts';
import { examineSlot, listSlots, recordedSlots, withNamed } from './stored-slots.ts';

/*
 * Key slots are objects, but the log decides which of them may be removed (decision 037). Two hosts that each remove one of the
 * last two slots see both objects; but one of their entries comes first, and the other is decided again on a state that
 * names the removed slot. So the entry comes before the deletion, and a slot counts as left if its object is there, it is
 * undamaged and of this repository's key, and no entry has removed it. Nothing else deletes a slot. A slot that was stored but
 * not recorded, because its host died in between, opens as any other; `verify` names it.
 */

/** A way to unlock a repository. @public */
export interface KeySlotInfo {
  /** 16 hex digits. */
  readonly id: string;
  /** What opens it; `undefined` if the slot can't be read. */
  readonly kind: 'passphrase' | 'key' | 'provider' | undefined;
  /**
   * What is wrong with it: `KEY_SLOT_CORRUPT` if it is damaged or a slot of another repository; `REPOSITORY_UNSUPPORTED` if a
   * newer program made it.
   */
  readonly error: BackupError | undefined;
}

/**
 * The key slots of a repository. Each wraps the same repository key, which never changes. To change a passphrase, add the new
 * one and remove the slot of the old one. A person who has kept a copy of the old slot can still open the repository with the
 * old passphrase.
 *
 * @example
 * ```ts
 * import { BackupRepository, type CloudTarget } from 'cow-cloud-backup';
 *
 * async function changePassphrase(target: CloudTarget, from: string, to: string) {
 *   await using repository = await BackupRepository.open(target, { unlock: { passphrase: from } });
 *   const old = repository.keys.current;
 *   await repository.keys.add({ passphrase: to });
 *   if (old !== undefined) await repository.keys.remove(old);
 * }
 * ```
 * @public
 */
export interface KeySlots {
  /**
   * The id of the slot that this repository was opened or created with; `undefined` in a repository without encryption. It
   * stays the same even if that slot is removed.
   */
  readonly current: string | undefined;
  /** All slots, damaged ones included. A repository without encryption has none. @throws `CLOSED`, and what the target throws */
  list(options?: AbortOptions): Promise<readonly KeySlotInfo[]>;
  /**
   * Adds a slot for another secret, after testing that the secret opens it. After a failure the slot may exist all the same:
   * `list` shows it, and `verify` says whether the log has it.
   *
   * @returns the id of the slot
   * @throws TypeError; `NOT_ENCRYPTED`, `READ_ONLY`, `CLOSED`; `KEY_REFUSED` if a provider can't unwrap what it has wrapped;
   * `KEY_SLOT_NOT_FOUND` if another host has removed the slot meanwhile; `COMMIT_UNKNOWN`; what the target and the provider
   * throw
   */
  add(unlock: Unlock, options?: AbortOptions): Promise<string>;
  /**
   * Removes a slot, also a damaged one or one that `verify` reports as missing, and finishes removals that were cut short.
   * After a failure it may be called again.
   *
   * @throws TypeError; `KEY_SLOT_NOT_FOUND`; `LAST_KEY_SLOT` if no other undamaged slot would be left; `NOT_ENCRYPTED`,
   * `READ_ONLY`, `CLOSED`, `COMMIT_UNKNOWN`, and what the target throws
   */
  remove(id: string, options?: AbortOptions): Promise<void>;
}

/** The key slots of an open repository. @param check - throws if the repository can't be used for this now */
export function keySlotsOf(context: RepositoryContext, check: (isWriting: boolean) => void): KeySlots {
  return {
    current: context.keySlot,
    list: async (options) => {
      check(false);
      return listKeySlots(context, options);
    },
    add: async (unlock, options) => {
      check(true);
      return addKeySlot(context, unlock, options);
    },
    remove: async (id, options) => {
      check(true);
      await removeKeySlot(context, id, options);
    },
  };
}

/** See {@link KeySlots.list}. */
export async function listKeySlots(context: RepositoryContext, options: AbortOptions = {}): Promise<KeySlotInfo[]> {
  const signal = abortOptionsArgument(options);
  if (!context.format.encrypted) return [];
  const infos: KeySlotInfo[] = [];
  for (const slot of await listSlots(context.target, { signal })) {
    const examined = await examineSlot(context, slot, { signal });
    if (examined !== undefined) infos.push({ id: slot.name, ...examined });
  }
  return infos;
}

/** See {@link KeySlots.add}. The last parameter is for tests: what a passphrase costs, and how retries are paced. */
export async function addKeySlot(
  context: RepositoryContext,
  unlock: Unlock,
  options: AbortOptions = {},
  { cost, pacing }: { readonly cost?: ScryptCost | undefined; readonly pacing?: Pacing | undefined } = {},
): Promise<string> {
  const checked = checkUnlock(unlock);
  const signal = abortOptionsArgument(options);
  const { format } = context;
  // A copy, because the repository may be closed, and its keys zeroed, while a provider is working.
  const key = Uint8Array.from(repositoryKeyOf(context));
  try {
    const slot = newSlotName(key, checked);
    const bytes = await makeKeySlot(key, checked, { format, slot }, { signal }, cost);
    // The only other slot may be removed as soon as this one exists, so test that it opens.
    const { repositoryId } = format;
    wipeBytes((await openKeySlot(decodeKeySlot(bytes, slot), checked, { repositoryId, slot }, { signal })).key);
    const createOnly = format.mode === 'shared';
    const target = withRetries(context.target, pacing);
    if (!(await createObject(target, slotKey(slot), bytes, { createOnly, signal, pacing }))) {
      throw new BackupError('OBJECT_EXISTS', `${slotKey(slot)} exists already and is another slot: add the key again`);
    }
    await context.log.append((state) => decideSlotAddition(state, slot), { signal });
    return slot;
  } finally {
    wipeBytes(key);
  }
}

/** See {@link KeySlots.remove}. */
export async function removeKeySlot(context: RepositoryContext, id: string, options: AbortOptions = {}): Promise<void> {
  textArgument('id', id);
  const signal = abortOptionsArgument(options);
  repositoryKeyOf(context);
  await context.log.append((state) => decideRemoval(context, state, id, signal), { signal });
  // The slot counts as removed now, so its object is deleted even after an abort, unless the target does not answer.
  await pastAbort(
    signal,
    (givenUp) => deleteRemovedSlots(context, id, givenUp),
    () => signal?.reason,
  );
}

/** Deletes the objects of all removed slots, those of removals that were cut short included. */
async function deleteRemovedSlots({ target, log }: RepositoryContext, id: string, signal: AbortSignal): Promise<void> {
  for (const { name } of withNamed(target, await listSlots(target, { signal }), [id])) {
    if (log.state.removedSlots.has(name)) await target.delete(slotKey(name), { signal });
  }
}

async function decideRemoval(
  context: RepositoryContext,
  state: LogState,
  id: string,
  signal: AbortSignal | undefined,
): Promise<Decision> {
  const { target, format } = context;
  const { removedSlots } = state;
  // A recorded slot can be removed even if its object was deleted: until then `verify` reports it as missing.
  const recorded = recordedSlots(format, state);
  const slots = withNamed(target, await listSlots(target, { signal }), recorded);
  if (!recorded.has(id) && !slots.some(({ name }) => name === id)) {
    return new BackupError('KEY_SLOT_NOT_FOUND', `there is no key slot ${JSON.stringify(id.slice(0, 40))}`);
  }
  if (removedSlots.has(id)) return undefined; // Only its object is left.
  for (const slot of slots) {
    if (slot.name === id || removedSlots.has(slot.name)) continue;
    // An object is not enough: the slot must be undamaged, and of a kind that this program can open.
    const examined = await examineSlot(context, slot, { signal });
    // @mutation another-slot-is-whole
    if (examined !== undefined && examined.error === undefined) return { type: 'keys', added: [], removed: [id] };
  }
  return new BackupError(
    'LAST_KEY_SLOT',
    'this is the last undamaged key slot, and without it the repository could not be opened any more: add another one first',
  );
}

function repositoryKeyOf({ keys }: RepositoryContext): Uint8Array {
  const key = keys.repositoryKey;
  if (key !== undefined) return key;
  throw new BackupError('NOT_ENCRYPTED', 'this repository was created without encryption, so it has no key slots');
}
