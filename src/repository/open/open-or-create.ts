import { BackupError } from '../../common/errors.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { checkOpenOptions } from './check-options.ts';
import { type CreationTuning, createRepository } from './create-repository.ts';
import { openRepository } from './open-repository.ts';
import type { CheckedTuning, NewRepositoryOptions, OpenOptions } from './repository-options.ts';

/**
 * Opens a repository, and creates it before where that is asked for and there is none. Of several hosts that do so at once
 * one creates it, and the others open what it made.
 *
 * @throws as `openRepository` and `createRepository`
 */
export async function openOrCreate(
  target: CloudTarget,
  options: OpenOptions,
  tuning: CheckedTuning,
  creation: CreationTuning = {},
): Promise<{ readonly context: RepositoryContext; readonly wasCreated: boolean }> {
  const { createIfMissing, singleWriter, signal } = checkOpenOptions(options);
  try {
    return { context: await openRepository(target, options, tuning), wasCreated: false };
  } catch (error) {
    // Where something is remembered, openRepository has another code for a repository that is gone.
    if (createIfMissing === undefined || !BackupError.is(error, 'REPOSITORY_NOT_FOUND')) throw error;
  }
  let wasCreated = true;
  try {
    await createRepository(target, createIfMissing, { signal }, creation);
  } catch (error) {
    if (!BackupError.is(error, 'REPOSITORY_EXISTS')) throw error;
    wasCreated = false; // Somebody was faster.
  }
  const { encryption } = options.createIfMissing as NewRepositoryOptions;
  // What is new opens with what it was made with, whatever opens the one that was expected.
  const unlock = wasCreated && encryption !== 'none' ? encryption : options.unlock;
  return { context: await openRepository(target, { ...options, unlock, singleWriter }, tuning), wasCreated };
}
