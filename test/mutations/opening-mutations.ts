import { type Mutation, testsIn, without } from './mutation.ts';

const openRepository = testsIn('test/repository/open/open-repository.test.ts');
const keySlot = testsIn('test/repository/crypto/key-slot.test.ts');
const keySlots = testsIn('test/repository/open/key-slots.test.ts');
const fold = testsIn('test/repository/log/fold.test.ts');
const hostileCheckpoints = testsIn('test/repository/log/hostile-checkpoints.test.ts');
const features = testsIn('test/repository/open/features.test.ts');
const newerPrograms = testsIn('test/repository/open/newer-programs.test.ts');
const newerEntries = testsIn('test/repository/log/newer-programs.test.ts');
const eachOnce = testsIn('test/repository/format/each-once.test.ts');
const otherMode = testsIn('test/repository/log/other-mode.test.ts');
const createRepository = testsIn('test/repository/open/create-repository.test.ts');
const logPosition = testsIn('test/repository/open/log-position.test.ts');
const unlockRepository = testsIn('test/repository/crypto/unlock-repository.test.ts');
const aead = testsIn('test/common/aead.test.ts');

/** What keeps a repository's key, its format and its creation safe: decisions 037, 044 to 046, 104 and 105. */
export const OPENING_MUTATIONS: readonly Mutation[] = [
  ...without(
    '044',
    [
      'a plain repository opens although something to unlock it with was given',
      { 'unlock-is-needed': '' },
      openRepository('a plain repository in place of an encrypted one'),
    ],
    [
      'what format says is believed without its MAC',
      { 'format-is-authentic': '' },
      openRepository('what somebody who can write to the store'),
    ],
    [
      'a slot counts as whole by its checksum alone',
      { 'slot-is-signed': 'return undefined;' },
      keySlot('shows every byte that somebody changed'),
    ],
  ),
  ...without('128', [
    'a repository is read by a program that does not know what it must know for that',
    { 'reader-knows-the-features': '' },
    features('a reader feature that is not known here'),
  ]),
  ...without(
    '141',
    [
      'a writer appends although the log asks for what it does not know',
      { 'features-stop-writers': '' },
      newerPrograms('a feature of writers.* stops a backup'),
    ],
    [
      'a reader goes on although the log asks for what it does not know',
      { 'features-stop-readers': '' },
      newerPrograms('a feature of readers.* stops'),
    ],
    [
      'a writer that was stopped still writes a checkpoint, which lacks what it does not know',
      { 'features-stop-checkpoints': '' },
      newerEntries('a feature of writers.* on top of an own entry'),
    ],
    [
      'a collector deletes packs although the log asks for what it does not know',
      { 'features-stop-collectors': '' },
      newerPrograms('a feature of writers.* stops prune'),
    ],
    [
      'a log whose checkpoints a newer program has made counts as truncated',
      { 'checkpoint-of-a-newer-program': '' },
      newerEntries('checkpoints of a newer program'),
    ],
    [
      'a writer opens the repository although the log asks for what it does not know',
      { 'features-of-the-log-stop-openers': '' },
      newerPrograms('a feature of writers.* stops readers'),
    ],
  ),
  ...without(
    '129',
    [
      'a list of an entry may name one thing twice',
      { 'each-is-named-once': '' },
      eachOnce('an array of an entry names each thing once'),
    ],
    [
      'a log of the other mode is taken for an empty one',
      { 'mode-is-that-of-the-log': '' },
      otherMode('is refused, and not taken for an empty one'),
    ],
    [
      'a log that is gone is taken for an empty one, and its packs for garbage',
      { 'empty-log-has-no-packs': 'return;' },
      otherMode('a log without entries is truncated'),
    ],
  ),
  ...without('037', [
    'the last whole slot is removed where another one is there and damaged',
    { 'another-slot-is-whole': "return { type: 'keys', added: [], removed: [id] };" },
    keySlots('does not count a slot'),
  ]),
  ...without('105', [
    'a key slot that was removed counts as there again, because its entry came after its removal',
    { 'removed-stays-removed': '' },
    fold('key slots that were added'),
  ]),
  ...without('104', [
    'a checkpoint of a few KB may stand for a state of any size',
    { 'checkpoint-is-weighed': '' },
    hostileCheckpoints('is refused'),
  ]),
  ...without(
    '045',
    [
      'a repository is created over the objects of another',
      { 'nothing-is-created-over': 'return slots;' },
      createRepository('is refused where there is an object'),
    ],
    [
      'a repository that this host remembers is created anew where it is missing',
      { 'remembered-is-not-created': 'if (remembered === undefined || remembered.seq >= 0) throw error;' },
      logPosition('is never made anew'),
    ],
  ),
  ...without('046', [
    'every slot that a stranger put there is worked on',
    { 'work-is-bounded': '' },
    unlockRepository('hostile slots'),
  ]),
  ...without('114', [
    'a key that was wiped seals for anybody to read',
    { 'wiped-keys-seal-nothing': '' },
    aead('wiped before the first step'),
  ]),
];
