import { randomBytes } from 'node:crypto';
import { functionArgument, optionsArgument } from '../common/arguments.ts';
import type { CloudTarget } from '../targets/cloud-target.ts';
import type { ConformanceCase } from './conformance.ts';
import { targetAbortCases } from './target-abort-cases.ts';
import { targetListingCases } from './target-listing-cases.ts';
import { targetObjectCases } from './target-object-cases.ts';
import { targetRaceCases } from './target-race-cases.ts';
import { forEachOf } from './target-trial.ts';

/** How {@link targetConformance} opens and tests an adapter. @public */
export interface TargetConformanceOptions {
  /** Opens a target of the kind that is tested. Each case opens one and disposes of it. */
  open(): Promise<CloudTarget>;
  /**
   * Empties the store before each case. Not needed: every case uses keys of its own, under `conformance/`, and deletes
   * what it made.
   */
  reset?: (() => Promise<void>) | undefined;
}

/**
 * The obligations of `CloudTarget` as test cases, for one's own adapters as well. They skip by capability, hold no
 * more than some 40 MiB and make some 2,000 requests in all.
 *
 * @public
 */
export function targetConformance(options: TargetConformanceOptions): readonly ConformanceCase[] {
  const { open, reset } = optionsArgument('options', options ?? null, { open: true, reset: true });
  functionArgument('options.open', open);
  if (reset !== undefined) functionArgument('options.reset', reset);
  const cases = [...targetObjectCases, ...targetListingCases, ...targetRaceCases, ...targetAbortCases];
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

/** Through a target of its own, since a case may have closed the one it was given. */
async function cleanUp(options: TargetConformanceOptions, prefix: string): Promise<void> {
  if (options.reset !== undefined) return;
  const target = await options.open();
  try {
    const keys: string[] = [];
    for await (const { key } of target.list(prefix)) keys.push(key);
    await forEachOf(keys, (key) => target.delete(key));
  } finally {
    await target[Symbol.asyncDispose]();
  }
}
