/** The journal of a state directory: groups of records, of which a crash leaves the first ones. */
import type { Fold } from './fold.ts';

export type JournalRecord =
  | { readonly type: 'OPENED'; readonly boot: number; readonly isFast: boolean }
  | { readonly type: 'MARK'; readonly region: number }
  | { readonly type: 'CLEAN'; readonly region: number; readonly epochs: readonly number[] }
  | { readonly type: 'INSTANT'; readonly serial: number; readonly epoch: number }
  | { readonly type: 'SEAL'; readonly serial: number }
  | { readonly type: 'HANDLE'; readonly handle: number; readonly serial: number }
  | { readonly type: 'END'; readonly handle: number }
  | ({ readonly type: 'PRE'; readonly checksum: number } & Interval)
  | { readonly type: 'FREE'; readonly slot: number }
  | { readonly type: 'STATE'; readonly handle: number; readonly block: number; readonly state: Exempt }
  | { readonly type: 'RENUM'; readonly kept: readonly number[] }
  | { readonly type: 'CHECKPOINT'; readonly fold: Fold };

export type Exempt = 'stored' | 'lost';

/** A pre-image of a block in a slot, for every snapshot with `from < s.epoch <= to`. */
export interface Interval {
  readonly block: number;
  readonly slot: number;
  readonly from: number;
  readonly to: number;
}

export interface Group {
  readonly records: readonly JournalRecord[];
  readonly isSynced: boolean;
  /** An fsync has failed and dropped it. A later one succeeds without it. */
  readonly isDropped?: boolean | undefined;
}

export interface Journal {
  /** Groups of all files that were written, in order. The last one is at work, or acknowledged and not known to be. */
  readonly groups: readonly Group[];
  /** How many of them are in files before the present one. */
  readonly before: number;
  /** What the file before has behind its last good group: a tail that was cut. */
  readonly tail: readonly Group[];
  /** In memory: the next group, perhaps on its way. */
  readonly gathering: readonly JournalRecord[];
  /** A checkpoint in progress: what the first `at` groups say, and the epochs that were copied so far. */
  readonly checkpoint: { readonly at: number; readonly fold: Fold; readonly copied: readonly number[] } | null;
}

/** The checkpoint takes the place of the groups before it. */
export function withCheckpoint(journal: Journal, at: number, fold: Fold): Journal {
  const groups = [groupOf([{ type: 'CHECKPOINT', fold }], true), ...journal.groups.slice(at)];
  return { ...journal, groups, before: 1, tail: [], checkpoint: null };
}

export const groupOf = (records: readonly JournalRecord[], isSynced: boolean): Group => ({ records, isSynced });

/** One group is at work; under `fast` until it is written. */
export const isAtWork = ({ groups, before }: Journal, isFast: boolean): boolean =>
  !isFast && groups.slice(before).some(({ isSynced, isDropped }) => !isSynced && !isDropped);

/** A group on its way is there or not; a torn one is not, by its checksum. */
export function journalsAfterKill(journal: Journal, isFast: boolean): Journal[] {
  const without = { ...journal, gathering: [], checkpoint: null };
  if (journal.gathering.length === 0 || isAtWork(journal, isFast)) return [without];
  return [without, { ...without, groups: [...journal.groups, groupOf(journal.gathering, false)] }];
}

/** Any group that was not synced may be the first that is missing. Groups are chained: what is behind it does not count. */
export function journalsAfterPowerLoss(journal: Journal, isFast: boolean): Journal[] {
  return journalsAfterKill(journal, isFast).flatMap((killed) => {
    const lengths = killed.groups.flatMap(({ isSynced }, index) => (isSynced ? [] : [index]));
    return [...lengths, killed.groups.length].map((length) => ({
      ...killed,
      groups: killed.groups.slice(0, length).map((each) => (each.isSynced ? each : groupOf(each.records, true))),
    }));
  });
}

/** Where the new file has no group, the tail that was cut in the file before is read again. */
export function withTail(journal: Journal): Journal {
  const groups = journal.groups.length === journal.before ? [...journal.groups, ...journal.tail] : journal.groups;
  return { ...journal, groups, tail: [] };
}
