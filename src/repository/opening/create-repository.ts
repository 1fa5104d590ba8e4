import { randomBytes } from 'node:crypto';
import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { CloudTarget } from '../../target/cloud-target.ts';
import { DEFAULT_FAN_OUT, encodeFormat, FORMAT_VERSION, type RepositoryFormat } from '../keys/format-object.ts';
import { makeKeySlot, newSlotName } from '../keys/key-slot.ts';
import { FORMAT_KEY, slotKey } from '../keys/object-keys.ts';
import { checkUnlock, type Unlock } from '../keys/unlock.ts';
import { probeCreateOnly } from '../log/create-only-probe.ts';
import { MeteredTarget } from '../requests/metered-target.ts';

/**
 * Writes what makes a prefix of a target a repository: a key slot, then `format`. Before `format` is there, there is no
 * repository; a slot that a crash leaves behind opens nothing.
 *
 * @throws TypeError; `REPOSITORY_EXISTS`; `SINGLE_WRITER_REQUIRED` where the store can't create atomically and that was
 * not asked for; what the target and a key provider give
 */
export async function createRepository(
  given: CloudTarget,
  options: { readonly encryption: Unlock | 'none'; readonly singleWriter?: boolean | undefined },
  { signal }: AbortOptions = {},
): Promise<void> {
  const target = new MeteredTarget(given);
  const { encryption, singleWriter = false } = options;
  if (encryption === undefined) throw new TypeError("encryption must be chosen: something to unlock with, or 'none'");
  const unlock = encryption === 'none' ? undefined : checkUnlock(encryption);
  if ((await target.stat(FORMAT_KEY, { signal })) !== undefined) throw exists();
  if (!singleWriter) await probeCreateOnly(target, { signal });
  const repositoryId = Uint8Array.from(randomBytes(16));
  const keySlot = unlock && newSlotName();
  if (unlock !== undefined && keySlot !== undefined) {
    const key = randomBytes(32);
    const slot = await makeKeySlot(key, unlock, { repositoryId, slot: keySlot }, { signal });
    key.fill(0);
    await target.put(slotKey(keySlot), slot, { signal });
  }
  const format: RepositoryFormat = {
    version: FORMAT_VERSION,
    minReader: FORMAT_VERSION,
    minWriter: FORMAT_VERSION,
    features: [],
    repositoryId,
    encrypted: unlock !== undefined,
    fanOut: DEFAULT_FAN_OUT,
    mode: singleWriter ? 'single-writer' : 'shared',
    keySlot,
  };
  await putFormat(target, encodeFormat(format), !singleWriter, signal);
}

async function putFormat(
  target: CloudTarget,
  bytes: Uint8Array<ArrayBuffer>,
  createOnly: boolean,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    // A copy: after a failure this buffer is not used again, and it is compared with.
    await target.put(FORMAT_KEY, Uint8Array.from(bytes), { createOnly, signal });
  } catch (error) {
    if (!BackupError.is(error, 'OBJECT_EXISTS')) throw error;
    // Perhaps its own, after an answer that was lost.
    const found = await target.get(FORMAT_KEY, { signal });
    if (Buffer.compare(found, bytes) !== 0) throw exists();
  }
}

function exists(): BackupError {
  return new BackupError('REPOSITORY_EXISTS', 'there is a repository here already: open it');
}
