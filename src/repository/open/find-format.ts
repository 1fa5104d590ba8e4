import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import { getBounded } from '../../targets/bounded-get.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { CheckedUnlock } from '../crypto/unlock.ts';
import { type StoredSlot, type UnlockedRepository, unlockRepository } from '../crypto/unlock-repository.ts';
import { formatCopyIn, MAX_ENTRY_BYTES } from '../format/entry-codec.ts';
import {
  decodeFormat,
  decodeFormatBody,
  FORMAT_BYTES,
  type RepositoryFormat,
  type StoredFormat,
} from '../format/format-object.ts';
import { FORMAT_KEY, LOG_PREFIX, PACKS_PREFIX, parseLogKey } from '../format/object-keys.ts';

/**
 * The object `format`, and its copies for the case that the object is gone: every key slot has one, and in a plain repository
 * every log entry (decision 044).
 */

/** What a repository is opened with. */
export interface FoundFormat {
  readonly format: RepositoryFormat;
  /** `undefined` if the object is gone. */
  readonly stored: StoredFormat | undefined;
  /** The key slot that the copy came from, if it came from one. */
  readonly unlocked: UnlockedRepository | undefined;
}

/** What to do about a damaged `format`. It is never replaced without being asked for, because it may be evidence. */
export const FORMAT_ADVICE =
  'once you know why, delete that object and open the repository again: verify() then restores it from a copy';
/** How many of the newest entries of a plain log are searched for a copy. */
const ENTRIES_LOOKED_AT = 8;

/** The object; `undefined` if it is gone. @throws `REPOSITORY_CORRUPT`, `REPOSITORY_UNSUPPORTED`, what the target throws */
export async function readFormat(target: CloudTarget, options: AbortOptions): Promise<StoredFormat | undefined> {
  let bytes: Uint8Array | undefined;
  try {
    bytes = await getBounded(target, FORMAT_KEY, FORMAT_BYTES, options);
  } catch (error) {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return undefined;
    throw error;
  }
  try {
    return decodeFormat(bytes ?? new Uint8Array());
  } catch (cause) {
    if (!BackupError.is(cause, 'REPOSITORY_CORRUPT')) throw cause;
    throw new BackupError('REPOSITORY_CORRUPT', `${cause.message}; ${FORMAT_ADVICE}`, { cause });
  }
}

/**
 * Finds a copy of `format` where the object is gone. A repository without a log has no backups and counts as missing: its
 * creation was cut short. If there are objects of a repository but no copy, it is `REPOSITORY_CORRUPT`.
 */
export async function recoverFormat(
  target: CloudTarget,
  slots: readonly StoredSlot[],
  unlock: CheckedUnlock | undefined,
  options: AbortOptions,
): Promise<FoundFormat> {
  const entries = await newestEntries(target, options);
  if (entries.length === 0) {
    const prefix = await firstHeld(target, [LOG_PREFIX, PACKS_PREFIX], options);
    if (prefix === undefined)
      throw new BackupError(
        'REPOSITORY_NOT_FOUND',
        'this target holds no repository: check its bucket, prefix or folder, or create one',
      );
    throw withoutCopy(prefix);
  }
  if (unlock !== undefined && slots.length > 0) {
    const request = { repositoryId: undefined, slots, hint: undefined, unlock, ...options };
    const unlocked = await unlockRepository(request);
    return { format: unlocked.format, stored: undefined, unlocked };
  }
  for (const { key, size } of entries) {
    const bytes = await getBounded(target, key, size, options).catch(goneIsUndefined);
    const format = bytes && (await copyIn(bytes));
    if (format !== undefined && !format.encrypted) return { format, stored: undefined, unlocked: undefined };
  }
  if (slots.length === 0) throw withoutCopy(LOG_PREFIX);
  throw new BackupError(
    'KEY_REQUIRED',
    'this repository is encrypted: pass a passphrase, a key or a provider as `unlock`',
  );
}

/** The first of these prefixes that holds an object. */
export async function firstHeld(
  target: CloudTarget,
  prefixes: readonly string[],
  { signal }: AbortOptions,
): Promise<string | undefined> {
  const held = await Promise.all(
    prefixes.map(async (prefix) => {
      for await (const _ of target.list(prefix, { signal })) return prefix;
      return undefined;
    }),
  );
  return held.find((prefix) => prefix !== undefined);
}

async function newestEntries(target: CloudTarget, { signal }: AbortOptions) {
  const entries: { readonly key: string; readonly size: number }[] = [];
  for await (const { key, size } of target.list(LOG_PREFIX, { signal })) {
    if (parseLogKey(key)?.kind !== 'entry' || size === 0 || size > MAX_ENTRY_BYTES) continue;
    entries.push({ key, size });
    if (entries.length === ENTRIES_LOOKED_AT) break;
  }
  return entries;
}

async function copyIn(entry: Uint8Array): Promise<RepositoryFormat | undefined> {
  const body = await runInSteps(formatCopyIn(entry));
  if (body === undefined) return undefined;
  try {
    return decodeFormatBody(body);
  } catch (error) {
    if (BackupError.is(error, 'REPOSITORY_CORRUPT')) return undefined;
    throw error;
  }
}

function goneIsUndefined(error: unknown): undefined {
  if (!BackupError.is(error, 'OBJECT_NOT_FOUND')) throw error;
}

function withoutCopy(prefix: string): BackupError {
  const message = `the object format is gone, ${prefix} holds objects of a repository, and no copy of format can be read`;
  return new BackupError('REPOSITORY_CORRUPT', `${message}: restore format from a copy of the store`);
}
