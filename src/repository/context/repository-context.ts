// This folder holds what all operations of an open repository share: its parts, progress, the reserve.

import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { RepositoryKeys } from '../crypto/repository-keys.ts';
import { requireWriterFeatures } from '../format/features.ts';
import type { RepositoryFormat } from '../format/format-object.ts';
import type { StoredBackup } from '../format/log-state.ts';
import type { MapDescriptor } from '../format/map-descriptor.ts';
import type { RecordReader } from '../format/record.ts';
import { missingBackup } from '../log/entries/backups.ts';
import type { LogWriter } from '../log/log-writer.ts';
import { BlockMap, type BlockMapOptions } from '../map/block-map.ts';
import type { RecordStore } from '../packs/record-store.ts';

/** The parts of an open repository. */
export interface RepositoryContext {
  /** All requests go through it, and are counted for the operation that makes them. */
  readonly target: CloudTarget;
  readonly format: RepositoryFormat;
  readonly keys: RepositoryKeys;
  /** The name of the key slot that the repository was opened with; `undefined` in a plain repository. */
  readonly keySlot: string | undefined;
  readonly log: LogWriter;
  readonly records: RecordStore;
  readonly readOnly: boolean;
  /** The name of this host and process, as other hosts see it in the sessions that it opens. */
  readonly owner: string;
  /** Milliseconds since 1970, by this host's clock. It only decides what is tried, never what is correct. */
  readonly now: () => number;
  /** Makes requests of the target, and may retry them. @defaultValue once */
  readonly insist?: Insist | undefined;
}

/** Does `work`, and repeats it after a failure that may be temporary. */
export type Insist = <T>(work: () => Promise<T>, mayPass?: (error: unknown) => boolean) => Promise<T>;

export const once: Insist = (work) => work();

/** Has to be called before an operation writes. @throws `READ_ONLY`; `REPOSITORY_UNSUPPORTED` as far as the log was read */
export function requireWritable({ readOnly, log }: Pick<RepositoryContext, 'readOnly' | 'log'>): void {
  if (readOnly) throw new BackupError('READ_ONLY', 'the repository was opened with readOnly: true');
  requireWriterFeatures(log.state.features);
}

/**
 * The backups of these ids. Asks the store only if this process does not know all of them.
 *
 * @throws `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`, and what the log throws
 */
export async function findBackups<const Ids extends readonly string[]>(
  { log }: Pick<RepositoryContext, 'log'>,
  ids: Ids,
  options: AbortOptions,
): Promise<{ readonly [K in keyof Ids]: StoredBackup }> {
  const needs = { ids };
  let state = await log.withPages(needs, options);
  if (!ids.every((id) => state.backups.has(id))) state = await log.catchUp({ needs, ...options });
  const found = ids.map((id) => {
    const backup = state.backups.get(id);
    if (backup === undefined) throw missingBackup(state, id);
    return backup;
  });
  return found as { readonly [K in keyof Ids]: StoredBackup };
}

/** The map of a backup, read as the repository reads. */
export function openMap(
  context: RepositoryContext,
  descriptor: MapDescriptor,
  options: BlockMapOptions = {},
): BlockMap {
  const { records, insist } = context;
  const reader: RecordReader =
    insist === undefined ? records : { read: (...record) => insist(() => records.read(...record)) };
  return mapOver(context, reader, descriptor, options);
}

/** The map of a backup, read through `records`. */
export function mapOver(
  { format, keys }: Pick<RepositoryContext, 'format' | 'keys'>,
  records: RecordReader,
  descriptor: MapDescriptor,
  options: BlockMapOptions = {},
): BlockMap {
  return new BlockMap(descriptor, format.fanOut, records, keys, options);
}
