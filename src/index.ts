export { type AbortOptions, abortable } from './common/abort.ts';
export type { ByteRange } from './common/byte-range.ts';
export { BackupError, type BackupErrorCode, type BackupErrorOptions, type KnownBackupErrorCode } from './common/errors.ts';
