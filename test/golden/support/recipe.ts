import type { Unlock } from '../../../src/repository/crypto/unlock.ts';
import type { RepositoryMode } from '../../../src/repository/format/format-object.ts';
import type { Store, Written } from './history.ts';
import type { Secret } from './manifest.ts';

/** How one golden repository is made. */
export interface Recipe {
  readonly name: `v1-${string}`;
  /** `shared` unless it says another. */
  readonly mode?: RepositoryMode;
  /** What it is created with; `none` for a plain one. */
  readonly encryption: Unlock | 'none';
  /** What unlocks it in the end. */
  readonly secrets: readonly Secret[];
  /** Hex. */
  readonly removedKey?: string;
  readonly fanOut?: number;
  /** What a reader must come across in it: see {@link import('./manifest.ts').Manifest}. */
  readonly has: readonly string[];
  /** Whether the object `reserve` stays, which has 1 MiB. */
  readonly keepsReserve?: boolean;
  /** Whether what it deletes of the log and the catalogue is gone: else that stays, as after a prune that was cut short. */
  readonly losesPast?: boolean;
  write(store: Store): Promise<Written>;
}
