import { sealObject } from '../../../../src/repository/format/log-object.ts';
import { entryKey } from '../../../../src/repository/format/object-keys.ts';
import type { LogPosition, LogSource } from '../../../../src/repository/log/log-source.ts';
import { entryBody } from '../../format/support/codecs-at-once.ts';

/** What a newer program may write into a log, and whom it stops by that. */

export interface NewerEntry {
  readonly what: string;
  readonly fields: Readonly<Record<string, unknown>>;
  /** Whether programs that only read go on. */
  readonly stopsReaders: boolean;
}

const CONFIG = { type: 'config', quarantine: [], release: [] };

export const NEWER: readonly NewerEntry[] = [
  { what: 'an entry of a type that is not known', fields: { type: 'teleport' }, stopsReaders: true },
  { what: 'an entry of a version that is not known', fields: { ...CONFIG, v: 2 }, stopsReaders: true },
  { what: 'a feature of readers', fields: { ...CONFIG, readerFeatures: ['dictionaries'] }, stopsReaders: true },
  { what: 'a feature of writers', fields: { ...CONFIG, features: ['descriptions'] }, stopsReaders: false },
];

/** Appends an entry that continues the log. */
export async function appendAsNewer(
  { target, logKey }: Pick<LogSource, 'target' | 'logKey'>,
  { seq, hash }: Pick<LogPosition, 'seq' | 'hash'>,
  { fields }: NewerEntry,
): Promise<void> {
  const body = entryBody({ v: 1, seq: seq + 1, prev: hash, id: new Uint8Array(16), at: 5, tail: [], ...fields });
  await target.put(entryKey(seq + 1), sealObject(logKey, 'cow1 log', seq + 1, body), { createOnly: true });
}
