/**
 * The rules of the repository protocol, and of the crash protocol, hold in every reachable state of the small configurations, and
 * each rule is needed: with it taken out, the same configuration breaks. `npm run soak:model` explores the larger ones too,
 * each to 5 million states at most; see README.md.
 */
import { describe, expect, it } from 'vitest';
import { SWEEPS_ALL } from '../support/randomness.ts';
import { CONFIGURATIONS } from './configurations.ts';
import { explore } from './explore.ts';
import { RULES } from './rules.ts';

for (const { name, about, isSmall, isLimit, takeOut, build } of CONFIGURATIONS) {
  if (!isSmall && takeOut.length === 0 && !SWEEPS_ALL) continue;
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
    if (!isSmall && SWEEPS_ALL) {
      it('nothing goes wrong as far as it is explored', () => {
        expect(explore(build([]), { maxStates: 5_000_000 }).violation).toBeUndefined();
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
