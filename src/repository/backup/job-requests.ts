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
import { encodeMsgpack } from '../../common/msgpack.ts';
import { checkBudget } from '../../targets/decorators/request-meter.ts';
import { CopyOnWriteVolume, isVolume } from '../../volume/copy-on-write-volume.ts';
import { isVolumeSnapshot, type VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import { backupPlain, checkMetadata } from '../format/backup-codec.ts';
import { isTextWithin, MAX_TEXT } from '../format/decode-values.ts';
import { MAX_ENTRY_BYTES } from '../format/entry-codec.ts';
import type { BackupRecord } from '../format/log-entry.ts';
import { MAX_RUNS } from '../format/map-descriptor.ts';
import { MAX_RUN_ENTRIES } from '../format/map-descriptor-codec.ts';
import type { BackupOptions, BackupSource, GroupOptions, GroupPart } from './backup-job.ts';
import { checkPreimageRoom } from './preimage-pressure.ts';

/** A source to back up, with the options of its backup. */
export interface JobRequest {
  readonly source: BackupSource;
  readonly options: BackupOptions;
}

/** A request whose volume is frozen. The snapshot is the job's own handle on the instant. */
export interface FrozenRequest {
  readonly options: BackupOptions;
  readonly snapshot: VolumeSnapshot;
}

/** The most volumes of one `open` entry: `docs/FORMAT.md`, section 8. */
const MAX_PARTS = 16_384;

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

/** Checks what the host gave. @throws TypeError; `LIMIT_EXCEEDED` if one commit could not hold all of it */
export function checkRequests(requests: readonly JobRequest[]): void {
  for (const { source, options } of requests) {
    checkSource(source);
    checkBackupOptions(options);
    checkPreimageRoom(isVolumeSnapshot(source) ? source.volume : source);
  }
  const names = requests.map(({ options }) => options.volume);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined)
    throw new TypeError(
      `volume ${JSON.stringify(twice)} is in the group twice: give each source a volume name of its own`,
    );
  checkCommitSize(requests);
}

/** @throws TypeError */
export function checkBackupOptions(options: BackupOptions): void {
  optionsArgument('options', options, BACKUP_OPTIONS);
  const { volume, base, metadata, budget, sampleBlocks, takeOver, outageMs, onProgress, signal } = options ?? {};
  textArgument('volume', volume);
  if (!isTextWithin(volume, MAX_TEXT)) {
    throw new TypeError(`volume must be well-formed text of at most ${MAX_TEXT} bytes of UTF-8`);
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

/** The requests of a group, checked. @throws TypeError; `LIMIT_EXCEEDED` for more volumes than one commit can hold */
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

/** Freezes the volumes together, and shares the snapshots that were given as such. */
export async function freeze(requests: readonly JobRequest[], signal: AbortSignal): Promise<FrozenRequest[]> {
  const volumes = requests.flatMap(({ source }) => (isVolumeSnapshot(source) ? [] : [source]));
  const snapshots = volumes.length === 0 ? [] : await CopyOnWriteVolume.createSnapshots(volumes, { signal });
  const made = [...snapshots] as VolumeSnapshot[];
  const frozen: FrozenRequest[] = [];
  try {
    for (const { source, options } of requests) {
      const snapshot = isVolumeSnapshot(source) ? await source.share() : (made.shift() as VolumeSnapshot);
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

/** The entry's own fields, its seal, 64 packs and some tables. */
const OTHER_COMMIT_BYTES = 64 * 1024;
/** A run chunk in a descriptor, and the least number of entries of a full chunk. */
const CHUNK_REF_BYTES = 128;
const FULL_CHUNK_ENTRIES = 2 ** 15;
/** Numbers in their longest form, and a root. */
const DESCRIPTOR_BYTES = 256;

/**
 * Refuses backups whose one commit would not fit into an entry of the log, before anything is uploaded. Lost blocks are not
 * counted, because they are not known yet.
 *
 * @throws `LIMIT_EXCEEDED`
 */
function checkCommitSize(requests: readonly JobRequest[]): void {
  const bytes = requests.reduce((sum, request) => sum + mostBytes(request), OTHER_COMMIT_BYTES);
  if (bytes <= MAX_ENTRY_BYTES) return;
  throw new BackupError(
    'LIMIT_EXCEEDED',
    `the commit of these ${requests.length} backups may take ${bytes} bytes, and a log entry has at most ${MAX_ENTRY_BYTES}: ` +
      'give them less metadata, or put fewer volumes into one group',
  );
}

function mostBytes({ source, options: { volume, metadata = {} } }: JobRequest): number {
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
  const blockCount = Math.ceil(source.size / source.blockSize);
  const chunks = MAX_RUNS + Math.ceil(Math.min(MAX_RUN_ENTRIES, blockCount) / FULL_CHUNK_ENTRIES);
  return encodeMsgpack(backupPlain(record)).length + DESCRIPTOR_BYTES + chunks * CHUNK_REF_BYTES;
}
