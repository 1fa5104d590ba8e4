import type { CreateOptions } from '../../../src/repository/open/repository-options.ts';

/** What a program that is to be killed does. */
export interface KilledPlan {
  readonly seed: number;
  /** Of the repository. */
  readonly folder: string;
  readonly image: string;
  readonly volume: string;
  readonly encryption: { passphrase: string } | Extract<CreateOptions['encryption'], 'none'>;
  readonly threads: number;
  /** Calls of the filesystem until it kills itself. */
  readonly calls: number | undefined;
}

/** What it says, a line each. */
export type Word =
  | { readonly opened: number }
  | { readonly begun: string; readonly sha256: string }
  | { readonly committed: string }
  /** Said of a backup that made use of what a killed one had uploaded. */
  | { readonly adopted: number }
  | { readonly forgetting: readonly string[] }
  | { readonly forgotten: readonly string[] }
  | { readonly pruned: true }
  | { readonly failed: string };
