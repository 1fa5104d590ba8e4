/** A log that ends: hosts that sleep while old entries are deleted. */
import { ending, type Named, plainLog } from '../named.ts';

export const ENDING: readonly Named[] = [
  ending(
    'sleeping-writer',
    'A writer that slept at 1 creates at numbers that were freed, while the log is pruned.',
    ['L2.confirm', 'L6.anew'],
    { log: plainLog(4), checkpoints: [3, 4], roles: [{ kind: 'writer', at: 1, jobs: 2 }, { kind: 'pruner' }] },
  ),
  ending(
    'sleeping-collector',
    'A collector that slept after marking creates at a freed number, and a backup refers to what it had marked.',
    ['L2.confirm'],
    {
      log: [...plainLog(3), 'c1o', 'i5n'],
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
      log: ['i1n', 'a0o', 'a1c2.a0o.', ...plainLog(2)],
      checkpoints: [4, 5],
      roles: [{ kind: 'writer', at: 2, session: 2, isCommitSent: true }, { kind: 'pruner' }],
    },
  ),
  ending('commit-forgotten', 'The same, and its backup is forgotten by then.', ['L2.unknown'], {
    log: ['i1n', 'a0o', 'a1c2.a0o.', ...plainLog(2)],
    checkpoints: [4, 5],
    roles: [
      { kind: 'writer', at: 2, session: 2, isCommitSent: true },
      { kind: 'pruner', forgets: true },
    ],
  }),
  ending(
    'fenced-by-a-stray',
    'A writer whose commit has no answer, a collector that slept and fences, and one that prunes.',
    ['L2.refused'],
    {
      log: ['i1n', 'a0o', 'a1c2.a0o.', ...plainLog(2)],
      checkpoints: [4, 5],
      roles: [
        { kind: 'writer', at: 2, session: 2, isCommitSent: true },
        { kind: 'pruner', at: 2, fences: true, raisesFloor: false },
        { kind: 'pruner' },
      ],
    },
  ),
  ending(
    'known-and-jumped',
    'A writer knew a pack, sleeps, and jumps over deleted entries; by then it was condemned, deleted and dropped.',
    ['L10.known'],
    {
      log: plainLog(4),
      checkpoints: [3, 4],
      roles: [
        { kind: 'writer', at: 2, jobs: 2, refersToX: true },
        { kind: 'pruner', at: 4, condemnsX: true, jobs: 3 },
      ],
    },
  ),
  ending(
    'known-by-strays',
    'The same, and a stray of its own has a higher number than the collection that condemned the pack.',
    ['L10.known', 'L10.confirmed'],
    {
      log: [...plainLog(2), 'i3k0..X', ...plainLog(2)],
      checkpoints: [4, 5],
      roles: [
        { kind: 'writer', at: 2, jobs: 2, refersToX: true },
        { kind: 'pruner', jobs: 2 },
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
      log: plainLog(3),
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
    log: plainLog(3),
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
    log: plainLog(4),
    checkpoints: [3, 4],
    roles: [{ kind: 'follower', at: 1 }, { kind: 'pruner' }, { kind: 'writer' }],
  }),
  ending(
    'lost-checkpoint',
    'A checkpoint is lost or damaged; others are late.',
    ['L1.two', 'L1.readBack', 'L1.createOnly'],
    {
      log: plainLog(2),
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
    log: plainLog(3),
    checkpoints: [2, 3],
    swaps: 2,
    roles: [{ kind: 'writer' }, { kind: 'pruner' }],
  }),
  ending(
    'limit-vanishing-disk',
    'The disk goes away for the time of an `open`: the commit that follows leaves a hole, which everybody refuses.',
    [],
    { log: plainLog(3), checkpoints: [2, 3], swaps: 2, isStrict: true, roles: [{ kind: 'writer' }] },
    { isLimit: true },
  ),
  ending(
    'set-back-and-pruned',
    'The store is set back under a writer, while another host opens it, goes on in another way, and prunes.',
    ['P5.tag', 'L6.floor'],
    {
      log: plainLog(2),
      checkpoints: [1, 2],
      isSetBack: true,
      tail: 2,
      roles: [
        { kind: 'writer', jobs: 2 },
        { kind: 'pruner', isClosed: true, entries: 1, checkpoints: 1 },
      ],
    },
  ),
  ending('inverted-pages', 'A store whose listings begin at the wrong end.', ['L4.order'], {
    log: plainLog(4),
    checkpoints: [2, 4],
    pages: 'inverted',
    roles: [{ kind: 'reader' }, { kind: 'writer' }],
  }),
  ending('lacking-listing', 'A listing that lacks an entry that is there.', ['L5.twice'], {
    log: plainLog(4),
    checkpoints: [2, 3],
    lies: 1,
    roles: [{ kind: 'reader' }, { kind: 'writer' }, { kind: 'pruner' }],
  }),
  ending('two-pages', 'A listing whose second page is read later, while the log is pruned.', ['L5.twice'], {
    log: plainLog(4),
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
];
