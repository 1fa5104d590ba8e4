import type { Flavour } from './hostile-world.ts';

/** What the parent asks for. */
export interface HostilePlan {
  readonly flavour: Flavour;
  readonly seed: number;
  /** The first attack, and how many: each has a seed of its own. */
  readonly from: number;
  readonly count: number;
}

/** A line that the program prints. */
export type HostileWord =
  | { readonly begins: number; readonly name: string }
  | {
      readonly ends: number;
      /** What was not as it should be. */
      readonly faults: readonly string[];
      /** By operation: how often it gave what, `ok` or a code. */
      readonly outcomes: Readonly<Record<string, string>>;
      readonly requests: number;
      /** Above what the process had before, at its highest. */
      readonly grownBytes: number;
      readonly ms: number;
    };
