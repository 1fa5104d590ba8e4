import { type Mutation, testsIn, without } from './mutation.ts';

const failures = testsIn('test/pipeline/failure-matrix.test.ts');

/** What a pipeline promises of a snapshot that it could not finish, and of the memory that it hands out. */
export const PIPELINE_MUTATIONS: readonly Mutation[] = without(
  '127',
  [
    'blocks that were under way stay so after a failure',
    { 'pipeline-gives-back': '' },
    failures('is called as often as the options allow'),
  ],
  [
    'memory that the host has transferred is stored as an empty block',
    { 'memory-is-there': 'return;' },
    failures('transfers the memory that it is given'),
  ],
  [
    'a batch is read in one call, however few bytes the device takes',
    { 'batches-fit-a-call': 'const most = Number.POSITIVE_INFINITY;' },
    failures('with transfers of at most two blocks'),
  ],
);
