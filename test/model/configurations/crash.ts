/** The crash protocol of a volume's state directory. */
import { lockModel } from '../crash/lock.ts';
import { MARKED, MARKED_SNAPSHOT, SNAPSHOT, volumeModel } from '../crash/volume.ts';
import { explorationsOf } from '../named.ts';

const volume = explorationsOf(volumeModel);
const lock = explorationsOf(lockModel);

const ONE = { regions: [0], slots: 1, writes: 1, snapshots: 1, crashes: 1, kinds: ['kill', 'power loss'] } as const;
const TWO = { ...ONE, regions: [0, 0], slots: 2 } as const;

const GROUP = ['the group is written', 'the group is synced'];
const CLOSED = ['handle 1 is closed', ...GROUP];
const WRITTEN = ['issues write 1', 'the write to block 0'];
const CLOSED_AND_WRITTEN = [...MARKED_SNAPSHOT, ...CLOSED, ...WRITTEN];
const SECOND_SNAPSHOT = ['the instant of snapshot 2', 'the device has flushed', ...GROUP];
const CLEARED = ['appends CLEAN', ...GROUP];
const WRITTEN_AND_CLEARED = [
  ...MARKED_SNAPSHOT,
  ...CLOSED,
  ...SECOND_SNAPSHOT,
  ...['preserves block 0', ...GROUP],
  ...WRITTEN,
  ...CLEARED,
];

export const CRASH = [
  volume(
    'crash-block',
    'One block, a snapshot and two writes; a kill or a power loss.',
    ['C1.first', 'C3.least', 'C4.flush', 'C4.seal', 'C4.resolve', 'C5.effective', 'C5.slot', 'C14.checked'],
    { ...ONE, writes: 2 },
  ),
  volume('crash-opening', 'The same from the first opening on, which is interrupted too.', [], {
    ...ONE,
    scene: [],
  }),
  volume(
    'crash-two-snapshots',
    'A second snapshot of a block that was preserved for the first one.',
    ['C6.interval', 'C6.wider'],
    {
      ...{ ...ONE, slots: 2, snapshots: 2, scene: SNAPSHOT },
    },
  ),
  volume('crash-twice', 'A snapshot, and two crashes: reopening is interrupted.', ['C15.synced', 'C13.head'], {
    ...{ ...ONE, crashes: 2, scene: SNAPSHOT },
  }),
  volume('crash-cleared', 'A region is cleared and written again.', ['C2.step', 'C2.bytes'], {
    ...{ ...ONE, writes: 2, clears: 1, scene: SNAPSHOT, kinds: ['kill'] },
  }),
  volume('crash-unsealed', 'An instant without SEAL, and another one after it.', ['C4.number'], {
    ...{ ...ONE, slots: 2, snapshots: 2, scene: MARKED, kinds: ['kill'] },
  }),
  volume(
    'crash-stored',
    'A block is stored, and its handle is closed.',
    ['C7.effective', 'C7.acknowledged', 'C9.end'],
    {
      ...{ ...ONE, stores: [0], closes: true, scene: MARKED_SNAPSHOT },
    },
  ),
  volume('crash-given-up', 'There is no slot, and the policy gives blocks up.', ['C8.record'], {
    ...{ ...ONE, slots: 0, loses: true },
  }),
  volume(
    'crash-shared',
    'A handle is shared, also after its block was stored and overwritten.',
    ['C7.shared', 'C10.free', 'C10.replay'],
    {
      ...{ ...ONE, stores: [0], shares: 1, scene: MARKED_SNAPSHOT, kinds: ['kill'] },
    },
  ),
  volume('crash-slots', 'Two blocks and one slot, which is refilled.', ['C10.effective', 'C14.acknowledged'], {
    ...{ ...TWO, slots: 1, stores: [0], scene: MARKED_SNAPSHOT },
  }),
  volume('crash-region', 'Two blocks of one region.', ['C14.together'], { ...TWO, blocks: [0, 1], scene: SNAPSHOT }),
  volume('crash-fast', 'A volume under `fast`.', ['C1.synced', 'C11.ends', 'C14.ended'], { ...ONE, modes: [['fast']] }),
  volume('crash-fast-twice', 'A volume under `fast`, and two crashes.', ['C11.recorded'], {
    ...{ ...ONE, crashes: 2, modes: [['fast']], scene: SNAPSHOT },
  }),
  volume(
    'crash-modes',
    'A snapshot that was taken `crash-safe` is reopened under `fast`, and `crash-safe` again.',
    ['C11.flag'],
    {
      ...{ ...ONE, crashes: 2, modes: [['crash-safe'], ['fast'], ['crash-safe']], scene: SNAPSHOT },
    },
  ),
  volume('crash-renumbered', 'The byte has no number left.', ['C12.recorded'], {
    ...{ ...ONE, snapshots: 2, clears: 1, maxEpoch: 1, closes: true, kinds: ['kill'], scene: CLOSED_AND_WRITTEN },
  }),
  volume('crash-checkpoint', 'A checkpoint, while writes go on.', ['C16.marks'], {
    ...{ ...ONE, clears: 1, checkpoints: 1, scene: MARKED_SNAPSHOT, kinds: ['kill'] },
  }),
  volume(
    'crash-checkpoint-renumbered',
    'A checkpoint, and the byte has no number left.',
    ['C12.waits', 'C12.gathered'],
    {
      ...{
        ...ONE,
        snapshots: 3,
        clears: 1,
        checkpoints: 1,
        maxEpoch: 2,
        kinds: ['kill'],
        closes: true,
        scene: WRITTEN_AND_CLEARED,
      },
    },
  ),
  volume('crash-fsync', 'An fsync fails.', ['C17.anew'], { ...ONE, failures: 1 }),
  volume('crash-broken', 'The journal can not be written any more.', ['C8.refused'], {
    ...ONE,
    breaks: true,
    scene: SNAPSHOT,
  }),
  volume('crash-landing', 'A write of a process that was killed.', ['C21.landed'], {
    ...ONE,
    snapshots: 1,
    scene: MARKED,
  }),
  lock('crash-lock', 'Two containers whose processes all have one number die, and are restarted.', ['C21.lock'], 3),
  volume(
    'crash-regions',
    'Two blocks, each a region of its own, two writes, and two crashes.',
    [],
    { ...TWO, regions: [0, 1], writes: 2, crashes: 2, scene: SNAPSHOT },
    { isSmall: false },
  ),
  volume(
    'crash-one-region',
    'Two blocks of one region, which are stored: two writes.',
    [],
    { ...TWO, writes: 2, stores: [0, 1], scene: MARKED_SNAPSHOT },
    { isSmall: false },
  ),
  volume(
    'crash-three-writes',
    'Three writes and two snapshots.',
    [],
    { ...ONE, slots: 3, writes: 3, snapshots: 2, scene: SNAPSHOT },
    { isSmall: false },
  ),
  volume(
    'crash-stored-and-shared',
    'A block is stored, handles are shared and closed; a kill or a power loss.',
    [],
    { ...ONE, stores: [0], shares: 1, closes: true, scene: MARKED_SNAPSHOT },
    { isSmall: false },
  ),
  volume(
    'crash-modes-more',
    'Every process is `crash-safe` or `fast`, and there are three crashes.',
    [],
    { ...ONE, writes: 2, crashes: 3, modes: [['crash-safe', 'fast']], scene: SNAPSHOT },
    { isSmall: false },
  ),
  volume(
    'crash-fast-more',
    'A volume under `fast`: stored, cleared, with two writes.',
    [],
    { ...ONE, writes: 2, clears: 1, stores: [0], modes: [['fast']], scene: SNAPSHOT },
    { isSmall: false },
  ),
  volume(
    'crash-rotation-more',
    'Checkpoints, a failed fsync, a region that is cleared, and two crashes.',
    [],
    { ...ONE, writes: 2, crashes: 2, clears: 1, checkpoints: 1, failures: 1, scene: MARKED_SNAPSHOT },
    { isSmall: false },
  ),
];
