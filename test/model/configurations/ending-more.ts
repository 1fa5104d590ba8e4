/** The larger ones of a log that ends, and what hosts remember of it. */
import { anchorsModel } from '../anchors.ts';
import type { Model } from '../explore.ts';
import { ending, type Named, plainLog } from '../named.ts';
import { singleEndingModel } from '../single-ending.ts';

export const ENDING_MORE: readonly Named[] = [
  ending(
    'commit-gone-more',
    'Both, from the moment before the commit is sent, with a collector that fences.',
    [],
    {
      log: ['i1n', 'a0o'],
      checkpoints: [2],
      roles: [
        { kind: 'writer', session: 2, isLate: true },
        { kind: 'pruner', checkpoints: 2, entries: 1, forgets: true },
        { kind: 'pruner', fences: true },
      ],
    },
    { isSmall: false },
  ),
  ending(
    'vanishing-disk-more',
    'The same beside a reader, with two jobs.',
    [],
    {
      log: plainLog(3),
      checkpoints: [2, 3],
      swaps: 2,
      roles: [{ kind: 'writer', jobs: 2 }, { kind: 'pruner' }, { kind: 'reader' }],
    },
    { isSmall: false },
  ),
  ending(
    'set-back-and-pruned-more',
    'The same where the floor comes to lie above what the writer knew.',
    [],
    {
      log: plainLog(2),
      checkpoints: [1, 2],
      isSetBack: true,
      tail: 2,
      roles: [{ kind: 'writer' }, { kind: 'pruner', isClosed: true, entries: 2, checkpoints: 2 }],
    },
    { isSmall: false },
  ),
  ending(
    'copier-more',
    'The same while the log is pruned beside it.',
    [],
    {
      log: ['i1n', 'i2c0.i.X', 'c0o', 'i4n'],
      checkpoints: [3, 4],
      roles: [{ kind: 'copier' }, { kind: 'pruner', forgets: true, condemnsX: true }, { kind: 'writer', session: 3 }],
    },
    { isSmall: false },
  ),
  ending(
    'opening-reader-more',
    'A reader without tags, and a writer that slept, while the log is pruned.',
    [],
    {
      log: plainLog(3),
      checkpoints: [2, 3],
      hasTags: false,
      tail: 2,
      roles: [{ kind: 'reader' }, { kind: 'writer', at: 2 }, { kind: 'pruner', entries: 1, checkpoints: 1 }],
    },
    { isSmall: false },
  ),
  ending(
    'sleeping-collector-more',
    'Two collectors that crash, one of which slept, entries that land twice, and a writer that refers to what they mark.',
    [],
    {
      log: [...plainLog(3), 'c1o', 'i5n'],
      checkpoints: [4, 5],
      isDuplicated: true,
      roles: [
        { kind: 'pruner', at: 2, condemnsX: true, crashes: 1 },
        { kind: 'pruner', crashes: 1, fences: true },
        { kind: 'writer', session: 4, refersToX: true, isLate: true },
      ],
    },
    { isSmall: false },
  ),
  ending(
    'lost-checkpoint-more',
    'A pruner raises the floor twice; checkpoints are late, garbage, and one is lost; a writer slept.',
    [],
    {
      log: plainLog(3),
      checkpoints: [1, 2],
      losses: 1,
      garbage: 1,
      areCheckpointsLate: true,
      roles: [
        { kind: 'pruner', checkpoints: 2, jobs: 2 },
        { kind: 'writer', at: 1 },
      ],
    },
    { isSmall: false },
  ),
  ending(
    'two-pruners',
    'Two pruners that crash, one of which slept; checkpoints are late.',
    [],
    {
      log: plainLog(4),
      checkpoints: [2, 3],
      areCheckpointsLate: true,
      roles: [
        { kind: 'pruner', checkpoints: 1, jobs: 2, crashes: 1 },
        { kind: 'pruner', at: 3, checkpoints: 1, crashes: 1, isLate: true },
      ],
    },
    { isSmall: false },
  ),
  ending(
    'two-freed-sessions',
    'Two writers that slept, whose numbers are freed.',
    [],
    {
      log: plainLog(4),
      checkpoints: [3, 4],
      tail: 3,
      roles: [{ kind: 'writer', at: 1 }, { kind: 'writer', at: 2 }, { kind: 'pruner' }],
    },
    { isSmall: false },
  ),
  {
    name: 'single-writer-and-pruned',
    about: 'One host in a store without create-only, which crashes while an entry is on its way, and prunes.',
    isSmall: true,
    takeOut: [['P13.floor']],
    build: (without) => singleEndingModel({ entries: [4], crashes: 1 }, without) as Model<unknown>,
  },
  {
    name: 'two-single-writers-and-pruned',
    about: 'Two hosts that each believe to be alone, and prune.',
    isSmall: false,
    takeOut: [],
    build: (without) => singleEndingModel({ entries: [2, 2], crashes: 1 }, without) as Model<unknown>,
  },
  {
    name: 'anchors',
    about: 'What a host remembers of a log whose old entries are deleted: 150 entries.',
    isSmall: true,
    takeOut: [['L7.anchors'], ['L7.eight']],
    build: (without) => anchorsModel(150, without) as Model<unknown>,
  },
  {
    name: 'anchors-more',
    about: 'The same with 1,500 entries.',
    isSmall: false,
    takeOut: [],
    build: (without) => anchorsModel(1500, without) as Model<unknown>,
  },
];
