import { type Mutation, testsIn, without } from './mutation.ts';

const decisions = testsIn('test/repository/log/entries/decisions.test.ts');
const opening = testsIn('test/repository/log/open-log.test.ts');
const single = testsIn('test/repository/log/single-writer.test.ts');
const adoption = testsIn('test/repository/backup/adoption.test.ts');
const copiedProcess = testsIn('test/repository/backup/copied-process.test.ts');

/** The rules of the repository protocol. What was found since they were written is in `repository-mutations.ts`. */
export const PROTOCOL_MUTATIONS: readonly Mutation[] = [
  ...without('Names', [
    "a pack's name depends on random bytes alone",
    { 'pack-names-are-hedged': 'const random = hedgedHex(16, this.#options.footerKey, session);' },
    copiedProcess('packs that begin with different contents have different names'),
  ]),
  ...without('P1', [
    'a collector condemns the packs of open sessions as orphans',
    { 'open-sessions-are-spared': 'return new Set<number>();' },
    decisions('P1: a pack uploaded'),
  ]),
  ...without(
    'P2',
    [
      'a session opens on a volume that is in another open session',
      { 'one-open-session': 'if (!takeOver.includes(session.seq)) continue;' },
      decisions('one open session a volume'),
    ],
    [
      'a backup is committed on a parent that is not the head any more',
      { 'parent-is-the-head': '' },
      decisions('P2: two children of one parent'),
    ],
  ),
  ...without(
    'P3',
    ['a forgotten backup is pinned as a base', { 'base-is-live': '' }, decisions('a base is live')],
    [
      'a collector does not mark the bases of open sessions',
      { 'pinned-bases-are-marked': 'return [...state.backups.values()];' },
      decisions('P3: forget the base'),
    ],
  ),
  ...without(
    'P4',
    [
      'a pack that is not condemned counts as known',
      { 'pack-is-known': 'if (condemnationOf(state, pack) === undefined) continue;' },
      decisions('packs deleted long ago'),
    ],
    [
      'a writer that lost a number sends what it had decided before',
      {
        'decided-again': `const once = decide as Decide & { made?: ReturnType<Decide> };
        const decision = await (once.made ??= decide(state));`,
      },
      decisions('retrying without deciding again, by a writer'),
    ],
  ),
  ...without(
    'P6',
    [
      'a fenced session commits',
      {
        'committing-session-is-open':
          'const session = state.sessions.get(plan.session) ?? state.fenced.get(plan.session);',
      },
      decisions('P6: a fence is for ever'),
    ],
    [
      'a session is adopted that the log lists no more',
      { 'adopted-is-listed': 'return [...adopt];' },
      decisions('what a session had adopted is not adopted any more if it was condemned'),
    ],
  ),
  ...without('P7', [
    'a collector that lost a number condemns by its old marks',
    { 'marked-again': '' },
    decisions('retrying without deciding again, by a collector'),
  ]),
  ...without(
    'P9',
    [
      'a location that was moved counts as known wherever it is now',
      { 'moved-location-is-known': 'return true;' },
      decisions('a place that was left behind'),
    ],
    [
      'a fenced repacker condemns what it has moved',
      { 'repacking-session-is-open': '' },
      decisions("a fenced repacker's collection"),
    ],
    [
      'a pack is moved again without a table that leads straight to its newest location',
      { 'tables-lead-straight': '' },
      decisions('two looks'),
    ],
  ),
  ...without('P10', [
    'deduplication refers to packs that no entry has listed',
    { 'dedup-knows-the-pack': 'return !state.quarantined.has(packKey(pack));' },
    decisions('nothing that only a listing showed'),
  ]),
  ...without(
    'P11',
    [
      'a checkpoint is believed that does not continue the chain',
      { 'checkpoint-continues-the-chain': '' },
      opening('of another history is not believed|that has the hash of another is not believed'),
    ],
    [
      'a host believes another history than the one that it remembers',
      { 'remembered-is-in-the-log': '' },
      opening('another history is REPOSITORY_ROLLED_BACK'),
    ],
  ),
  ...without('P12', [
    'only the first backup of a group is checked',
    { 'group-is-checked-whole': (loop) => loop.replace('plan.backups', 'plan.backups.slice(0, 1)') },
    decisions('P12: a group commits whole'),
  ]),
  ...without(
    'P13',
    [
      'keys of entries do not end in the hash',
      { 'keys-end-in-the-hash': 'return LOG_PREFIX + inverted(seq);' },
      single('keys end in the hash'),
    ],
    [
      'keys of checkpoints do not end in the digest',
      {
        'checkpoint-keys-end-in-the-digest':
          "return LOG_PREFIX + inverted(seq) + '-c' + (sha256 ? '-' + '0'.repeat(32) : '');",
      },
      single('a put that arrives late does not replace'),
    ],
    [
      'of several checkpoints of a number only the first one is read',
      {
        'checkpoints-in-turn':
          'if (this.#read.has(named.key) || named !== this.#listing.checkpointsAt(seq)[0]) continue;',
      },
      single('those of one number are read in turn'),
    ],
    [
      "other checkpoints of the floor's number stay",
      {
        'others-of-the-floor-go':
          "const isOld = parsed !== undefined && parsed.seq <= floor && !(parsed.kind === 'checkpoint' && parsed.seq === floor && ofFloor);",
      },
      testsIn('test/repository/prune/late-checkpoints.test.ts')('a prune deletes what is beside'),
    ],
    [
      "other checkpoints of the floor's number are compared with the entries",
      { 'floors-other-is-not-verified': 'const within = all;' },
      testsIn('test/repository/prune/late-checkpoints.test.ts')('a prune deletes what is beside'),
    ],
    [
      'a single writer reports success without looking at its number',
      { 'single-writer-looks': '' },
      single('at most one writer is told of a success'),
    ],
  ),
  ...without(
    'L12',
    [
      'only sessions that are open are adopted, and not those that were fenced before',
      { 'all-of-a-volume-are-adopted': '' },
      decisions('every fenced session of a volume is adopted'),
    ],
    [
      'a session is adopted that the log lists no more',
      { 'adopted-is-listed': 'return [...adopt];' },
      decisions('what a session had adopted is not adopted any more if it was condemned'),
    ],
    [
      'collectors condemn the packs of adopted sessions',
      { 'open-sessions-are-spared': 'return new Set(state.sessions.keys());' },
      decisions('P1: a pack uploaded'),
    ],
    [
      'a commit does not look whether a pack that it lists was condemned',
      { 'listed-packs-are-looked-at': '' },
      decisions('P1: a pack uploaded'),
    ],
    [
      'a writer adopts what it finds in other folders than those of the sessions that its entry names',
      { 'only-own-adopted-are-listed': "const prefix = 'packs/';" },
      adoption('in folders of others'),
    ],
    [
      'nodes and runs are adopted as well as blocks',
      { 'only-blocks-are-adopted': '' },
      testsIn('test/repository/backup/adopted-blocks.test.ts')('is only blocks'),
    ],
    [
      'an adopted pack is used whose bytes are not what its footer says',
      { 'digest-of-the-store': '' },
      adoption('a pack that is damaged is not used'),
    ],
    [
      'a backup that is ended, and not given up, takes its uploads with it',
      { 'uploads-are-kept': 'const decide = (state: LogState) => decideAbort(state, this.seq);' },
      adoption('leaves its uploads to the next one'),
    ],
    [
      'what a commit has made use of is adopted again by the next one',
      { 'adopted-end-with-the-commit': 'const left = [...session.volumes];' },
      decisions('what was adopted is not adopted again after the commit'),
    ],
  ),
];
