import { isDeepStrictEqual } from 'node:util';
import type { Steps } from '../../common/yield-to-event-loop.ts';
import type { LogState } from '../format/log-state.ts';

/** Whether two states are equal. Only backups have an order. */
export function* isSameState(one: LogState, other: LogState): Steps<boolean> {
  const parts = Object.keys(other) as (keyof LogState)[];
  for (const part of parts) {
    const [ours, theirs] = [one[part], other[part]];
    if (!(ours instanceof Map) || !(theirs instanceof Map)) {
      if (!isDeepStrictEqual(ours, theirs)) return false;
      continue;
    }
    if (ours.size !== theirs.size) return false;
    for (const [key, value] of ours) {
      yield; // A comparison may take some 50 µs.
      if (!isDeepStrictEqual(value, theirs.get(key))) return false;
    }
  }
  const order = other.backups.keys();
  for (const id of one.backups.keys()) if (order.next().value !== id) return false;
  return true;
}
