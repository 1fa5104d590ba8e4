import { BackupError } from '../../../common/errors.ts';
import type { Steps } from '../../../common/yield-to-event-loop.ts';
import type { LogFactOf } from '../../format/log-entry.ts';
import type { LogState } from '../../format/log-state.ts';
import type { Decision } from './decision.ts';
import type { FoldDraft } from './fold-draft.ts';

/*
 * `keys`: which key slots a repository has (decisions 037 and 105). Adding is refused for a name that was removed. Removing is
 * refused for the last intact slot; deciding that takes reading the others, so `open/key-slots.ts` does it.
 */

/** Refuses with `KEY_SLOT_NOT_FOUND` if another host has removed the slot between its creation and this entry. */
export function decideSlotAddition({ removedSlots }: LogState, slot: string): Decision<LogFactOf<'keys'>> {
  if (!removedSlots.has(slot)) return { type: 'keys', added: [slot], removed: [] };
  return new BackupError(
    'KEY_SLOT_NOT_FOUND',
    `another host removed the key slot ${slot} while it was being added: add the key again`,
  );
}

/** A removed slot stays removed, even if an entry that adds it comes later: its object may have been deleted by then. */
export function* foldKeys(draft: FoldDraft, { added, removed }: LogFactOf<'keys'>): Steps<void> {
  yield* draft.own(['keySlots', 'removedSlots']);
  const { keySlots, removedSlots } = draft.state;
  for (const slot of removed) {
    removedSlots.add(slot);
    keySlots.delete(slot);
  }
  for (const slot of added) {
    // @mutation removed-stays-removed
    if (removedSlots.has(slot)) continue;
    keySlots.add(slot);
  }
}
