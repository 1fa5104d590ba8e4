import fc from 'fast-check';
import type { Content } from './guest.ts';
import type { Mishap } from './mishaps.ts';

/** What histories are made of. Choices are numbers that are taken modulo what there is, so that every step fits every history. */

const pick = fc.nat(11);
const unit = fc.nat(999).map((thousandths) => thousandths / 1000);

const write = fc.record({
  at: unit,
  bytes: fc.oneof({ weight: 3, arbitrary: fc.integer({ min: 1, max: 20_000 }) }, fc.integer({ min: 1, max: 120_000 })),
  content: fc.constantFrom<Content[]>('fresh', 'fresh', 'fresh', 'zeroes', 'alike', 'same'),
});
const writes = fc.array(write, { maxLength: 6 });

const mishap: fc.Arbitrary<Mishap | undefined> = fc.option(
  fc.record({
    after: fc.oneof(fc.nat(4), fc.nat(14)),
    times: fc.constantFrom(1, 1, 1, 2, 1000),
    kind: fc.constantFrom<Mishap['kind'][]>('fail-before', 'fail-after', 'never-answer', 'truncate', 'corrupt'),
  }),
  { nil: undefined, freq: 2 }, // Every third goes well.
);

const onto = { host: pick, volume: pick };
const how = {
  base: fc.constantFrom<('latest' | 'none' | 'any')[]>('latest', 'latest', 'latest', 'latest', 'none', 'any'),
  takeOver: fc.boolean(),
  pick,
};

const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('write' as const), volume: pick, writes }) },
  {
    weight: 9,
    arbitrary: fc.record({
      do: fc.constant('backup' as const),
      ...onto,
      ...how,
      before: writes,
      during: writes,
      mishap,
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('begin' as const), ...onto, ...how, mishap }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('finish' as const), pick, mishap }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('cancel' as const, 'pause' as const), pick, mishap }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('group' as const), host: pick, volume: pick, writes, mishap }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('forget' as const), host: pick, mask: fc.nat(255), mishap }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('retain' as const),
      host: pick,
      keepLast: fc.integer({ min: 1, max: 3 }),
      mishap,
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('prune' as const),
      host: pick,
      repackBelow: fc.constantFrom(0, 0.5, 0.9, 1),
      packBytes: fc.constantFrom(5000, 30_000, 100_000),
      isPatient: fc.nat(5),
      mishap,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('view' as const), host: pick, pick, mishap }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('look' as const), pick, at: unit, mishap }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('restore' as const), host: pick, pick, other: pick, mishap }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('diff' as const), host: pick, pick, other: pick }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('remount' as const),
      volume: pick,
      blocks: fc.integer({ min: -9, max: 9 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('reopen' as const, 'die' as const), host: pick }) },
);

export type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;
export type StepOf<Do extends Step['do']> = Extract<Step, { do: Do }>;

/** At 40 steps runs are folded into trees, and what was moved is moved again. */
export const steps = (most: number) => fc.array(step, { minLength: 4, maxLength: most, size: 'max' });

/** What a history runs on. */
export const shape = fc.record({
  isEncrypted: fc.boolean(),
  seed: fc.nat(),
  blocks: fc.tuple(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 20, max: 100 })),
});
export type Shape = typeof shape extends fc.Arbitrary<infer S> ? S : never;
