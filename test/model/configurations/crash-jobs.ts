/** Jobs that survive their process, machines that are copied or set back, and a log that is rolled back. */
import { jobsModel } from '../crash/jobs.ts';
import { stampsModel } from '../crash/stamps.ts';
import { explorationsOf } from '../named.ts';

const jobs = explorationsOf(jobsModel);
const stamps = explorationsOf(stampsModel);

const INTENDED = ['takes snapshot', 'looks', 'appends INTENT'];
const BACKED_UP = [...INTENDED, 'opens session', 'appends JOB', 'stores', 'commits', 'sees its commit'];

export const CRASH_JOBS = [
  jobs('crash-resumed', 'A job is resumed, and its resumption too.', ['C18.nonce', 'C19.look', 'C19.found'], {
    ...{ writes: 1, snapshots: 1, opens: 3, kills: 3 },
  }),
  jobs('crash-condemned', 'A collector condemns the session of a job that seems dead.', ['C19.void'], {
    ...{ writes: 1, snapshots: 1, opens: 2, kills: 2, collects: 1 },
  }),
  jobs(
    'crash-late-commit',
    'A commit has no answer, and lands after its process was killed.',
    ['C19.look', 'C19.again'],
    {
      ...{ writes: 1, snapshots: 1, opens: 3, kills: 2, isLate: true },
    },
  ),
  jobs('crash-copied', 'A machine is copied while a job runs.', ['C18.seal'], {
    ...{ writes: 1, snapshots: 2, opens: 2, kills: 1, isCopied: true },
  }),
  jobs('crash-copied-intent', 'A machine is copied between INTENT and its `open`.', ['C19.each'], {
    ...{ writes: 1, snapshots: 1, opens: 3, kills: 1, isCopied: true, scene: [...INTENDED, 'the running'] },
  }),
  jobs('crash-rolled-back', 'The log is rolled back, and a copy of the machine opens the same number.', ['C18.hash'], {
    ...{ writes: 1, snapshots: 1, opens: 3, kills: 0, isCopied: true, rollsBack: true, scene: INTENDED },
  }),
  jobs('crash-base-rolled-back', 'The log is rolled back, and with it the base of a running job.', ['C19.base'], {
    ...{ writes: 1, snapshots: 2, opens: 3, kills: 1, rollsBack: true, scene: BACKED_UP },
  }),
  jobs('crash-other-base', 'A copy of the machine has written another base at the same number.', ['C20.hash'], {
    ...{
      writes: 1,
      snapshots: 3,
      opens: 3,
      kills: 0,
      isCopied: true,
      rollsBack: true,
      scene: [...BACKED_UP, 'the running'],
    },
  }),
  jobs('crash-set-back', 'State and device are set back together.', ['C20.memory'], {
    ...{ writes: 1, snapshots: 3, opens: 2, kills: 0, closes: true, reverts: 'both' },
  }),
  jobs('crash-one-set-back', 'State or device is set back alone, while the volume is closed.', ['C22.stamp'], {
    ...{ writes: 1, snapshots: 2, opens: 2, kills: 1, reverts: 'one' },
  }),
  stamps(
    'crash-stamps',
    'A device says when it was written last; it, or the state, is set back alone.',
    ['C22.minute', 'C22.first'],
    {
      ...{ minutes: 5, writes: 3, ends: 2, setBack: 'far' },
    },
  ),
  stamps(
    'limit-crash-stamps',
    'The device is set back to a copy of a minute before the last write.',
    [],
    { minutes: 3, writes: 2, ends: 2, setBack: 'near' },
    { isLimit: true },
  ),
  jobs(
    'crash-jobs-more',
    'A copied machine, a collector and a kill.',
    [],
    {
      ...{ writes: 1, snapshots: 2, opens: 3, kills: 1, collects: 1, isCopied: true },
    },
    { isSmall: false },
  ),
  jobs(
    'crash-jobs-set-back-more',
    'State and device are set back together, with kills and a collector.',
    [],
    {
      ...{ writes: 1, snapshots: 3, opens: 2, kills: 1, collects: 1, closes: true, reverts: 'both' },
    },
    { isSmall: false },
  ),
];
