import { EMPTY_STATE, type LogState } from '../../../../src/repository/format/log-state.ts';
import { foldEntries } from '../../../../src/repository/log/fold.ts';
import type { LogSource } from '../../../../src/repository/log/log-source.ts';
import { readWholeLog } from '../../../../src/repository/log/open-log.ts';

/** The state that the entries alone give, read and checked as `verify` does. */
export async function verifyLog(source: LogSource): Promise<LogState> {
  return foldEntries(EMPTY_STATE, (await readWholeLog(source)).entries);
}
