import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  applyPolicy,
  checkPolicy,
  type Dated,
  type RetentionPolicy,
  timesByLog,
} from '../../../src/repository/retention/retention-policy.ts';
import { property } from '../../support/randomness.ts';

const at = (iso: string) => ({ frozenAt: new Date(iso) });
const NOW = Date.UTC(2030, 0, 1);
const choicesOf = <B extends Dated>(policy: RetentionPolicy, backups: readonly B[], now = NOW) => [
  ...applyPolicy(checkPolicy(policy), backups, now),
];
const keptOf = (policy: RetentionPolicy, ...isos: string[]) =>
  choicesOf(policy, isos.map(at))
    .filter(({ keptBy }) => keptBy.length > 0)
    .map(({ backup }) => backup.frozenAt.toISOString().slice(0, 16));

describe('a retention policy', () => {
  test('keeps the last so many in the order of the log, whatever their times say', () => {
    expect(keptOf({ keepLast: 2 }, '2026-01-01T00:00Z', '2026-01-03T00:00Z', '2026-01-02T00:00Z')).toEqual([
      '2026-01-02T00:00',
      '2026-01-03T00:00',
    ]);
  });

  test('keeps the newest of each of the newest days that have one, and days without one do not count', () => {
    const backups = [
      '2026-03-01T01:00Z',
      '2026-03-01T23:00Z',
      '2026-03-05T08:00Z',
      '2026-03-09T00:00Z',
      '2026-03-09T00:01Z',
    ];
    expect(keptOf({ keepDaily: 3 }, ...backups)).toEqual(['2026-03-09T00:01', '2026-03-05T08:00', '2026-03-01T23:00']);
    expect(keptOf({ keepDaily: 2 }, ...backups)).toEqual(['2026-03-09T00:01', '2026-03-05T08:00']);
  });

  test('counts hours, months and years likewise', () => {
    const backups = ['2024-12-31T23:59Z', '2025-01-01T00:00Z', '2025-01-01T00:59Z', '2025-02-01T00:00Z'];
    expect(keptOf({ keepHourly: 2 }, ...backups)).toEqual(['2025-02-01T00:00', '2025-01-01T00:59']);
    expect(keptOf({ keepMonthly: 3 }, ...backups)).toEqual([
      '2025-02-01T00:00',
      '2025-01-01T00:59',
      '2024-12-31T23:59',
    ]);
    expect(keptOf({ keepYearly: 5 }, ...backups)).toEqual(['2025-02-01T00:00', '2024-12-31T23:59']);
  });

  test('begins weeks on Monday, also across the turn of a year', () => {
    // 2024-12-30 is the Monday of week 1 of 2025; 2024-12-29 belongs to week 52 of 2024.
    const backups = ['2024-12-29T12:00Z', '2024-12-30T00:00Z', '2025-01-05T23:59Z', '2025-01-06T00:00Z'];
    expect(keptOf({ keepWeekly: 9 }, ...backups)).toEqual(['2025-01-06T00:00', '2025-01-05T23:59', '2024-12-29T12:00']);
  });

  test('keeps what any of its rules keeps, and says which', () => {
    const choices = choicesOf({ keepLast: 1, keepDaily: 2 }, [at('2026-01-01T00:00Z'), at('2026-01-02T00:00Z')]);
    expect(choices.map(({ keptBy }) => keptBy)).toEqual([
      ['keepLast', 'keepDaily', 'newest', 'newest whole'],
      ['keepDaily'],
    ]);
  });

  test('that keeps nothing, or is no policy, is a TypeError', () => {
    for (const policy of [
      {},
      { keepLast: 0 },
      { keepDaily: -1 },
      { keepLast: 1.5 },
      { keepYearly: Number.NaN },
      { keepWithin: 0 },
      { keepWithin: '7d' },
      { timeZone: 'UTC' },
      { keepLast: 1, timeZone: 'Nowhere/At_all' },
      { keepLast: 1, keepWekly: 1 },
      [1],
    ]) {
      expect(() => checkPolicy(policy as RetentionPolicy)).toThrow(TypeError);
    }
  });

  test('always keeps the newest, never more of a rule than it says, and keeps the same when it is applied again', () => {
    const policies = fc.record({
      keepLast: fc.nat(3),
      keepDaily: fc.nat(5),
      keepWeekly: fc.nat(3),
      keepYearly: fc.integer({ min: 1, max: 3 }),
    });
    const dates = fc.array(fc.date({ min: new Date('2019-01-01'), max: new Date('2027-01-01'), noInvalidDate: true }), {
      minLength: 1,
      maxLength: 60,
    });
    fc.assert(
      fc.property(policies, dates, (policy, instants) => {
        const choices = choicesOf(
          policy,
          instants.toSorted((a, b) => a.getTime() - b.getTime()).map((frozenAt) => ({ frozenAt })),
        );
        expect(choices[0]?.keptBy.length).toBeGreaterThan(0);
        for (const rule of ['keepLast', 'keepDaily', 'keepWeekly', 'keepYearly'] as const) {
          expect(choices.filter(({ keptBy }) => keptBy.includes(rule)).length).toBeLessThanOrEqual(policy[rule]);
        }
        const kept = choices.filter(({ keptBy }) => keptBy.length > 0).map(({ backup }) => backup);
        expect(choicesOf(policy, kept.reverse()).every(({ keptBy }) => keptBy.length > 0)).toBe(true);
      }),
      property(),
    );
  });

  test('goes by the calendar of a time zone, with the hour that daylight saving repeats as two', () => {
    // Vienna is at UTC+2 until 2026-10-25T01:00Z, then at UTC+1.
    const backups = [
      '2026-10-24T21:59Z',
      '2026-10-24T22:01Z',
      '2026-10-25T00:30Z',
      '2026-10-25T01:30Z',
      '2026-10-25T22:59Z',
    ];
    const timeZone = 'Europe/Vienna';
    expect(keptOf({ keepDaily: 9, timeZone }, ...backups)).toEqual(['2026-10-25T22:59', '2026-10-24T21:59']);
    expect(keptOf({ keepDaily: 9 }, ...backups)).toEqual(['2026-10-25T22:59', '2026-10-24T22:01']);
    expect(keptOf({ keepHourly: 9, timeZone }, ...backups)).toEqual([
      '2026-10-25T22:59',
      '2026-10-25T01:30',
      '2026-10-25T00:30',
      '2026-10-24T22:01',
      '2026-10-24T21:59',
    ]);
    // Sunday evening in UTC is Monday morning in Auckland.
    const turn = ['2026-03-01T10:00Z', '2026-03-01T12:00Z'];
    expect(keptOf({ keepWeekly: 2, timeZone: 'Pacific/Auckland' }, ...turn).length).toBe(2);
    expect(keptOf({ keepWeekly: 2 }, ...turn).length).toBe(1);
  });

  test('knows the half hours and the days that a time zone repeats and leaves out', () => {
    const berlin = { timeZone: 'Europe/Berlin' };
    // 2026-03-29 has no hour from 2 to 3: what is two hours apart on the clock is one.
    expect(keptOf({ keepHourly: 9, ...berlin }, '2026-03-29T00:59Z', '2026-03-29T01:00Z').length).toBe(2);
    expect(keptOf({ keepDaily: 9, ...berlin }, '2026-03-28T23:00Z', '2026-03-29T21:59Z').length).toBe(1);
    expect(keptOf({ keepDaily: 9, ...berlin }, '2026-03-28T22:59Z', '2026-03-29T22:00Z').length).toBe(2);
    // Lord Howe goes back by half an hour, from 2:00 at UTC+11 to 1:30 at UTC+10:30.
    const lordHowe = { timeZone: 'Australia/Lord_Howe' };
    const half = ['2026-04-04T14:40Z', '2026-04-04T15:10Z', '2026-04-04T15:35Z'];
    expect(keptOf({ keepHourly: 9, ...lordHowe }, ...half).length).toBe(3);
    expect(keptOf({ keepHourly: 9 }, ...half).length).toBe(2);
    // Apia left 2011-12-30 out: the day after the 29th is the 31st, and a week of seven names has six days.
    const apia = { timeZone: 'Pacific/Apia' };
    const skipped = ['2011-12-30T09:59Z', '2011-12-30T10:01Z', '2011-12-31T09:59Z', '2011-12-31T10:01Z'];
    expect(keptOf({ keepDaily: 9, ...apia }, ...skipped)).toEqual([
      '2011-12-31T10:01',
      '2011-12-31T09:59',
      '2011-12-30T09:59',
    ]);
    expect(keptOf({ keepYearly: 9, ...apia }, ...skipped).length).toBe(2);
  });

  test('keeps by duration what clocks of the future stamped, and no less of the rest for it', () => {
    const day = 86_400_000;
    const keptAt = (now: string, ...backups: string[]) =>
      choicesOf({ keepWithin: 2 * day }, backups.map(at), Date.parse(now))
        .filter(({ keptBy }) => keptBy.includes('keepWithin'))
        .map(({ backup }) => backup.frozenAt.toISOString().slice(0, 10));
    const days = ['2026-01-06T00:00Z', '2026-01-09T00:00Z', '2026-01-10T00:00Z'];
    const now = '2026-01-10T01:00Z';
    expect(keptAt(now, ...days)).toEqual(['2026-01-10', '2026-01-09']);
    expect(keptAt(now, ...days, '2036-01-10T00:00Z')).toEqual(['2036-01-10', '2026-01-10', '2026-01-09']);
    // Between others its place in the log says when it was made.
    expect(keptAt(now, '2026-01-05T00:00Z', '2036-01-01T00:00Z', ...days)).toEqual(['2026-01-10', '2026-01-09']);
    // A host of the future that applies the policy, and one of the past.
    expect(keptAt('2036-01-10T00:00Z', ...days)).toEqual(['2026-01-10', '2026-01-09']);
    expect(keptAt('1970-01-01T00:00Z', ...days)).toEqual(['2026-01-10', '2026-01-09', '2026-01-06']);
  });

  test('keeps what is within a duration of now, or of the newest where that is older', () => {
    const day = 86_400_000;
    const backups = [at('2026-01-01T00:00Z'), at('2026-01-08T00:00Z'), at('2026-01-10T00:00Z')];
    const count = (now: string) =>
      choicesOf({ keepWithin: 2 * day }, backups, Date.parse(now)).filter(({ keptBy }) => keptBy.length > 0).length;
    expect(count('2026-01-10T01:00Z')).toBe(2);
    expect(count('2029-01-10T01:00Z')).toBe(2);
    expect(count('2026-01-02T00:00Z')).toBe(3);
  });

  test('gives the places of its rules to whole backups; a broken one stands in only where there is no whole one', () => {
    const day = (iso: string, isBroken: boolean) => ({ ...at(iso), isBroken });
    const backups = [
      day('2026-01-01T00:00Z', false),
      day('2026-01-02T00:00Z', true),
      day('2026-01-03T00:00Z', false),
      day('2026-01-03T12:00Z', true),
      day('2026-01-04T00:00Z', false),
      day('2026-01-05T00:00Z', true),
    ];
    const kept = (policy: RetentionPolicy) =>
      choicesOf(policy, backups)
        .filter(({ keptBy }) => keptBy.length > 0)
        .map(({ backup }) => backups.indexOf(backup));
    expect(kept({ keepLast: 1 })).toEqual([5, 4]);
    expect(kept({ keepDaily: 1 })).toEqual([5, 4]);
    expect(kept({ keepDaily: 3 })).toEqual([5, 4, 3, 2, 1, 0]);
    expect(kept({ keepYearly: 1 })).toEqual([5, 4]);
  });

  test('keeps the newest whole backup below broken ones, however old it is', () => {
    const backups = [
      { ...at('2025-01-01T00:00Z'), isBroken: false },
      { ...at('2025-02-01T00:00Z'), isBroken: false },
      { ...at('2026-01-01T00:00Z'), isBroken: true },
    ];
    const choices = choicesOf({ keepWithin: 86_400_000 }, backups);
    expect(choices.map(({ keptBy }) => keptBy.length > 0)).toEqual([true, true, false]);
  });

  test('of thousands of backups with any times takes no longer than their number', () => {
    const backups = Array.from({ length: 20_000 }, (_, index) => ({ frozenAt: new Date((index * 7919) % 1_000_003) }));
    expect(choicesOf({ keepLast: 5 }, backups).filter(({ keptBy }) => keptBy.length > 0).length).toBe(5);
  });
});

describe('the times of backups in the order of the log', () => {
  test.each([
    { times: [1, 2, 99, 3, 4], corrected: [1, 2, 3, 3, 4] },
    { times: [5, 6, 0, 7, 8], corrected: [5, 6, 6, 7, 8] },
    { times: [1, 2, 3, 0], corrected: [1, 2, 3, 0] },
    { times: [100, 101, 102, 1, 2], corrected: [100, 101, 102, 1, 2] },
    { times: [], corrected: [] },
  ])('$times are taken for $corrected', ({ times, corrected }) => {
    expect(timesByLog(times)).toEqual(corrected);
  });
});
