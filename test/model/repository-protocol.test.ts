/**
 * The rules of the repository protocol hold in every reachable state of the small configurations, and
 * each rule is needed: with it taken out, the same configuration breaks. Larger ones: see README.md.
 */
import { describe, expect, it } from 'vitest';
import { CONFIGURATIONS } from './configurations.ts';
import { explore } from './explore.ts';
import { RULES } from './rules.ts';

for (const { name, about, isSmall, isLimit, takeOut, build } of CONFIGURATIONS) {
  if (!isSmall && takeOut.length === 0) continue;
  describe(`${name}: ${about}`, () => {
    if (isLimit) {
      it('is a limit that the documentation admits', () => {
        expect(explore(build([])).violation).toBeDefined();
      });
      return;
    }
    if (isSmall) {
      it('nothing goes wrong in any reachable state', () => {
        const { violation, exhaustive } = explore(build([]));
        expect(violation).toBeUndefined();
        expect(exhaustive).toBe(true);
      });
    }
    for (const rules of takeOut) {
      it(`breaks without ${rules.join(' and ')}: ${rules.map((rule) => RULES[rule]).join('; ')}`, () => {
        expect(explore(build(rules), { maxStates: 1_000_000 }).violation?.trace.length).toBeGreaterThan(0);
      });
    }
  });
}

it('every rule is shown to be needed by some configuration', () => {
  const shown = new Set(CONFIGURATIONS.flatMap((configuration) => configuration.takeOut.flat()));
  expect(Object.keys(RULES).filter((rule) => !shown.has(rule as keyof typeof RULES))).toEqual([]);
});
