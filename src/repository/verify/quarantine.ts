import type { AbortOptions } from '../../common/abort.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { LogFactOf } from '../format/log-entry.ts';
import { isKnown, type LogState } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import type { PackName } from '../format/record.ts';

/** An entry has 8 MiB, and a name takes some 27 bytes. What is left out the next verification notes. */
const MAX_NAMES = 50_000;

type Config = LogFactOf<'config'>;

/** What the log is to say of packs that were verified: P10. `undefined` when it says so already. */
export function decideQuarantine(
  state: LogState,
  damaged: readonly PackName[],
  good: readonly PackName[],
): Config | undefined {
  const isQuarantined = (pack: PackName) => state.quarantined.has(packKey(pack));
  // Nobody may refer to a pack that is not known, so there is nothing to say of it.
  const quarantine = damaged.filter((pack) => isKnown(state, pack) && !isQuarantined(pack)).slice(0, MAX_NAMES);
  const release = good.filter(isQuarantined).slice(0, MAX_NAMES);
  return quarantine.length + release.length === 0 ? undefined : { type: 'config', quarantine, release };
}

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
