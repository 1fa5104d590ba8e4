import { plainObjectArgument } from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { idBytes, logCorrupt, logValue, optionalIdBytes, wellFormed } from './decode-values.ts';
import type { BackupRecord } from './log-entry.ts';
import type { BackupHold, Head, StoredBackup } from './log-state.ts';
import { decodeDescriptor, encodeDescriptor } from './map-descriptor-codec.ts';

/** A backup as a MessagePack map, in its commit entry and in checkpoints: `docs/FORMAT.md`, sections 8 and 9. */

/** The most bytes of UTF-8 that all names and values of a backup's metadata may have together. */
export const MAX_METADATA = 65_536;

/** What a host gives as metadata. @throws TypeError; `LIMIT_EXCEEDED` */
export function checkMetadata(metadata: unknown): void {
  let length = 0;
  for (const [name, value] of Object.entries(plainObjectArgument('metadata', metadata))) {
    if (typeof value !== 'string' || !value.isWellFormed() || !name.isWellFormed() || name === '__proto__') {
      throw new TypeError(`metadata.${name} must be a well-formed string`);
    }
    length += Buffer.byteLength(name) + Buffer.byteLength(value);
  }
  if (length > MAX_METADATA) {
    throw new BackupError(
      'LIMIT_EXCEEDED',
      `the metadata has ${length} bytes of UTF-8, and at most ${MAX_METADATA} can be stored`,
    );
  }
}

export function backupPlain(backup: BackupRecord): Record<string, unknown> {
  const { id, volume, parent, base, frozenAt, trackingId, point, intact, descriptor, metadata, stats } = backup;
  for (const [name, value] of Object.entries(metadata)) {
    wellFormed(name, "a name in a backup's metadata");
    wellFormed(value, "a value in a backup's metadata");
    // No decoder takes this key.
    if (name === '__proto__') throw logCorrupt('no metadata may be called __proto__');
  }
  return {
    id: idBytes(id),
    volume: wellFormed(volume, "a volume's name"),
    parent: optionalIdBytes(parent),
    base: optionalIdBytes(base),
    frozenAt,
    trackingId: wellFormed(trackingId, 'a tracking id'),
    point,
    intact,
    descriptor: encodeDescriptor(descriptor),
    metadata,
    stats: { storedBytes: stats.storedBytes, changedBlocks: stats.changedBlocks },
  };
}

export function backupOf(value: unknown): BackupRecord {
  const fields = logValue.map(value, 'a backup');
  const stats = logValue.map(fields.stats, "a backup's stats");
  return {
    id: logValue.hexId(fields.id, "a backup's id"),
    volume: logValue.text(fields.volume, "a backup's volume", 1),
    parent: logValue.optional(fields.parent, (parent) => logValue.hexId(parent, "a backup's parent")),
    base: logValue.optional(fields.base, (base) => logValue.hexId(base, "a backup's base")),
    frozenAt: logValue.time(fields.frozenAt, "a backup's instant"),
    trackingId: logValue.text(fields.trackingId, "a backup's tracking id"),
    point: logValue.int(fields.point, "a backup's point"),
    intact: logValue.flag(fields.intact, 'intact'),
    descriptor: decodeDescriptor(fields.descriptor),
    metadata: metadataOf(fields.metadata),
    stats: {
      storedBytes: logValue.int(stats.storedBytes, 'stored bytes'),
      changedBlocks: logValue.int(stats.changedBlocks, 'changed blocks'),
    },
  };
}

/** A backup as a checkpoint has it: with its commit entry and its hold. */
export function storedPlain(backup: StoredBackup): unknown {
  const { seq, committedAt, session, hold } = backup;
  const plain = { ...backupPlain(backup), seq, committedAt, session };
  return hold === undefined ? plain : { ...plain, hold: holdPlain(hold) };
}

export function holdPlain({ at, reason }: BackupHold): unknown {
  return [at, reason ?? null];
}

export function storedOf(value: unknown): StoredBackup {
  const { seq, committedAt, session, hold } = logValue.map(value, 'a backup');
  const { id, volume, parent, base, frozenAt, trackingId, point, intact, descriptor, metadata, stats } =
    backupOf(value);
  // One literal: an object that is spread and then grows takes a second object for what was added.
  const backup = {
    id,
    volume,
    parent,
    base,
    frozenAt,
    trackingId,
    point,
    intact,
    descriptor,
    metadata,
    stats,
    seq: logValue.seq(seq, "a backup's entry"),
    committedAt: logValue.time(committedAt, 'its time'),
    session: logValue.seq(session, 'its session'),
  };
  return hold === undefined ? backup : { ...backup, hold: holdOf(hold) };
}

export function holdOf(value: unknown): BackupHold {
  const [at, reason] = logValue.tuple(value, 2, 'a hold');
  return {
    at: logValue.time(at, "a hold's time"),
    reason: logValue.optional(reason, (text) => logValue.text(text, 'the reason of a hold', 1)),
  };
}

function metadataOf(value: unknown): Record<string, string> {
  let length = 0;
  const entries = Object.entries(logValue.map(value, "a backup's metadata")).map(([name, text]): [string, string] => {
    length += Buffer.byteLength(name);
    length += Buffer.byteLength(logValue.text(text, "a value in a backup's metadata", 0, MAX_METADATA));
    return [name, text as string];
  });
  if (length > MAX_METADATA) throw logCorrupt("a backup's metadata is too long");
  return Object.fromEntries(entries);
}

/** The newest backup of a volume, as an element of `heads`. */
export function headPlain([volume, { id, seq }]: readonly [string, Head]): unknown {
  return [volume, idBytes(id), seq];
}

/** @throws `LOG_CORRUPT` */
export function backupIdOf(value: unknown): string {
  return logValue.hexId(value, "a backup's id");
}

/** @throws `LOG_CORRUPT` */
export function headOf(value: unknown): [string, Head] {
  const [volume, id, seq] = logValue.tuple(value, 3, 'a head');
  const head = { id: logValue.hexId(id, 'a head'), seq: logValue.seq(seq, "a head's entry") };
  return [logValue.text(volume, "a volume's name", 1), head];
}
