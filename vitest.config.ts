import { availableParallelism } from 'node:os';
import { configDefaults, defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * The longest files, which begin first, in this order: a long one that begins last runs alone. Those that need the S3 server come after
 * some that do not, because it takes a while to start.
 */
const LONGEST = [
  'test/model/',
  'test/repository/histories/fault-sweep',
  'test/golden/',
  'test/package/consumer',
  'test/demo/',
  'test/targets/s3/s3-conformance',
  'test/repository/histories/',
  'test/repository/log/open-log',
  'test/package/',
  'test/soaks/',
  'test/examples/',
  'test/repository/map/history',
  'test/repository/verify/verify.test',
];

/** What only soaks do, which `.ci/run` runs in short: each takes a while, however little it does. */
const SOAKS_ONLY = ['clocks', 'full-disk', 'hostile', 'kills'].map((name) => `test/soaks/${name}.test.ts`);

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const index = LONGEST.findIndex((path) => moduleId.includes(path));
      return index < 0 ? LONGEST.length : index;
    };
    return (await super.sort(files)).sort((one, other) => rank(one) - rank(other));
  }
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // `test/soaks/run.ts` runs these, and sets the variable.
    exclude: [...configDefaults.exclude, ...(process.env.COW_TEST_TIMES ? [] : SOAKS_ONLY)],
    globalSetup: ['test/support/compile-cache.ts', 'test/support/services.ts', 'test/support/python.ts'],
    sequence: { sequencer: LongestFirst },
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Much of the time is waiting, so that more files than there are cores are run at a time.
    maxWorkers: availableParallelism() + 2,
  },
});
