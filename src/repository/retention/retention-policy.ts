import { integerArgument } from '../../common/arguments.ts';

/**
 * Which backups of one volume to keep, as restic's users know it: for each rule, the newest backup of each of the newest
 * so many hours, days, ISO weeks, months and years that have one. A backup that any rule keeps is kept. Periods are UTC's,
 * so that every host decides alike.
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
}

/** What a rule sees of a backup. */
export interface Dated {
  readonly frozenAt: Date;
}

/** What is to become of a backup, and by which rules. */
export interface RetentionChoice<B extends Dated> {
  readonly backup: B;
  /** Names of the rules that keep it; none: it goes. */
  readonly keptBy: readonly (keyof RetentionPolicy)[];
}

const MAX_KEPT = 1_000_000;
const DAY_MS = 86_400_000;

/** For each rule, which period an instant belongs to; `undefined`: each backup is a period of its own. */
const PERIODS: Readonly<Record<keyof RetentionPolicy, ((at: Date) => string) | undefined>> = {
  keepLast: undefined,
  keepHourly: (at) => at.toISOString().slice(0, 13),
  keepDaily: (at) => at.toISOString().slice(0, 10),
  keepWeekly: isoWeek,
  keepMonthly: (at) => at.toISOString().slice(0, 7),
  keepYearly: (at) => at.toISOString().slice(0, 4),
};

/**
 * Applies a policy to the backups of one volume, given in any order; the answer is newest first.
 *
 * @throws TypeError for a policy that keeps nothing at all: that is no policy but a slip
 */
export function applyPolicy<B extends Dated>(policy: RetentionPolicy, backups: readonly B[]): RetentionChoice<B>[] {
  const rules = rulesOf(policy);
  const newestFirst = backups.toSorted((a, b) => b.frozenAt.getTime() - a.frozenAt.getTime());
  return newestFirst.map((backup, index) => ({
    backup,
    keptBy: rules.filter((rule) => rule.keeps(backup.frozenAt, index)).map(({ name }) => name),
  }));
}

interface Rule {
  readonly name: keyof RetentionPolicy;
  /** Called once for each backup, newest first. */
  keeps(at: Date, index: number): boolean;
}

function rulesOf(policy: RetentionPolicy): Rule[] {
  const rules: Rule[] = [];
  for (const name of Object.keys(PERIODS) as (keyof RetentionPolicy)[]) {
    const count = integerArgument(name, policy[name] ?? 0, 0, MAX_KEPT);
    if (count === 0) continue;
    const seen = new Set<string>();
    const period = PERIODS[name] ?? ((_: Date, index: number) => String(index));
    const keeps = (at: Date, index: number) => {
      const key = period(at, index);
      if (seen.has(key) || seen.size === count) return false;
      seen.add(key);
      return true;
    };
    rules.push({ name, keeps });
  }
  if (rules.length === 0) throw new TypeError('a retention policy must keep something');
  return rules;
}

/** Year and number of an ISO 8601 week: weeks begin on Monday, and belong to the year that has their Thursday. */
function isoWeek(at: Date): string {
  const days = Math.floor(at.getTime() / DAY_MS);
  const mondayBased = (days + 3) % 7; // 1970-01-01 was a Thursday.
  const thursday = new Date((days - mondayBased + 3) * DAY_MS);
  const dayOfYear = Math.floor((thursday.getTime() - Date.UTC(thursday.getUTCFullYear(), 0, 1)) / DAY_MS);
  return `${thursday.getUTCFullYear()}-W${Math.floor(dayOfYear / 7) + 1}`;
}
