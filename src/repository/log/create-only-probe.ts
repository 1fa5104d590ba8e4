import { randomBytes } from 'node:crypto';
import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { PROBES_PREFIX } from '../format/object-keys.ts';
import { isAnswer } from './create-entry.ts';

interface ProbeOptions extends AbortOptions {
  /** The number of races. @defaultValue 3 */
  readonly rounds?: number | undefined;
  /** The number of puts in each race. @defaultValue 8 */
  readonly contenders?: number | undefined;
}

/**
 * Finds out whether create-only puts of a target are atomic, before a repository relies on it: it sends several puts of one new
 * key at the same time, and then one more. Some servers ignore the header, and others look first and store later.
 *
 * The objects are deleted again. If that fails, they stay under `probe/`, where they may be deleted at any time.
 *
 * @throws `SINGLE_WRITER_REQUIRED` if they are not (P13); what the target throws if that can't be found out now
 */
export async function probeCreateOnly(target: CloudTarget, options: ProbeOptions = {}): Promise<void> {
  const { rounds = 3, contenders = 8, signal } = options;
  if (!target.capabilities.createOnly) throw unsupported('the target declares it');
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
  if (winners.length > 1) throw unsupported(`${winners.length} of ${contenders} puts of one key succeeded`);
  const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
  const refusal = failures.find((error) => BackupError.is(error, 'CREATE_ONLY_UNSUPPORTED'));
  if (refusal !== undefined) throw unsupported('it refuses to', refusal);
  const unclear = failures.find((error) => !isAnswer(error));
  const [winner] = winners;
  // Without a winner who was told so, one of those who heard nothing clear may be it: then that has to be known.
  if (winner === undefined && unclear !== undefined) throw unclear;
  if (winner === undefined) throw unsupported('none of several puts of a new key succeeded');
  // One more put, while no other is under way: a store that overwrites always shows here.
  const late = await put(Uint8Array.from(randomBytes(64))).then(
    () => undefined,
    (error: unknown) => error,
  );
  signal?.throwIfAborted();
  if (late === undefined) throw unsupported('it replaced an existing object');
  if (!isAnswer(late)) throw late;
  if (!(await holds(target, key, winner, signal))) throw unsupported('the object of the successful put is not there');
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

function unsupported(how: string, cause?: unknown): BackupError {
  const message = `this store does not support create-only puts: ${how}. If only one process at a time writes to the repository, pass singleWriter: true`;
  return new BackupError('SINGLE_WRITER_REQUIRED', message, cause === undefined ? {} : { cause });
}
