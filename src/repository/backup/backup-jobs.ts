import { type AbortOptions, abortable } from '../../common/abort.ts';
import type { BackupError } from '../../common/errors.ts';
import { metered, type RequestBudget, RequestMeter } from '../../targets/decorators/request-meter.ts';
import type { VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import { backupInfo } from '../context/backup-info.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { StoredBackup } from '../format/log-state.ts';
import { SealPool } from '../packs/seal-pool/seal-pool.ts';
import type { BackupResult } from './backup-job.ts';
import { BackupRun, type RunMember } from './backup-run.ts';
import { BackupSession, type PinnedPart, type StoringOptions } from './backup-session.ts';
import { ContentIndex } from './dedup-index.ts';
import { type Ending, JobHandle } from './job-handle.ts';
import { DEFAULT_OUTAGE_MS, JobPatience } from './job-patience.ts';
import { checkRequests, type FrozenRequest, freeze, type JobRequest } from './job-requests.ts';
import { VolumeBackup } from './volume-backup.ts';

/** How jobs store, as the repository was opened with. */
export interface JobSettings extends StoringOptions {
  readonly threads: number | undefined;
  readonly compressionLevel: number | undefined;
  readonly sealMemoryBytes: number | undefined;
  readonly workerUrl: URL | undefined;
}

/** What holds for all backups of one run. */
export interface StartOptions extends AbortOptions {
  readonly budget?: RequestBudget | undefined;
  readonly outageMs?: number | undefined;
}

interface Preparation {
  readonly context: RepositoryContext;
  readonly session: BackupSession;
  readonly frozen: readonly FrozenRequest[];
  readonly onMoved: () => void;
  readonly signal: AbortSignal;
}

interface Start extends Omit<Preparation, 'context' | 'signal'> {
  readonly backups: readonly VolumeBackup[];
  readonly meter: RequestMeter;
  readonly patience: JobPatience;
  readonly lifetime: AbortController;
  /** The host's. */
  readonly signal: AbortSignal | undefined;
}

const LONGEST_GOODBYE_MS = 5_000;
/** A session that could not be given up by then is left open: the next start takes it over. */
const GOODBYE_GIVEN_UP_MS = 60_000;

/** The backups that are on their way in one repository, and what they share. */
export class BackupJobs {
  readonly running = new Set<JobHandle>();
  readonly #context: RepositoryContext;
  readonly #settings: JobSettings;
  readonly #contents = new ContentIndex();
  readonly #pools = new Map<number, SealPool>();
  /** Sessions being given up, which takes a request. */
  readonly #goodbyes = new Set<Promise<unknown>>();
  /** Starts that are under way. */
  readonly #starting = new Map<AbortController, Promise<unknown>>();

  constructor(context: RepositoryContext, settings: JobSettings) {
    this.#context = context;
    this.#settings = settings;
  }

  /** Starts backups that are committed together: one of each volume, all frozen at one instant. */
  async start(requests: readonly JobRequest[], options: StartOptions): Promise<JobHandle[]> {
    checkRequests(requests);
    const meter = new RequestMeter(options.budget);
    options.signal?.throwIfAborted();
    const lifetime = new AbortController();
    const started = metered(meter, () => this.#start(requests, options, meter, lifetime));
    this.#starting.set(lifetime, started);
    try {
      return await started;
    } finally {
      this.#starting.delete(lifetime);
    }
  }

  /** Gives up all starts that are under way, however silent the target is. */
  async cancelStarts(reason: unknown): Promise<void> {
    const starts = [...this.#starting];
    for (const [lifetime] of starts) lifetime.abort(reason);
    await Promise.allSettled(starts.map(([, started]) => started));
  }

  /** Gives up the jobs of a session. */
  async cancelSession(seq: number): Promise<void> {
    const jobs = [...this.running].filter((job) => job.session === seq);
    await Promise.all(jobs.map((job) => job.cancel()));
  }

  /** Waits a while for requests that give sessions up: the log does without them. */
  async settled(): Promise<void> {
    const wait = Promise.withResolvers<void>();
    const timer = setTimeout(wait.resolve, LONGEST_GOODBYE_MS);
    await Promise.race([Promise.allSettled(this.#goodbyes), wait.promise]);
    clearTimeout(timer);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.close()));
  }

  async #start(
    requests: readonly JobRequest[],
    { signal, outageMs = DEFAULT_OUTAGE_MS }: StartOptions,
    meter: RequestMeter,
    lifetime: AbortController,
  ): Promise<JobHandle[]> {
    const handles: JobHandle[] = [];
    const onMoved = () => {
      for (const handle of handles) handle.moved();
    };
    const patience = new JobPatience({ outageMs, signal: lifetime.signal, onChange: onMoved });
    const context = { ...this.#context, insist: patience.through.bind(patience) };
    const onAbort = () => lifetime.abort(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    let frozen: FrozenRequest[] = [];
    let session: BackupSession | undefined;
    try {
      frozen = await freeze(requests, lifetime.signal);
      session = await this.#openSession(context, frozen, lifetime.signal);
      const backups = await this.#prepare({ context, session, frozen, onMoved, signal: lifetime.signal });
      handles.push(...this.#run({ session, frozen, backups, meter, patience, lifetime, signal, onMoved }));
      return handles;
    } catch (error) {
      lifetime.abort(error);
      for (const { snapshot } of frozen) await snapshot.close();
      if (session !== undefined) this.#leave(session);
      throw error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  async #openSession(
    context: RepositoryContext,
    frozen: readonly FrozenRequest[],
    signal: AbortSignal,
  ): Promise<BackupSession> {
    const parts = frozen.map(({ options, snapshot }) => ({
      volume: options.volume,
      base: options.base ?? ('latest' as const),
      blockSize: snapshot.blockSize,
    }));
    const takeOver = frozen.some(({ options }) => options.takeOver === true);
    const opening = BackupSession.open(context, parts, this.#settings, this.#contents, { signal, takeOver });
    try {
      return await abortable(opening, signal);
    } catch (error) {
      // Its entry may still be on its way: a target that ignores the signal must not hold the host's snapshot.
      opening.then((late) => this.#leave(late)).catch(() => {});
      throw error;
    }
  }

  /** What has to be stored of each volume. */
  async #prepare({ context, session, frozen, onMoved, signal }: Preparation): Promise<VolumeBackup[]> {
    const preparing = frozen.map(({ options: { sampleBlocks }, snapshot }, index) => {
      const part = session.parts[index] as PinnedPart;
      const pool = this.#pool(snapshot.blockSize);
      return VolumeBackup.prepare({ context, session, part, snapshot, pool, sampleBlocks, signal, onMoved });
    });
    return await abortable(Promise.all(preparing), signal);
  }

  #run(start: Start): JobHandle[] {
    const { session, frozen, backups, meter, patience, lifetime, signal, onMoved } = start;
    const members = backups.map((backup, index) =>
      memberOf(session, frozen[index] as FrozenRequest, session.parts[index] as PinnedPart, backup),
    );
    const run = new BackupRun({ session, members, meter, signal: lifetime.signal, onMoved });
    const ending = endingOf(lifetime);
    const unlisten = endWith(frozen, run, ending, signal);
    const handles: JobHandle[] = [];
    run.committed
      .catch((error: unknown) => {
        lifetime.abort(error); // Whatever is still on its way.
        this.#leave(session);
      })
      .finally(() => {
        unlisten();
        for (const { snapshot } of frozen) void snapshot.close();
        for (const handle of handles) this.running.delete(handle);
      });
    members.forEach(({ id, backup }, index) => {
      const { snapshot, options } = frozen[index] as FrozenRequest;
      const result = run.committed.then((stored) => resultOf(stored[index] as StoredBackup, backup, meter));
      const { volume, onProgress } = options;
      const handle = new JobHandle({
        id,
        volume,
        session: session.seq,
        snapshot,
        backup,
        run,
        meter,
        patience,
        result,
        ending,
        onProgress,
      });
      handles.push(handle);
      this.running.add(handle);
    });
    return handles;
  }

  #pool(blockSize: number): SealPool {
    let pool = this.#pools.get(blockSize);
    if (pool === undefined) {
      const { threads, compressionLevel, sealMemoryBytes, workerUrl } = this.#settings;
      const { keys } = this.#context;
      pool = new SealPool({
        keys,
        blockSize,
        threads,
        level: compressionLevel,
        memoryBytes: sealMemoryBytes,
        workerUrl,
      });
      this.#pools.set(blockSize, pool);
    }
    return pool;
  }

  #leave(session: BackupSession): void {
    const giveUp = new AbortController();
    // Nobody else ends it, and a store that never answers would keep the log's turn from all who come after.
    const timer = setTimeout(() => giveUp.abort(), GOODBYE_GIVEN_UP_MS).unref();
    const goodbye = session.abort({ signal: giveUp.signal }).catch(() => {});
    this.#goodbyes.add(goodbye);
    void goodbye.finally(() => {
      clearTimeout(timer);
      this.#goodbyes.delete(goodbye);
    });
  }
}

/** Ends a run with what it depends on: the host's signal, and the life of its snapshots. */
function endWith(
  frozen: readonly FrozenRequest[],
  run: BackupRun,
  ending: Ending,
  signal: AbortSignal | undefined,
): () => void {
  // Once everything is stored the commit needs no snapshot.
  const isNeeded = (of: VolumeSnapshot, snapshot: VolumeSnapshot) => of === snapshot && run.phase === 'storing';
  const onAbort = () => ending.cancel(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  const undo = frozen.map(({ snapshot }) => {
    const { events } = snapshot.volume;
    const onBroken = (of: VolumeSnapshot, error: BackupError) => {
      if (isNeeded(of, snapshot)) ending.fail(error);
    };
    const onClosed = (of: VolumeSnapshot) => {
      if (isNeeded(of, snapshot)) ending.cancel(new DOMException('the volume was closed', 'AbortError'));
    };
    events.on('snapshotBroken', onBroken).on('snapshotClosed', onClosed);
    if (snapshot.status === 'broken') ending.fail(snapshot.error);
    if (snapshot.status === 'closed') onClosed(snapshot);
    return () => events.off('snapshotBroken', onBroken).off('snapshotClosed', onClosed);
  });
  return () => {
    signal?.removeEventListener('abort', onAbort);
    for (const each of undo) each();
  };
}

function endingOf(lifetime: AbortController): Ending {
  const ending: Ending = {
    isCancelled: false,
    cancel: (reason) => {
      if (lifetime.signal.aborted) return;
      ending.isCancelled = true;
      lifetime.abort(reason);
    },
    fail: (error) => lifetime.abort(error),
  };
  return ending;
}

function memberOf(
  session: BackupSession,
  { options, snapshot }: FrozenRequest,
  part: PinnedPart,
  backup: VolumeBackup,
): RunMember {
  const { volume, metadata = {} } = options;
  const { trackingId, epoch } = snapshot.point;
  const facts = {
    volume,
    parent: part.parent,
    base: part.pinned?.id,
    frozenAt: snapshot.frozenAt.getTime(),
    trackingId,
    point: epoch,
    metadata: { ...metadata },
  };
  return { id: session.newBackupId(volume), backup, facts };
}

function resultOf(stored: StoredBackup, backup: VolumeBackup, meter: RequestMeter): BackupResult {
  return {
    ...backupInfo(stored),
    changeSource: backup.changeSource,
    changeReason: backup.changeReason,
    readBytes: backup.pipeline.tally.readBytes,
    requests: meter.requests,
    warnings: backup.warnings,
  };
}
