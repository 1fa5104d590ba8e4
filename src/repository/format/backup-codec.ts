import { plainObjectArgument } from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { logCorrupt } from './corrupt.ts';
import {
  flagOf,
  idBytes,
  idOf,
  intOf,
  mapOf,
  optional,
  optionalIdBytes,
  textOf,
  timeOf,
  wellFormed,
} from './decode-values.ts';
import type { BackupRecord } from './log-entry.ts';
import { decodeDescriptor, encodeDescriptor } from './map-descriptor-codec.ts';

/** A backup as a MessagePack map: `docs/FORMAT.md`, section 8. */

/** Most characters of all names and values of a backup's metadata. */
export const MAX_METADATA = 65_536;

/** What a host gives as metadata. @throws TypeError; `LIMIT_EXCEEDED` */
export function checkMetadata(metadata: unknown): void {
  let length = 0;
  for (const [name, value] of Object.entries(plainObjectArgument('metadata', metadata))) {
    if (typeof value !== 'string' || !value.isWellFormed() || !name.isWellFormed() || name === '__proto__') {
      throw new TypeError(`metadata.${name} must be a well-formed string`);
    }
    length += name.length + value.length;
  }
  if (length > MAX_METADATA) {
    throw new BackupError(
      'LIMIT_EXCEEDED',
      `the metadata has ${length} characters, and at most ${MAX_METADATA} can be stored`,
    );
  }
}

export function backupPlain(backup: BackupRecord): Record<string, unknown> {
  const { id, volume, parent, base, frozenAt, trackingId, point, intact, descriptor, metadata, stats } = backup;
  for (const [name, value] of Object.entries(metadata)) {
    wellFormed(name, "a name in a backup's metadata");
    wellFormed(value, "a value in a backup's metadata");
    // msgpackr renames it when it decodes: a reader would see another name.
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
  const fields = mapOf(value, 'a backup');
  const stats = mapOf(fields.stats, "a backup's stats");
  return {
    id: idOf(fields.id, "a backup's id"),
    volume: textOf(fields.volume, "a backup's volume", 1),
    parent: optional(fields.parent, (parent) => idOf(parent, "a backup's parent")),
    base: optional(fields.base, (base) => idOf(base, "a backup's base")),
    frozenAt: timeOf(fields.frozenAt, "a backup's instant"),
    trackingId: textOf(fields.trackingId, "a backup's tracking id"),
    point: intOf(fields.point, "a backup's point"),
    intact: flagOf(fields.intact, 'intact'),
    descriptor: descriptorOf(fields.descriptor),
    metadata: metadataOf(fields.metadata),
    stats: {
      storedBytes: intOf(stats.storedBytes, 'stored bytes'),
      changedBlocks: intOf(stats.changedBlocks, 'changed blocks'),
    },
  };
}

function descriptorOf(value: unknown): BackupRecord['descriptor'] {
  try {
    return decodeDescriptor(value);
  } catch (cause) {
    throw logCorrupt("a backup's descriptor is not valid", cause);
  }
}

function metadataOf(value: unknown): Record<string, string> {
  let length = 0;
  const entries = Object.entries(mapOf(value, "a backup's metadata")).map(([name, text]): [string, string] => {
    length += name.length + textOf(text, "a value in a backup's metadata", 0, MAX_METADATA).length;
    return [name, text as string];
  });
  if (length > MAX_METADATA) throw logCorrupt("a backup's metadata is too long");
  return Object.fromEntries(entries);
}
