/** Pages that belong to checkpoints. */
import type { Model } from '../explore.ts';
import type { Named } from '../named.ts';
import { pagesModel } from '../pages.ts';
import type { PagesConfiguration } from '../pages-state.ts';
import type { Rule } from '../rules.ts';

function pages(
  name: string,
  about: string,
  takeOut: readonly (Rule | readonly Rule[])[],
  configuration: PagesConfiguration,
  rest: Partial<Named> = {},
): Named {
  const build = (without: readonly Rule[]) => pagesModel(configuration, without) as Model<unknown>;
  return { name, about, isSmall: true, takeOut: takeOut.map((rules) => [rules].flat()), build, ...rest };
}

const KEEPS = ['nothing'] as const;
const MERGES = ['all'] as const;
const EITHER = ['nothing', 'all'] as const;
const MIXED = ['hot', 'oldest', 'all'] as const;

const more = { isSmall: false };

export const PAGES: readonly Named[] = [
  pages(
    'two-lineages',
    'Two writers of checkpoints merge pages, a pruner moves the floor.',
    ['L8.number', 'L8.second', 'L8.lineage'],
    {
      volumes: [0],
      pages: [[1]],
      entries: ['n', 'n'],
      roles: [{ kind: 'writer', makes: [EITHER, KEEPS] }, { kind: 'writer', makes: [KEEPS] }, { kind: 'pruner' }],
    },
  ),
  pages('late-page', 'PUTs of pages and checkpoints are not answered, and land late or never.', ['L8.first'], {
    volumes: [0],
    pages: [[1]],
    entries: ['n', 'n'],
    lates: 1,
    roles: [{ kind: 'writer', makes: [EITHER, EITHER] }, { kind: 'pruner' }],
  }),
  pages('sleeping-merger', 'A writer sleeps with an old page while the floor moves twice.', ['L8.candidate'], {
    volumes: [0],
    pages: [[1]],
    checkpoints: [['2:1']],
    entries: ['n', 'n'],
    roles: [
      { kind: 'writer', makes: [MERGES] },
      { kind: 'writer', pages: ['1:1'], makes: [KEEPS] },
      { kind: 'pruner', jobs: 2 },
    ],
  }),
  pages('freed-number', 'Another checkpoint is created where that of a past floor was deleted.', ['L8.digest'], {
    volumes: [0],
    pages: [[1]],
    checkpoints: [['1:1']],
    entries: ['n'],
    roles: [
      { kind: 'writer', makes: [KEEPS, KEEPS] },
      { kind: 'writer', makes: [MERGES] },
      { kind: 'pruner', jobs: 2 },
    ],
  }),
  pages(
    'garbage-page',
    'An object of a page is garbage from the beginning, and its writer does not know; one is lost.',
    ['L8.readBack', 'L8.readBoth'],
    {
      volumes: [0],
      pages: [[1]],
      entries: ['n', 'n'],
      areTwice: true,
      garbage: 1,
      lostPages: 1,
      roles: [{ kind: 'writer', makes: [EITHER, EITHER] }, { kind: 'pruner' }],
    },
  ),
  pages('lost-page', 'An object of a page is lost, and both checkpoints name it.', ['L8.twice'], {
    volumes: [0],
    pages: [[1]],
    entries: ['n'],
    areTwice: true,
    lostPages: 1,
    roles: [{ kind: 'writer', makes: [EITHER] }, { kind: 'pruner', jobs: 2 }, { kind: 'reader' }],
  }),
  pages(
    'forgotten-base',
    'A base is forgotten and merged away while a session has it; the newest backup is forgotten.',
    ['L9.base', 'L9.head'],
    {
      volumes: [0, 0, 1],
      pages: [[1], [2]],
      entries: ['o2', 'f2', 'f1', 'c3', 'e2'],
      roles: [{ kind: 'writer', makes: [MIXED, MIXED] }],
    },
  ),
  pages(
    'page-reader',
    'A reader opens the state and reads its pages later, while the floor moves.',
    ['L11.again', 'L11.lower'],
    {
      volumes: [0],
      pages: [[1]],
      checkpoints: [['2:1'], ['2:1']],
      entries: ['n'],
      roles: [{ kind: 'writer', pages: ['1:1'], makes: [KEEPS] }, { kind: 'pruner' }, { kind: 'reader' }],
    },
  ),
  pages('lost-checkpoint-of-pages', 'A checkpoint is lost or damaged while the floor moves.', [], {
    volumes: [0],
    pages: [[1]],
    checkpoints: [['1:1']],
    entries: ['n'],
    accidents: 1,
    roles: [{ kind: 'writer', makes: [EITHER] }, { kind: 'pruner', jobs: 2 }, { kind: 'reader' }],
  }),
  pages(
    'page-reader-more',
    'The same with a writer that merges, and one whose checkpoint is late.',
    [],
    {
      volumes: [0],
      pages: [[1]],
      entries: ['n', 'n', 'n'],
      roles: [
        { kind: 'writer', makes: [EITHER, EITHER] },
        { kind: 'writer', makes: [KEEPS] },
        { kind: 'pruner' },
        { kind: 'reader' },
      ],
    },
    more,
  ),
  pages(
    'three-floors',
    'Two writers, two pruners, three floors.',
    [],
    {
      volumes: [0],
      pages: [[1]],
      entries: ['n', 'n', 'n'],
      roles: [
        { kind: 'writer', makes: [MERGES, MERGES] },
        { kind: 'writer', makes: [EITHER, KEEPS] },
        { kind: 'pruner', jobs: 2 },
        { kind: 'pruner' },
      ],
    },
    more,
  ),
  pages(
    'late-page-more',
    'Two late requests, and two hosts whose equal pages are one object.',
    [],
    {
      volumes: [0],
      pages: [[1]],
      entries: ['n', 'n'],
      lates: 2,
      areAlike: true,
      roles: [
        { kind: 'writer', makes: [EITHER, EITHER], reopens: true },
        { kind: 'writer', makes: [EITHER] },
        { kind: 'pruner', jobs: 2 },
      ],
    },
    more,
  ),
  pages(
    'pages-of-a-single-writer',
    'Nothing is create-only, and the key of a checkpoint ends in its digest.',
    ['P13.checkpointKeys'],
    {
      volumes: [0],
      pages: [[1]],
      entries: ['n', 'n'],
      lates: 1,
      isSingleWriter: true,
      roles: [
        { kind: 'writer', makes: [EITHER, EITHER], reopens: true },
        { kind: 'writer', makes: [EITHER] },
        { kind: 'pruner', jobs: 2 },
      ],
    },
    more,
  ),
  pages(
    'rows-and-floors',
    'Rows are committed and forgotten, and a session pins one, while the floor moves.',
    [],
    {
      volumes: [0, 0, 0],
      pages: [[1], [2]],
      entries: ['o2', 'f2', 'c3', 'e2'],
      roles: [
        { kind: 'writer', makes: [MIXED, MIXED], reopens: true },
        { kind: 'writer', makes: [EITHER] },
        { kind: 'pruner', jobs: 2 },
      ],
    },
    more,
  ),
  pages(
    'lost-checkpoint-of-pages-more',
    'The same with another writer, and writers that open anew.',
    [],
    {
      volumes: [0],
      pages: [[1]],
      entries: ['n', 'n'],
      accidents: 1,
      roles: [
        { kind: 'writer', makes: [EITHER, EITHER], reopens: true },
        { kind: 'writer', makes: [EITHER] },
        { kind: 'pruner', jobs: 2 },
        { kind: 'reader' },
      ],
    },
    more,
  ),
];
