import { type Mutation, testsIn, without } from './mutation.ts';

const deleted = testsIn('test/repository/log/deleted-entries.test.ts');
const commits = testsIn('test/repository/backup/deleted-commit.test.ts');

/** The rules of a log whose old entries are deleted. */
export const LOG_END_MUTATIONS: readonly Mutation[] = [
  ...without(
    'L1',
    [
      "the floor's checkpoint is believed whatever its digest",
      { 'floor-has-its-digest': 'if (floor !== undefined && seq === floor.seq) return true;' },
      deleted('the checkpoint of the floor has its digest'),
    ],
    [
      'a checkpoint is overwritten',
      { 'checkpoints-are-created': 'await target.put(key, bytes, { signal });' },
      deleted('a checkpoint that is there is not replaced'),
    ],
    [
      'a checkpoint that can be read is good enough for a floor',
      { 'floor-is-read-back': 'if (found === undefined) continue;' },
      deleted('a checkpoint that says something else than the entries'),
    ],
    [
      'the newest checkpoint is the floor',
      { 'floor-is-the-older': 'const [second, floor] = good.slice(-2);' },
      deleted('two checkpoints are left'),
    ],
  ),
  ...without(
    'L2',
    [
      'an entry that was created and is not in the log counts as written',
      { 'state-decides': "return 'written';" },
      deleted('is not misled by a number that is free again'),
    ],
    [
      'a commit whose entry is gone has failed',
      { 'sent-commit-is-in-the-state': '' },
      commits('is a success if the log has the backup|is unknown if the log has neither'),
    ],
    [
      'a writer refuses on a state that may rest on strays',
      { 'refused-on-a-confirmed-state': 'throw decision;' },
      deleted('a refusal is looked at again'),
    ],
  ),
  ...without(
    'L3',
    [
      'an entry is read under the name that was listed, whatever is there by now',
      {
        'read-is-what-was-listed':
          'const bytes = size === 0 ? undefined : await getBounded(source.target, key, size, { signal });',
      },
      deleted('a stray with the number of the listed entry is not believed .tags: true'),
    ],
    [
      'the same in a store without tags',
      { 'newest-is-listed-again': 'return;' },
      deleted('a stray with the number of the listed entry is not believed .tags: false'),
    ],
  ),
  ...without(
    'L4',
    [
      'a listing that lacks entries is believed',
      { 'listing-is-whole': '' },
      deleted('a listing that lacks an entry leads to another one'),
    ],
    [
      'the first page of a bucket is believed in whichever order its pages are',
      { 'first-page-has-the-first-keys': '' },
      testsIn('test/targets/s3/s3-odd-servers.test.ts')('is of a server that does not list its pages in order'),
    ],
  ),
  ...without(
    'L6',
    [
      'a writer that meets an entry which does not follow refuses the log',
      { 'writer-opens-anew': "if (Buffer.compare(chain.hashOf(seq) as Uint8Array, hash) !== 0) throw rolledBack('');" },
      deleted('is not misled by a number that is free again'),
    ],
    [
      'a session is its number',
      { 'session-has-its-hash': 'return session;' },
      commits('does not commit in the session of another'),
    ],
    [
      'an own entry above the floor may be missing',
      { 'strays-are-below-the-floor': 'continue;' },
      deleted('an own entry above the floor that is not in the log'),
    ],
  ),
  ...without('L7', [
    'a position below the floor is never recognised',
    { 'anchors-are-compared': 'return;' },
    deleted('below the floor recognises its log by an anchor'),
  ]),
  ...without('P13', [
    'a late entry below the floor is a fork',
    { 'fork-is-above-the-floor': '' },
    deleted('two entries of a number up to the floor are no fork'),
  ]),
  ...without('L20', [
    'a replica counts as brought up to date without another look at the log',
    { 'copy-looks-again': 'entries = [];' },
    testsIn('test/targets/decorators/synchronize.test.ts')(
      'although others forget and prune while its packs are copied',
    ),
  ]),
];
