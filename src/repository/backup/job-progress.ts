/**
 * What the backups of a session are doing: blocks are read and put into packs (`storing`); the last packs are sent, and the
 * snapshots are not needed any more (`uploading`); the commit entry is written (`committing`).
 */
export type JobPhase = 'storing' | 'uploading' | 'committing' | 'over';

/**
 * The progress of the backups of one session. Pack stages, session and job share this one object: those that do the work
 * call `moved`, and those that wait for it or report it wait for `next` or listen. What has moved is read from where it is
 * kept (block states, packs, the meter), so that a movement costs next to nothing.
 */
export class JobProgress {
  #phase: JobPhase = 'storing';
  #next: PromiseWithResolvers<void> | undefined;
  readonly #listeners = new Set<() => void>();

  get phase(): JobPhase {
    return this.#phase;
  }

  enter(phase: JobPhase): void {
    this.#phase = phase;
    this.moved();
  }

  moved(): void {
    const next = this.#next;
    this.#next = undefined;
    next?.resolve();
    for (const listener of this.#listeners) listener();
  }

  /** Resolves at the next movement. */
  next(): Promise<void> {
    this.#next ??= Promise.withResolvers();
    return this.#next.promise;
  }

  /** Calls `listener` at each movement, in the same step. Returns what ends that. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
