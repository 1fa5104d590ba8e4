/** A state in two parts: pages beside mergers, forgets, collections, incrementals and readers. */
import { catalogueModel } from '../catalogue.ts';
import type { CatalogueConfiguration } from '../catalogue-state.ts';
import type { Model } from '../explore.ts';
import type { Named } from '../named.ts';
import type { Rule } from '../rules.ts';

function catalogue(
  name: string,
  about: string,
  takeOut: readonly Rule[],
  configuration: CatalogueConfiguration,
  isSmall = true,
): Named {
  const build = (without: readonly Rule[]) => catalogueModel(configuration, without) as Model<unknown>;
  return { name, about, isSmall, takeOut: takeOut.map((rule) => [rule]), build };
}

export const CATALOGUE: readonly Named[] = [
  catalogue(
    'two-mergers',
    'Two writers of different volumes merge pages, while a backup is forgotten.',
    ['L8.listed', 'L8.rows', 'L8.live'],
    {
      backups: [0, 1],
      pages: [[1]],
      forgets: [1, 2],
      collections: 1,
      roles: [
        { kind: 'writer', volume: 0, merges: 'all' },
        { kind: 'writer', volume: 1, merges: 'all' },
      ],
    },
  ),
  catalogue(
    'page-of-a-stray',
    'A page is made of a state with a stray commit, whose number another backup gets.',
    ['L8.identity'],
    {
      backups: [0, 1],
      pages: [],
      forgets: [1],
      roles: [
        { kind: 'writer', volume: 0, merges: 'rows', hasStray: true },
        { kind: 'writer', volume: 1 },
      ],
    },
  ),
  catalogue(
    'forgotten-base',
    'The base of an incremental is forgotten and merged away while its session is open; the head is forgotten.',
    ['L9.base', 'L9.head'],
    {
      backups: [0, 0],
      pages: [[2]],
      forgets: [1, 2],
      collections: 2,
      roles: [
        { kind: 'writer', volume: 0, isIncremental: true },
        { kind: 'writer', volume: 1, merges: 'all' },
      ],
    },
  ),
  catalogue('known-long-ago', 'A writer knew a pack that was condemned, deleted and dropped since.', ['L10.known'], {
    backups: [0, 1],
    pages: [[1]],
    forgets: [1],
    collections: 2,
    roles: [{ kind: 'writer', volume: 1, wants: 1 }],
  }),
  catalogue('page-reader', 'A reader lists all backups while pages are merged and deleted.', ['L11.again'], {
    backups: [0, 0],
    pages: [[1], [2]],
    collections: 1,
    roles: [{ kind: 'reader' }, { kind: 'writer', volume: 0, merges: 'all' }],
  }),
  catalogue(
    'catalogue-more',
    'An incremental that moves rows, a writer that merges pages and knew a pack, forgets, collections, and a reader.',
    [],
    {
      backups: [0, 1],
      pages: [[1]],
      forgets: [1, 2],
      collections: 2,
      roles: [
        { kind: 'writer', volume: 0, isIncremental: true, merges: 'rows' },
        { kind: 'writer', volume: 1, merges: 'all', wants: 1 },
        { kind: 'reader' },
      ],
    },
    false,
  ),
  catalogue(
    'catalogue-twice',
    'Two writers with two jobs each, which merge all pages.',
    [],
    {
      backups: [0, 1],
      pages: [[1]],
      forgets: [1, 2],
      collections: 1,
      roles: [
        { kind: 'writer', volume: 0, isIncremental: true, merges: 'all', jobs: 2 },
        { kind: 'writer', volume: 1, merges: 'all' },
      ],
    },
    false,
  ),
];
