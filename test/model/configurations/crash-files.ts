/** The files of a state directory. */
import { filesModel } from '../crash/files.ts';
import { explorationsOf } from '../named.ts';

const files = explorationsOf(filesModel);

export const CRASH_FILES = [
  files(
    'crash-files',
    'A journal is rotated, and a crash comes at any step.',
    ['C16.journal', 'C16.folder', 'C16.content', 'C16.rename'],
    { appends: 2, rotations: 1, crashes: 1 },
  ),
  files(
    'crash-files-cut',
    'The last group of a journal is cut, or is not the next time.',
    ['C13.chain', 'C13.head', 'C15.synced'],
    {
      ...{ appends: 2, rotations: 0, crashes: 2, cuts: true },
    },
  ),
  files('crash-files-fast', 'Several groups are on their way, as under `fast`.', [['C13.chain', 'C15.newFile']], {
    ...{ appends: 3, rotations: 0, crashes: 2, isFast: true },
  }),
  files(
    'crash-files-more',
    'Two rotations, cut groups, and three crashes.',
    [],
    { appends: 3, rotations: 2, crashes: 3, cuts: true },
    { isSmall: false },
  ),
  files(
    'crash-files-fast-more',
    'Two rotations under `fast`, and two crashes.',
    [],
    { appends: 3, rotations: 2, crashes: 2, isFast: true, cuts: true },
    { isSmall: false },
  ),
];
