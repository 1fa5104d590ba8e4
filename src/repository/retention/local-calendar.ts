/** Instants as the clocks and calendars of a time zone show them: which hour, day, week, month and year they belong to. */

/** Of one instant. Two instants belong to one period exactly when its texts are equal. */
export interface Periods {
  /** With the offset from UTC, so that the hour that a clock shows twice when daylight saving ends is two. */
  readonly hour: string;
  readonly day: string;
  /** ISO 8601: weeks begin on Monday, and belong to the year that has their Thursday. */
  readonly week: string;
  readonly month: string;
  readonly year: string;
}

const DAY_MS = 86_400_000;
/** The first and the last instant that a `Date` can hold. */
const MAX_DATE_MS = 8.64e15;

/** Reads instants in one time zone. */
export class LocalCalendar {
  readonly #format: Intl.DateTimeFormat;

  /**
   * @param timeZone - an IANA name, such as `Europe/Vienna`, or `UTC`
   * @throws TypeError for a name that is none
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

  /** @param at - milliseconds since 1970; what no `Date` holds counts as the nearest instant that one does */
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

/** Of a date in the proleptic Gregorian calendar. */
function isoWeek(year: number, month: number, day: number): string {
  const midnight = new Date(0);
  midnight.setUTCFullYear(year, month - 1, day); // `Date.UTC` takes years below 100 for those of the 20th century.
  const days = Math.round(midnight.getTime() / DAY_MS);
  const sinceMonday = (((days + 3) % 7) + 7) % 7; // 1970-01-01 was a Thursday.
  const thursday = new Date((days - sinceMonday + 3) * DAY_MS);
  const newYear = new Date(0);
  newYear.setUTCFullYear(thursday.getUTCFullYear(), 0, 1);
  const dayOfYear = Math.round((thursday.getTime() - newYear.getTime()) / DAY_MS);
  return `${thursday.getUTCFullYear()}-W${Math.floor(dayOfYear / 7) + 1}`;
}
