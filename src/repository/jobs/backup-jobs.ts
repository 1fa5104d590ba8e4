import { abortable } from '../../common/abort.ts';
import { textArgument } from '../../common/arguments.ts';
import type { BackupError } from '../../common/errors.ts';
import { CopyOnWriteVolume } from '../../volume/copy-on-write-volume.ts';
import { VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import { backupInfo } from '../backup-info.ts';
import { checkMetadata } from '../log/backup-codec.ts';
import type { StoredBackup } from '../log/log-state.ts';
import { tell } from '../progress.ts';
import type { RepositoryContext } from '../repository-context.ts';
import { metered, type RequestBudget, RequestMeter } from '../requests/request-meter.ts';
import { SealPool } from '../workers/seal-pool.ts';
import type { BackupOptions, BackupResult, BackupSource } from './backup-job.ts';
import { BackupRun, type RunMember } from './backup-run.ts';
import { BackupSession, type StoringOptions } from './backup-session.ts';
import { type Ending, JobHandle } from './job-handle.ts';
import { ContentIndex } from './known-contents.ts';
import { VolumeBackup } from './volume-backup.ts';

/** How jobs store, as the repository was opened with. */
export interface JobSettings extends StoringOptions {
  readonly threads: number | undefined;
  readonly compressionLevel: number | undefined;
  readonly sealMemoryBytes: number | undefined;
}

/** A volume to be backed up, and how. */
export interface JobRequest {
  readonly source: BackupSource;
  readonly options: BackupOptions;
}

/** A request with the job's own handle on the instant. */
interface FrozenRequest {
  readonly options: BackupOptions;
  readonly snapshot: VolumeSnapshot;
}

/** The backups that are on their way in one repository, and what they share. */
export class BackupJobs {
  readonly running = new Set<JobHandle>();
  readonly #context: RepositoryContext;
  readonly #settings: JobSettings;
  readonly #contents = new ContentIndex();
  readonly #pools = new Map<number, SealPool>();
  /** Sessions being given up, which takes a request. */
  readonly #goodbyes = new Set<Promise<unknown>>();

  constructor(context: RepositoryContext, settings: JobSettings) {
    this.#context = context;
    this.#settings = settings;
  }

  /** Starts backups that are committed together: one of each volume, all frozen at one instant. */
  async start(requests: readonly JobRequest[], signal?: AbortSignal, budget?: RequestBudget): Promise<JobHandle[]> {
    for (const { options } of requests) checkOptions(options);
    const names = requests.map(({ options }) => options.volume);
    const twice = names.find((name, index) => names.indexOf(name) !== index);
    if (twice !== undefined) throw new TypeError(`volume ${JSON.stringify(twice)} is in the group twice`);
    signal?.throwIfAborted();
    const frozen = await freeze(requests, signal);
    const meter = new RequestMeter(budget);
    const lifetime = new AbortController();
    let session: BackupSession | undefined;
    try {
      return await metered(meter, async () => {
        session = await this.#openSession(frozen, lifetime.signal, signal);
        return await this.#begin(session, frozen, meter, lifetime, signal);
      });
    } catch (error) {
      lifetime.abort(error);
      for (const { snapshot } of frozen) await snapshot.close();
      if (session !== undefined) this.#leave(session);
      throw error;
    }
  }

  /** Waits for requests that give sessions up, but not for ever: the log does without them. */
  async settled(): Promise<void> {
    const wait = Promise.withResolvers<void>();
    const timer = setTimeout(wait.resolve, 5_000);
    await Promise.race([Promise.allSettled(this.#goodbyes), wait.promise]);
    clearTimeout(timer);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.close()));
  }

  #openSession(frozen: readonly FrozenRequest[], lifetime: AbortSignal, signal?: AbortSignal): Promise<BackupSession> {
    const parts = frozen.map(({ options, snapshot }) => ({
      volume: options.volume,
      base: options.base ?? ('latest' as const),
      blockSize: snapshot.blockSize,
    }));
    const takeOver = frozen.some(({ options }) => options.takeOver === true);
    return BackupSession.open(this.#context, parts, this.#settings, this.#contents, { signal, takeOver, lifetime });
  }

  async #begin(
    session: BackupSession,
    frozen: readonly FrozenRequest[],
    meter: RequestMeter,
    lifetime: AbortController,
    signal?: AbortSignal,
  ): Promise<JobHandle[]> {
    const handles: JobHandle[] = [];
    const onMoved = () => {
      for (const handle of handles) handle.moved();
    };
    const preparing = frozen.map(async ({ options, snapshot }, index): Promise<RunMember> => {
      const part = session.parts[index] as BackupSession['parts'][number];
      const backup = await VolumeBackup.prepare({
        context: this.#context,
        session,
        part,
        snapshot,
        pool: this.#pool(snapshot.blockSize),
        sampleBlocks: options.sampleBlocks,
        signal: lifetime.signal,
        onMoved,
      });
      const { volume, metadata = {} } = options;
      const { trackingId, epoch } = snapshot.point;
      const base = part.pinned?.id;
      const frozenAt = snapshot.frozenAt.getTime();
      const facts = {
        volume,
        parent: part.parent,
        base,
        frozenAt,
        trackingId,
        point: epoch,
        metadata: { ...metadata },
      };
      return { id: session.newBackupId(volume), backup, facts };
    });
    const members = await abortable(Promise.all(preparing), signal);
    const run = new BackupRun(session, members, meter, lifetime.signal);
    const committed = run.committed;
    const ending: Ending = {
      isCancelled: false,
      cancel: (reason) => {
        if (lifetime.signal.aborted) return;
        ending.isCancelled = true;
        lifetime.abort(reason);
      },
      fail: (error) => lifetime.abort(error),
    };
    const unlisten = endWith(frozen, run, ending, signal);
    committed
      .catch((error: unknown) => {
        lifetime.abort(error); // Whatever is still on its way.
        this.#leave(session);
      })
      .finally(() => {
        unlisten();
        for (const { snapshot } of frozen) void snapshot.close();
        for (const handle of handles) this.running.delete(handle);
      });
    const isGroup = members.length > 1;
    members.forEach((member, index) => {
      const { snapshot, options } = frozen[index] as FrozenRequest;
      const result = committed.then((backups) =>
        resultOf(backups[index] as StoredBackup, member.backup, meter, isGroup),
      );
      const { id, backup } = member;
      const handle = new JobHandle({ id, volume: options.volume, snapshot, backup, run, meter, result, ending });
      handles.push(handle);
      this.running.add(handle);
      if (options.onProgress !== undefined) void tellOf(handle, options.onProgress);
    });
    return handles;
  }

  #pool(blockSize: number): SealPool {
    let pool = this.#pools.get(blockSize);
    if (pool === undefined) {
      const { threads, compressionLevel, sealMemoryBytes } = this.#settings;
      const { keys } = this.#context;
      pool = new SealPool({ keys, blockSize, threads, level: compressionLevel, memoryBytes: sealMemoryBytes });
      this.#pools.set(blockSize, pool);
    }
    return pool;
  }

  #leave(session: BackupSession): void {
    const goodbye = session.abort().catch(() => {});
    this.#goodbyes.add(goodbye);
    void goodbye.finally(() => this.#goodbyes.delete(goodbye));
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

/** Of a volume's name, in characters. */
const MAX_NAME = 1024;

function checkOptions({ volume, base, metadata, sampleBlocks }: BackupOptions): void {
  textArgument('volume', volume);
  if (volume.length > MAX_NAME || !volume.isWellFormed()) {
    throw new TypeError(`volume must be well-formed text of at most ${MAX_NAME} characters`);
  }
  if (base !== undefined) textArgument('base', base);
  if (metadata !== undefined) checkMetadata(metadata);
  if (sampleBlocks !== undefined && !(Number.isSafeInteger(sampleBlocks) && sampleBlocks >= 0)) {
    throw new TypeError('sampleBlocks must be an integer from 0 up');
  }
}

/** A handle of the job's own on each instant; volumes that were given as such are frozen together. */
async function freeze(requests: readonly JobRequest[], signal?: AbortSignal): Promise<FrozenRequest[]> {
  const volumes = requests.flatMap(({ source }) => (source instanceof VolumeSnapshot ? [] : [checkVolume(source)]));
  const snapshots = volumes.length === 0 ? [] : await CopyOnWriteVolume.createSnapshots(volumes, { signal });
  const made = [...snapshots] as VolumeSnapshot[];
  const frozen: FrozenRequest[] = [];
  try {
    for (const { source, options } of requests) {
      const snapshot = source instanceof VolumeSnapshot ? source.share() : (made.shift() as VolumeSnapshot);
      frozen.push({ options, snapshot });
    }
    return frozen;
  } catch (error) {
    for (const { snapshot } of frozen) await snapshot.close();
    for (const snapshot of made) await snapshot.close();
    throw error;
  }
}

function checkVolume(source: BackupSource): CopyOnWriteVolume {
  if (source instanceof CopyOnWriteVolume) return source;
  throw new TypeError('a backup is made of a CopyOnWriteVolume or a VolumeSnapshot');
}

function resultOf(stored: StoredBackup, backup: VolumeBackup, meter: RequestMeter, isGroup: boolean): BackupResult {
  const { readBytes, newBytes } = backup.pipeline.tally;
  return {
    ...backupInfo(stored),
    changeSource: backup.changeSource,
    changeReason: backup.changeReason,
    readBytes,
    uploadedBytes: isGroup ? newBytes : meter.uploadBytes,
    requests: meter.requests,
    warnings: backup.warnings,
  };
}

async function tellOf(handle: JobHandle, onProgress: NonNullable<BackupOptions['onProgress']>): Promise<void> {
  for await (const progress of handle.watch()) tell(onProgress, progress);
}
