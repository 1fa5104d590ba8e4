import type { LogState } from '../../../../src/repository/format/log-state.ts';
import { foldEntries } from '../../../../src/repository/log/fold.ts';
import type { LogSource } from '../../../../src/repository/log/log-source.ts';
import { openLog } from '../../../../src/repository/log/open-log.ts';
import { readWholeLog } from '../../../../src/repository/log/whole-log.ts';

/** The state that the entries give, from the floor or the beginning of the log on, read and checked as `verify` does. */
export async function verifyLog(source: LogSource): Promise<LogState> {
  const { state } = await openLog(source);
  const { base, entries } = await readWholeLog(source, state.floor);
  return foldEntries(base, entries);
}
