/** A backup that is under way in this process. */
export interface UnfinishedBackup {
  /** For a message. */
  describe(): string;
}

const UNFINISHED_CODE = 'COW_BACKUP_UNFINISHED';

/**
 * The backups that are under way in this process. One that is lazy does not keep the process alive, so a program that forgets to
 * sweep would end without a backup and without an error. It gets one warning.
 */
const unfinished = new Set<UnfinishedBackup>();
let hasWarned = false;

export function noteUnfinished(backup: UnfinishedBackup): void {
  if (unfinished.size === 0) process.on('beforeExit', warnEarly).on('exit', warnLate);
  unfinished.add(backup);
}

export function noteFinished(backup: UnfinishedBackup): void {
  unfinished.delete(backup);
  if (unfinished.size === 0) process.off('beforeExit', warnEarly).off('exit', warnLate);
}

/** For a program that has nothing left to do. */
function warnEarly(): void {
  if (hasWarned) return;
  hasWarned = true;
  process.emitWarning(unfinishedText(), { code: UNFINISHED_CODE });
}

/** For a program that called `process.exit`: a process warning is queued, and would not be shown any more. */
function warnLate(): void {
  if (hasWarned) return;
  hasWarned = true;
  process.stderr.write(`(cow-cloud-backup) [${UNFINISHED_CODE}] Warning: ${unfinishedText()}\n`);
}

function unfinishedText(): string {
  const backups = [...unfinished].map((backup) => backup.describe());
  return `the process ends while backups are under way, and they are lost: ${backups.join(', ')}; call sweep() and await done, or close them`;
}
