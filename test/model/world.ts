/** What stays the same during one exploration: who takes part, which rules hold, where it starts. */
import type { Emit } from './explore.ts';
import type { BackupSpec, Registry } from './log.ts';
import type { Contents } from './objects.ts';
import type { Rule } from './rules.ts';
import type { Client, State } from './state.ts';

export interface WriterRole {
  readonly kind: 'writer';
  readonly volumes: readonly number[];
  /** Sessions that it may open. @default 1 */
  readonly rounds?: number | undefined;
  /** @default 0 */
  readonly crashes?: number | undefined;
  /** What it does with somebody else's open session on its volume. @default 'none': VOLUME_BUSY */
  readonly takeover?: 'none' | 'fence' | 'adopt' | undefined;
  /** run: a run over the base's items. tree: a new root that shares the base's. fold: a root of its own. @default 'run' */
  readonly shape?: 'run' | 'tree' | 'fold' | undefined;
  /** More runs than this are folded. @default 8 */
  readonly maxRuns?: number | undefined;
  /** Places of blocks that it finds again elsewhere in the repository. */
  readonly dedup?: readonly number[] | undefined;
  readonly mayCancel?: boolean | undefined;
  readonly mayAbort?: boolean | undefined;
  /** Which of its requests may go unanswered and land late. @default none */
  readonly late?: readonly ('open' | 'commit' | 'abort' | 'pack')[] | undefined;
}

export interface CollectorRole {
  readonly kind: 'collector';
  readonly rounds?: number | undefined;
  readonly fences?: boolean | undefined;
  readonly late?: boolean | undefined;
}

export interface RepackerRole {
  readonly kind: 'repacker';
  readonly rounds?: number | undefined;
  readonly crashes?: number | undefined;
  /** Packs of session 0 that are worth moving; packs of its own kind are too. */
  readonly packs: readonly number[];
  readonly late?: boolean | undefined;
}

export interface ReaderRole {
  readonly kind: 'reader';
  readonly rounds?: number | undefined;
}

/** The host's `forget`. */
export interface OperatorRole {
  readonly kind: 'operator';
  readonly rounds?: number | undefined;
  /** Only these; by default any. */
  readonly backups?: readonly number[] | undefined;
}

export type Role = WriterRole | CollectorRole | RepackerRole | ReaderRole | OperatorRole;

export interface Configuration {
  readonly volumes: number;
  /** Packs of session 0, numbered from 0. */
  readonly packs: readonly Contents[];
  /** Backups of the first log entry; the first has id 4, the next 5 ... */
  readonly backups: readonly BackupSpec[];
  readonly roles: readonly Role[];
  /** Deletions wait for every reader that began before. @default false: time may be short */
  readonly grace?: boolean | undefined;
  /** The writer (by index) that must always be able to finish. */
  readonly rescuer?: number | undefined;
}

export interface World {
  readonly configuration: Configuration;
  readonly registry: Registry;
  readonly keeps: (rule: Rule) => boolean;
}

export interface Turn<R extends Role = Role> {
  readonly world: World;
  readonly role: R;
  readonly state: State;
  readonly index: number;
  readonly client: Client;
  readonly emit: Emit<State>;
}
