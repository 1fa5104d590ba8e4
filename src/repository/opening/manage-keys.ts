import type { AbortOptions } from '../../common/abort.ts';
import { textArgument } from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { wipeBytes } from '../keys/derivation.ts';
import { checkKeySlot, decodeKeySlot, makeKeySlot, newSlotName, openKeySlot, type SlotName } from '../keys/key-slot.ts';
import { slotKey } from '../keys/object-keys.ts';
import type { ScryptCost } from '../keys/scrypt.ts';
import { checkUnlock, type Unlock } from '../keys/unlock.ts';
import type { StoredSlot } from '../keys/unlock-repository.ts';
import type { LogState } from '../log/log-state.ts';
import type { Decision } from '../log/log-writer.ts';
import type { RepositoryContext } from '../repository-context.ts';
import { listSlots } from './open-repository.ts';

/*
 * Key slots are objects, and which of them may go is decided in the log: two hosts that each remove one of the last two
 * see both objects, but only one of their entries comes first, and the other is decided again on a state that names what
 * the first removed. So the entry comes before the deletion, and what counts as left are slots that are there, whole, of
 * this repository's key, and that no entry has removed. Nothing else ever deletes a slot; a slot that was stored and not
 * announced, because its host died between the two, is as good as any.
 */

/** A way to unlock a repository. @public */
export interface KeySlotInfo {
  /** 16 hex digits. */
  readonly id: string;
  /** What opens it; `undefined` where the slot can't be read. */
  readonly kind: 'passphrase' | 'key' | 'provider' | undefined;
  /** Why it can't be read: `KEY_SLOT_CORRUPT`, or `REPOSITORY_UNSUPPORTED` for one that a newer version made. */
  readonly error: BackupError | undefined;
}

/**
 * The ways to unlock a repository. All of them wrap the same key, which never changes: to change a passphrase is to add
 * the new one and to remove the old; who has kept a copy of the old slot can still open that.
 *
 * @public
 */
export interface KeySlots {
  /** The slots that are there, also damaged ones. A repository without encryption has none. @throws `CLOSED`, and what the target gives */
  list(options?: AbortOptions): Promise<readonly KeySlotInfo[]>;
  /**
   * Adds another way to unlock the repository, and tries that it does before it is stored. After a failure the slot may be
   * there all the same: `list` says.
   *
   * @returns the slot's id
   * @throws TypeError; `NOT_ENCRYPTED`, `READ_ONLY`, `CLOSED`, `KEY_REFUSED` when what a provider wrapped does not open
   * again, `COMMIT_UNKNOWN`, and what the target and the provider give
   */
  add(unlock: Unlock, options?: AbortOptions): Promise<string>;
  /**
   * Removes a way to unlock the repository, also a damaged one, and finishes removals that were cut short. After a failure
   * it may be called again.
   *
   * @throws TypeError; `KEY_SLOT_NOT_FOUND`; `LAST_KEY_SLOT` when no other whole slot is left, whoever removed it;
   * `NOT_ENCRYPTED`, `READ_ONLY`, `CLOSED`, `COMMIT_UNKNOWN`, and what the target gives
   */
  remove(id: string, options?: AbortOptions): Promise<void>;
}

/** See {@link KeySlots.list}. */
export async function listKeySlots(context: RepositoryContext, options: AbortOptions = {}): Promise<KeySlotInfo[]> {
  if (!context.format.encrypted) return [];
  const infos: KeySlotInfo[] = [];
  for (const slot of await listSlots(context.target, options)) {
    const bytes = await readSlot(slot, options);
    if (bytes !== undefined) infos.push({ id: slot.name, ...described(bytes) });
  }
  return infos;
}

/** See {@link KeySlots.add}. @param options - `cost`, for tests only: what a passphrase costs */
export async function addKeySlot(
  context: RepositoryContext,
  unlock: Unlock,
  options: AbortOptions & { readonly cost?: ScryptCost | undefined } = {},
): Promise<string> {
  const { signal, cost } = options;
  const checked = checkUnlock(unlock);
  const { repositoryId } = context.format;
  // A copy: the repository may be closed, and its keys zeroed, while a provider takes its time.
  const key = Uint8Array.from(repositoryKeyOf(context));
  try {
    const name = { repositoryId, slot: newSlotName() };
    const bytes = await makeKeySlot(key, checked, name, { signal }, cost);
    // Somebody may be about to remove the only other one.
    wipeBytes(await openKeySlot(bytes, checked, name, { signal }));
    await putSlot(context, name, bytes, signal);
    await context.log.append(() => ({ type: 'keys', added: [name.slot], removed: [] }), { signal });
    return name.slot;
  } finally {
    wipeBytes(key);
  }
}

/** See {@link KeySlots.remove}. */
export async function removeKeySlot(
  context: RepositoryContext,
  id: string,
  { signal }: AbortOptions = {},
): Promise<void> {
  textArgument('id', id);
  repositoryKeyOf(context);
  await context.log.append((state) => decideRemoval(context, state, id, signal), { signal });
  // From here on it is removed, so nothing stops short of the objects. Those of removals that were cut short go too.
  const { removedSlots } = context.log.state;
  for (const { name } of await listSlots(context.target, {})) {
    if (removedSlots.has(name)) await context.target.delete(slotKey(name));
  }
}

async function decideRemoval(
  context: RepositoryContext,
  { removedSlots }: Pick<LogState, 'removedSlots'>,
  id: string,
  signal: AbortSignal | undefined,
): Promise<Decision> {
  const slots = await listSlots(context.target, { signal });
  if (!slots.some(({ name }) => name === id)) {
    return new BackupError('KEY_SLOT_NOT_FOUND', `there is no key slot ${JSON.stringify(id.slice(0, 40))}`);
  }
  if (removedSlots.has(id)) return undefined; // Only its object is left.
  for (const slot of slots) {
    if (slot.name === id || removedSlots.has(slot.name)) continue;
    if (await isWhole(context, slot, signal)) return { type: 'keys', added: [], removed: [id] };
  }
  return new BackupError(
    'LAST_KEY_SLOT',
    'without this key slot nobody could open the repository: add another one first',
  );
}

/** Whether a slot is there and commits to this repository's key: what can be known without what opens it. */
async function isWhole(
  context: RepositoryContext,
  slot: StoredSlot,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const bytes = await readSlot(slot, { signal });
  if (bytes === undefined) return false;
  const name = { repositoryId: context.format.repositoryId, slot: slot.name };
  return checkKeySlot(bytes, repositoryKeyOf(context), name) === undefined;
}

/** `undefined` where somebody has removed it since it was listed. */
async function readSlot(slot: StoredSlot, options: AbortOptions): Promise<Uint8Array | undefined> {
  try {
    return await slot.read(options);
  } catch (error) {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return undefined;
    throw error;
  }
}

function described(bytes: Uint8Array): Pick<KeySlotInfo, 'kind' | 'error'> {
  try {
    return { kind: decodeKeySlot(bytes).kind, error: undefined };
  } catch (error) {
    if (!BackupError.is(error)) throw error;
    return { kind: undefined, error };
  }
}

async function putSlot(
  { target, format }: RepositoryContext,
  { slot }: SlotName,
  bytes: Uint8Array<ArrayBuffer>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const key = slotKey(slot);
  try {
    // A copy: after a failure this buffer is not used again, and it is compared with.
    await target.put(key, Uint8Array.from(bytes), { createOnly: format.mode === 'shared', signal });
  } catch (error) {
    // Perhaps its own, after an answer that was lost. A name that is another's comes once in 2^64.
    if (!BackupError.is(error, 'OBJECT_EXISTS')) throw error;
    if (Buffer.compare(await target.get(key, { signal }), bytes) !== 0) throw error;
  }
}

function repositoryKeyOf({ keys }: RepositoryContext): Uint8Array {
  const key = keys.repositoryKey;
  if (key !== undefined) return key;
  throw new BackupError('NOT_ENCRYPTED', 'this repository was made without encryption, and has no key to unlock');
}
