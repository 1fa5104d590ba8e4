import type { CloudTarget } from '../target/cloud-target.ts';
import type { RepositoryFormat } from './keys/format-object.ts';
import type { RepositoryKeys } from './keys/repository-keys.ts';
import type { LogWriter } from './log/log-writer.ts';
import { BlockMap, type BlockMapOptions } from './map/block-map.ts';
import type { MapDescriptor } from './map/descriptor.ts';
import type { RecordStore } from './records/record-store.ts';

/** What every operation of an open repository works with. */
export interface RepositoryContext {
  /** Every request goes through it, and is charged to the operation that makes it. */
  readonly target: CloudTarget;
  readonly format: RepositoryFormat;
  readonly keys: RepositoryKeys;
  readonly log: LogWriter;
  readonly records: RecordStore;
  readonly readOnly: boolean;
  /** Of this host and process, for people who look who holds a volume. */
  readonly owner: string;
  /** Milliseconds since 1970. Never decides what is right, only what is tried. */
  readonly now: () => number;
}

/** The map of a backup. */
export function openMap(
  context: RepositoryContext,
  descriptor: MapDescriptor,
  options: BlockMapOptions = {},
): BlockMap {
  return new BlockMap(descriptor, context.format.fanOut, context.records, context.keys, options);
}
