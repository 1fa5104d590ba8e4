import { LOG_END_MUTATIONS } from './log-end-mutations.ts';
import type { Mutation } from './mutation.ts';
import { OPENING_MUTATIONS } from './opening-mutations.ts';
import { PAGES_MUTATIONS } from './pages-mutations.ts';
import { PIPELINE_MUTATIONS } from './pipeline-mutations.ts';
import { PROTOCOL_MUTATIONS } from './protocol-mutations.ts';
import { REPOSITORY_MUTATIONS } from './repository-mutations.ts';
import { STATE_MUTATIONS } from './state-mutations.ts';
import { VOLUME_MUTATIONS } from './volume-mutations.ts';

/** Every rule that the tests must miss when it is gone. */
export const MUTATIONS: readonly Mutation[] = [
  ...VOLUME_MUTATIONS,
  ...PROTOCOL_MUTATIONS,
  ...OPENING_MUTATIONS,
  ...REPOSITORY_MUTATIONS,
  ...PIPELINE_MUTATIONS,
  ...LOG_END_MUTATIONS,
  ...PAGES_MUTATIONS,
  ...STATE_MUTATIONS,
];
