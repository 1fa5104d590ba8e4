import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import { getBounded } from '../../targets/bounded-get.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { CheckedUnlock } from '../crypto/unlock.ts';
import { type StoredSlot, unlockRepository } from '../crypto/unlock-repository.ts';
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
 * The object `format`, or where it is gone what is left of it: every key slot has a copy, and in a plain repository every log
 * entry. Decision 044.
 */

/** What there is to open a repository with. */
export interface FoundFormat {
  readonly format: RepositoryFormat;
  /** `undefined` where the object is gone. */
  readonly stored: StoredFormat | undefined;
  /** The repository's key, where the copy came out of a slot. */
  readonly key: Uint8Array<ArrayBuffer> | undefined;
}

/** What to do about a `format` that is there and wrong. Nobody replaces it unasked: it may be a sign of something else. */
export const FORMAT_ADVICE =
  'once you know why, delete that object and open the repository again: verify() then restores it from a copy';
/** Newest entries of a plain log that are looked at for a copy. */
const ENTRIES_LOOKED_AT = 8;

/** The object, `undefined` where it is gone. @throws `REPOSITORY_CORRUPT`, `REPOSITORY_UNSUPPORTED`, what the target gives */
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
 * The format of a repository without `format`. A repository that has no log has no backups either, and counts as not there:
 * its creation was cut short.
 *
 * @throws `REPOSITORY_NOT_FOUND`; `REPOSITORY_CORRUPT` where there are objects of a repository and no copy; `KEY_REQUIRED`;
 * what the slots and the target give
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
    const { key, format } = await unlockRepository({
      repositoryId: undefined,
      slots,
      hint: undefined,
      unlock,
      ...options,
    });
    return { format, stored: undefined, key };
  }
  for (const { key, size } of entries) {
    const bytes = await getBounded(target, key, size, options).catch(goneIsUndefined);
    const format = bytes && (await copyIn(bytes));
    if (format !== undefined && !format.encrypted) return { format, stored: undefined, key: undefined };
  }
  if (slots.length === 0) throw withoutCopy(LOG_PREFIX);
  throw new BackupError('KEY_REQUIRED', 'this repository is encrypted: give a passphrase, a key or a provider');
}

/** The first of some prefixes that holds an object. */
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
