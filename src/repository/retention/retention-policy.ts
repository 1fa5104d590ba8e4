// This folder decides which backups are kept: policies, holds, forgetting.

import { integerArgument, optionsArgument } from '../../common/arguments.ts';

/**
 * Which backups of one volume to keep. The rules are those of restic: each rule names a kind of period and a number n, and
 * keeps the newest backup of each of the newest n periods that have a backup. A backup that any rule keeps is kept.
 *
 * A backup is newer than another if it was committed later, whatever the clocks of hosts showed; times only decide to which
 * period a backup belongs. Independently of the policy, a volume's newest backup, its newest whole backup and its held backups
 * are kept.
 *
 * A backup is whole unless it lost blocks or needs a pack that `verify` found damaged. Only whole backups count for the number
 * of a rule. A backup that is not whole is kept while no newer whole backup exists; after that it is kept only in a period that
 * the rule reaches and that has no whole backup.
 *
 * Source of the rules: restic, "Removing backup snapshots", https://restic.readthedocs.io/en/stable/060_forget.html
 *
 * @public
 */
export interface RetentionPolicy {
  /** Keeps the newest n backups, whenever they were made. */
  keepLast?: number | undefined;
  keepHourly?: number | undefined;
  keepDaily?: number | undefined;
  keepWeekly?: number | undefined;
  keepMonthly?: number | undefined;
  keepYearly?: number | undefined;
  /**
   * Keeps all backups that were frozen within this many milliseconds before now, or before the volume's newest backup if that
   * is older. So a volume that is no longer backed up keeps its last backups.
   */
  keepWithin?: number | undefined;
  /**
   * The time zone in which hours, days, weeks, months and years begin: an IANA name such as `Europe/Vienna`. All hosts should
   * use the same one. @defaultValue `UTC`
   */
  timeZone?: string | undefined;
}

/** What the rules know about a backup. */
export interface Dated {
  readonly frozenAt: Date;
  /** Whether the backup is known to lack something. @defaultValue false */
  readonly isBroken?: boolean | undefined;
  /** Whether the backup must not be forgotten. @defaultValue false */
  readonly isHeld?: boolean | undefined;
}

type RuleName = Exclude<keyof RetentionPolicy, 'timeZone'>;

/** Why a backup is kept: the name of a rule, or a reason that no policy overrules. */
export type KeptBy = RuleName | 'newest' | 'newest whole' | 'no newer whole' | 'held';

/** What the policy decides about a backup. */
export interface RetentionChoice<B extends Dated> {
  readonly backup: B;
  /** Why the backup is kept. If this is empty, the backup is to be forgotten. */
  readonly keptBy: readonly KeptBy[];
}

const MAX_KEPT = 1_000_000;

const PERIOD_OF: Readonly<Record<Exclude<RuleName, 'keepLast' | 'keepWithin'>, keyof Periods>> = {
  keepHourly: 'hour',
  keepDaily: 'day',
  keepWeekly: 'week',
  keepMonthly: 'month',
  keepYearly: 'year',
};

const KNOWN_POLICY: Readonly<Record<keyof RetentionPolicy, true>> = {
  keepLast: true,
  keepHourly: true,
  keepDaily: true,
  keepWeekly: true,
  keepMonthly: true,
  keepYearly: true,
  keepWithin: true,
  timeZone: true,
};

/** A policy whose values were checked. */
export interface CheckedPolicy {
  /** The number of each rule; rules that keep nothing are left out. */
  readonly counts: ReadonlyMap<Exclude<RuleName, 'keepWithin'>, number>;
  readonly keepWithinMs: number | undefined;
  readonly calendar: LocalCalendar;
}

/** @throws TypeError, also for a policy that keeps nothing at all, which can only be a mistake */
export function checkPolicy(policy: RetentionPolicy): CheckedPolicy {
  const { timeZone = 'UTC', keepWithin, ...rules } = optionsArgument('policy', policy, KNOWN_POLICY);
  const counts = new Map<Exclude<RuleName, 'keepWithin'>, number>();
  for (const name of ['keepLast', ...(Object.keys(PERIOD_OF) as (keyof typeof PERIOD_OF)[])] as const) {
    const { [name]: most = 0 } = rules;
    const count = integerArgument(name, most, 0, MAX_KEPT);
    if (count > 0) counts.set(name, count);
  }
  const keepWithinMs = keepWithin === undefined ? undefined : integerArgument('keepWithin', keepWithin, 1);
  if (counts.size === 0 && keepWithinMs === undefined)
    throw new TypeError('a retention policy must keep something: set at least one rule to 1 or more');
  return { counts, keepWithinMs, calendar: new LocalCalendar(timeZone) };
}

/**
 * Applies a policy to the backups of one volume. Yields the newest backup first.
 *
 * @param backups - in the order of the log, oldest first
 * @param now - milliseconds since 1970, by the clock of this host
 */
export function* applyPolicy<B extends Dated>(
  policy: CheckedPolicy,
  backups: readonly B[],
  now: number,
): Generator<RetentionChoice<B>> {
  const times = timesByLog(backups.map(({ frozenAt }) => frozenAt.getTime()));
  const rules = rulesOf(policy, Math.min(now, times.at(-1) ?? now));
  let hasNewerWhole = false;
  for (let index = backups.length - 1; index >= 0; index--) {
    const backup = backups[index] as B;
    const isBroken = backup.isBroken === true;
    const at = times[index] as number;
    let periods: Periods | undefined;
    const periodsOf = () => {
      periods ??= policy.calendar.periods(at); // When a rule first asks for them.
      return periods;
    };
    const keptBy: KeptBy[] = rules.filter((rule) => rule.keeps(at, periodsOf, isBroken)).map(({ name }) => name);
    // @mutation newest-is-kept
    if (index === backups.length - 1) keptBy.push('newest');
    // @mutation newest-whole-is-kept
    if (!hasNewerWhole) keptBy.push(isBroken ? 'no newer whole' : 'newest whole');
    if (backup.isHeld === true) keptBy.push('held');
    hasNewerWhole ||= !isBroken;
    yield { backup, keptBy };
  }
}

interface Rule {
  readonly name: RuleName;
  /** This is called once for each backup, the newest first. */
  keeps(at: number, periods: () => Periods, isBroken: boolean): boolean;
}

function rulesOf({ counts, keepWithinMs }: CheckedPolicy, reference: number): Rule[] {
  const rules: Rule[] = [];
  for (const [name, count] of counts) {
    const seen = new Set<string>();
    let given = 0;
    const keeps = (_at: number, periods: () => Periods, isBroken: boolean) => {
      if (seen.size === count) return false;
      const period = name === 'keepLast' ? String(given++) : periods()[PERIOD_OF[name]];
      if (seen.has(period)) return false;
      if (!isBroken) seen.add(period);
      return true;
    };
    rules.push({ name, keeps });
  }
  if (keepWithinMs !== undefined) {
    rules.push({ name: 'keepWithin', keeps: (at) => reference - at <= keepWithinMs });
  }
  return rules;
}

/**
 * The times of one volume's backups, with those corrected that contradict the order of the log.
 *
 * A time is only what some host's clock showed, while the order of the log is certain. The longest series of times that agrees
 * with that order is trusted. A time between two trusted ones that is not within them came from a clock that was wrong for a
 * while, and is replaced by the nearer of the two. Times before the first and after the last trusted one stay as they are: the
 * order does not show which clock was wrong, and a clock that was finally set right must not move all earlier backups into
 * one period.
 *
 * @param times - milliseconds since 1970, oldest commit first
 */
export function timesByLog(times: readonly number[]): number[] {
  const trusted = longestAscending(times);
  const corrected = [...times];
  for (let index = 1; index < trusted.length; index++) {
    const [from, to] = [trusted[index - 1] as number, trusted[index] as number];
    for (let at = from + 1; at < to; at++) {
      corrected[at] = Math.min(times[to] as number, Math.max(times[from] as number, times[at] as number));
    }
  }
  return corrected;
}

/** The indexes of a longest series that never descends, found by patience sorting in O(n log n). */
function longestAscending(values: readonly number[]): number[] {
  /** At index n: the index of the least value that ends a series of length n + 1. */
  const ends: number[] = [];
  const before: (number | undefined)[] = [];
  for (const [index, value] of values.entries()) {
    let low = 0;
    let high = ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((values[ends[middle] as number] as number) <= value) low = middle + 1;
      else high = middle;
    }
    before[index] = ends[low - 1];
    ends[low] = index;
  }
  const series: number[] = [];
  for (let at = ends.at(-1); at !== undefined; at = before[at]) series.push(at);
  return series.reverse();
}

/** The periods of one instant. Two instants belong to the same period exactly when the texts are equal. */
interface Periods {
  /** It includes the offset from UTC, so that the hour that clocks show twice when daylight saving ends counts as two. */
  readonly hour: string;
  readonly day: string;
  /** As in ISO 8601, weeks begin on Monday and belong to the year of their Thursday. */
  readonly week: string;
  readonly month: string;
  readonly year: string;
}

const DAY_MS = 86_400_000;
/** A `Date` can hold instants up to this far before and after 1970. */
const MAX_DATE_MS = 8.64e15;

/** The calendar and clock of one time zone: to which hour, day, week, month and year an instant belongs. */
class LocalCalendar {
  readonly #format: Intl.DateTimeFormat;

  /**
   * @param timeZone - an IANA name, such as `Europe/Vienna`, or `UTC`
   * @throws TypeError if there is no time zone of that name
   */
  constructor(timeZone: unknown) {
    if (typeof timeZone !== 'string' || timeZone.length === 0) {
      throw new TypeError('timeZone must be the IANA name of a time zone, such as Europe/Vienna');
    }
    try {
      this.#format = new Intl.DateTimeFormat('en-u-ca-gregory-nu-latn', {
        timeZone,
        hourCycle: 'h23',
        year: 'numeric',
        month: '2-digit',
        day: '2-digit',
        hour: '2-digit',
        timeZoneName: 'longOffset',
        era: 'short',
      });
    } catch (cause) {
      const message = `timeZone must be the IANA name of a time zone, such as Europe/Vienna, not ${JSON.stringify(timeZone)}`;
      throw new TypeError(message, { cause });
    }
  }

  /** @param at - milliseconds since 1970; a time that no `Date` can hold counts as the nearest one that it can hold */
  periods(at: number): Periods {
    const instant = Math.min(MAX_DATE_MS, Math.max(-MAX_DATE_MS, at));
    const parts: Partial<Record<Intl.DateTimeFormatPartTypes, string>> = {};
    for (const { type, value } of this.#format.formatToParts(instant)) parts[type] = value;
    const year = `${parts.era} ${parts.year}`;
    const month = `${year}-${parts.month}`;
    const day = `${month}-${parts.day}`;
    const isBefore = parts.era?.startsWith('B') === true;
    const week = isoWeek(
      isBefore ? 1 - Number(parts.year) : Number(parts.year),
      Number(parts.month),
      Number(parts.day),
    );
    return { hour: `${day} ${parts.hour} ${parts.timeZoneName}`, day, week, month, year };
  }
}

/** The ISO week of a date in the proleptic Gregorian calendar. */
function isoWeek(year: number, month: number, day: number): string {
  const midnight = new Date(0);
  midnight.setUTCFullYear(year, month - 1, day); // `Date.UTC` would read years below 100 as years of the 20th century.
  const days = Math.round(midnight.getTime() / DAY_MS);
  const sinceMonday = (((days + 3) % 7) + 7) % 7; // 1970-01-01 was a Thursday.
  const thursday = new Date((days - sinceMonday + 3) * DAY_MS);
  const newYear = new Date(0);
  newYear.setUTCFullYear(thursday.getUTCFullYear(), 0, 1);
  const dayOfYear = Math.round((thursday.getTime() - newYear.getTime()) / DAY_MS);
  return `${thursday.getUTCFullYear()}-W${Math.floor(dayOfYear / 7) + 1}`;
}
