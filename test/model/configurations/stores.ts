/** Stores that are swapped or set back. */
import type { Model } from '../explore.ts';
import type { Named } from '../named.ts';
import type { Rule } from '../rules.ts';
import { type StoresConfiguration, storesModel } from '../stores.ts';

function stores(
  name: string,
  about: string,
  takeOut: readonly Rule[],
  configuration: StoresConfiguration,
  rest: Partial<Named> = {},
): Named {
  const build = (without: readonly Rule[]) => storesModel(configuration, without) as Model<unknown>;
  return { name, about, isSmall: true, takeOut: takeOut.map((rule) => [rule]), build, ...rest };
}

export const STORES: readonly Named[] = [
  stores(
    'vanished-store',
    'The store vanishes under two writers, and an empty one or an old copy is in its place; listings may lack something.',
    ['P5.confirm', 'P5.whole', 'P5.twice', 'P5.unknown'],
    { jobs: [1, 1], swaps: 2, lies: 2 },
  ),
  stores(
    'set-back',
    'The store is set back, and others go on from there in another way.',
    ['P5.tag', 'P5.ownTag', 'P5.between'],
    {
      jobs: [2, 2],
      swaps: 1,
      lies: 0,
    },
  ),
  stores(
    'vanished-store-more',
    'The same with commits that are late, and more jobs.',
    [],
    { jobs: [2, 1], swaps: 2, lies: 2, isLate: true },
    { isSmall: false },
  ),
  stores(
    'limit-set-back-while-writing',
    'A writer that was not stopped when the store was set back breaks the log before it notices.',
    [],
    { jobs: [1], swaps: 1, lies: 0, isStrict: true },
    { isLimit: true },
  ),
];
