import { encodePlain } from '../../common/bounded-msgpack.ts';
import { BackupError } from '../../common/errors.ts';
import { backupPlain } from '../format/backup-codec.ts';
import { MAX_ENTRY_BYTES } from '../format/entry-codec.ts';
import type { BackupRecord } from '../format/log-entry.ts';
import { MAX_RUNS } from '../format/map-descriptor.ts';
import { MAX_RUN_ENTRIES } from '../format/map-descriptor-codec.ts';

/** What a backup's part of a commit entry depends on. */
export interface CommitPart {
  readonly volume: string;
  readonly metadata: Readonly<Record<string, string>> | undefined;
  readonly blockCount: number;
}

/** The entry's own fields, its seal, 64 packs and some tables. */
const OTHER_BYTES = 64 * 1024;
/** A run chunk of a descriptor, and the fewest entries of one that is full. */
const CHUNK_REF_BYTES = 128;
const FULL_CHUNK_ENTRIES = 2 ** 15;
/** Numbers at their longest, and a root. */
const DESCRIPTOR_BYTES = 256;

/**
 * Refuses backups whose one commit would not fit into an entry of the log: after everything has been uploaded would be late.
 * Lost blocks are left out of the account, since nobody knows them yet.
 *
 * @throws `LIMIT_EXCEEDED`
 */
export function checkCommitSize(parts: readonly CommitPart[]): void {
  const bytes = parts.reduce((sum, part) => sum + mostBytes(part), OTHER_BYTES);
  if (bytes <= MAX_ENTRY_BYTES) return;
  throw new BackupError(
    'LIMIT_EXCEEDED',
    `the commit of these ${parts.length} backups may take ${bytes} bytes, and a log entry has at most ${MAX_ENTRY_BYTES}: ` +
      'give them less metadata, or put fewer volumes into one group',
  );
}

function mostBytes({ volume, metadata = {}, blockCount }: CommitPart): number {
  const id = 'f'.repeat(32);
  const most = Number.MAX_SAFE_INTEGER;
  const record: BackupRecord = {
    id,
    volume,
    parent: id,
    base: id,
    frozenAt: most,
    trackingId: id + id,
    point: most,
    intact: true,
    descriptor: { size: most, blockSize: 4096, root: undefined, runs: [], lost: [] },
    metadata,
    stats: { storedBytes: most, changedBlocks: most },
  };
  const chunks = MAX_RUNS + Math.ceil(Math.min(MAX_RUN_ENTRIES, blockCount) / FULL_CHUNK_ENTRIES);
  return encodePlain(backupPlain(record)).length + DESCRIPTOR_BYTES + chunks * CHUNK_REF_BYTES;
}
