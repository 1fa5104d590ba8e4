import { type Mutation, testsIn, without } from './mutation.ts';

const model = testsIn('test/pipeline/model.test.ts')('every complete run restores as its instant');
const failures = testsIn('test/pipeline/failures.test.ts');
const matrix = testsIn('test/pipeline/failure-matrix.test.ts');
const order = testsIn('test/pipeline/order.test.ts');
const records = testsIn('test/pipeline/pipeline-record.test.ts');

/** What a pipeline must do so that a run restores as its instant, and its snapshot can be continued. */
export const PIPELINE_MUTATIONS: readonly Mutation[] = [
  ...without(
    '127',
    ['a pipeline that fails leaves blocks storing', { 'pipeline-gives-back': '' }, model],
    [
      'memory that the host has transferred is stored as an empty block',
      { 'memory-is-there': 'return;' },
      matrix('transfers the memory that it is given'),
    ],
    [
      'a batch is read in one call, however few bytes the device takes',
      { 'batches-fit-a-call': 'const most = Number.POSITIVE_INFINITY;' },
      matrix('with transfers of at most two blocks'),
    ],
    [
      'a block that was lost in the middle of a batch is given back, too',
      { 'lost-is-not-given-back': "this.snapshot.mark(block, 'failed');" },
      failures('lost in the middle of a batch'),
    ],
    ['two pipelines work on one snapshot', { 'one-pipeline-a-snapshot': '' }, model],
    [
      'a pipeline ends while it still reads',
      { 'done-waits-for-reads': "await Promise.race([this.#store('intercepted'), ...sweeps]);" },
      failures('ends only when all of its reads have'),
    ],
    ['a pipeline ends while calls of store are under way', { 'done-waits-for-calls': '' }, model],
    ['a block is being stored after an abort', { 'nothing-begins-after-the-end': '' }, model],
    [
      'a block counts as stored when its store has begun',
      {
        'stored-when-acknowledged':
          'void Promise.resolve(call({ signal, attempt })).catch(() => undefined);\nreturn undefined as T;',
      },
      model,
    ],
    [
      'a block that begins with a zero counts as zeroes',
      { 'zero-is-all-of-it': 'const isZeroes = isHole[index] === true || raw[0] === 0;' },
      model,
    ],
    [
      'a block is claimed a turn after it was found',
      { 'claimed-in-the-same-step': (claim) => `await new Promise((resolve) => setImmediate(resolve));\n${claim}` },
      model,
    ],
    [
      'intercepted blocks wait for those of the sweep',
      { 'intercepted-first': 'const priority = { priority: PRIORITY.swept };' },
      order('before those of the sweep'),
    ],
    ['transforms are undone in the order of applying', { 'undone-last-first': 'const lastFirst = transforms;' }, model],
    [
      'the checksum of a record is not looked at',
      { 'record-is-checked': 'const body: Uint8Array | undefined = own.slice(0, -32);' },
      records('any bit'),
    ],
    ['blocks that have changed count as unchanged', { 'changes-override': '' }, model],
    [
      'a block that was short is inherited by a longer one',
      { 'short-block-is-not-taken-over': 'const whole = known.blockCount;' },
      order('of a volume that has grown'),
    ],
    [
      'blocks that were stored in the meantime are marked as unchanged',
      { 'taken-up-stays': 'const next = end;' },
      model,
    ],
  ),
  ...without(
    'R11',
    ['change tracking is believed for an instant before the record', { 'record-is-earlier': '' }, model],
    [
      'what an earlier run has lost counts as being there',
      { 'lost-is-stored-again': "const kept = states.ranges('stored', 'inherited', 'zero', 'lost');" },
      order('that an earlier run has lost'),
    ],
  ),
];
