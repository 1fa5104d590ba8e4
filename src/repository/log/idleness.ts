/** After how long others may have pruned the log: where there are others, and where none was seen yet. */
const SOON_MS = 10 * 60 * 1000;
const LATE_MS = 24 * 60 * 60 * 1000;

/** How long a process has not looked at a log. */
export class Idleness {
  /** When a listing last showed the newest entry, and whether entries of others have ever come meanwhile. */
  #lookedAt = Date.now();
  #hasOthers = false;

  looked(hasOthers: boolean): void {
    this.#lookedAt = Date.now();
    this.#hasOthers ||= hasOthers;
  }

  /** Whether the log may have gone on so far that entries were deleted which were not read. */
  get isLong(): boolean {
    return Math.abs(Date.now() - this.#lookedAt) > (this.#hasOthers ? SOON_MS : LATE_MS);
  }
}
