import type { CloudTarget } from '../targets/cloud-target.ts';
import type { ConformanceContext } from './conformance.ts';

/** What a case is given: a target, and keys that nobody else uses. */
export interface TargetTrial {
  readonly target: CloudTarget;
  /** A key of this case alone. */
  key(name: string): string;
  /** What the keys of this case begin with, with a `/` at its end. */
  readonly prefix: string;
  readonly context: ConformanceContext;
}

/** A case as it is written down here. */
export interface TargetCase {
  readonly name: string;
  run(trial: TargetTrial): Promise<void>;
}

/** Runs `work` for each item, a few at once. */
export async function forEachOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items].reverse();
  const worker = async () => {
    for (let item = queue.pop(); item !== undefined; item = queue.pop()) await work(item);
  };
  await Promise.all(Array.from({ length: 24 }, worker));
}
