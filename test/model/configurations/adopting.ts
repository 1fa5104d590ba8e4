/** Sessions that die, and whose packs the next ones adopt by listing them. */
import type { AdoptingConfiguration } from '../adopter-turn.ts';
import { adoptingModel } from '../adopting.ts';
import type { Model } from '../explore.ts';
import type { Named } from '../named.ts';
import type { Rule } from '../rules.ts';

function adopting(
  name: string,
  about: string,
  takeOut: readonly (Rule | readonly Rule[])[],
  configuration: AdoptingConfiguration,
  isSmall = true,
): Named {
  const build = (without: readonly Rule[]) => adoptingModel(configuration, without) as Model<unknown>;
  return { name, about, isSmall, takeOut: takeOut.map((rules) => [rules].flat()), build };
}

export const ADOPTING: readonly Named[] = [
  adopting(
    'adopted-twice',
    'Two sessions of a volume die one after the other, and the third one adopts both.',
    ['L12.all', 'L12.fence', ['L12.spared', 'L12.checked']],
    { adopters: [{ crashes: 2, packs: 1 }], collections: 2, isLate: false },
  ),
  adopting(
    'adopted-long-ago',
    'A session whose packs were condemned, deleted and dropped; its writer remembers it.',
    ['L12.listed'],
    { adopters: [{ crashes: 1 }], collections: 3 },
  ),
  adopting('adopted-and-deleted', 'A writer that was fenced wakes up, and wants to tidy.', ['L13.named'], {
    adopters: [{ mayAbort: true }, {}],
    collections: 1,
  }),
  adopting('adopted-group', 'A group dies, and backups of its volumes adopt it one after the other, or at once.', [], {
    adopters: [{ volumes: 'xy' }, { volumes: 'x' }, { volumes: 'y' }],
    collections: 2,
  }),
  adopting(
    'adopted-group-crashes',
    'The same, where those that adopt it crash too, and packs land late.',
    [],
    {
      adopters: [
        { volumes: 'xy', crashes: 1 },
        { volumes: 'x', crashes: 1 },
        { volumes: 'y', crashes: 1 },
      ],
      collections: 2,
      isLate: true,
    },
    false,
  ),
  adopting(
    'adopting-more',
    'Two adopters, one of which crashes and aborts; packs land late, and collections.',
    [],
    { adopters: [{ crashes: 1, mayAbort: true, jobs: 2 }, {}], collections: 3, isLate: true },
    false,
  ),
  adopting(
    'adopting-crashes',
    'Two adopters that both crash, with two packs each.',
    [],
    {
      adopters: [
        { crashes: 1, packs: 2 },
        { crashes: 1, packs: 2 },
      ],
      collections: 2,
    },
    false,
  ),
];
