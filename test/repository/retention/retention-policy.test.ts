import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { applyPolicy, type RetentionPolicy } from '../../../src/repository/retention/retention-policy.ts';

const at = (iso: string) => ({ frozenAt: new Date(iso) });
const keptOf = (policy: RetentionPolicy, ...isos: string[]) =>
  applyPolicy(policy, isos.map(at))
    .filter(({ keptBy }) => keptBy.length > 0)
    .map(({ backup }) => backup.frozenAt.toISOString().slice(0, 16));

describe('a retention policy', () => {
  test('keeps the last so many, in whatever order they are given', () => {
    expect(keptOf({ keepLast: 2 }, '2026-01-01T00:00Z', '2026-01-03T00:00Z', '2026-01-02T00:00Z')).toEqual([
      '2026-01-03T00:00',
      '2026-01-02T00:00',
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
    const choices = applyPolicy({ keepLast: 1, keepDaily: 2 }, [at('2026-01-02T00:00Z'), at('2026-01-01T00:00Z')]);
    expect(choices.map(({ keptBy }) => keptBy)).toEqual([['keepLast', 'keepDaily'], ['keepDaily']]);
  });

  test('that keeps nothing, or is no policy, is a TypeError', () => {
    for (const policy of [{}, { keepLast: 0 }, { keepDaily: -1 }, { keepLast: 1.5 }, { keepYearly: Number.NaN }]) {
      expect(() => applyPolicy(policy, [])).toThrow(TypeError);
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
        const choices = applyPolicy(
          policy,
          instants.map((frozenAt) => ({ frozenAt })),
        );
        expect(choices[0]?.keptBy.length).toBeGreaterThan(0);
        for (const rule of ['keepLast', 'keepDaily', 'keepWeekly', 'keepYearly'] as const) {
          expect(choices.filter(({ keptBy }) => keptBy.includes(rule)).length).toBeLessThanOrEqual(policy[rule]);
        }
        const kept = choices.filter(({ keptBy }) => keptBy.length > 0).map(({ backup }) => backup);
        expect(applyPolicy(policy, kept).every(({ keptBy }) => keptBy.length > 0)).toBe(true);
      }),
    );
  });
});
