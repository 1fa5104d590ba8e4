import type { BackupJob } from './backup-job.ts';

/**
 * Jobs that are under way in this process. A lazy one keeps no process alive, so a program that forgets to sweep ends
 * without a backup and without an error: it is warned, once.
 */
const unfinished = new Set<BackupJob>();
let hasWarned = false;

export function noteUnfinished(job: BackupJob): void {
  if (unfinished.size === 0) process.on('beforeExit', warnEarly).on('exit', warnLate);
  unfinished.add(job);
}

export function noteFinished(job: BackupJob): void {
  unfinished.delete(job);
  if (unfinished.size === 0) process.off('beforeExit', warnEarly).off('exit', warnLate);
}

/** The program has nothing left to do. */
function warnEarly(): void {
  if (hasWarned) return;
  hasWarned = true;
  process.emitWarning(message(), { code: CODE });
}

/** The program called `process.exit`: what is queued, as a process warning would be, is not told any more. */
function warnLate(): void {
  if (hasWarned) return;
  hasWarned = true;
  process.stderr.write(`(cow-cloud-backup) [${CODE}] Warning: ${message()}\n`);
}

const CODE = 'COW_BACKUP_UNFINISHED';

function message(): string {
  const jobs = [...unfinished].map(({ volume, status }) => `${JSON.stringify(volume)} (${status})`);
  return `the process ends while backups are under way, and they are lost: ${jobs.join(', ')}; call job.sweep() and await job.done, or close the job`;
}
