import type { AbortOptions } from '../../common/abort.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { LogFactOf } from '../format/log-entry.ts';
import type { PackName } from '../format/record.ts';
import { decideQuarantine } from '../log/entries/config.ts';

type Config = LogFactOf<'config'>;

/** Notes in the log which packs are damaged, and which are good again. @throws what the log gives */
export async function quarantine(
  { log }: Pick<RepositoryContext, 'log'>,
  damaged: readonly PackName[],
  good: readonly PackName[],
  { signal }: AbortOptions,
): Promise<Pick<Config, 'quarantine' | 'release'>> {
  const nothing = { quarantine: [], release: [] };
  if (decideQuarantine(log.state, damaged, good) === undefined) return nothing;
  const appended = await log.append((state) => decideQuarantine(state, damaged, good), { signal });
  return appended?.entry.type === 'config' ? appended.entry : nothing;
}
