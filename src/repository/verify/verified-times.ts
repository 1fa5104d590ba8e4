import { BackupError } from '../../common/errors.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import { getBounded } from '../../targets/bounded-get.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { opening, sealing } from '../format/log-object.ts';
import { VERIFIED_KEY } from '../format/object-keys.ts';
import type { PackName } from '../format/record.ts';
import { nameOf, VerifiedRows } from './verified-rows.ts';

/** When packs were verified last: `docs/FORMAT.md`, section 10. A cache that everybody may lose. */

const MAX_BYTES = 2 ** 25;
/** Times that are kept until they can be saved: the oldest are let go, which only has their packs verified again sooner. */
const MAX_NOTED = 8192;

/**
 * When each pack's data was verified last, by whichever host. It only decides the order in which packs are verified, so what
 * can't be read counts as nothing, and what can't be written is let go.
 */
export class VerifiedTimes {
  readonly #target: CloudTarget;
  readonly #logKey: Uint8Array | undefined;
  readonly #signal: AbortSignal | undefined;
  #stored: VerifiedRows;
  /** Since it was read or written. */
  readonly #noted = new Map<string, number>();

  private constructor(
    target: CloudTarget,
    logKey: Uint8Array | undefined,
    signal: AbortSignal | undefined,
    stored: VerifiedRows,
  ) {
    this.#target = target;
    this.#logKey = logKey;
    this.#signal = signal;
    this.#stored = stored;
  }

  static async read(
    target: CloudTarget,
    logKey: Uint8Array | undefined,
    signal: AbortSignal | undefined,
  ): Promise<VerifiedTimes> {
    return new VerifiedTimes(target, logKey, signal, (await readRows(target, logKey, signal)) ?? VerifiedRows.EMPTY);
  }

  /** Seconds since 1970; 0 for never. */
  of(pack: PackName): number {
    return this.#noted.get(nameOf(pack)) ?? this.#stored.of(pack);
  }

  /** @param now - milliseconds since 1970 */
  note(pack: PackName, now: number): void {
    this.#noted.set(nameOf(pack), Math.floor(now / 1000));
    if (this.#noted.size <= MAX_NOTED) return;
    const [oldest] = this.#noted.keys();
    this.#noted.delete(oldest as string);
  }

  /**
   * Adds what was noted to what is there now: another host may be verifying too.
   *
   * @param there - packs that there are: times of others are dropped
   */
  async save(there: readonly PackName[]): Promise<void> {
    if (this.#noted.size === 0) return;
    const stored = await readRows(this.#target, this.#logKey, this.#signal);
    if (stored === undefined) return; // Not known: it had better be left alone.
    const rows = await runInSteps(stored.with(this.#noted, there));
    try {
      const bytes = await runInSteps(sealing(this.#logKey, 'cow1 verified', 0, rows.body));
      await this.#target.put(VERIFIED_KEY, bytes, { signal: this.#signal });
      this.#stored = rows;
      this.#noted.clear();
    } catch {
      this.#signal?.throwIfAborted();
    }
  }
}

/** `undefined` where the store does not say. */
async function readRows(
  target: CloudTarget,
  logKey: Uint8Array | undefined,
  signal: AbortSignal | undefined,
): Promise<VerifiedRows | undefined> {
  try {
    const info = await target.stat(VERIFIED_KEY, { signal });
    if (info === undefined || info.size === 0 || info.size > MAX_BYTES) return VerifiedRows.EMPTY;
    const bytes = await getBounded(target, VERIFIED_KEY, info.size, { signal });
    if (bytes === undefined) return VerifiedRows.EMPTY;
    const body = await runInSteps(opening(logKey, 'cow1 verified', 0, bytes));
    return await runInSteps(VerifiedRows.reading(body));
  } catch (error) {
    signal?.throwIfAborted();
    const isUseless = BackupError.is(error, 'LOG_CORRUPT') || BackupError.is(error, 'OBJECT_NOT_FOUND');
    return isUseless ? VerifiedRows.EMPTY : undefined;
  }
}
