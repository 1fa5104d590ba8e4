import type { Steps } from '../../../common/yield-to-event-loop.ts';
import type { LogFactOf } from '../../format/log-entry.ts';
import { isKnown, type LogState } from '../../format/log-state.ts';
import { packKey } from '../../format/object-keys.ts';
import type { PackName } from '../../format/record.ts';
import type { FoldDraft } from './fold-draft.ts';

/*
 * `config`: which packs are in quarantine, because a verification found them damaged. Deduplication does not refer to them
 * (P10). It is never refused. A newer program also says here what others must know from now on.
 */

/** An entry has 8 MiB, and a name takes some 27 bytes. The next verification notes what is left out. */
const MAX_NAMES = 50_000;

/** Leaves out damaged packs that are not known, because nobody may refer to them in any case. */
export function decideQuarantine(
  state: LogState,
  damaged: readonly PackName[],
  good: readonly PackName[],
): LogFactOf<'config'> | undefined {
  const isQuarantined = (pack: PackName) => state.quarantined.has(packKey(pack));
  const quarantine = damaged.filter((pack) => isKnown(state, pack) && !isQuarantined(pack)).slice(0, MAX_NAMES);
  const release = good.filter(isQuarantined).slice(0, MAX_NAMES);
  return quarantine.length + release.length === 0 ? undefined : { type: 'config', quarantine, release };
}

export function* foldConfig(draft: FoldDraft, entry: LogFactOf<'config'>): Steps<void> {
  const { quarantine, release, features = [], readerFeatures = [] } = entry;
  yield* draft.own(['quarantined', 'features', 'readerFeatures']);
  for (const feature of features) draft.state.features.add(feature);
  for (const feature of readerFeatures) draft.state.readerFeatures.add(feature);
  for (const pack of quarantine) draft.state.quarantined.set(packKey(pack), pack);
  for (const pack of release) draft.state.quarantined.delete(packKey(pack));
}
