import { openRepository } from '../../../../src/repository/open/open-repository.ts';
import { checkTuning } from '../../../../src/repository/open/repository-options.ts';
import type { CloudTarget } from '../../../../src/targets/cloud-target.ts';
import { SMALL, unlockOf } from '../../support/repositories.ts';

/** The sessions that hold a volume, by what the log says. */
export async function holdersOf(store: CloudTarget, isEncrypted: boolean, volume: string): Promise<Set<number>> {
  const { log, keys } = await openRepository(store, unlockOf(isEncrypted), checkTuning(SMALL));
  keys.wipe();
  return new Set([...log.state.sessions.values()].filter(({ volumes }) => volumes.has(volume)).map(({ seq }) => seq));
}
