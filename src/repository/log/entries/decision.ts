import type { BackupError } from '../../../common/errors.ts';
import type { LogFact } from '../../format/log-entry.ts';
import type { LogState } from '../../format/log-state.ts';

/*
 * This folder, `log/entries`, has two functions for each kind of log entry, with related kinds in one file: `decide...`, which a
 * writer asks whether the entry may be appended to a log in this state, and `fold...`, which computes the state after the entry.
 * Folding checks again what deciding has checked: an entry that breaks a rule was written by a faulty program and is `LOG_CORRUPT`.
 */

/** The entry to append, given the current state; an error to refuse; `undefined` if there is nothing to append. */
export type Decision<Fact extends LogFact = LogFact> = Fact | BackupError | undefined;

/**
 * Decides what to append. It is called again for every number that is tried (P4, P7), and the state is its only source of
 * truth. It may be asynchronous, but other appends of this process wait meanwhile.
 */
export type Decide<Fact extends LogFact = LogFact> = (state: LogState) => Decision<Fact> | Promise<Decision<Fact>>;
