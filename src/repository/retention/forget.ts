import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { decideForget } from '../log/sessions.ts';
import type { RepositoryContext } from '../repository-context.ts';

/**
 * Forgets backups, all of them or none. From then on they can't be opened; what only they need is collected one day.
 *
 * @throws `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`, `READ_ONLY`, `COMMIT_UNKNOWN`, and what the log gives
 */
export async function forgetBackups(
  context: RepositoryContext,
  ids: readonly string[],
  { signal }: AbortOptions = {},
): Promise<void> {
  requireWritable(context);
  if (ids.length === 0) return;
  await context.log.append((state) => decideForget(state, ids), { signal });
}

/** @throws `READ_ONLY` */
export function requireWritable({ readOnly }: RepositoryContext): void {
  if (readOnly) throw new BackupError('READ_ONLY', 'this repository was opened to be read only');
}
