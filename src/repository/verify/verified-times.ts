import { BackupError } from '../../common/errors.ts';
import { getBounded } from '../../target/bounded-get.ts';
import type { CloudTarget } from '../../target/cloud-target.ts';
import { openObject, sealObject } from '../log/sealed-object.ts';
import type { PackName } from '../records/record.ts';

/** When packs were verified last: `docs/FORMAT.md`, section 10. A cache that everybody may lose. */

export const VERIFIED_KEY = 'cache/verified';
const VERSION = 1;
/** 8 bytes of the pack's random part, u32 seconds since 1970. */
const ROW_BYTES = 12;
const NAME_DIGITS = 16;
const MAX_ROWS = 2 ** 21;
const MAX_BYTES = 2 ** 25;

type Times = Map<string, number>;

/**
 * When each pack's data was verified last, by whichever host. It only decides the order in which packs are verified, so what
 * can't be read counts as nothing, and what can't be written is let go.
 */
export class VerifiedTimes {
  readonly #target: CloudTarget;
  readonly #logKey: Uint8Array | undefined;
  readonly #signal: AbortSignal | undefined;
  #stored: Times;
  /** Since it was read or written. */
  readonly #noted: Times = new Map();

  private constructor(
    target: CloudTarget,
    logKey: Uint8Array | undefined,
    signal: AbortSignal | undefined,
    stored: Times,
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
    return new VerifiedTimes(target, logKey, signal, (await readTimes(target, logKey, signal)) ?? new Map());
  }

  /** Seconds since 1970; 0 for never. */
  of(pack: PackName): number {
    const name = nameOf(pack);
    return this.#noted.get(name) ?? this.#stored.get(name) ?? 0;
  }

  /** @param now - milliseconds since 1970 */
  note(pack: PackName, now: number): void {
    this.#noted.set(nameOf(pack), Math.floor(now / 1000));
  }

  /**
   * Adds what was noted to what is there now: another host may be verifying too.
   *
   * @param there - packs that there are: times of others are dropped
   */
  async save(there: readonly PackName[]): Promise<void> {
    if (this.#noted.size === 0) return;
    const stored = await readTimes(this.#target, this.#logKey, this.#signal);
    if (stored === undefined) return; // Not known: it had better be left alone.
    for (const [name, seconds] of this.#noted) stored.set(name, Math.max(seconds, stored.get(name) ?? 0));
    const names = new Set(there.map(nameOf));
    for (const name of stored.keys()) if (!names.has(name)) stored.delete(name);
    try {
      const body = encode(stored);
      await this.#target.put(VERIFIED_KEY, sealObject(this.#logKey, 'cow1 verified', 0, body), {
        signal: this.#signal,
      });
      this.#stored = stored;
      this.#noted.clear();
    } catch {
      this.#signal?.throwIfAborted();
    }
  }
}

/** `undefined` where the store does not say. */
async function readTimes(
  target: CloudTarget,
  logKey: Uint8Array | undefined,
  signal: AbortSignal | undefined,
): Promise<Times | undefined> {
  try {
    const info = await target.stat(VERIFIED_KEY, { signal });
    if (info === undefined || info.size === 0 || info.size > MAX_BYTES) return new Map();
    const bytes = await getBounded(target, VERIFIED_KEY, info.size, { signal });
    return bytes === undefined ? new Map() : decode(openObject(logKey, 'cow1 verified', 0, bytes));
  } catch (error) {
    signal?.throwIfAborted();
    const isUseless = BackupError.is(error, 'LOG_CORRUPT') || BackupError.is(error, 'OBJECT_NOT_FOUND');
    return isUseless ? new Map() : undefined;
  }
}

function nameOf({ random }: PackName): string {
  return random.slice(0, NAME_DIGITS);
}

function encode(times: Times): Uint8Array {
  const rows = [...times].sort(([a], [b]) => (a < b ? -1 : 1)).slice(0, MAX_ROWS);
  const body = Buffer.alloc(1 + rows.length * ROW_BYTES);
  body[0] = VERSION;
  rows.forEach(([name, seconds], index) => {
    const at = 1 + index * ROW_BYTES;
    body.write(name, at, 'hex');
    body.writeUInt32LE(Math.min(seconds, 2 ** 32 - 1), at + 8);
  });
  return body;
}

/** What is not understood is nothing. */
function decode(body: Uint8Array): Times {
  const times: Times = new Map();
  if (body[0] !== VERSION || (body.length - 1) % ROW_BYTES !== 0) return times;
  const view = Buffer.from(body.buffer, body.byteOffset, body.length);
  for (let at = 1; at < view.length; at += ROW_BYTES) {
    times.set(view.toString('hex', at, at + 8), view.readUInt32LE(at + 8));
  }
  return times;
}
