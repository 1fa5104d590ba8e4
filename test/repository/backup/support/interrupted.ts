import { BackupError } from '../../../../src/common/errors.ts';
import type { CloudTarget } from '../../../../src/targets/cloud-target.ts';
import { ForwardingTarget, type TargetCall } from '../../../../src/targets/decorators/forwarding-target.ts';
import type { CopyOnWriteVolume } from '../../../../src/volume/copy-on-write-volume.ts';
import { openIn } from '../../support/repositories.ts';

/** A target whose process is cut off once so many packs are stored: nothing that it asks for after that reaches the store. */
class CutOff extends ForwardingTarget {
  #left: number;

  constructor(inner: CloudTarget, packs: number) {
    super(inner, 'a target that is cut off');
    this.#left = packs;
  }

  protected override async around<T>({ operation, subject }: TargetCall, invoke: () => Promise<T>): Promise<T> {
    const isPack = operation === 'put' && subject.startsWith('packs/');
    if (this.#left <= 0) throw new BackupError('ACCESS_DENIED', 'this process is cut off');
    if (isPack) this.#left--;
    return await invoke();
  }
}

/**
 * Backs volumes up, as a group if there are several, by a process that is gone once so many packs are stored. Its session stays open, and
 * belongs to nobody. For tests whose clock nobody waits for: its last entry is sent many times.
 *
 * @returns the ids of the backups, if less was to be stored
 */
export async function cutOff(
  target: CloudTarget,
  volumes: Readonly<Record<string, CopyOnWriteVolume>>,
  packs: number,
  isEncrypted = false,
): Promise<string[] | undefined> {
  const repository = await openIn(new CutOff(target, packs), isEncrypted);
  const parts = Object.entries(volumes).map(([volume, source]) => ({ source, volume }));
  const { jobs, done } = await repository.startGroup(parts);
  for (const job of jobs) job.sweep();
  try {
    return (await done).map(({ id }) => id);
  } catch (error) {
    if (!BackupError.is(error, 'ACCESS_DENIED') && !BackupError.is(error, 'COMMIT_UNKNOWN')) throw error;
    return undefined;
  }
}

/** The same, where it is known that more is to be stored. */
export async function interrupted(...given: Parameters<typeof cutOff>): Promise<void> {
  if ((await cutOff(...given)) !== undefined) throw new Error('the backup was not interrupted');
}
