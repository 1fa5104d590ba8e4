import { createHash } from 'node:crypto';
import { type BlockRange, collectRanges } from '../../common/block-range.ts';
import { encodeMsgpack } from '../../common/msgpack.ts';
import type { ChangePoint } from '../../volume/epoch-map.ts';
import type { Volume } from '../../volume/volume-snapshot.ts';
import { backupPlain } from '../format/backup-codec.ts';
import type { BackupRecord } from '../format/log-entry.ts';

/**
 * Which instant of a volume became which backup, as this process has seen it confirmed.
 *
 * Change tracking is believed against such a base only. A tracking id and a counter in the repository prove nothing: a
 * machine that is reverted to a snapshot of its memory, or cloned while it runs, gives two volumes the same id, the same
 * counter and the same random numbers, and the base may then be an instant of the other one's.
 */
interface WitnessedCommit {
  /** Of the backup's whole record: its descriptor authenticates every block. */
  readonly digest: string;
  readonly point: ChangePoint;
}

/** By volume: by repository and name in it, the newest commit. */
const witnessedCommits = new WeakMap<Volume, Map<string, WitnessedCommit>>();

/**
 * Why change tracking was not used for a backup.
 *
 * - `no-base`: the volume has no backup of this block size, or `base: 'none'` was asked for
 * - `base-damaged`: too little of the base can be read to build on it
 * - `base-not-seen`: this volume, in this process, has not seen the base being committed from one of its own instants
 * - `base-not-newest`: the base is not the newest backup of its volume
 * - `base-newer`: the base holds a later instant than the snapshot that is being backed up
 * - `size-changed`: the volume had another size then
 * - `tracking-lost`: the volume does not keep the base's instant any more
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

/** A base, and what stands in the log as its volume's newest backup. */
export interface TrackedBase {
  readonly repositoryId: Uint8Array;
  readonly base: BackupRecord;
  readonly newest: string | undefined;
}

/** Remembers a commit whose outcome is known. */
export function witnessCommit(
  volume: Volume,
  repositoryId: Uint8Array,
  backup: BackupRecord,
  point: ChangePoint,
): void {
  const commits = witnessedCommits.get(volume) ?? new Map<string, WitnessedCommit>();
  witnessedCommits.set(volume, commits);
  commits.set(keyOf(repositoryId, backup.volume), { digest: digestOf(backup), point });
}

/**
 * What change tracking says was written since a base, or why it is not to be believed.
 *
 * @param instant - what is being backed up; `undefined` for an instant that is yet to come
 */
export async function writtenSinceBase(
  volume: Volume,
  instant: ChangePoint | undefined,
  { repositoryId, base, newest }: TrackedBase,
): Promise<readonly BlockRange[] | ChangeReason> {
  if (base.descriptor.size !== volume.size) return 'size-changed';
  // @mutation base-is-the-newest
  if (base.id !== newest) return 'base-not-newest';
  const seen = witnessedCommits.get(volume)?.get(keyOf(repositoryId, base.volume));
  // @mutation base-was-seen
  if (seen === undefined || seen.digest !== digestOf(base)) return 'base-not-seen';
  // R11: what was written between an older instant and the base shows in nothing that was written since the base.
  // @mutation base-is-earlier
  if (instant !== undefined && instant.epoch < seen.point.epoch) return 'base-newer';
  const written = volume.changedSince(seen.point);
  return written === undefined ? 'tracking-lost' : await collectRanges(written);
}

function keyOf(repositoryId: Uint8Array, volume: string): string {
  return `${Buffer.from(repositoryId).toString('hex')}/${volume}`;
}

function digestOf(backup: BackupRecord): string {
  return createHash('sha256')
    .update(encodeMsgpack(backupPlain(backup)))
    .digest('base64');
}
