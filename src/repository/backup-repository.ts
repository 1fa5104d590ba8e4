import { resolve } from 'node:path';
import { type AbortOptions, abortOptionsArgument } from '../common/abort.ts';
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
import { backupBeginning, type RepositoryStats, repositoryStats, type VolumeInfo, volumesOf } from './catalogue.ts';
import { type BackupInfo, backupInfo } from './context/backup-info.ts';
import { openMap, type RepositoryContext, requireWritable } from './context/repository-context.ts';
import { checkEstimatedWork, type Estimate, estimateBackup, estimatePrune, estimateRestore } from './estimate.ts';
import type { LogState, StoredBackup } from './format/log-state.ts';
import {
  checkLatestOptions,
  checkListOptions,
  type LatestBackupOptions,
  type ListBackupsOptions,
  shortIdArgument,
} from './list-options.ts';
import { missingBackup } from './log/entries/backups.ts';
import type { LogPosition } from './log/log-source.ts';
import type { LogDamage } from './log/open-log.ts';
import { diffMaps } from './map/diff.ts';
import { checkCreateOptions, checkOpenOptions } from './open/check-options.ts';
import { createRepository } from './open/create-repository.ts';
import { addKeySlot, type KeySlots, listKeySlots, removeKeySlot } from './open/key-slots.ts';
import { openOrCreate, openRepository } from './open/open-repository.ts';
import { type CheckedTuning, type CreateOptions, checkTuning, type OpenOptions } from './open/repository-options.ts';
import { prune } from './prune/prune.ts';
import { PRUNE_OPTIONS, type PruneOptions, type PruneResult } from './prune/prune-options.ts';
import { BackupImage } from './restore/backup-image.ts';
import { BackupReader } from './restore/backup-reader.ts';
import { JobImage } from './restore/job-image.ts';
import { restoreBackup, restoreJob } from './restore/restore.ts';
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
import { restoreToNewFile } from './restore/restore-to-file.ts';
import { type ApplyRetentionOptions, applyRetention } from './retention/apply-retention.ts';
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

/** What a retention policy kept and forgot. @public */
export interface RetentionResult {
  /** Newest first, by volume. */
  readonly kept: BackupInfo[];
  readonly forgotten: BackupInfo[];
  /**
   * Only with `dryRun`: bytes of packs that a forgotten backup needs and no other. Pruning frees them; where it repacks
   * sparse packs too, more.
   */
  readonly freeableBytes: number | undefined;
}

/** Backups that are committed together. A tuple of parts has a tuple of jobs and of results. @public */
export interface BackupGroup<Parts extends readonly unknown[] = readonly unknown[]> {
  /** One for each part, in the same order. */
  readonly jobs: { readonly [K in keyof Parts]: BackupJob };
  /** The results of all jobs, or the one failure of all. It counts as handled, as `done` of a job does. */
  readonly done: Promise<{ readonly [K in keyof Parts]: BackupResult }>;
}

/**
 * Backups of any number of volumes in one prefix of an object store.
 *
 * Any number of hosts may have one repository open at once, each writing its own volumes while others prune.
 *
 * @public
 */
export class BackupRepository implements AsyncDisposable {
  readonly #context: RepositoryContext;
  readonly #jobs: BackupJobs;
  readonly #tuning: CheckedTuning;
  /** Open ones. */
  readonly #images = new Set<BackupImage>();
  #closing: Promise<void> | undefined;

  /**
   * Whether this call has created it. Two hosts that create one repository with the same secret at the same time may both
   * say so, where one has finished what the other began.
   */
  readonly wasCreated: boolean;

  private constructor(context: RepositoryContext, tuning: CheckedTuning, wasCreated: boolean) {
    this.wasCreated = wasCreated;
    this.#context = context;
    this.#tuning = tuning;
    this.#jobs = new BackupJobs(context, tuning);
  }

  /**
   * Creates a repository and opens it. It first tests whether the target creates objects only where they are absent.
   *
   * @throws TypeError for invalid options; `REPOSITORY_EXISTS`; `SINGLE_WRITER_REQUIRED`; what the
   * target and a key provider give
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
   * Opens a repository: at most six requests, in two rounds that follow each other.
   *
   * With `readOnly`, a log whose newest entries are damaged can still be opened: the repository is shown as of the last sound
   * entry, with a process warning, and `damage` says why.
   *
   * If `unlock` is given, a repository without encryption is refused. A repository whose object `format` is missing opens with
   * a copy from its key slots or its log; `verify` restores the object.
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
   * `KEY_REQUIRED`, `KEY_REFUSED`, `KEY_SLOT_CORRUPT`, `NOT_ENCRYPTED`; `LIMIT_EXCEEDED` where key slots ask for more work
   * than may be spent on them; `SINGLE_WRITER_REQUIRED`; `LOG_CORRUPT`, `LOG_TRUNCATED`, `LOG_FORKED`; what the target and a
   * key provider give
   */
  static async open(target: CloudTarget, options: OpenOptions = {}): Promise<BackupRepository> {
    targetArgument('target', target);
    checkOpenOptions(options);
    const tuning = checkTuning(options);
    const { context, wasCreated } = await openOrCreate(target, options, tuning);
    return new BackupRepository(context, tuning, wasCreated);
  }

  /** The version of the repository's format. */
  get formatVersion(): number {
    return this.#context.format.version;
  }

  /** Whether what is stored is encrypted. It never changes: a repository is made with encryption or without. */
  get encrypted(): boolean {
    return this.#context.format.encrypted;
  }

  get readOnly(): boolean {
    return this.#context.readOnly;
  }

  /** The backups that are under way in this process, through this object. */
  get jobs(): readonly BackupJob[] {
    return [...this.#jobs.running];
  }

  /**
   * What a host may keep, as text by `formatPosition`, and give to `open` as `remembered`, so that an older copy of the
   * repository, or an empty folder where its disk is not mounted, does not pass for it.
   */
  get position(): LogPosition {
    const { seq, hash } = this.#context.log.position;
    return { seq, hash: hash.slice() }; // A copy: the log goes by its own.
  }

  /**
   * Why this repository, which was opened for reading only, is not shown to its newest entry: what is newer is damaged, or
   * two writers have forked the log. `undefined` where nothing is known to be wrong.
   */
  get damage(): LogDamage | undefined {
    return this.#context.log.reader.damage;
  }

  /** The key slots, which unlock the repository. */
  get keys(): KeySlots {
    const context = this.#context;
    return {
      current: context.keySlot,
      list: async (options) => {
        this.#requireOpen();
        return listKeySlots(context, options);
      },
      add: async (unlock, options) => {
        this.#requireWritable();
        return addKeySlot(context, unlock, options);
      },
      remove: async (id, options) => {
        this.#requireWritable();
        await removeKeySlot(context, id, options);
      },
    };
  }

  /**
   * The first instruction: freezes a volume (or uses a snapshot that was taken before) and begins to back it up. Until
   * `job.sweep()` only blocks that are about to be overwritten are copied.
   *
   * @throws TypeError; `VOLUME_BUSY`, `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN` (of `base`), `READ_ONLY`, `CLOSED`,
   * `BUDGET_EXCEEDED`, `COMMIT_UNKNOWN`, and what the volume and the target give
   */
  async startBackup(source: BackupSource, options: BackupOptions): Promise<BackupJob> {
    this.#requireWritable();
    const { signal, budget, outageMs } = options ?? {};
    const [job] = await this.#jobs.start([{ source, options }], { signal, budget, outageMs });
    return job as BackupJob;
  }

  /** Starts a backup, sweeps it and waits for it. Cancelled by `options.signal`. @throws as {@link BackupRepository.startBackup} and the job's `done` */
  async backup(source: BackupSource, options: BackupOptions): Promise<BackupResult> {
    const job = await this.startBackup(source, options);
    return job.sweep().done;
  }

  /**
   * Continues a backup that was suspended, if there is one. Only a volume with a state directory can keep one, and
   * there is none yet: for now this resolves with `undefined`.
   */
  async resumeBackup(volume: CopyOnWriteVolume, options: BackupOptions): Promise<BackupJob | undefined> {
    this.#requireWritable();
    if (!isVolume(volume)) throw new TypeError(`volume must be a CopyOnWriteVolume, not ${described(volume)}`);
    checkBackupOptions(options);
    return undefined;
  }

  /**
   * Freezes several volumes at one instant and backs them up into one commit: all of them, or none. Cancelling one
   * cancels all.
   *
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

  /** The backups that are not forgotten, newest first. @throws TypeError; `CLOSED`, and what the target gives */
  listBackups(options: ListBackupsOptions = {}): AsyncGenerator<BackupInfo> {
    const { volume, limit, signal } = checkListOptions(options);
    return this.#listBackups(volume, limit, signal);
  }

  /** The volumes that have a backup, by name. @throws TypeError; `CLOSED`, and what the target gives */
  listVolumes(options: AbortOptions = {}): AsyncGenerator<VolumeInfo> {
    return this.#listVolumes(abortOptionsArgument(options));
  }

  /**
   * The backups that are under way on any host, the oldest first: who holds which volumes since when, and whether that
   * process is known to be alive.
   *
   * @throws TypeError; `CLOSED`, and what the target gives
   */
  listSessions(options: AbortOptions = {}): AsyncGenerator<SessionInfo> {
    return this.#listSessions(abortOptionsArgument(options));
  }

  /**
   * Ends a session of any host: its backups can't be committed any more, and its volumes are free. Jobs of this
   * repository that it belongs to are cancelled.
   *
   * @example
   * ```ts
   * for await (const { seq, liveness } of repository.listSessions()) {
   *   if (liveness === 'unknown') await repository.endSession(seq);
   * }
   * ```
   * @throws TypeError; `SESSION_ENDED`, `SESSION_FENCED` for one that is not open; `READ_ONLY`, `CLOSED`,
   * `COMMIT_UNKNOWN`, and what the target gives
   */
  async endSession(seq: number, options: AbortOptions = {}): Promise<void> {
    integerArgument('seq', seq, 1);
    const signal = abortOptionsArgument(options);
    this.#requireWritable();
    const ended = endSession(this.#context, seq, { signal });
    await this.#jobs.cancelSession(seq);
    await ended;
  }

  /**
   * The one backup whose id begins with some hex digits, four or more, as people type them.
   *
   * @example
   * ```ts
   * const { id } = await repository.findBackup('3f9a');
   * ```
   * @throws TypeError; `BACKUP_NOT_FOUND`, `BACKUP_AMBIGUOUS`, `CLOSED`, and what the target gives
   */
  async findBackup(shortId: string, options: AbortOptions = {}): Promise<BackupInfo> {
    const digits = shortIdArgument(shortId);
    return backupBeginning(await this.#current({ signal: abortOptionsArgument(options) }), digits);
  }

  /**
   * How much the repository holds: lists its packs and its log.
   *
   * @throws TypeError; `CLOSED`, and what the target gives
   */
  async stats(options: AbortOptions = {}): Promise<RepositoryStats> {
    const signal = abortOptionsArgument(options);
    return repositoryStats(this.#context, await this.#current({ signal }), { signal });
  }

  /**
   * A volume's newest backup, of those frozen before an instant if one is given.
   *
   * @throws TypeError; `CLOSED`, and what the target gives
   */
  async latestBackup(volume: string, options: LatestBackupOptions = {}): Promise<BackupInfo | undefined> {
    textArgument('volume', volume);
    const { before, signal } = checkLatestOptions(options);
    for await (const backup of this.#listBackups(volume, Number.MAX_SAFE_INTEGER, signal)) {
      if (before === undefined || backup.frozenAt < before) return backup;
    }
    return undefined;
  }

  /**
   * Where two backups differ, ascending and coalesced, by their maps alone: whole blocks, at the granularity of the
   * larger of the two volumes. What one has and the other, being shorter, has not is a difference.
   *
   * @throws `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`, `BLOCK_SIZE_MISMATCH` for backups of different block sizes, `MAP_CORRUPT`,
   * `PACK_MISSING`, and what the target gives
   */
  diff(from: string, to: string, options: AbortOptions = {}): AsyncGenerator<ByteRange> {
    textArgument('from', from);
    textArgument('to', to);
    return this.#diff(from, to, abortOptionsArgument(options));
  }

  /**
   * A backup as a read-only device: blocks are fetched as they are read, and read ahead when reads follow one another. With
   * `allowLost` lost blocks read as zeroes.
   *
   * A backup that is under way in this process opens together with `liveVolume`, the volume that it is made of. The device shows
   * the frozen instant, whatever has been written since; once the backup is committed, the device reads from the repository.
   *
   * @throws `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`; `BACKUP_INCOMPLETE` for one that is under way, without its `liveVolume`;
   * `CLOSED`, `MAP_CORRUPT`, `PACK_MISSING`, and what the target gives
   */
  async openBackup(id: string, options: OpenBackupOptions = {}): Promise<OpenedBackup> {
    this.#requireOpen();
    textArgument('id', id);
    checkOpenBackupOptions(options);
    const job = [...this.#jobs.running].find((each) => each.id === id);
    if (job !== undefined) return this.#openJob(job, options);
    const { allowLost = false, cacheBytes = DEFAULT_IMAGE_CACHE_BYTES, signal } = options;
    const [backup] = await this.#find([id], { signal });
    const source = new BackupReader(this.#context, backup as StoredBackup);
    await source.load({ signal });
    this.#requireOpen();
    const image = new BackupImage(source, { allowLost, cacheBytes, onClose: () => this.#images.delete(image) });
    this.#images.add(image);
    return image;
  }

  /**
   * Writes a backup, or parts of it, to a device: the same bytes at the same offsets, flushed. Whatever else the device has
   * is left alone; it may be larger than the backup. When this rejects, no call to the device is in flight any more, and
   * any part of what was asked for may have been written; `resume: true` goes on from there.
   *
   * @throws TypeError; before anything is written `READ_ONLY` (the device), `OUT_OF_RANGE` (the device is too small, or a
   * range outside the backup), `BLOCK_LOST`, `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`, `CLOSED`; later `VERIFY_MISMATCH`,
   * `PACK_MISSING`, `RECORD_CORRUPT`, `MAP_CORRUPT`, `BUDGET_EXCEEDED`, and what the device and the target give
   */
  async restore(id: string, onto: BlockDevice, options: RestoreOptions = {}): Promise<RestoreResult> {
    this.#requireOpen();
    textArgument('id', id);
    deviceArgument('onto', onto);
    checkRestoreOptions(options);
    const job = [...this.#jobs.running].find((each) => each.id === id);
    if (job !== undefined) return restoreJob(this.#openJob(job, options), job.snapshot.volume, onto, options);
    const [backup] = await this.#find([id], options);
    return restoreBackup(this.#context, backup as StoredBackup, onto, options);
  }

  /**
   * Writes a backup to a new file, sparse where it holds zeroes. The file has a temporary name beside `path` until it is
   * whole and durable; after a failure nothing of it is left. A process that is killed leaves it under that name.
   *
   * @example
   * ```ts
   * const { id } = await repository.findBackup('3f9a');
   * await repository.restoreToFile(id, 'restored.img');
   * ```
   * @throws TypeError; `DEVICE_EXISTS` for a file that exists, without `overwrite`; with it `DEVICE_BUSY` for one that is in
   * use and `DEVICE_UNSUPPORTED` for a folder or a device; `BACKUP_INCOMPLETE` for a backup that is under way; otherwise as
   * {@link BackupRepository.restore}, and `NO_SPACE`, `PERMISSION_DENIED`, `DEVICE_NOT_FOUND`
   */
  async restoreToFile(id: string, path: string, options: RestoreToFileOptions = {}): Promise<RestoreResult> {
    this.#requireOpen();
    textArgument('id', id);
    // At once: by the time that the file is made the process may have gone to another directory.
    const place = resolve(textArgument('path', path));
    const { overwrite = false, ...rest } = checkRestoreToFileOptions(options);
    if ([...this.#jobs.running].some((each) => each.id === id)) {
      throw new BackupError('BACKUP_INCOMPLETE', `backup ${id} is under way: wait until it is committed`);
    }
    const [backup] = await this.#find([id], rest);
    const stored = backup as StoredBackup;
    return restoreToNewFile(place, stored.descriptor.size, overwrite, (device) =>
      restoreBackup(this.#context, stored, device, { ...rest, deviceHolds: 'zeroes' }),
    );
  }

  /**
   * What an operation would ask of the target, about; see {@link Estimate}. Writes nothing.
   *
   * @throws `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`, `CLOSED`, and what reading maps and the target gives
   */
  async estimate(
    work: { backup: { source: BackupSource; volume: string } } | { restore: string } | { prune: true },
    options: AbortOptions = {},
  ): Promise<Estimate> {
    this.#requireOpen();
    abortOptionsArgument(options);
    checkEstimatedWork(work);
    if ('backup' in work) {
      const { packBytes } = this.#tuning;
      return estimateBackup(this.#context, { ...work.backup, packBytes }, options);
    }
    if ('restore' in work) {
      const [backup] = await this.#find([work.restore], options);
      return estimateRestore(this.#context, backup as StoredBackup, options);
    }
    return estimatePrune(this.#context, options);
  }

  /**
   * Forgets backups: from now on nobody can read them, and what only they needed goes with the next prunes.
   *
   * @throws TypeError; `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`, `BACKUP_HELD` (then none is forgotten), `READ_ONLY`, `CLOSED`,
   * `COMMIT_UNKNOWN`, `NO_SPACE` (then see `docs/guides/retention.md`), and what the target gives
   */
  async forget(ids: readonly string[], options: ForgetOptions = {}): Promise<void> {
    this.#requireWritable();
    await forgetBackups(this.#context, ids, options);
  }

  /**
   * Holds backups: until they are released no policy and no `forget` takes them. `BackupInfo.hold` shows it. Of one that is
   * held already the reason is replaced.
   *
   * @example
   * ```ts
   * await repository.hold([backup.id], { reason: 'audit of 2026' });
   * ```
   * @throws TypeError; `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN` (then none is held), `READ_ONLY`, `CLOSED`, `COMMIT_UNKNOWN`,
   * and what the target gives
   */
  async hold(ids: readonly string[], options: HoldOptions = {}): Promise<void> {
    this.#requireWritable();
    await holdBackups(this.#context, ids, options);
  }

  /** Lets held backups be forgotten again; one that is not held is left alone. @throws as {@link BackupRepository.hold} */
  async release(ids: readonly string[], options: AbortOptions = {}): Promise<void> {
    this.#requireWritable();
    await releaseBackups(this.#context, ids, options);
  }

  /**
   * Forgets what a policy does not keep, of one volume or of every volume by itself, in one entry.
   *
   * @example
   * ```ts
   * await repository.applyRetention({ keepLast: 3, keepDaily: 14, keepMonthly: 12 }, { volume: 'vm-1' });
   * ```
   * @throws TypeError for an unknown or malformed rule or option, for a policy that keeps nothing, and where neither
   * `volume` nor `allVolumes` is given; `READ_ONLY`, `CLOSED`, `COMMIT_UNKNOWN`, `NO_SPACE`, and what the target gives
   */
  async applyRetention(policy: RetentionPolicy, options: ApplyRetentionOptions): Promise<RetentionResult> {
    this.#requireOpen();
    const { kept, forgotten, freeableBytes } = await applyRetention(this.#context, policy, options);
    return { kept: kept.map(backupInfo), forgotten: forgotten.map(backupInfo), freeableBytes };
  }

  /**
   * Verifies the repository: see {@link VerifyOptions}. Damage is reported in the result and does not reject;
   * only what keeps the repository from being verified does.
   *
   * @throws TypeError; `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`, `CLOSED`; `LOG_CORRUPT`, `LOG_TRUNCATED`, `LOG_FORKED`,
   * `REPOSITORY_ROLLED_BACK` where the log is not as it should be; `BUDGET_EXCEEDED`, and what the target gives
   */
  async verify(options: VerifyOptions & { budget?: RequestBudget | undefined }): Promise<VerifyResult> {
    this.#requireOpen();
    const known = { ...VERIFY_OPTIONS, budget: true } as const;
    const { budget, ...each } = optionsArgument<typeof options>('options', options, known);
    return metered(new RequestMeter(budget), () => verifyRepository(this.#context, each));
  }

  /**
   * Gives back what no backup needs any more. See {@link PruneOptions}: what is condemned now is deleted by a prune after
   * the grace for readers.
   *
   * @throws TypeError; `READ_ONLY`, `CLOSED`; `NO_SPACE` where the store has no room for a log entry (see
   * `docs/guides/retention.md`); `OBJECT_CONFLICT`, `COMMIT_UNKNOWN`, `BUDGET_EXCEEDED`, and what the target gives
   */
  async prune(options: PruneOptions & { budget?: RequestBudget | undefined } = {}): Promise<PruneResult> {
    this.#requireOpen();
    const known = { ...PRUNE_OPTIONS, budget: true } as const;
    const { budget, ...each } = optionsArgument<typeof options>('options', options, known);
    return metered(new RequestMeter(budget), () => prune(this.#context, each));
  }

  /**
   * Ends what is under way and lets go of keys and threads; the target stays open. Jobs are suspended unless told, which
   * for now means cancelled. Idempotent.
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
      await this.#jobs.cancelStarts(new BackupError('CLOSED', 'the repository was closed'));
      const ending = [...this.#jobs.running].map(async (job) => {
        if (how === 'suspend') return job.suspend();
        if (how === 'cancel') return job.cancel();
        job.resume();
        await job.sweep().done.catch(() => {});
      });
      await Promise.all(ending);
      await Promise.all([this.#jobs.settled(), this.#context.log.settled()]);
      await this.#jobs.close();
      await Promise.all([...this.#images].map((image) => image.close()));
    } finally {
      // In this order, whatever did not end: nothing may be sealed with zeroed keys and still be sent.
      try {
        await this.#context.target[Symbol.asyncDispose]();
      } finally {
        this.#context.keys.wipe();
      }
    }
  }

  async *#diff(from: string, to: string, signal: AbortSignal | undefined): AsyncGenerator<ByteRange> {
    const [a, b] = await this.#find([from, to], { signal });
    const [first, second] = [a as StoredBackup, b as StoredBackup];
    const { blockSize } = first.descriptor;
    if (second.descriptor.blockSize !== blockSize) {
      throw new BackupError('BLOCK_SIZE_MISMATCH', 'backups of different block sizes have no blocks in common');
    }
    const size = Math.max(first.descriptor.size, second.descriptor.size);
    const maps = [openMap(this.#context, first.descriptor), openMap(this.#context, second.descriptor)] as const;
    for await (const { firstBlock, blockCount } of diffMaps(...maps, { exact: true, signal })) {
      const offset = firstBlock * blockSize;
      yield { offset, length: Math.min(size, offset + blockCount * blockSize) - offset };
    }
  }

  async *#listBackups(
    volume: string | undefined,
    limit: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<BackupInfo> {
    const state = await this.#current({ signal });
    let count = 0;
    for (const backup of [...state.backups.values()].reverse()) {
      if (count >= limit) return;
      if (volume !== undefined && backup.volume !== volume) continue;
      count++;
      yield backupInfo(backup);
    }
  }

  async *#listVolumes(signal: AbortSignal | undefined): AsyncGenerator<VolumeInfo> {
    yield* volumesOf(await this.#current({ signal }));
  }

  async *#listSessions(signal: AbortSignal | undefined): AsyncGenerator<SessionInfo> {
    yield* sessionsOf(this.#context, await this.#current({ signal }));
  }

  #openJob(job: JobHandle, { liveVolume, ...options }: OpenBackupOptions): JobImage {
    const { id, snapshot, backup } = job;
    if (liveVolume !== snapshot.volume) {
      const message = `backup ${id} is under way: pass the volume that it is made of as liveVolume, or wait until it is committed`;
      throw new BackupError('BACKUP_INCOMPLETE', message);
    }
    const committed = async () => {
      try {
        await job.done;
      } catch (cause) {
        throw new BackupError('BACKUP_INCOMPLETE', `backup ${id} was never completed`, { cause });
      }
      return this.openBackup(id, options);
    };
    let image: Promise<OpenedBackup> | undefined;
    return new JobImage({
      id,
      snapshot,
      backup,
      records: this.#context.records,
      committed: () => {
        image ??= committed();
        return image;
      },
    });
  }

  async #find(ids: readonly string[], options: AbortOptions): Promise<StoredBackup[]> {
    this.#requireOpen();
    let { state } = this.#context.log;
    if (!ids.every((id) => state.backups.has(id))) state = await this.#current(options);
    return ids.map((id) => {
      const backup = state.backups.get(textArgument('id', id));
      if (backup === undefined) throw missingBackup(state, id);
      return backup;
    });
  }

  async #current(options: AbortOptions): Promise<LogState> {
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
