/** A log that ends: hosts that sleep while old entries are deleted. */
import { anchorsModel } from '../anchors.ts';
import { endingLogModel } from '../ending-log.ts';
import type { EndingConfiguration } from '../ending-state.ts';
import type { Model } from '../explore.ts';
import type { Named } from '../named.ts';
import type { Rule } from '../rules.ts';

type TakeOut = readonly (Rule | readonly Rule[])[];

function ending(
  name: string,
  about: string,
  takeOut: TakeOut,
  configuration: EndingConfiguration,
  rest: Partial<Named> = {},
): Named {
  const build = (without: readonly Rule[]) => endingLogModel(configuration, without) as Model<unknown>;
  return { name, about, isSmall: true, takeOut: takeOut.map((rules) => [rules].flat()), build, ...rest };
}

const plain = (count: number): string[] => Array.from({ length: count }, (_, index) => `i${index + 1}n`);

export const ENDING: readonly Named[] = [
  ending(
    'sleeping-writer',
    'A writer that slept at 1 creates at numbers that were freed, while the log is pruned.',
    ['L2.confirm', 'L6.anew'],
    { log: plain(4), checkpoints: [3, 4], roles: [{ kind: 'writer', at: 1, jobs: 2 }, { kind: 'pruner' }] },
  ),
  ending(
    'sleeping-collector',
    'A collector that slept after marking creates at a freed number, and a backup refers to what it had marked.',
    ['L2.confirm'],
    {
      log: [...plain(3), 'c1o', 'i5n'],
      checkpoints: [4, 5],
      roles: [
        { kind: 'pruner', at: 2, condemnsX: true, crashes: 1 },
        { kind: 'pruner' },
        { kind: 'writer', session: 4, refersToX: true },
      ],
    },
  ),
  ending(
    'commit-gone',
    'A writer sleeps after sending its commit, and meanwhile the entry is in the log and deleted.',
    ['L2.state'],
    {
      log: ['i1n', 'a0o', 'a1c2.a0o.', ...plain(2)],
      checkpoints: [4, 5],
      roles: [{ kind: 'writer', at: 2, session: 2, isCommitSent: true }, { kind: 'pruner' }],
    },
  ),
  ending('commit-forgotten', 'The same, and its backup is forgotten by then.', ['L2.unknown'], {
    log: ['i1n', 'a0o', 'a1c2.a0o.', ...plain(2)],
    checkpoints: [4, 5],
    roles: [
      { kind: 'writer', at: 2, session: 2, isCommitSent: true },
      { kind: 'pruner', forgets: true },
    ],
  }),
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
    'fenced-by-a-stray',
    'A writer whose commit has no answer, a collector that slept and fences, and one that prunes.',
    ['L2.refused'],
    {
      log: ['i1n', 'a0o', 'a1c2.a0o.', ...plain(2)],
      checkpoints: [4, 5],
      roles: [
        { kind: 'writer', at: 2, session: 2, isCommitSent: true },
        { kind: 'pruner', at: 2, fences: true, raisesFloor: false },
        { kind: 'pruner' },
      ],
    },
  ),
  ending(
    'number-of-a-session',
    "A stray `open` has the number of another's session, which is open still.",
    ['L6.session'],
    {
      log: ['i1n', 'b0o', 'i3n', 'i4n'],
      checkpoints: [3, 4],
      roles: [{ kind: 'writer', at: 1 }, { kind: 'writer', session: 2 }, { kind: 'pruner' }],
    },
  ),
  ending(
    'opening-reader',
    'A reader sleeps while it opens the log, entries are deleted, and strays take their names.',
    ['L3.tag', 'L5.twice'],
    {
      log: plain(3),
      checkpoints: [2, 3],
      tail: 3,
      roles: [
        { kind: 'reader' },
        { kind: 'pruner', at: 2, entries: 1, raisesFloor: false },
        { kind: 'pruner', entries: 1, checkpoints: 1 },
      ],
    },
  ),
  ending('opening-reader-without-tags', 'The same in a store that has no tags.', ['L3.twice'], {
    log: plain(3),
    checkpoints: [2, 3],
    tail: 3,
    hasTags: false,
    roles: [
      { kind: 'reader' },
      { kind: 'pruner', at: 2, entries: 1, raisesFloor: false },
      { kind: 'pruner', entries: 1, checkpoints: 1 },
    ],
  }),
  ending('follower', 'A process that has the log open looks what is new.', ['L3.down'], {
    log: plain(4),
    checkpoints: [3, 4],
    roles: [{ kind: 'follower', at: 1 }, { kind: 'pruner' }, { kind: 'writer' }],
  }),
  ending(
    'lost-checkpoint',
    'A checkpoint is lost or damaged; others are late.',
    ['L1.two', 'L1.readBack', 'L1.createOnly'],
    {
      log: plain(2),
      checkpoints: [1],
      losses: 1,
      garbage: 1,
      areCheckpointsLate: true,
      roles: [
        { kind: 'pruner', entries: 1, checkpoints: 2, jobs: 2 },
        { kind: 'pruner', checkpoints: 1, jobs: 0 },
      ],
    },
  ),
  ending('vanishing-disk', 'The disk goes away, which frees all names, and comes back.', ['L4.whole', 'P5.between'], {
    log: plain(3),
    checkpoints: [2, 3],
    swaps: 2,
    roles: [{ kind: 'writer' }, { kind: 'pruner' }],
  }),
  ending(
    'vanishing-disk-more',
    'The same beside a reader, with two jobs.',
    [],
    {
      log: plain(3),
      checkpoints: [2, 3],
      swaps: 2,
      roles: [{ kind: 'writer', jobs: 2 }, { kind: 'pruner' }, { kind: 'reader' }],
    },
    { isSmall: false },
  ),
  ending(
    'limit-vanishing-disk',
    'The disk goes away for the time of an `open`: the commit that follows leaves a hole, which everybody refuses.',
    [],
    { log: plain(3), checkpoints: [2, 3], swaps: 2, isStrict: true, roles: [{ kind: 'writer' }] },
    { isLimit: true },
  ),
  ending('inverted-pages', 'A store whose listings begin at the wrong end.', ['L4.order'], {
    log: plain(4),
    checkpoints: [2, 4],
    pages: 'inverted',
    roles: [{ kind: 'reader' }, { kind: 'writer' }],
  }),
  ending('lacking-listing', 'A listing that lacks an entry that is there.', ['L5.twice'], {
    log: plain(4),
    checkpoints: [2, 3],
    lies: 1,
    roles: [{ kind: 'reader' }, { kind: 'writer' }, { kind: 'pruner' }],
  }),
  ending('two-pages', 'A listing whose second page is read later, while the log is pruned.', ['L5.twice'], {
    log: plain(4),
    checkpoints: [1, 2],
    pages: 'two',
    roles: [{ kind: 'reader' }, { kind: 'pruner', entries: 1, checkpoints: 2 }],
  }),
  ending('copier', 'A copy is made while backups are made, forgotten and collected.', ['L20.packsLater', 'L20.look'], {
    log: ['i1n', 'i2c0.i.X', 'c0o', 'i4n'],
    checkpoints: [3, 4],
    roles: [
      { kind: 'copier' },
      { kind: 'pruner', forgets: true, condemnsX: true, raisesFloor: false },
      { kind: 'writer', session: 3 },
    ],
  }),
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
      log: plain(3),
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
      log: [...plain(3), 'c1o', 'i5n'],
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
      log: plain(3),
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
      log: plain(4),
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
    'Two writers that slept, whose numbers are freed in two prunes.',
    [],
    {
      log: plain(5),
      checkpoints: [3, 4],
      tail: 2,
      roles: [
        { kind: 'writer', at: 1 },
        { kind: 'writer', at: 2 },
        { kind: 'pruner', checkpoints: 1, jobs: 2 },
      ],
    },
    { isSmall: false },
  ),
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
