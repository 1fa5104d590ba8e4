/** Every exploration there is. */
import { ADOPTING } from './configurations/adopting.ts';
import { CLOCKS } from './configurations/clocks.ts';
import { COLLECTING } from './configurations/collecting.ts';
import { COMPOSED } from './configurations/composed.ts';
import { CRASH } from './configurations/crash.ts';
import { CRASH_FILES } from './configurations/crash-files.ts';
import { CRASH_JOBS } from './configurations/crash-jobs.ts';
import { ENDING } from './configurations/ending.ts';
import { ENDING_MORE } from './configurations/ending-more.ts';
import { LOG } from './configurations/log.ts';
import { PAGES } from './configurations/pages.ts';
import { REPACKING } from './configurations/repacking.ts';
import { STORES } from './configurations/stores.ts';
import { TWINS } from './configurations/twins.ts';
import { WRITING } from './configurations/writing.ts';
import type { Named } from './named.ts';

export const CONFIGURATIONS: readonly Named[] = [
  ...WRITING,
  ...COLLECTING,
  ...REPACKING,
  ...LOG,
  ...STORES,
  ...TWINS,
  ...CLOCKS,
  ...ENDING,
  ...ENDING_MORE,
  ...PAGES,
  ...ADOPTING,
  ...COMPOSED,
  ...CRASH,
  ...CRASH_FILES,
  ...CRASH_JOBS,
];
