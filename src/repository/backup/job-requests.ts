import {
  booleanArgument,
  described,
  functionArgument,
  integerArgument,
  limitArgument,
  optionsArgument,
  plainObjectArgument,
  signalArgument,
  textArgument,
} from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { checkBudget } from '../../targets/decorators/request-meter.ts';
import { CopyOnWriteVolume, isVolume } from '../../volume/copy-on-write-volume.ts';
import { isVolumeSnapshot, type VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import { checkMetadata } from '../format/backup-codec.ts';
import type { BackupOptions, BackupSource, GroupOptions, GroupPart } from './backup-job.ts';
import { checkCommitSize } from './commit-size.ts';
import { checkPreimageRoom } from './preimage-pressure.ts';

/** A volume to be backed up, and how. */
export interface JobRequest {
  readonly source: BackupSource;
  readonly options: BackupOptions;
}

/** A request with the job's own handle on the instant. */
export interface FrozenRequest {
  readonly options: BackupOptions;
  readonly snapshot: VolumeSnapshot;
}

/** Of a volume's name, in characters. */
const MAX_NAME = 1024;

const BACKUP_OPTIONS: Readonly<Record<keyof BackupOptions, true>> = {
  volume: true,
  base: true,
  metadata: true,
  budget: true,
  takeOver: true,
  sampleBlocks: true,
  outageMs: true,
  onProgress: true,
  signal: true,
};

const GROUP_OPTIONS: Readonly<Record<keyof GroupOptions, true>> = { budget: true, outageMs: true, signal: true };

/** What a host asks for, at the door. @throws TypeError; `LIMIT_EXCEEDED` where one commit could not hold it all */
export function checkRequests(requests: readonly JobRequest[]): void {
  for (const { source, options } of requests) {
    checkSource(source);
    checkBackupOptions(options);
    checkPreimageRoom(isVolumeSnapshot(source) ? source.volume : source);
  }
  const names = requests.map(({ options }) => options.volume);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new TypeError(`volume ${JSON.stringify(twice)} is in the group twice`);
  checkCommitSize(
    requests.map(({ source, options: { volume, metadata } }) => {
      return { volume, metadata, blockCount: Math.ceil(source.size / source.blockSize) };
    }),
  );
}

/** @throws TypeError */
export function checkBackupOptions(options: BackupOptions): void {
  optionsArgument('options', options, BACKUP_OPTIONS);
  const { volume, base, metadata, budget, sampleBlocks, takeOver, outageMs, onProgress, signal } = options ?? {};
  textArgument('volume', volume);
  if (volume.length > MAX_NAME || !volume.isWellFormed()) {
    throw new TypeError(`volume must be well-formed text of at most ${MAX_NAME} characters`);
  }
  if (base !== undefined) textArgument('base', base);
  if (metadata !== undefined) checkMetadata(metadata);
  checkBudget(budget);
  if (sampleBlocks !== undefined) integerArgument('sampleBlocks', sampleBlocks, 0);
  if (takeOver !== undefined) booleanArgument('takeOver', takeOver);
  if (outageMs !== undefined) limitArgument('outageMs', outageMs, 0);
  if (onProgress !== undefined) functionArgument('onProgress', onProgress);
  signalArgument('signal', signal);
}

/** An `open` entry names so many volumes at most: `docs/FORMAT.md`, section 8. */
const MAX_PARTS = 16_384;

/** The requests of a group, and what holds for all of it. @throws TypeError */
export function groupRequests(parts: readonly GroupPart[], options: GroupOptions): JobRequest[] {
  optionsArgument('options', options, GROUP_OPTIONS);
  signalArgument('signal', options.signal);
  if (options.outageMs !== undefined) limitArgument('outageMs', options.outageMs, 0);
  if (!Array.isArray(parts) || parts.length === 0) throw new TypeError('parts must be a list of at least one part');
  if (parts.length > MAX_PARTS)
    throw new BackupError(
      'LIMIT_EXCEEDED',
      `the group has ${parts.length} volumes, and one commit holds at most ${MAX_PARTS}: make smaller groups`,
    );
  return parts.map((part: GroupPart) => {
    const { source, ...each } = plainObjectArgument('each of parts', part) as GroupPart;
    for (const name of ['budget', 'outageMs'] as const) {
      if (name in each) throw new TypeError(`${name} is an option of the whole group, not of one part`);
    }
    checkSource(source);
    checkBackupOptions(each);
    return { source, options: each };
  });
}

/** A handle of the job's own on each instant; volumes that were given as such are frozen together. */
export async function freeze(requests: readonly JobRequest[], signal: AbortSignal): Promise<FrozenRequest[]> {
  const volumes = requests.flatMap(({ source }) => (isVolumeSnapshot(source) ? [] : [source]));
  const snapshots = volumes.length === 0 ? [] : await CopyOnWriteVolume.createSnapshots(volumes, { signal });
  const made = [...snapshots] as VolumeSnapshot[];
  const frozen: FrozenRequest[] = [];
  try {
    for (const { source, options } of requests) {
      const snapshot = isVolumeSnapshot(source) ? source.share() : (made.shift() as VolumeSnapshot);
      frozen.push({ options, snapshot });
    }
    return frozen;
  } catch (error) {
    for (const { snapshot } of frozen) await snapshot.close();
    for (const snapshot of made) await snapshot.close();
    throw error;
  }
}

export function checkSource(source: BackupSource): void {
  if (isVolume(source) || isVolumeSnapshot(source)) return;
  throw new TypeError(`source must be a CopyOnWriteVolume or a VolumeSnapshot, not ${described(source)}`);
}
