// This folder makes backups. Read this file first, then job-handle.ts, backup-session.ts and volume-backup.ts.

import { abortable } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { metered, RequestMeter } from '../../targets/decorators/request-meter.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { StoredBackup } from '../format/log-state.ts';
import type { MapDescriptor } from '../format/map-descriptor.ts';
import { SealPool } from '../packs/seal-pool/seal-pool.ts';
import type { GroupOptions } from './backup-job.ts';
import { planBackup } from './backup-plan.ts';
import { BackupSession, type StoringOptions } from './backup-session.ts';
import { DedupIndex } from './dedup-index.ts';
import { JobEnding } from './job-ending.ts';
import { JobHandle, type SharedParts } from './job-handle.ts';
import { JobProgress } from './job-progress.ts';
import { checkRequests, type FrozenRequest, freeze, type JobRequest } from './job-requests.ts';
import { openSession, type PinnedPart } from './open-session.ts';
import { DEFAULT_OUTAGE_MS, OutageRetries } from './outage-retries.ts';
import { VolumeBackup } from './volume-backup.ts';
import { witnessCommit } from './witnessed-commits.ts';

/**
 * A backup under way is three objects, each with a life of its own:
 *
 * - the job (`JobHandle`), which the host holds: it lives as long as the host keeps it
 * - the session (`BackupSession`), which the log knows: it lives as long as its `open` entry is open
 * - the volume's backup (`VolumeBackup`), which does the work: it lives as long as the sweep of its volume
 *
 * A group has one session, and a job and a volume's backup for each volume. All of them share one `JobProgress`.
 */

/** How jobs store; the repository was opened with it. */
export interface JobSettings extends StoringOptions {
  readonly threads: number | undefined;
  readonly compressionLevel: number | undefined;
  readonly sealMemoryBytes: number | undefined;
  readonly workerUrl: URL | undefined;
}

/** One backup of a session. */
interface Member {
  readonly id: string;
  readonly request: FrozenRequest;
  readonly part: PinnedPart;
  readonly backup: VolumeBackup;
}

/** The most that closing the repository waits for sessions to be ended. */
const MAX_LEAVE_WAIT_MS = 5_000;
/** Ending a session is given up after this. The session then stays open, and the next start takes it over. */
const LEAVE_TIMEOUT_MS = 60_000;

/** The backups that are under way in one repository, and what they share. It lives as long as the open repository. */
export class BackupJobs {
  readonly running = new Set<JobHandle>();
  readonly #context: RepositoryContext;
  readonly #settings: JobSettings;
  readonly #index = new DedupIndex();
  /** By block size. */
  readonly #pools = new Map<number, SealPool>();
  /** Requests that end sessions. */
  readonly #leaving = new Set<Promise<unknown>>();
  readonly #starting = new Map<JobEnding, Promise<unknown>>();

  constructor(context: RepositoryContext, settings: JobSettings) {
    this.#context = context;
    this.#settings = settings;
  }

  /** Starts backups that are committed together: one of each volume, all frozen at one instant. */
  async start(requests: readonly JobRequest[], options: GroupOptions): Promise<JobHandle[]> {
    checkRequests(requests);
    options.signal?.throwIfAborted();
    const progress = new JobProgress();
    const ending = new JobEnding();
    const { outageMs = DEFAULT_OUTAGE_MS } = options;
    const outages = new OutageRetries({ outageMs, signal: ending.signal, onChange: () => progress.moved() });
    const shared = { progress, ending, outages, meter: new RequestMeter(options.budget) };
    const started = metered(shared.meter, () => this.#start(requests, options.signal, shared));
    this.#starting.set(ending, started);
    try {
      return await started;
    } finally {
      this.#starting.delete(ending);
    }
  }

  /** The job that makes the backup of this id, if it is under way. */
  find(id: string): JobHandle | undefined {
    return [...this.running].find((job) => job.id === id);
  }

  async cancelSession(seq: number): Promise<void> {
    const jobs = [...this.running].filter((job) => job.session === seq);
    await Promise.all(jobs.map((job) => job.cancel()));
  }

  /** Ends everything that is under way, even if the target does not answer, and then the threads. */
  async close(how: 'suspend' | 'cancel' | 'finish'): Promise<void> {
    const starts = [...this.#starting];
    for (const [ending] of starts) ending.fail(new BackupError('CLOSED', 'the repository was closed'));
    await Promise.allSettled(starts.map(([, started]) => started));
    const jobs = [...this.running].map(async (job) => {
      if (how === 'suspend') return job.suspend();
      if (how === 'cancel') return job.cancel();
      job.resume();
      await job.sweep().done.catch(() => {});
    });
    await Promise.all(jobs);
    await Promise.all([this.#sessionsLeft(), this.#context.log.settled()]);
    await Promise.all([...this.#pools.values()].map((pool) => pool.close()));
  }

  /** Waits a while for requests that end sessions. They are a courtesy: the log works without them. */
  async #sessionsLeft(): Promise<void> {
    const wait = Promise.withResolvers<void>();
    const timer = setTimeout(wait.resolve, MAX_LEAVE_WAIT_MS);
    await Promise.race([Promise.allSettled(this.#leaving), wait.promise]);
    clearTimeout(timer);
  }

  async #start(
    requests: readonly JobRequest[],
    signal: AbortSignal | undefined,
    shared: SharedParts,
  ): Promise<JobHandle[]> {
    const { ending, outages } = shared;
    const context = { ...this.#context, insist: outages.run.bind(outages) };
    const onAbort = () => ending.fail(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    let frozen: FrozenRequest[] = [];
    let session: BackupSession | undefined;
    try {
      frozen = await freeze(requests, ending.signal);
      session = await this.#openSession(context, frozen, shared);
      const members = await this.#prepare(context, session, frozen, shared);
      return this.#run(session, members, shared, signal);
    } catch (error) {
      ending.fail(error);
      for (const { snapshot } of frozen) await snapshot.close();
      if (session !== undefined) this.#leave(session, ending);
      throw error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  async #openSession(
    context: RepositoryContext,
    frozen: readonly FrozenRequest[],
    { progress, ending }: SharedParts,
  ): Promise<BackupSession> {
    const { signal } = ending;
    const parts = frozen.map(({ options, snapshot }) => ({
      volume: options.volume,
      base: options.base ?? ('latest' as const),
      blockSize: snapshot.blockSize,
    }));
    const takeOver = frozen.some(({ options }) => options.takeOver === true);
    const tools = { storing: this.#settings, index: this.#index, progress, signal };
    const opening = openSession(context, parts, { signal, takeOver }).then(
      (opened) => new BackupSession(context, opened, tools),
    );
    try {
      return await abortable(opening, signal);
    } catch (error) {
      // The entry may still be under way: a target that ignores the signal must not keep the host's snapshot open.
      opening.then((late) => this.#leave(late, ending)).catch(() => {});
      throw error;
    }
  }

  async #prepare(
    context: RepositoryContext,
    session: BackupSession,
    frozen: readonly FrozenRequest[],
    { progress, ending: { signal } }: SharedParts,
  ): Promise<Member[]> {
    const preparing = frozen.map(async (request, index): Promise<Member> => {
      const { options, snapshot } = request;
      const part = session.parts[index] as PinnedPart;
      const pool = this.#pool(snapshot.blockSize);
      const plan = await planBackup({ context, part, snapshot, pool, sampleBlocks: options.sampleBlocks, signal });
      const backup = new VolumeBackup({ context, session, snapshot, pool, plan, progress, signal });
      return { id: session.newBackupId(options.volume), request, part, backup };
    });
    return await abortable(Promise.all(preparing), signal);
  }

  #run(
    session: BackupSession,
    members: readonly Member[],
    shared: SharedParts,
    signal: AbortSignal | undefined,
  ): JobHandle[] {
    const { progress, ending, meter } = shared;
    const snapshots = members.map(({ backup }) => backup.snapshot);
    const unfollow = ending.follow(snapshots, signal, () => progress.phase === 'storing');
    const committed = metered(meter, () => storeAndCommit(session, members, shared)).finally(unfollow);
    const handles = members.map(({ id, request: { options }, backup }, index) => {
      const result = committed.then((stored) => backup.result(stored[index] as StoredBackup, meter));
      const { volume, onProgress } = options;
      return new JobHandle({ ...shared, id, volume, session: session.seq, backup, result, onProgress });
    });
    for (const handle of handles) this.running.add(handle);
    committed
      .catch((error: unknown) => {
        ending.fail(error); // Stops what is still under way.
        this.#leave(session, ending);
      })
      .finally(() => {
        for (const snapshot of snapshots) void snapshot.close();
        for (const handle of handles) this.running.delete(handle);
      });
    return handles;
  }

  #pool(blockSize: number): SealPool {
    let pool = this.#pools.get(blockSize);
    if (pool === undefined) {
      const { threads, compressionLevel: level, sealMemoryBytes: memoryBytes, workerUrl } = this.#settings;
      pool = new SealPool({ keys: this.#context.keys, blockSize, threads, level, memoryBytes, workerUrl });
      this.#pools.set(blockSize, pool);
    }
    return pool;
  }

  #leave(session: BackupSession, { keepsUploads }: JobEnding): void {
    const giveUp = new AbortController();
    // A store that never answers would otherwise block all later entries of this process.
    const timer = setTimeout(() => giveUp.abort(), LEAVE_TIMEOUT_MS).unref();
    const leaving = session.leave({ keepsUploads, signal: giveUp.signal }).catch(() => {});
    this.#leaving.add(leaving);
    void leaving.finally(() => {
      clearTimeout(timer);
      this.#leaving.delete(leaving);
    });
  }
}

/** Takes a session's backups from their first block to their one commit: all of them, or none (P12). */
async function storeAndCommit(
  session: BackupSession,
  members: readonly Member[],
  { progress, ending: { signal } }: SharedParts,
): Promise<StoredBackup[]> {
  const descriptors = await storeAll(session, members, signal).catch(async (error: unknown) => {
    throw await session.explain(error, { signal });
  });
  signal.throwIfAborted();
  progress.enter('uploading');
  const packs = await session.upload();
  signal.throwIfAborted();
  progress.enter('committing');
  const records = members.map((member, index) => {
    const { newBytes } = member.backup.stage.tally;
    const storedBytes = members.length > 1 ? newBytes : packs.bytes;
    return member.backup.record(member, descriptors[index] as MapDescriptor, storedBytes);
  });
  const state = await session.commit(records, packs, { signal });
  return members.map(({ id, backup: { snapshot } }) => {
    const backup = state.backups.get(id);
    if (backup === undefined)
      throw new BackupError('LOG_CORRUPT', `the log has the commit of backup ${id}, but not the backup`);
    witnessCommit(snapshot.volume, session.repositoryId, backup, snapshot.point);
    return backup;
  });
}

/** Stores all volumes at once. If one fails the others stop; an abort rejects at once, even while a device is busy. */
async function storeAll(
  session: BackupSession,
  members: readonly Member[],
  signal: AbortSignal,
): Promise<MapDescriptor[]> {
  try {
    const storing = members.map(({ backup }) => backup.run(() => session.flushSoon()));
    return await abortable(Promise.all(storing), signal);
  } catch (error) {
    for (const { backup } of members) backup.stop();
    throw error;
  }
}
