import { BackupError, type BlockCall } from '../../../src/index.ts';
import { seededRandom } from '../../../src/testing/seeded-random.ts';
import { turn } from '../../support/turn.ts';

/** How a store behaves: the chance of each fate of a call. What is left of 1 is success at once, in one way or another. */
export const TEMPERS = {
  calm: {},
  slow: { late: 0.7 },
  flaky: { late: 0.2, failsBefore: 0.15, failsAfter: 0.15, held: 0.05 },
  stuck: { held: 0.7, late: 0.2 },
  dying: { failsForGood: 0.15, late: 0.3, held: 0.1, failsAfter: 0.1 },
} as const satisfies Record<string, Partial<Record<Fate, number>>>;

export type Temper = keyof typeof TEMPERS;

/** `held` calls wait until they are let go or aborted. `failsAfter` and some aborted calls have stored the block all the same. */
type Fate = 'late' | 'failsBefore' | 'failsAfter' | 'failsForGood' | 'held';

interface HeldCall {
  readonly proceed: (how: 'store' | 'fail') => void;
}

/** A `store` that is slow, out of order, fails before or after it takes effect, or hangs, as a seed says. */
export class TroubledStore {
  temper: Temper;
  /** Calls that have begun and not settled. */
  underWay = 0;
  hasFailed = false;
  readonly #seed: number;
  readonly #append: (block: number, bytes: Uint8Array) => void;
  readonly #held: HeldCall[] = [];

  constructor(seed: number, temper: Temper, append: (block: number, bytes: Uint8Array) => void) {
    this.#seed = seed;
    this.temper = temper;
    this.#append = append;
  }

  /** Lets one of the held calls go on. */
  release(pick: number, how: 'store' | 'fail'): void {
    this.#held.splice(pick % Math.max(1, this.#held.length), 1)[0]?.proceed(how);
  }

  /** From now on everything is stored, what is held included. */
  calm(): void {
    this.temper = 'calm';
    for (const { proceed } of this.#held.splice(0)) proceed('store');
  }

  /** Returns nothing or a promise, or throws, as the fate says. Chance depends on the call, and not on when it comes. */
  store(block: number, bytes: Uint8Array, { signal, attempt }: BlockCall): unknown {
    const random = seededRandom((this.#seed ^ Math.imul(block + 1, 0x9e3779b1) ^ Math.imul(attempt, 0x85ebca6b)) >>> 0);
    for (let skip = 0; skip < 4; skip++) random(); // Seeds that differ little give first numbers that do.
    const detail = random();
    const isSynchronous = detail < 0.2;
    const fate = this.#fateOf(random());
    const run = async () => {
      this.underWay++;
      try {
        await this.#meet(fate, detail, { block, bytes, signal });
      } finally {
        this.underWay--;
      }
    };
    if (isSynchronous && fate === undefined) return this.#append(block, bytes);
    if (isSynchronous && fate === 'failsBefore') throw this.#error(detail);
    return run();
  }

  #fateOf(draw: number): Fate | undefined {
    let left = draw;
    for (const [fate, chance] of Object.entries(TEMPERS[this.temper]) as [Fate, number][]) {
      left -= chance;
      if (left < 0) return fate;
    }
    return undefined;
  }

  async #meet(
    fate: Fate | undefined,
    detail: number,
    call: { readonly block: number; readonly bytes: Uint8Array; readonly signal: AbortSignal },
  ): Promise<void> {
    const { block, bytes, signal } = call;
    if (fate === 'late' || detail > 0.8) for (let turns = 0; turns < detail * 8; turns++) await turn();
    if (fate === 'held') {
      const how = await this.#hold(signal);
      if (how === 'store' || detail > 0.4) this.#append(block, bytes);
      // An aborted call may well have stored its block, and say so or not.
      if (how === 'fail') throw this.#error(detail);
      if (how === 'aborted' && detail < 0.7) throw signal.reason;
      return;
    }
    if (fate === 'failsForGood') {
      this.hasFailed = true;
      throw new BackupError('NO_SPACE', 'the host has no room', { retryable: false });
    }
    if (fate === 'failsBefore') throw this.#error(detail);
    this.#append(block, bytes);
    if (fate === 'failsAfter') throw this.#error(detail);
  }

  async #hold(signal: AbortSignal): Promise<'store' | 'fail' | 'aborted'> {
    if (this.temper === 'calm') return 'store'; // Everything was let go while this call was on its way here.
    return new Promise((resolve) => {
      const held = { proceed: resolve };
      this.#held.push(held);
      const onAbort = () => {
        const at = this.#held.indexOf(held);
        if (at >= 0) this.#held.splice(at, 1);
        resolve('aborted');
      };
      if (signal.aborted) onAbort();
      else signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** A host may reject with anything. */
  #error(detail: number): unknown {
    this.hasFailed = true;
    if (detail < 0.3) return new BackupError('TARGET_TIMEOUT', 'no answer', { retryable: true });
    return detail < 0.35 ? undefined : new Error('the host could not store the block');
  }
}
