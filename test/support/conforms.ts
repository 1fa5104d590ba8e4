import { test } from 'vitest';
import type { CloudTarget } from '../../src/target/cloud-target.ts';
import { targetConformance } from '../../src/testing/target-conformance.ts';

/** Runs the conformance suite on a target, each case as a test. */
export function conforms(open: () => CloudTarget | Promise<CloudTarget>): void {
  for (const { name, run } of targetConformance({ open: async () => open() })) {
    test(name, (context) => run({ skip: (reason) => context.skip(reason) }));
  }
}
