import { integerArgument, optionsArgument } from '../../common/arguments.ts';
import { LocalCalendar, type Periods } from './local-calendar.ts';
import { timesByLog } from './log-times.ts';

/**
 * Which backups of one volume to keep, as restic's users know it: for each rule, the newest backup of each of the newest
 * so many hours, days, ISO weeks, months and years that have one. A backup that any rule keeps is kept.
 *
 * Newer and older is what was committed later or earlier, whatever the clocks of hosts said; times only say which period a
 * backup belongs to. Whatever the policy says, a volume's newest backup, its newest whole one and held ones are kept.
 *
 * A rule is met by whole backups. One that lost blocks, or needs a pack that `verify` found damaged, takes no place of a
 * rule. It is kept while no newer whole backup exists; after that it stays only where it stands in a period that the rule
 * reaches and that has no whole backup.
 *
 * Source of the rules: restic, "Removing backup snapshots", https://restic.readthedocs.io/en/stable/060_forget.html
 *
 * @public
 */
export interface RetentionPolicy {
  /** The newest so many, whenever they were made. */
  keepLast?: number | undefined;
  keepHourly?: number | undefined;
  keepDaily?: number | undefined;
  keepWeekly?: number | undefined;
  keepMonthly?: number | undefined;
  keepYearly?: number | undefined;
  /**
   * All that were frozen within so many milliseconds before now, or before the volume's newest backup where that is older:
   * a volume that is backed up no more keeps its last ones.
   */
  keepWithin?: number | undefined;
  /**
   * The time zone by whose calendar and clock hours, days, weeks, months and years begin: an IANA name such as
   * `Europe/Vienna`. Give every host the same one. @defaultValue `UTC`
   */
  timeZone?: string | undefined;
}

/** What a rule sees of a backup. */
export interface Dated {
  readonly frozenAt: Date;
  /** Whether it is known to lack something. @defaultValue false */
  readonly isBroken?: boolean | undefined;
  /** Whether it must not be forgotten. @defaultValue false */
  readonly isHeld?: boolean | undefined;
}

type RuleName = Exclude<keyof RetentionPolicy, 'timeZone'>;

/** Why a backup is kept: the name of a rule, or what no policy overrules. */
export type KeptBy = RuleName | 'newest' | 'newest whole' | 'no newer whole' | 'held';

/** What is to become of a backup, and why. */
export interface RetentionChoice<B extends Dated> {
  readonly backup: B;
  /** Why it is kept; nothing: it goes. */
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

/** A policy that was checked. */
export interface CheckedPolicy {
  /** Most periods by rule; rules that keep nothing are left out. */
  readonly counts: ReadonlyMap<Exclude<RuleName, 'keepWithin'>, number>;
  readonly keepWithinMs: number | undefined;
  readonly calendar: LocalCalendar;
}

/** @throws TypeError, also for a policy that keeps nothing at all: that is no policy but a slip */
export function checkPolicy(policy: RetentionPolicy): CheckedPolicy {
  const { timeZone = 'UTC', keepWithin, ...rules } = optionsArgument('policy', policy, KNOWN_POLICY);
  const counts = new Map<Exclude<RuleName, 'keepWithin'>, number>();
  for (const name of ['keepLast', ...(Object.keys(PERIOD_OF) as (keyof typeof PERIOD_OF)[])] as const) {
    const { [name]: most = 0 } = rules;
    const count = integerArgument(name, most, 0, MAX_KEPT);
    if (count > 0) counts.set(name, count);
  }
  const keepWithinMs = keepWithin === undefined ? undefined : integerArgument('keepWithin', keepWithin, 1);
  if (counts.size === 0 && keepWithinMs === undefined) throw new TypeError('a retention policy must keep something');
  return { counts, keepWithinMs, calendar: new LocalCalendar(timeZone) };
}

/**
 * Applies a policy to the backups of one volume; the answer is newest first.
 *
 * @param backups - in the order of the log, oldest first
 * @param now - milliseconds since 1970, by the clock of who applies it
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
    const instant = new Instant(times[index] as number, policy.calendar);
    const keptBy: KeptBy[] = rules.filter((rule) => rule.keeps(instant, isBroken)).map(({ name }) => name);
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
  /** Called once for each backup, newest first. */
  keeps(instant: Instant, isBroken: boolean): boolean;
}

function rulesOf({ counts, keepWithinMs }: CheckedPolicy, reference: number): Rule[] {
  const rules: Rule[] = [];
  for (const [name, count] of counts) {
    const seen = new Set<string>();
    let given = 0;
    const keeps = (instant: Instant, isBroken: boolean) => {
      if (seen.size === count) return false;
      const period = name === 'keepLast' ? String(given++) : instant.periods[PERIOD_OF[name]];
      if (seen.has(period)) return false;
      if (!isBroken) seen.add(period);
      return true;
    };
    rules.push({ name, keeps });
  }
  if (keepWithinMs !== undefined) {
    rules.push({ name: 'keepWithin', keeps: ({ at }) => reference - at <= keepWithinMs });
  }
  return rules;
}

/** An instant of which the periods are looked up once, and only when a rule asks. */
class Instant {
  readonly at: number;
  readonly #calendar: LocalCalendar;
  #periods: Periods | undefined;

  constructor(at: number, calendar: LocalCalendar) {
    this.at = at;
    this.#calendar = calendar;
  }

  get periods(): Periods {
    this.#periods ??= this.#calendar.periods(this.at);
    return this.#periods;
  }
}
