import { randomBytes } from 'node:crypto';
import { functionArgument, optionsArgument } from '../common/arguments.ts';
import { forEachConcurrently } from '../common/map-concurrently.ts';
import type { CloudTarget } from '../targets/cloud-target.ts';
import type { ConformanceCase } from './conformance.ts';
import { targetListingCases } from './target-listing-cases.ts';
import { targetObjectCases } from './target-object-cases.ts';
import { targetAbortCases, targetRaceCases } from './target-race-cases.ts';
import { targetTagCases } from './target-tag-cases.ts';

/** How {@link targetConformance} opens and tests an adapter. @public */
export interface TargetConformanceOptions {
  /** Opens a target. Each case opens one and disposes of it. */
  open(): Promise<CloudTarget>;
  /**
   * Empties the store before each case. It is not needed, because every case uses keys of its own under `conformance/` and deletes
   * its objects.
   */
  reset?: (() => Promise<void>) | undefined;
}

/**
 * The obligations of `CloudTarget` as test cases. Cases about capabilities that a target lacks are skipped. All cases together take
 * up to about 40 MiB of memory and make about 3,000 requests.
 *
 * @example
 * ```ts
 * // In a test file of your own, with any runner that has tests with names: Vitest, node:test and others.
 * for (const { name, run } of targetConformance({ open: async () => new MemoryTarget() })) {
 *   test(name, (context) => run({ skip: () => context.skip() }));
 * }
 * ```
 *
 * @public
 */
export function targetConformance(options: TargetConformanceOptions): readonly ConformanceCase[] {
  const { open, reset } = optionsArgument('options', options ?? null, { open: true, reset: true });
  functionArgument('options.open', open);
  if (reset !== undefined) functionArgument('options.reset', reset);
  const cases = [targetObjectCases, targetListingCases, targetTagCases, targetRaceCases, targetAbortCases].flat();
  return cases.map((testCase) => ({
    name: testCase.name,
    async run(context) {
      await options.reset?.();
      const target = await options.open();
      const prefix = `conformance/${randomBytes(8).toString('hex')}/`;
      try {
        await testCase.run({ target, prefix, context, key: (name) => prefix + name });
      } finally {
        await target[Symbol.asyncDispose]();
      }
      await cleanUp(options, prefix);
    },
  }));
}

/** Deletes the objects of a case with another target, since the case may have closed its own. */
async function cleanUp(options: TargetConformanceOptions, prefix: string): Promise<void> {
  if (options.reset !== undefined) return;
  const target = await options.open();
  try {
    const keys: string[] = [];
    for await (const { key } of target.list(prefix)) keys.push(key);
    await forEachConcurrently(keys, (key) => target.delete(key), 24);
  } finally {
    await target[Symbol.asyncDispose]();
  }
}
