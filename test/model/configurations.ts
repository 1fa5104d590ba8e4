/** Every exploration there is. */
import { COLLECTING } from './configurations/collecting.ts';
import { LOG } from './configurations/log.ts';
import { REPACKING } from './configurations/repacking.ts';
import { STORES } from './configurations/stores.ts';
import { WRITING } from './configurations/writing.ts';
import type { Named } from './named.ts';

export const CONFIGURATIONS: readonly Named[] = [...WRITING, ...COLLECTING, ...REPACKING, ...LOG, ...STORES];
