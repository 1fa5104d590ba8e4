/** The least time between two reports, in milliseconds. */
export const REPORT_EVERY_MS = 250;

/** Calls of a host's `onProgress`: one at once, then no more than one each {@link REPORT_EVERY_MS}, and one at the end. */
export class PacedReports {
  readonly #report: () => void;
  #reportedAt = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(report: () => void) {
    this.#report = report;
  }

  /** Something has moved. */
  note(): void {
    if (this.#timer !== undefined || this.#isOver) return;
    const waitMs = this.#reportedAt + REPORT_EVERY_MS - performance.now();
    if (waitMs <= 0) this.#now();
    else this.#timer = setTimeout(() => this.#now(), waitMs).unref();
  }

  /** The last report. */
  end(): void {
    if (this.#isOver) return;
    this.#now();
    this.#isOver = true;
  }

  #now(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#reportedAt = performance.now();
    this.#report();
  }
}
