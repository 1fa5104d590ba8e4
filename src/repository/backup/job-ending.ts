import { BackupError } from '../../common/errors.ts';
import type { VolumeSnapshot } from '../../volume/volume-snapshot.ts';

/** How the jobs of one session end before their commit, all of them at once: somebody cancels them, or something fails. */
export class JobEnding {
  /** Whether somebody wanted the end; otherwise it is a failure. */
  isCancelled = false;
  /** Whether the next backup is to use what the jobs have uploaded. */
  keepsUploads = true;
  readonly #controller = new AbortController();

  /** Aborts when the jobs are to end, and stops everything that is under way for them. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** @param keepsUploads - whether a later backup may go on from here; otherwise the host has given the backup up */
  cancel(reason: unknown, keepsUploads: boolean): void {
    if (this.signal.aborted) return;
    this.isCancelled = true;
    this.keepsUploads = keepsUploads;
    this.#controller.abort(reason);
  }

  fail(error: unknown): void {
    if (this.signal.aborted) return;
    // A full store needs the room.
    this.keepsUploads = !BackupError.is(error, 'NO_SPACE');
    this.#controller.abort(error);
  }

  /**
   * Ends the jobs when the host's signal aborts, or when a snapshot ends that is still needed. Returns what ends that.
   *
   * @param areNeeded - whether the snapshots are still needed: a commit needs none of them once everything is stored
   */
  follow(snapshots: readonly VolumeSnapshot[], signal: AbortSignal | undefined, areNeeded: () => boolean): () => void {
    const onAbort = () => this.cancel(signal?.reason, true);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
    const undo = snapshots.map((snapshot) => {
      const { events } = snapshot.volume;
      const onBroken = (of: VolumeSnapshot, error: BackupError) => {
        if (of === snapshot && areNeeded()) this.fail(error);
      };
      const onClosed = (of: VolumeSnapshot) => {
        if (of === snapshot && areNeeded()) this.cancel(new DOMException('the volume was closed', 'AbortError'), true);
      };
      events.on('snapshotBroken', onBroken).on('snapshotClosed', onClosed);
      if (snapshot.status === 'broken') this.fail(snapshot.error);
      if (snapshot.status === 'closed') onClosed(snapshot);
      return () => events.off('snapshotBroken', onBroken).off('snapshotClosed', onClosed);
    });
    return () => {
      signal?.removeEventListener('abort', onAbort);
      for (const each of undo) each();
    };
  }
}
