/** Computes to which hour, day, week, month and year of a time zone an instant belongs. */

/** The periods of one instant. Two instants belong to the same period exactly when the texts are equal. */
export interface Periods {
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

/** The calendar and clock of one time zone. */
export class LocalCalendar {
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
