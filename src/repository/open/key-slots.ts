import { type AbortOptions, abortOptionsArgument, pastAbort } from '../../common/abort.ts';
import { textArgument } from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { withRetries } from '../../targets/decorators/with-retries.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { decodeKeySlot, makeKeySlot, newSlotName, openKeySlot } from '../crypto/key-slot.ts';
import type { ScryptCost } from '../crypto/scrypt.ts';
import { checkUnlock, type Unlock } from '../crypto/unlock.ts';
import { wipeBytes } from '../format/derivation.ts';
import type { LogState } from '../format/log-state.ts';
import { slotKey } from '../format/object-keys.ts';
import type { Decision } from '../log/entries/decision.ts';
import { decideSlotAddition } from '../log/entries/keys.ts';
import { createObject, type Patience } from './create-object.ts';
import { examineSlot } from './examine-slot.ts';
import { listSlots, recordedSlots, withNamed } from './stored-slots.ts';

/*
 * Key slots are objects, and which of them may go is decided in the log: two hosts that each remove one of the last two
 * see both objects, but only one of their entries comes first, and the other is decided again on a state that names what
 * the first removed. So the entry comes before the deletion, and what counts as left are slots that are there, whole, of
 * this repository's key, and that no entry has removed. Nothing else ever deletes a slot; a slot that was stored and not
 * recorded, because its host died between the two, opens as any other does. But nobody would miss it: `verify` names it.
 */

/** A way to unlock a repository. @public */
export interface KeySlotInfo {
  /** 16 hex digits. */
  readonly id: string;
  /** What opens it; `undefined` where the slot can't be read. */
  readonly kind: 'passphrase' | 'key' | 'provider' | undefined;
  /**
   * What is wrong with it: `KEY_SLOT_CORRUPT` where a bit of it is not as it was written, or it is a slot of another
   * repository; `REPOSITORY_UNSUPPORTED` for one that a newer program made.
   */
  readonly error: BackupError | undefined;
}

/**
 * The ways to unlock a repository. All of them wrap the same key, which never changes: to change a passphrase is to add
 * the new one and to remove the old; a person who has kept a copy of the old slot can still open it.
 *
 * @public
 */
export interface KeySlots {
  /**
   * The id of the slot that this repository was opened with, or created with; `undefined` in a repository without encryption.
   * It does not change: also not when that slot is removed.
   */
  readonly current: string | undefined;
  /** The slots that are there, also damaged ones. A repository without encryption has none. @throws `CLOSED`, and what the target gives */
  list(options?: AbortOptions): Promise<readonly KeySlotInfo[]>;
  /**
   * Adds another way to unlock the repository, and tries that it does before it is stored. After a failure the slot may be
   * there all the same: `list` says, and `verify` whether the log has it.
   *
   * @returns the slot's id
   * @throws TypeError; `NOT_ENCRYPTED`, `READ_ONLY`, `CLOSED`, `KEY_REFUSED` when what a provider wrapped does not open
   * again, `KEY_SLOT_NOT_FOUND` when another host removed the slot meanwhile, `COMMIT_UNKNOWN`, and what the target and the
   * provider give
   */
  add(unlock: Unlock, options?: AbortOptions): Promise<string>;
  /**
   * Removes a way to unlock the repository, also a damaged one or one that `verify` misses, and finishes removals that were
   * cut short. After a failure it may be called again.
   *
   * @throws TypeError; `KEY_SLOT_NOT_FOUND`; `LAST_KEY_SLOT` when no other whole slot is left, whoever removed it;
   * `NOT_ENCRYPTED`, `READ_ONLY`, `CLOSED`, `COMMIT_UNKNOWN`, and what the target gives
   */
  remove(id: string, options?: AbortOptions): Promise<void>;
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

/** See {@link KeySlots.add}. @param tuning - `cost`, for tests only: what a passphrase costs */
export async function addKeySlot(
  context: RepositoryContext,
  unlock: Unlock,
  options: AbortOptions = {},
  { cost, patience }: { readonly cost?: ScryptCost | undefined; readonly patience?: Patience | undefined } = {},
): Promise<string> {
  const checked = checkUnlock(unlock);
  const signal = abortOptionsArgument(options);
  const { format } = context;
  // A copy: the repository may be closed, and its keys zeroed, while a provider takes its time.
  const key = Uint8Array.from(repositoryKeyOf(context));
  try {
    const slot = newSlotName(key, checked);
    const bytes = await makeKeySlot(key, checked, { format, slot }, { signal }, cost);
    // Somebody may be about to remove the only other one.
    const { repositoryId } = format;
    wipeBytes((await openKeySlot(decodeKeySlot(bytes), checked, { repositoryId, slot }, { signal })).key);
    const createOnly = format.mode === 'shared';
    const target = withRetries(context.target, patience);
    if (!(await createObject(target, slotKey(slot), bytes, { createOnly, signal, patience }))) {
      // Comes once in 2^64.
      throw new BackupError('OBJECT_EXISTS', `${slotKey(slot)} is there already, and is another's: add the key again`);
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
  // From here on it is removed, so nothing stops short of the objects but a target that does not answer after an abort.
  await pastAbort(
    signal,
    (givenUp) => deleteRemovedSlots(context, id, givenUp),
    () => signal?.reason,
  );
}

/** Those of removals that were cut short too. */
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
  // A slot that is recorded can be removed also where somebody has deleted its object: `verify` misses it until then.
  const recorded = recordedSlots(format, state);
  const slots = withNamed(target, await listSlots(target, { signal }), recorded);
  if (!recorded.has(id) && !slots.some(({ name }) => name === id)) {
    return new BackupError('KEY_SLOT_NOT_FOUND', `there is no key slot ${JSON.stringify(id.slice(0, 40))}`);
  }
  if (removedSlots.has(id)) return undefined; // Only its object is left.
  for (const slot of slots) {
    if (slot.name === id || removedSlots.has(slot.name)) continue;
    // Being there is not enough: every bit of it must be as it was written, and its kind one that opens here.
    const examined = await examineSlot(context, slot, { signal });
    // @mutation another-slot-is-whole
    if (examined !== undefined && examined.error === undefined) return { type: 'keys', added: [], removed: [id] };
  }
  return new BackupError(
    'LAST_KEY_SLOT',
    'this is the last undamaged key slot, and without it nobody could open the repository: add another one first',
  );
}

function repositoryKeyOf({ keys }: RepositoryContext): Uint8Array {
  const key = keys.repositoryKey;
  if (key !== undefined) return key;
  throw new BackupError('NOT_ENCRYPTED', 'this repository was made without encryption, and has no key to unlock');
}
