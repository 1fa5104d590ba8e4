import { test } from 'vitest';
import type { CloudTarget } from '../../src/targets/cloud-target.ts';
import { targetConformance } from '../../src/testing/target-conformance.ts';

/** Runs the conformance suite on a target, each case as a test, without those that a server is known to fail. */
export function conforms(open: () => CloudTarget | Promise<CloudTarget>, without?: RegExp): void {
  for (const { name, run } of targetConformance({ open: async () => open() })) {
    if (without?.test(name)) continue;
    test(name, (context) => run({ skip: (reason) => context.skip(reason) }));
  }
}
