import { BackupError } from '../../common/errors.ts';
import { metered, type RequestMeter } from '../../targets/decorators/request-meter.ts';
import type { BackupRecord } from '../format/log-entry.ts';
import type { StoredBackup } from '../format/log-state.ts';
import type { BackupSession } from './backup-session.ts';
import type { StoredVolume, VolumeBackup } from './volume-backup.ts';
import { witnessCommit } from './witnessed-commits.ts';

/** One backup of a run. */
export interface RunMember {
  readonly id: string;
  readonly backup: VolumeBackup;
  /** What its commit says in addition to its map. */
  readonly facts: Pick<BackupRecord, 'volume' | 'parent' | 'base' | 'frozenAt' | 'trackingId' | 'point' | 'metadata'>;
}

/** What a run works with. */
export interface RunParts {
  readonly session: BackupSession;
  readonly members: readonly RunMember[];
  readonly meter: RequestMeter;
  readonly signal: AbortSignal;
  /** Told whenever it has got further. */
  readonly onMoved: () => void;
}

/**
 * Where a run is: blocks are read and go into packs; the last packs go up, for which no snapshot is needed any more; the
 * commit's entry is on its way.
 */
export type RunPhase = 'storing' | 'uploading' | 'committing' | 'over';

/** How long intercepted blocks wait for others to share a pack with. */
const INTERCEPTED_WAIT_MS = 30_000;

/** A session's backups from their first block to their one commit: all of them, or none (P12). */
export class BackupRun {
  readonly committed: Promise<StoredBackup[]>;
  phase: RunPhase = 'storing';
  readonly #session: BackupSession;
  readonly #members: readonly RunMember[];
  readonly #signal: AbortSignal;
  readonly #onMoved: () => void;
  #flushTimer: NodeJS.Timeout | undefined;

  constructor({ session, members, meter, signal, onMoved }: RunParts) {
    this.#session = session;
    this.#members = members;
    this.#signal = signal;
    this.#onMoved = onMoved;
    this.committed = metered(meter, () => this.#run()).finally(() => {
      this.phase = 'over';
      clearTimeout(this.#flushTimer);
    });
  }

  async #run(): Promise<StoredBackup[]> {
    const stored = await this.#store().catch(async (error: unknown) => {
      throw await this.#session.explain(error, { signal: this.#signal });
    });
    this.#signal.throwIfAborted();
    this.#enter('uploading');
    const packs = await this.#session.upload();
    this.#signal.throwIfAborted();
    this.#enter('committing');
    const isGroup = this.#members.length > 1;
    const records = this.#members.map((member, index) => {
      const { newBytes } = member.backup.pipeline.tally;
      return recordOf(member, stored[index] as StoredVolume, isGroup ? newBytes : packs.bytes);
    });
    const state = await this.#session.commit(records, packs, { signal: this.#signal });
    return this.#members.map(({ id, backup: { snapshot } }) => {
      const backup = state.backups.get(id);
      if (backup === undefined) throw new BackupError('LOG_CORRUPT', `backup ${id} was committed and is not there`);
      witnessCommit(snapshot.volume, this.#session.repositoryId, backup, snapshot.point);
      return backup;
    });
  }

  #enter(phase: RunPhase): void {
    this.phase = phase;
    this.#onMoved();
  }

  /** All volumes at once. When one fails the others stop; when the run is given up nobody waits for a device. */
  #store(): Promise<StoredVolume[]> {
    const signal = this.#signal;
    return new Promise<StoredVolume[]>((resolve, reject) => {
      const onAbort = () => {
        for (const { backup } of this.#members) backup.stop();
        reject(signal.reason);
      };
      if (signal.aborted) {
        onAbort();
        return;
      }
      signal.addEventListener('abort', onAbort, { once: true });
      const runs = this.#members.map(({ backup }) => backup.run(() => this.#idle()));
      Promise.all(runs)
        .then(resolve, (error: unknown) => {
          for (const { backup } of this.#members) backup.stop();
          reject(error);
        })
        .finally(() => signal.removeEventListener('abort', onAbort));
    });
  }

  /** A lazy job has nothing to do: what it has gathered goes up before long, so that memory for pre-images comes back. */
  #idle(): void {
    if (this.#flushTimer !== undefined || this.#session.packs.intercepted.filling === undefined) return;
    const flush = () => {
      this.#flushTimer = undefined;
      // What fails here fails the next block too, or the commit, where it is reported.
      this.#session.packs.intercepted.flush().catch(() => {});
    };
    this.#flushTimer = setTimeout(flush, INTERCEPTED_WAIT_MS).unref();
  }
}

function recordOf({ id, backup, facts }: RunMember, { descriptor }: StoredVolume, storedBytes: number): BackupRecord {
  const { changedBlocks } = backup.pipeline.tally;
  return { id, ...facts, intact: descriptor.lost.length === 0, descriptor, stats: { storedBytes, changedBlocks } };
}
