import fc from 'fast-check';
import { describe, test } from 'vitest';
import { property, withinMs } from '../support/randomness.ts';
import { runHistory } from './support/pipeline-history.ts';
import { history, shape } from './support/pipeline-steps.ts';

/**
 * Random histories of a host that has a format of its own and composes its backups of `BackupPipeline`, `restoreBlocks` and
 * `PipelineRecord` alone, against the trivially correct model: a copy of the device at each instant. `COW_TEST_TIMES`
 * multiplies them (`npm run soak:pipeline` runs 3,000 in all); a failure prints the seed and the shrunk history, and
 * `COW_TEST_SEED` replays it.
 */

describe('whatever a host does, and whatever happens to its store', () => {
  test(
    'every complete run restores as its instant',
    async () => {
      await fc.assert(fc.asyncProperty(shape, history, runHistory), property(60));
    },
    withinMs(120_000),
  );
});
