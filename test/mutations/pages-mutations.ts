import { type Mutation, testsIn, without } from './mutation.ts';

const floors = testsIn('test/repository/prune/pages-of-floors.test.ts');
const pages = testsIn('test/repository/log/pages.test.ts');

/** The rules of rows that lie in pages, and of pages that belong to checkpoints. */
export const PAGES_MUTATIONS: readonly Mutation[] = [
  ...without(
    'L8',
    [
      'prune deletes pages that the checkpoint of the floor names',
      { 'pages-of-the-floor-stay': 'if (page === undefined || page.seq >= ofFloor.seq) continue;' },
      floors('are deleted with the old log'),
    ],
    [
      'any checkpoint with the number of the floor says which pages stay',
      { 'floor-is-known-by-its-digest': 'return found?.state;' },
      floors('stay where another checkpoint has the number'),
    ],
    [
      'a checkpoint becomes the floor although others may delete its pages',
      { 'floor-has-safe-pages': '' },
      floors('unfit for a floor'),
    ],
    [
      'the second checkpoint has pages that the new floor lets others delete',
      { 'second-has-safe-pages': 'this.needsCheckpoint = false;' },
      floors('the second checkpoint unfit'),
    ],
    [
      'a checkpoint becomes the floor without a second copy of a page',
      { 'pages-are-read-back': 'return lost.length >= 0;' },
      floors('one copy each can neither be read'),
    ],
    [
      'a checkpoint names pages that others may delete',
      { 'checkpoints-name-safe-pages': 'return state;' },
      floors('unfit for a floor'),
    ],
    [
      'a page is lost with one of its objects',
      { 'pages-have-two-copies': 'throw error;' },
      pages('is read from its second copy'),
    ],
    [
      'whatever has the keys of a page is that page',
      { 'page-is-the-named-one': '' },
      pages('is not another one whose rows have the same keys'),
    ],
    ['a page takes any amount of memory', { 'page-is-weighed': '' }, pages('would take much memory')],
    [
      'a pack that two commits name has two rows in a page',
      { 'rows-are-named-once': '' },
      pages('has its rows in one page'),
    ],
  ),
  ...without(
    'L9',
    [
      'a base that is pinned and forgotten is lost when its row is merged',
      { 'pinned-rows-stay': '' },
      pages('rows that are moved into pages'),
    ],
    [
      'a volume whose newest backup was forgotten has no newest one after a merge',
      { 'forgotten-heads-stay': '' },
      pages('rows that are moved into pages'),
    ],
    [
      'a condemned pack is known again by another row',
      { 'condemned-rows-stay-dead': 'if (!isOnlyHere) known.dead.add(random);' },
      pages('has its rows in a page and outside'),
    ],
    [
      'a pack whose page was not read counts as unknown',
      { 'pages-are-taken-in': '' },
      pages('that was not taken in is never taken for one without the row'),
    ],
    [
      'the newest backup of a volume is one that a page of another volume happens to have',
      { 'heads-are-the-newest': '' },
      pages('rows that are moved into pages'),
    ],
    [
      'older backups of a volume count as its newest',
      { 'newest-are-without-gaps': 'const seq = 0;' },
      pages('the newest backups of a volume are without a gap'),
    ],
    [
      'an id says nothing of its volume',
      { 'ids-name-their-volumes': '' },
      testsIn('test/repository/log/state-rules.test.ts')('the id of a backup ends in digits of its volume'),
    ],
  ),
  ...without('L10', [
    'dedup refers to a pack that is gone',
    { 'gone-names-are-dropped': 'const isUnclear = false;' },
    testsIn('test/repository/backup/dedup-index.test.ts')('may have been condemned and gone'),
  ]),
  ...without('L11', [
    'who misses a page of the newest checkpoint reports damage',
    { 'lower-checkpoint-is-tried': 'if (attempt > 1) throw error;' },
    floors('a stale checkpoint names are passed over'),
  ]),
];
