import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/services.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Much of the time is waiting; by default two cores would run one file at a time.
    maxWorkers: Math.max(2, availableParallelism()),
  },
});
