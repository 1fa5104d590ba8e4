import { randomBytes } from 'node:crypto';
import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { PROBES_PREFIX } from '../format/object-keys.ts';

/** Options of {@link probeCreateOnly}. */
export interface ProbeOptions extends AbortOptions {
  /** How many races are run. @defaultValue 3 */
  readonly rounds?: number | undefined;
  /** How many take part in each. @defaultValue 8 */
  readonly contenders?: number | undefined;
}

/**
 * Finds out whether a target really creates only what is absent, before anything is built on it: several PUTs of one
 * fresh key at once, then one more. Some servers take the header and ignore it, others look first and store then.
 *
 * The objects are deleted again; where that fails they are litter under `probe/` that anybody may delete.
 *
 * @throws `SINGLE_WRITER_REQUIRED` when it does not (P13); what the target gives where that can't be found out now
 */
export async function probeCreateOnly(target: CloudTarget, options: ProbeOptions = {}): Promise<void> {
  const { rounds = 3, contenders = 8, signal } = options;
  if (!target.capabilities.createOnly) throw unsupported('the target says so itself');
  for (let round = 0; round < rounds; round++) {
    const key = `${PROBES_PREFIX}${randomBytes(16).toString('hex')}`;
    try {
      await race(target, key, contenders, signal);
    } finally {
      await target.delete(key, { signal }).catch(() => {});
    }
  }
}

async function race(
  target: CloudTarget,
  key: string,
  contenders: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const bodies = Array.from({ length: contenders }, () => Uint8Array.from(randomBytes(64)));
  const put = (body: Uint8Array) => target.put(key, Uint8Array.from(body), { createOnly: true, signal });
  const results = await Promise.allSettled(bodies.map(put));
  signal?.throwIfAborted();
  const winners = bodies.filter((_, index) => results[index]?.status === 'fulfilled');
  if (winners.length > 1) throw unsupported(`${winners.length} of ${contenders} created one object`);
  const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
  const refusal = failures.find((error) => BackupError.is(error, 'CREATE_ONLY_UNSUPPORTED'));
  if (refusal !== undefined) throw unsupported('it refuses to', refusal);
  const unclear = failures.find((error) => !isLost(error));
  const [winner] = winners;
  // Without a winner who was told so, one of those who heard nothing clear may be it: then that has to be known.
  if (winner === undefined && unclear !== undefined) throw unclear;
  if (winner === undefined) throw unsupported('nobody won a race for a fresh key');
  // The same once more, when nothing else is under way: who overwrites always shows here.
  const late = await put(Uint8Array.from(randomBytes(64))).then(
    () => undefined,
    (error: unknown) => error,
  );
  signal?.throwIfAborted();
  if (late === undefined) throw unsupported('it replaced an object that was there');
  if (!isLost(late)) throw late;
  if (!(await holds(target, key, winner, signal))) throw unsupported('what the winner stored is not there');
}

async function holds(
  target: CloudTarget,
  key: string,
  body: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  try {
    return Buffer.compare(await target.get(key, { signal }), body) === 0;
  } catch (error) {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return false;
    throw error;
  }
}

function isLost(error: unknown): boolean {
  return BackupError.is(error, 'OBJECT_EXISTS') || BackupError.is(error, 'OBJECT_CONFLICT');
}

function unsupported(how: string, cause?: unknown): BackupError {
  const message = `this store does not create objects only where they are absent: ${how}; a repository with one writer at a time takes singleWriter: true`;
  return new BackupError('SINGLE_WRITER_REQUIRED', message, cause === undefined ? {} : { cause });
}
