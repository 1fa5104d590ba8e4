import type { AbortOptions } from '../common/abort.ts';
import {
  dateArgument,
  described,
  integerArgument,
  optionsArgument,
  signalArgument,
  textArgument,
} from '../common/arguments.ts';

/** Options of `BackupRepository.listBackups`. @public */
export interface ListBackupsOptions extends AbortOptions {
  /** Only of this volume. */
  volume?: string | undefined;
  /** At most so many. */
  limit?: number | undefined;
}

/** Options of `BackupRepository.latestBackup`. @public */
export interface LatestBackupOptions extends AbortOptions {
  /** Only backups whose instant is earlier, by the clock of the machine that made them. */
  before?: Date | undefined;
}

/** @throws TypeError */
export function checkListOptions(options: ListBackupsOptions) {
  const known = { volume: true, limit: true, signal: true } as const;
  const { volume, limit = Number.MAX_SAFE_INTEGER, signal } = optionsArgument('options', options, known);
  if (volume !== undefined) textArgument('volume', volume);
  return { volume, limit: integerArgument('limit', limit, 0), signal: signalArgument('signal', signal) };
}

/** @throws TypeError */
export function checkLatestOptions(options: LatestBackupOptions) {
  const { before, signal } = optionsArgument('options', options, { before: true, signal: true });
  return {
    before: before === undefined ? undefined : dateArgument('before', before),
    signal: signalArgument('signal', signal),
  };
}

/** Fewer digits would make it too easy to name a backup by mistake. */
const SHORT_ID = /^[0-9a-f]{4,32}$/;

/** The first digits of a backup's id, as they stand in ids. @throws TypeError */
export function shortIdArgument(shortId: string): string {
  const digits = typeof shortId === 'string' ? shortId.toLowerCase() : '';
  if (SHORT_ID.test(digits)) return digits;
  throw new TypeError(`shortId must be the first 4 to 32 hex digits of a backup's id, not ${described(shortId)}`);
}
