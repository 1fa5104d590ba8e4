import { type Mutation, testsIn, without } from './mutation.ts';

const histories = testsIn('test/volume/state-directory/histories.test.ts');
const state = testsIn('test/volume/state-directory/state-directory.test.ts');

/** The rules of the crash protocol, as far as a state directory keeps them. */
export const STATE_MUTATIONS: readonly Mutation[] = [
  ...without('C1', [
    'a write is issued before its region is marked',
    { 'marked-first': 'const isMarked = passes;' },
    histories('no change is missed'),
  ]),
  ...without('C2', [
    'a region stays marked in memory when its epochs are recorded',
    { 'unmarked-in-the-step': '' },
    histories('no change is missed'),
  ]),
  ...without('C3', [
    'what was marked counts as it was recorded',
    { 'marked-counts-as-written': '' },
    histories('no change is missed'),
  ]),
  ...without('C4', [
    'an instant is sealed although the device was not flushed',
    { 'flushed-before-the-seal': '' },
    histories('no change is missed'),
  ]),
  ...without('C12', [
    'epochs are renumbered in memory only',
    { 'renumbering-is-recorded': '' },
    state('renumbered epochs'),
  ]),
  ...without('C14', [
    'a journal that was damaged is cut off',
    { 'damage-is-refused': 'return;' },
    state('any bit of it was flipped'),
  ]),
  ...without('C16', [
    'a checkpoint gets its name before it is durable',
    { 'checkpoint-is-synced': '' },
    state('a checkpoint that has its name'),
  ]),
  ...without('C13', [
    'a group is believed that continues another one',
    { 'groups-are-chained': 'if (head === undefined) break;' },
    state('a group that continues another one'),
  ]),
  ...without('C15', [
    'what was read is relied on before it is durable',
    { 'reopening-syncs': '' },
    state('is durable before it is relied on'),
  ]),
  ...without(
    'C17',
    [
      'what follows a failure is acknowledged before the new checkpoint is there',
      { 'acknowledged-when-mended': '' },
      state('acknowledges nothing behind a file that failed'),
    ],
    [
      'a state that is given up leaves an older one',
      { 'oldest-checkpoint-first': 'const age = (name: string) => -(numberOf(name) as number);' },
      state('leaves none that is older'),
    ],
  ),
  ...without(
    'C22',
    [
      'the device of an instant is not told from itself before it',
      { 'stamped-with-the-seal': '' },
      state('reverted to what it was before the newest instant'),
    ],
    [
      'an older device is believed',
      { 'older-device-is-noticed': '' },
      state('reverted to what it was before the newest instant'),
    ],
  ),
];
