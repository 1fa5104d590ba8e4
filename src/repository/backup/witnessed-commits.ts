import { createHash } from 'node:crypto';
import { type BlockRange, collectRanges } from '../../common/block-range.ts';
import { encodeMsgpack } from '../../common/msgpack.ts';
import type { ChangePoint } from '../../volume/epochs/epoch-map.ts';
import { type CommitMemory, commitMemory, type Volume } from '../../volume/volume-snapshot.ts';
import { backupPlain } from '../format/backup-codec.ts';
import type { BackupRecord } from '../format/log-entry.ts';

/**
 * Which instant of a volume became which backup, as this process has seen it committed, or an earlier one whose state is believed.
 *
 * Change tracking is believed only against such a base (decision 080). A tracking id and a counter in the repository prove
 * nothing: if a machine is reverted to a snapshot of its memory, or cloned while it runs, two volumes have the same id, the
 * same counter and the same random numbers, and the base may be an instant of the other volume.
 */
interface WitnessedCommit {
  /** The digest of the backup's whole record. Its map descriptor authenticates every block. */
  readonly digest: string;
  readonly point: ChangePoint;
}

/** For each volume: the newest commit for each repository and volume name. */
const witnessedCommits = new WeakMap<Volume, Map<string, WitnessedCommit>>();

/**
 * Why change tracking was not used for a backup.
 *
 * - `no-base`: the volume has no backup of this block size, or `base` was `'none'`
 * - `base-damaged`: too little of the base can be read
 * - `base-not-seen`: the base was not committed from this volume object in this process, and the volume has no state directory that knows of it
 * - `base-not-newest`: the base is not the newest backup of its volume
 * - `base-newer`: the base is a later instant than the snapshot that is being backed up
 * - `size-changed`: the volume had another size when the base was made
 * - `tracking-lost`: the volume does not keep track of changes since the base any more
 * - `tracking-wrong`: a sample showed that change tracking has missed a write; see `CHANGE_TRACKING_WRONG`
 *
 * @public
 */
export type ChangeReason =
  | 'no-base'
  | 'base-damaged'
  | 'base-not-seen'
  | 'base-not-newest'
  | 'base-newer'
  | 'size-changed'
  | 'tracking-lost'
  | 'tracking-wrong';

/** A base, and the id of its volume's newest backup in the log. */
export interface TrackedBase {
  readonly repositoryId: Uint8Array;
  readonly base: BackupRecord;
  readonly newest: string | undefined;
}

/** Remembers a commit that is known to be in the log. */
export function witnessCommit(
  volume: Volume,
  repositoryId: Uint8Array,
  backup: BackupRecord,
  point: ChangePoint,
): void {
  const commits = witnessedCommits.get(volume) ?? new Map<string, WitnessedCommit>();
  witnessedCommits.set(volume, commits);
  const digest = digestOf(backup);
  commits.set(keyOf(repositoryId, backup.volume), { digest: digest.toString('base64'), point });
  memoryOf(volume)?.commit({ serial: point.epoch, repositoryId, volume: backup.volume, digest });
}

/** What an earlier process has seen, if the volume has a state directory that is believed. */
function rememberedCommit(volume: Volume, repositoryId: Uint8Array, name: string): WitnessedCommit | undefined {
  const found = memoryOf(volume)?.committed.find(
    (each) => each.volume === name && Buffer.compare(each.repositoryId, repositoryId) === 0,
  );
  if (found === undefined) return undefined;
  const point = { trackingId: volume.trackingId, epoch: found.serial };
  return { digest: Buffer.from(found.digest).toString('base64'), point };
}

function memoryOf(volume: Volume): CommitMemory | undefined {
  return (volume as { readonly [commitMemory]?: CommitMemory | undefined })[commitMemory];
}

/**
 * What was written since a base according to change tracking, or why change tracking is not believed.
 *
 * @param instant - the instant that is being backed up; `undefined` for one in the future
 */
export async function writtenSinceBase(
  volume: Volume,
  instant: ChangePoint | undefined,
  { repositoryId, base, newest }: TrackedBase,
): Promise<readonly BlockRange[] | ChangeReason> {
  if (base.descriptor.size !== volume.size) return 'size-changed';
  // @mutation base-is-the-newest
  if (base.id !== newest) return 'base-not-newest';
  const seen =
    witnessedCommits.get(volume)?.get(keyOf(repositoryId, base.volume)) ??
    rememberedCommit(volume, repositoryId, base.volume);
  // @mutation base-was-seen
  if (seen === undefined || seen.digest !== digestOf(base).toString('base64')) return 'base-not-seen';
  // R11: tracking since the base does not show what was written between an older instant and the base.
  // @mutation base-is-earlier
  if (instant !== undefined && instant.epoch < seen.point.epoch) return 'base-newer';
  const written = volume.changedSince(seen.point);
  return written === undefined ? 'tracking-lost' : await collectRanges(written);
}

function keyOf(repositoryId: Uint8Array, volume: string): string {
  return `${Buffer.from(repositoryId).toString('hex')}/${volume}`;
}

function digestOf(backup: BackupRecord): Buffer {
  return createHash('sha256')
    .update(encodeMsgpack(backupPlain(backup)))
    .digest();
}
