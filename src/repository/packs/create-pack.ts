import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { sha256InSteps } from '../../common/long-bytes.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import { getBounded } from '../../targets/bounded-get.ts';
import type { CloudTarget, PutOptions } from '../../targets/cloud-target.ts';

/** A pack on its way. */
export interface PackBody {
  readonly key: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly sha256: Uint8Array;
}

/**
 * Creates a pack where there is none. A name that is taken is one's own pack, after an answer that was lost, only if length
 * and content are the same: a copy of this process (a machine that was cloned while it ran) may write in the same session
 * and draw the same random numbers. Its pack is neither overwritten nor taken for one's own.
 *
 * @throws `SESSION_SHARED` when something else has the name; what the target gives
 */
export async function createPack(target: CloudTarget, pack: PackBody, options: PutOptions): Promise<void> {
  const { key, bytes } = pack;
  try {
    // @mutation packs-are-created
    await target.put(key, bytes, { ...options, createOnly: true });
  } catch (error) {
    if (!BackupError.is(error, 'OBJECT_EXISTS')) throw error;
    // @mutation pack-is-the-same
    if (await isSame(target, pack, { signal: options.signal })) return;
    const message = `${key} already exists with other content: a copy of this process is writing in the same session; start the backup again`;
    throw new BackupError('SESSION_SHARED', message, { cause: error, retryable: true });
  }
}

async function isSame(target: CloudTarget, { key, bytes, sha256 }: PackBody, options: AbortOptions): Promise<boolean> {
  const info = await target.stat(key, options);
  if (info?.size !== bytes.length) return false;
  if (info.sha256 !== undefined) return info.sha256 === Buffer.from(sha256).toString('hex');
  const found = await getBounded(target, key, bytes.length, options);
  return found !== undefined && Buffer.compare(await runInSteps(sha256InSteps(found)), sha256) === 0;
}
