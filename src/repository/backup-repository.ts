// This folder is the repository: this file is its door, and the folders below are its layers, from format/ up to
// verify/.

import { resolve } from 'node:path';
import { type AbortOptions, abortable, abortOptionsArgument } from '../common/abort.ts';
import { choiceArgument, described, integerArgument, optionsArgument, textArgument } from '../common/arguments.ts';
import type { ByteRange } from '../common/byte-range.ts';
import { BackupError } from '../common/errors.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { deviceArgument } from '../device/door.ts';
import type { CloudTarget } from '../targets/cloud-target.ts';
import { metered, type RequestBudget, RequestMeter } from '../targets/decorators/request-meter.ts';
import { targetArgument } from '../targets/target-arguments.ts';
import { type CopyOnWriteVolume, isVolume } from '../volume/copy-on-write-volume.ts';
import type {
  BackupGroup,
  BackupJob,
  BackupOptions,
  BackupResult,
  BackupSource,
  GroupOptions,
  GroupPart,
} from './backup/backup-job.ts';
import { BackupJobs } from './backup/backup-jobs.ts';
import type { JobHandle } from './backup/job-handle.ts';
import { checkBackupOptions, groupRequests } from './backup/job-requests.ts';
import { endSession, type SessionInfo, sessionsOf } from './backup/list-sessions.ts';
import {
  backupBeginning,
  backupsIn,
  diffBackups,
  type RepositoryStats,
  repositoryStats,
  type VolumeInfo,
  volumesOf,
} from './catalogue.ts';
import type { BackupInfo } from './context/backup-info.ts';
import { findBackups, type RepositoryContext, requireWritable } from './context/repository-context.ts';
import { type Estimate, type EstimatedWork, estimateWork } from './estimate.ts';
import type { LogState } from './format/log-state.ts';
import {
  checkLatestOptions,
  checkListOptions,
  type LatestBackupOptions,
  type ListBackupsOptions,
  shortIdArgument,
} from './list-options.ts';
import type { LogPosition } from './log/log-source.ts';
import type { LogDamage } from './log/open-log.ts';
import type { CatalogueNeeds } from './log/pages/page-store.ts';
import { createRepository } from './open/create-repository.ts';
import { type KeySlots, keySlotsOf } from './open/key-slots.ts';
import { openOrCreate, openRepository } from './open/open-repository.ts';
import {
  type CheckedTuning,
  type CreateOptions,
  checkCreateOptions,
  checkOpenOptions,
  checkTuning,
  type OpenOptions,
} from './open/repository-options.ts';
import { prune } from './prune/prune.ts';
import { PRUNE_OPTIONS, type PruneOptions, type PruneResult } from './prune/prune-options.ts';
import { BackupImage } from './restore/backup-image.ts';
import { BackupReader } from './restore/backup-reader.ts';
import { JobImage } from './restore/job-image.ts';
import { restoreBackup, restoreJob, restoreToNewFile } from './restore/restore.ts';
import {
  checkOpenBackupOptions,
  checkRestoreOptions,
  checkRestoreToFileOptions,
  type OpenBackupOptions,
  type OpenedBackup,
  type RestoreOptions,
  type RestoreResult,
  type RestoreToFileOptions,
} from './restore/restore-options.ts';
import { type ApplyRetentionOptions, applyRetention, type RetentionResult } from './retention/apply-retention.ts';
import {
  type ForgetOptions,
  forgetBackups,
  type HoldOptions,
  holdBackups,
  releaseBackups,
} from './retention/forget.ts';
import type { RetentionPolicy } from './retention/retention-policy.ts';
import { verifyRepository } from './verify/verify.ts';
import { VERIFY_OPTIONS, type VerifyOptions, type VerifyResult } from './verify/verify-options.ts';

const DEFAULT_IMAGE_CACHE_BYTES = 32 * 1024 * 1024;

/**
 * A repository: backups of any number of volumes, below one prefix of an object store.
 *
 * Any number of hosts can have a repository open at the same time. Each backs up its own volumes, while others prune. A newer
 * version of this library can stop older ones that have it open: from then on their calls that write throw
 * `REPOSITORY_UNSUPPORTED`, and perhaps also those that read.
 *
 * @example
 * ```ts
 * await using target = new FileTarget('/mnt/backups');
 * await using repository = await BackupRepository.open(target, { createIfMissing: { encryption: { passphrase } } });
 * const { id } = await repository.backup(volume, { volume: 'vm-1' });
 * await repository.restoreToFile(id, 'restored.img');
 * ```
 * @public
 */
export class BackupRepository implements AsyncDisposable {
  readonly #context: RepositoryContext;
  readonly #jobs: BackupJobs;
  readonly #tuning: CheckedTuning;
  readonly #images = new Set<BackupImage>();
  #closing: Promise<void> | undefined;

  /**
   * Whether this object has created the repository. If two hosts create it with the same secret at the same time, this may be
   * `true` for both, because one has finished what the other began.
   */
  readonly wasCreated: boolean;

  private constructor(context: RepositoryContext, tuning: CheckedTuning, wasCreated: boolean) {
    this.wasCreated = wasCreated;
    this.#context = context;
    this.#tuning = tuning;
    this.#jobs = new BackupJobs(context, tuning);
  }

  /**
   * Creates a repository and opens it. Unless `singleWriter` is set, it first tests that the target can create objects only if
   * they are absent.
   *
   * @throws TypeError for invalid options; `REPOSITORY_EXISTS`; `SINGLE_WRITER_REQUIRED`; what the target and a key provider
   * throw
   */
  static async create(target: CloudTarget, options: CreateOptions & AbortOptions): Promise<BackupRepository> {
    targetArgument('target', target);
    const checked = checkCreateOptions(options);
    const tuning = checkTuning(options);
    const { encryption, ...others } = options;
    await createRepository(target, checked, { signal: others.signal });
    const unlock = encryption === 'none' ? undefined : encryption;
    return new BackupRepository(await openRepository(target, { ...others, unlock }, tuning), tuning, true);
  }

  /**
   * Opens a repository, with at most six requests in two rounds.
   *
   * With `readOnly`, a repository opens even if the newest entries of its log are damaged. It then shows the state as of the
   * last undamaged entry, after a process warning, and `damage` says why.
   *
   * If `unlock` is given, a repository without encryption is refused. If the object `format` is missing, the repository opens
   * with a copy from a key slot or from the log; `verify` restores the object.
   *
   * @example
   * ```ts
   * const encryption = { passphrase };
   * const remembered = await readFile('position', 'utf8').catch(() => undefined);
   * await using repository = await BackupRepository.open(target, { createIfMissing: { encryption }, remembered });
   * await writeFile('position', formatPosition(repository.position));
   * ```
   *
   * @throws TypeError; `REPOSITORY_NOT_FOUND`, `REPOSITORY_CORRUPT`, `REPOSITORY_UNSUPPORTED`, `REPOSITORY_ROLLED_BACK`;
   * `KEY_REQUIRED`, `KEY_REFUSED`, `KEY_SLOT_CORRUPT`, `NOT_ENCRYPTED`; `LIMIT_EXCEEDED` if the key slots demand more work
   * than is allowed; `SINGLE_WRITER_REQUIRED`; `LOG_CORRUPT`, `LOG_TRUNCATED`, `LOG_FORKED`; what the target and a key provider
   * throw
   */
  static async open(target: CloudTarget, options: OpenOptions = {}): Promise<BackupRepository> {
    targetArgument('target', target);
    checkOpenOptions(options);
    const tuning = checkTuning(options);
    const { context, wasCreated } = await openOrCreate(target, options, tuning);
    return new BackupRepository(context, tuning, wasCreated);
  }

  /** The version of the stored format. */
  get formatVersion(): number {
    return this.#context.format.version;
  }

  /** Whether the repository is encrypted. That is chosen when it is created, and never changes. */
  get encrypted(): boolean {
    return this.#context.format.encrypted;
  }

  /** Whether it was opened with `readOnly: true`. */
  get readOnly(): boolean {
    return this.#context.readOnly;
  }

  /** The backups that were started through this object and are under way. */
  get jobs(): readonly BackupJob[] {
    return [...this.#jobs.running];
  }

  /**
   * The position in the log. A host can store it, as text from `formatPosition`, and pass it to `open` as `remembered`: then an
   * older copy of the repository, or the empty folder of a disk that is not mounted, is not taken for the repository.
   */
  get position(): LogPosition {
    const { hash, ...position } = this.#context.log.position;
    return { ...position, hash: Uint8Array.from(hash) }; // A copy, because the log uses its own.
  }

  /**
   * Why a repository that was opened with `readOnly` does not show its newest entries: they are damaged, or two writers have
   * forked the log. `undefined` if no such damage is known.
   */
  get damage(): LogDamage | undefined {
    return this.#context.log.reader.damage;
  }

  /** The key slots, which unlock the repository. */
  get keys(): KeySlots {
    return keySlotsOf(this.#context, (isWriting) => (isWriting ? this.#requireWritable() : this.#requireOpen()));
  }

  /**
   * Freezes a volume, or takes a snapshot that exists already, and starts a backup of it. Until `job.sweep()` is called, only
   * blocks that are about to be overwritten are stored.
   *
   * @example
   * ```ts
   * await using job = await repository.startBackup(volume, { volume: 'vm-1' });
   * // The application keeps writing: the backup holds the volume as it was when `startBackup` resolved.
   * await volume.write(0, new Uint8Array(4096));
   * const { id, changedBytes } = await job.sweep().done;
   * console.log(`backup ${id}: ${changedBytes} bytes changed`);
   * ```
   * @throws TypeError; `VOLUME_BUSY`, `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN` (of `base`), `READ_ONLY`, `CLOSED`,
   * `BUDGET_EXCEEDED`, `COMMIT_UNKNOWN`, and what the volume and the target throw
   */
  async startBackup(source: BackupSource, options: BackupOptions): Promise<BackupJob> {
    this.#requireWritable();
    const { signal, budget, outageMs } = options ?? {};
    const [job] = await this.#jobs.start([{ source, options }], { signal, budget, outageMs });
    return job as BackupJob;
  }

  /**
   * Starts a backup, stores all of it and waits for its commit. `options.signal` cancels it.
   *
   * @example
   * ```ts
   * const { id, requests, warnings } = await repository.backup(volume, {
   *   volume: 'vm-1',
   *   metadata: { reason: 'nightly' },
   *   onProgress: ({ phase, doneBytes, totalBytes }) => console.log(phase, doneBytes, totalBytes),
   * });
   * ```
   * @throws as {@link BackupRepository.startBackup} and `done` of the job
   */
  async backup(source: BackupSource, options: BackupOptions): Promise<BackupResult> {
    const job = await this.startBackup(source, options);
    return job.sweep().done;
  }

  /**
   * Continues a backup that was suspended, if there is one. That needs a volume with a state directory, which does not exist
   * yet: for now this resolves with `undefined`.
   */
  async resumeBackup(volume: CopyOnWriteVolume, options: BackupOptions): Promise<BackupJob | undefined> {
    this.#requireWritable();
    if (!isVolume(volume)) throw new TypeError(`volume must be a CopyOnWriteVolume, not ${described(volume)}`);
    checkBackupOptions(options);
    return undefined;
  }

  /**
   * Freezes several volumes at one instant, and commits their backups together: all of them, or none. Cancelling one job
   * cancels all.
   *
   * @example
   * ```ts
   * async function backUpBoth(data: CopyOnWriteVolume, log: CopyOnWriteVolume) {
   *   const group = await repository.startGroup([
   *     { source: data, volume: 'data' },
   *     { source: log, volume: 'log' },
   *   ]);
   *   for (const job of group.jobs) job.sweep();
   *   const [dataBackup, logBackup] = await group.done;
   *   return [dataBackup.id, logBackup.id];
   * }
   * ```
   * @throws as {@link BackupRepository.startBackup}
   */
  async startGroup<const Parts extends readonly GroupPart[]>(
    parts: Parts,
    options: GroupOptions = {},
  ): Promise<BackupGroup<Parts>> {
    this.#requireWritable();
    const requests = groupRequests(parts, options);
    const signals = [options.signal, ...parts.map(({ signal }) => signal)].filter((signal) => signal !== undefined);
    const signal = signals.length === 0 ? undefined : AbortSignal.any(signals);
    const { budget, outageMs } = options;
    const jobs = await this.#jobs.start(requests, { signal, budget, outageMs });
    const done = Promise.all(jobs.map((job) => job.done));
    done.catch(() => {});
    return { jobs, done } as unknown as BackupGroup<Parts>;
  }

  /** The backups that are not forgotten, newest first. @throws TypeError; `CLOSED`, and what the target throws */
  listBackups(options: ListBackupsOptions = {}): AsyncGenerator<BackupInfo> {
    const checked = checkListOptions(options);
    const { volume, limit = Number.POSITIVE_INFINITY } = checked;
    const needs = volume === undefined ? 'all' : { newest: [{ volume, count: limit }] };
    return this.#list(checked.signal, needs, (state) => backupsIn(state, checked));
  }

  /** The volumes that have a backup, in the order of their names. @throws TypeError; `CLOSED`, and what the target throws */
  listVolumes(options: AbortOptions = {}): AsyncGenerator<VolumeInfo> {
    return this.#list(abortOptionsArgument(options), 'all', volumesOf);
  }

  /**
   * The sessions that are open on any host, oldest first: which process holds which volumes since when, and whether that process
   * is known to be running.
   *
   * @throws TypeError; `CLOSED`, and what the target throws
   */
  listSessions(options: AbortOptions = {}): AsyncGenerator<SessionInfo> {
    return this.#list(abortOptionsArgument(options), {}, (state) => sessionsOf(this.#context, state));
  }

  /**
   * Ends a session of any host: its backups can't be committed any more, and its volumes are free. If it is a session of this
   * object, its jobs are cancelled.
   *
   * @example
   * ```ts
   * for await (const { seq, liveness } of repository.listSessions()) {
   *   if (liveness === 'unknown') await repository.endSession(seq);
   * }
   * ```
   * @throws TypeError; `SESSION_ENDED`, `SESSION_FENCED` for one that is not open; `READ_ONLY`, `CLOSED`,
   * `COMMIT_UNKNOWN`, and what the target throws
   */
  async endSession(seq: number, options: AbortOptions = {}): Promise<void> {
    integerArgument('seq', seq, 1);
    const signal = abortOptionsArgument(options);
    this.#requireWritable();
    const ended = endSession(this.#context, seq, { signal });
    // A refusal may come before the job has ended, and an abort need not wait for it.
    await abortable(Promise.allSettled([ended, this.#jobs.cancelSession(seq)]), signal);
    await ended;
  }

  /**
   * The backup whose id begins with some hex digits, four or more, as people type them.
   *
   * @example
   * ```ts
   * const { id } = await repository.findBackup('3f9a');
   * ```
   * @throws TypeError; `BACKUP_NOT_FOUND`, `BACKUP_AMBIGUOUS`, `CLOSED`, and what the target gives
   */
  async findBackup(shortId: string, options: AbortOptions = {}): Promise<BackupInfo> {
    const digits = shortIdArgument(shortId);
    return backupBeginning(await this.#current({ needs: 'all', signal: abortOptionsArgument(options) }), digits);
  }

  /**
   * How much the repository holds. Lists its packs and its log, with one request for each thousand objects.
   *
   * @throws TypeError; `CLOSED`, and what the target gives
   */
  async stats(options: AbortOptions = {}): Promise<RepositoryStats> {
    const signal = abortOptionsArgument(options);
    return repositoryStats(this.#context, await this.#current({ needs: 'all', signal }), { signal });
  }

  /**
   * The newest backup of a volume; with `before`, the newest one that was frozen earlier than that.
   *
   * @throws TypeError; `CLOSED`, and what the target gives
   */
  async latestBackup(volume: string, options: LatestBackupOptions = {}): Promise<BackupInfo | undefined> {
    textArgument('volume', volume);
    const { before, signal } = checkLatestOptions(options);
    const needs = before === undefined ? { newest: [{ volume, count: 1 }] } : { volumes: [volume] };
    const backups = backupsIn(await this.#current({ needs, signal }), { volume });
    return backups.find(({ frozenAt }) => before === undefined || frozenAt < before);
  }

  /**
   * The ranges in which two backups differ, ascending and coalesced, in whole blocks. It compares their block maps and reads no
   * contents. If one backup is longer, all of its surplus is a difference.
   *
   * @throws `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`, `BLOCK_SIZE_MISMATCH` for backups of different block sizes, `MAP_CORRUPT`,
   * `PACK_MISSING`, and what the target gives
   */
  diff(from: string, to: string, options: AbortOptions = {}): AsyncGenerator<ByteRange> {
    textArgument('from', from);
    textArgument('to', to);
    return this.#diff([from, to], abortOptionsArgument(options));
  }

  /**
   * Opens a backup as a read-only device. Blocks are fetched when they are read, and ahead of sequential reads. With `allowLost`
   * lost blocks read as zeroes.
   *
   * A backup that is under way in this process opens together with `liveVolume`, the volume that it is made of. The device shows
   * the frozen instant, whatever has been written since; once the backup is committed, the device reads from the repository.
   *
   * @example
   * ```ts
   * await using image = await repository.openBackup(backup.id);
   * const sector = new Uint8Array(512);
   * await image.read(0, sector);
   * ```
   * @throws `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`; `BACKUP_INCOMPLETE` for one that is under way, without its `liveVolume`;
   * `CLOSED`, `MAP_CORRUPT`, `PACK_MISSING`, and what the target throws
   */
  async openBackup(id: string, options: OpenBackupOptions = {}): Promise<OpenedBackup> {
    this.#requireOpen();
    textArgument('id', id);
    checkOpenBackupOptions(options);
    const job = this.#jobs.find(id);
    if (job !== undefined) return this.#openJob(job, options);
    const { allowLost = false, cacheBytes = DEFAULT_IMAGE_CACHE_BYTES, signal } = options;
    const [backup] = await this.#find([id], { signal });
    const source = new BackupReader(this.#context, backup);
    await source.load({ signal });
    this.#requireOpen();
    const image = new BackupImage(source, { allowLost, cacheBytes, onClose: () => this.#images.delete(image) });
    this.#images.add(image);
    return image;
  }

  /**
   * Writes a backup, or parts of it, to a device: the same bytes at the same offsets, flushed. All other bytes of the device
   * are left alone; it may be larger than the backup. When this rejects, no call to the device is in flight any more, and any
   * part of the requested ranges may have been written; `resume: true` continues from there.
   *
   * @example
   * ```ts
   * const newest = await repository.latestBackup('vm-1');
   * if (newest === undefined) throw new Error('vm-1 has no backup');
   * await using disk = await FileDevice.open('/dev/vdb');
   * const { writtenBytes, warnings } = await repository.restore(newest.id, disk, { verifyWrites: true });
   * ```
   * @throws TypeError; before anything is written `READ_ONLY` (the device), `OUT_OF_RANGE` (the device is too small, or a
   * range outside the backup), `BLOCK_LOST`, `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`, `CLOSED`; later `VERIFY_MISMATCH`,
   * `PACK_MISSING`, `RECORD_CORRUPT`, `MAP_CORRUPT`, `BUDGET_EXCEEDED`, and what the device and the target throw
   */
  async restore(id: string, onto: BlockDevice, options: RestoreOptions = {}): Promise<RestoreResult> {
    this.#requireOpen();
    textArgument('id', id);
    deviceArgument('onto', onto);
    checkRestoreOptions(options);
    const job = this.#jobs.find(id);
    if (job !== undefined) {
      await using image = this.#openJob(job, options);
      return await restoreJob(image, job.snapshot.volume, onto, options);
    }
    const [backup] = await this.#find([id], options);
    return restoreBackup(this.#context, backup, onto, options);
  }

  /**
   * Writes a backup to a new file, which is sparse where the backup holds zeroes. Until the file is complete and durable it has a
   * temporary name beside `path`. After a failure it is deleted; a process that is killed leaves it under that name.
   *
   * @example
   * ```ts
   * const { id } = await repository.findBackup('3f9a');
   * await repository.restoreToFile(id, 'restored.img');
   * ```
   * @throws TypeError; `DEVICE_EXISTS` for a file that exists, without `overwrite`; with it `DEVICE_BUSY` for one that is in
   * use, and `DEVICE_UNSUPPORTED` for a folder or a device; `BACKUP_INCOMPLETE` for a backup that is under way; otherwise as
   * {@link BackupRepository.restore}, and `NO_SPACE`, `PERMISSION_DENIED`, `DEVICE_NOT_FOUND`
   */
  async restoreToFile(id: string, path: string, options: RestoreToFileOptions = {}): Promise<RestoreResult> {
    this.#requireOpen();
    textArgument('id', id);
    // Now, because the process may change its directory before the file is created.
    const absolute = resolve(textArgument('path', path));
    const { overwrite = false, ...rest } = checkRestoreToFileOptions(options);
    if (this.#jobs.find(id) !== undefined) {
      throw new BackupError('BACKUP_INCOMPLETE', `backup ${id} is under way: wait until it is committed`);
    }
    const [backup] = await this.#find([id], rest);
    return restoreToNewFile(absolute, backup.descriptor.size, overwrite, (device) =>
      restoreBackup(this.#context, backup, device, { ...rest, deviceHolds: 'zeroes' }),
    );
  }

  /**
   * Estimates how many requests and bytes an operation would take: see {@link Estimate}. Writes nothing.
   *
   * @throws TypeError; `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`, `CLOSED`, and what reading maps and the target throw
   */
  async estimate(work: EstimatedWork, options: AbortOptions = {}): Promise<Estimate> {
    this.#requireOpen();
    const signal = abortOptionsArgument(options);
    return estimateWork(this.#context, work, this.#tuning.packBytes, { signal });
  }

  /**
   * Forgets backups: they can't be read any more, and later prunes free what only they needed.
   *
   * @throws TypeError; `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`, `BACKUP_HELD` (then none is forgotten), `READ_ONLY`, `CLOSED`,
   * `COMMIT_UNKNOWN`, `NO_SPACE` (then see `docs/guides/retention.md`), and what the target throws
   */
  async forget(ids: readonly string[], options: ForgetOptions = {}): Promise<void> {
    this.#requireWritable();
    await forgetBackups(this.#context, ids, options);
  }

  /**
   * Holds backups: until they are released, no policy and no `forget` removes them. `BackupInfo.hold` shows the reason; holding
   * a backup again replaces it.
   *
   * @example
   * ```ts
   * await repository.hold([backup.id], { reason: 'audit of 2026' });
   * ```
   * @throws TypeError; `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN` (then none is held), `READ_ONLY`, `CLOSED`, `COMMIT_UNKNOWN`,
   * and what the target throws
   */
  async hold(ids: readonly string[], options: HoldOptions = {}): Promise<void> {
    this.#requireWritable();
    await holdBackups(this.#context, ids, options);
  }

  /** Releases held backups, so that they can be forgotten again. Backups that are not held are left alone. @throws as {@link BackupRepository.hold} */
  async release(ids: readonly string[], options: AbortOptions = {}): Promise<void> {
    this.#requireWritable();
    await releaseBackups(this.#context, ids, options);
  }

  /**
   * Forgets the backups that a policy does not keep: of one volume, or of every volume separately.
   *
   * @example
   * ```ts
   * await repository.applyRetention({ keepLast: 3, keepDaily: 14, keepMonthly: 12 }, { volume: 'vm-1' });
   * ```
   * @throws TypeError for an unknown or malformed rule or option, for a policy that keeps nothing, and unless exactly one of
   * `volume` and `allVolumes` is given; `READ_ONLY`, `CLOSED`, `COMMIT_UNKNOWN`, `NO_SPACE`, `OBJECT_CONFLICT`, and what the target throws
   */
  async applyRetention(policy: RetentionPolicy, options: ApplyRetentionOptions): Promise<RetentionResult> {
    this.#requireOpen();
    return applyRetention(this.#context, policy, options);
  }

  /**
   * Verifies the repository: see {@link VerifyOptions}. Damage is reported in the result. This rejects only if the repository
   * could not be verified.
   *
   * @example
   * ```ts
   * const { ok, damaged } = await repository.verify({ depth: 'data' });
   * if (!ok) for (const { pack, backups } of damaged) console.error(`pack ${pack} is damaged: ${backups.join(', ')}`);
   * ```
   * @throws TypeError; `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`, `CLOSED`; `LOG_CORRUPT`, `LOG_TRUNCATED`, `LOG_FORKED`,
   * `REPOSITORY_ROLLED_BACK` for a damaged log; `BUDGET_EXCEEDED`, and what the target throws
   */
  async verify(options: VerifyOptions & { budget?: RequestBudget | undefined }): Promise<VerifyResult> {
    this.#requireOpen();
    const known = { ...VERIFY_OPTIONS, budget: true } as const;
    const { budget, ...each } = optionsArgument<typeof options>('options', options, known);
    return metered(new RequestMeter(budget), () => verifyRepository(this.#context, each));
  }

  /**
   * Frees what no backup needs any more: see {@link PruneOptions}. Packs that are condemned now are deleted by a prune after the
   * grace period for readers.
   *
   * @example
   * ```ts
   * await repository.applyRetention({ keepDaily: 14 }, { allVolumes: true });
   * const { deletedObjects, freedBytes } = await repository.prune();
   * console.log(`deleted ${deletedObjects} objects, ${freedBytes} bytes`);
   * ```
   * @throws TypeError; `READ_ONLY`, `CLOSED`; `NO_SPACE` if the store has no room for a log entry (see
   * `docs/guides/retention.md`); `OBJECT_CONFLICT`, `COMMIT_UNKNOWN`, `BUDGET_EXCEEDED`, and what the target throws
   */
  async prune(options: PruneOptions & { budget?: RequestBudget | undefined } = {}): Promise<PruneResult> {
    this.#requireOpen();
    const known = { ...PRUNE_OPTIONS, budget: true } as const;
    const { budget, ...each } = optionsArgument<typeof options>('options', options, known);
    return metered(new RequestMeter(budget), () => prune(this.#context, each));
  }

  /**
   * Ends what is under way, zeroes the keys and ends the threads; the target stays open. Jobs are suspended unless `jobs` says
   * otherwise: the next backup of a volume goes on with what was uploaded. Idempotent.
   */
  async close(options: { jobs?: 'suspend' | 'cancel' | 'finish' | undefined } = {}): Promise<void> {
    const { jobs = 'suspend' } = optionsArgument('options', options, { jobs: true });
    const how = choiceArgument('options.jobs', jobs, ['suspend', 'cancel', 'finish']);
    this.#closing ??= this.#close(how);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(how: 'suspend' | 'cancel' | 'finish'): Promise<void> {
    try {
      await this.#jobs.close(how);
      await Promise.all([...this.#images].map((image) => image.close()));
    } finally {
      // The target ends before the keys are zeroed: nothing that is sealed with zeroed keys may be sent.
      try {
        await this.#context.target[Symbol.asyncDispose]();
      } finally {
        this.#context.keys.wipe();
      }
    }
  }

  async *#diff(ids: readonly [string, string], signal: AbortSignal | undefined): AsyncGenerator<ByteRange> {
    yield* diffBackups(this.#context, await this.#find(ids, { signal }), { signal });
  }

  async *#list<T>(
    signal: AbortSignal | undefined,
    needs: CatalogueNeeds,
    itemsOf: (state: LogState) => readonly T[],
  ): AsyncGenerator<T> {
    yield* itemsOf(await this.#current({ needs, signal }));
  }

  /** Once the backup is committed, it is opened again: with the options that are still meant then, so without the signal. */
  #openJob(job: JobHandle, { liveVolume, allowLost, cacheBytes }: OpenBackupOptions): JobImage {
    const { id } = job;
    if (liveVolume !== job.snapshot.volume) {
      const message = `backup ${id} is under way: pass the volume that it is made of as liveVolume, or wait until it is committed`;
      throw new BackupError('BACKUP_INCOMPLETE', message);
    }
    return new JobImage(job, this.#context.records, () => this.openBackup(id, { allowLost, cacheBytes }));
  }

  #find<const Ids extends readonly string[]>(ids: Ids, options: AbortOptions) {
    this.#requireOpen();
    return findBackups(this.#context, ids, options);
  }

  async #current(options: AbortOptions & { readonly needs: CatalogueNeeds }): Promise<LogState> {
    this.#requireOpen();
    return this.#context.log.catchUp(options);
  }

  #requireOpen(): void {
    if (this.#closing !== undefined) throw new BackupError('CLOSED', 'the repository is closed');
  }

  #requireWritable(): void {
    this.#requireOpen();
    requireWritable(this.#context);
  }
}
