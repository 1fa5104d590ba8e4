import type { BackupError } from '../../../common/errors.ts';
import type { LogFact } from '../../format/log-entry.ts';
import type { LogState } from '../../format/log-state.ts';

/** The entry to append, given the current state; an error to refuse; `undefined` if there is nothing to append. */
export type Decision<Fact extends LogFact = LogFact> = Fact | BackupError | undefined;

/**
 * Decides what to append. Called anew for every number that is tried (P4, P7), and has no other source of truth than
 * the state. It may be asynchronous, but others of this process wait meanwhile.
 */
export type Decide<Fact extends LogFact = LogFact> = (state: LogState) => Decision<Fact> | Promise<Decision<Fact>>;
