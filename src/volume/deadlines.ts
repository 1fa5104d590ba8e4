const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The time that one claim has. */
export interface Deadline {
  readonly timer: NodeJS.Timeout;
  /** Told when the time is over; nobody once it has been stopped. */
  expired: (() => void) | undefined;
  hasFired: boolean;
}

/**
 * Deadlines that are all equally long and hardly ever met. Making a timer and clearing it again is a good part of what a
 * claim costs besides its I/O, so a timer that was stopped runs on and is wound up again for the next claim.
 */
export class Deadlines {
  readonly #ms: number;
  readonly #stopped: Deadline[] = [];

  constructor(ms: number) {
    this.#ms = ms;
  }

  start(expired: () => void): Deadline | undefined {
    if (this.#ms === Number.POSITIVE_INFINITY) return undefined;
    let deadline = this.#stopped.pop();
    while (deadline?.hasFired === true) deadline = this.#stopped.pop();
    if (deadline === undefined) return this.#make(expired);
    deadline.expired = expired;
    deadline.timer.ref().refresh();
    return deadline;
  }

  stop(deadline: Deadline): void {
    deadline.expired = undefined;
    if (deadline.hasFired) return;
    deadline.timer.unref(); // What nobody waits for keeps no process alive.
    this.#stopped.push(deadline);
  }

  /** Lets go of the timers that nobody has. */
  close(): void {
    for (const { timer } of this.#stopped.splice(0)) clearTimeout(timer);
  }

  #make(expired: () => void): Deadline {
    const fire = () => {
      deadline.hasFired = true;
      deadline.expired?.();
    };
    const timer = setTimeout(fire, Math.min(this.#ms, LONGEST_TIMER_MS));
    const deadline: Deadline = { timer, expired, hasFired: false };
    return deadline;
  }
}
