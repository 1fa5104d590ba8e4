import type { AbortOptions } from '../common/abort.ts';
import type { ByteRange } from '../common/byte-range.ts';
import { BackupError } from '../common/errors.ts';
import type { Extent } from '../device/block-device.ts';
import { checkLength, fixedView } from '../device/door.ts';
import type { Preimage } from './preimages.ts';
import type { SnapshotRecord } from './snapshot-record.ts';
import type { VolumeCore } from './volume-core.ts';

/**
 * Reading a snapshot while the volume is written, without ever delaying a writer; the sweep of a backup reads like this
 * too. Rule R4: bytes from the device count only if, once the read has settled, the snapshot is live, the block has no
 * pre-image and `epoch[b] < s.epoch`. Otherwise they are discarded and the block is read again from where it is now. A
 * block only ever moves from the device to a pre-image, so this ends.
 */

/** Where a block's content as of a snapshot is. */
type Origin = 'device' | 'zero' | Preimage;

/** A part of a range, with the origin of its blocks. */
type Part<O> = ByteRange & { readonly origin: O };

/** How many reads one call makes at a time, so that the memory they need in addition to the caller's buffer is bounded. */
const MAX_PARTS = 16;
/** Extents are requested for this many blocks at a time, so that one overwrite does not invalidate the whole answer. */
const BLOCKS_PER_REQUEST = 256;

export class SnapshotReader {
  readonly #core: VolumeCore;
  readonly #record: SnapshotRecord;

  constructor(core: VolumeCore, record: SnapshotRecord) {
    this.#core = core;
    this.#record = record;
  }

  async read(offset: number, buffer: Uint8Array, options: AbortOptions | undefined): Promise<void> {
    // A buffer that grows meanwhile is filled to the length that was checked; one that is detached or shrinks fails at the end.
    const into = fixedView(buffer);
    const { length } = into;
    let missing: ByteRange[] = length === 0 ? [] : [{ offset, length }];
    while (missing.length > 0) {
      this.#record.requireLive();
      const { parts, rest } = this.#nextParts(missing);
      const buffers = parts.map((part) => into.subarray(part.offset - offset, part.offset - offset + part.length));
      // All reads settle first: none may still write to the caller's buffer when this call settles.
      const outcomes = await Promise.allSettled(
        parts.map((part, index) => this.#fill(part, buffers[index] as Uint8Array, options)),
      );
      options?.signal?.throwIfAborted();
      this.#record.requireLive();
      missing = [...parts.flatMap((part, index) => this.#stillMissing(part, outcomes[index])), ...rest];
    }
    checkLength('into', into, length);
  }

  /** What is known of a range of the snapshot without reading it, by the same rule R4. */
  async *extents(offset: number, length: number, options: AbortOptions | undefined): AsyncGenerator<Extent> {
    for (const piece of slices({ offset, length }, BLOCKS_PER_REQUEST * this.#core.blockSize)) {
      options?.signal?.throwIfAborted();
      this.#record.requireLive();
      for (const part of this.#byOrigin(piece)) yield* await this.#extentsOf(part, options);
    }
  }

  async #extentsOf(part: Part<Origin | 'data'>, options: AbortOptions | undefined): Promise<Iterable<Extent>> {
    const { offset, length, origin } = part;
    const { device } = this.#core;
    const isZero = origin === 'zero' || (typeof origin === 'object' && origin.allocation === undefined);
    if (isZero) return [{ offset, length, kind: 'zero' }];
    if (origin !== 'device' || device.extents === undefined) return [{ offset, length, kind: 'data' }];
    const asking = Array.fromAsync(device.extents(offset, length, options));
    const [outcome] = await Promise.allSettled([asking]);
    options?.signal?.throwIfAborted();
    this.#record.requireLive();
    // @mutation extents-looked-again
    const unmoved = this.#byOrigin(part).every(({ origin }) => origin === 'device');
    if (!unmoved) return [{ offset, length, kind: 'data' }];
    if (outcome.status === 'rejected') throw outcome.reason;
    return outcome.value;
  }

  /** @throws `BLOCK_LOST`, `BLOCK_RELEASED` when the content does not exist any more */
  #originOf(block: number): Origin {
    const { epochs, preimages } = this.#core;
    const { givenUp, point, states } = this.#record;
    const preimage = preimages.find(block, point.epoch);
    if (preimage !== undefined) return preimage;
    if (epochs.blocks.get(block) < point.epoch) return 'device';
    const state = states.get(block);
    if (state === 'zero') return 'zero';
    if (state === 'lost' || givenUp.has(block)) {
      throw new BackupError('BLOCK_LOST', `block ${block} is lost: its pre-image could not be preserved`);
    }
    throw new BackupError('BLOCK_RELEASED', `block ${block} is ${state}, and was overwritten after the instant`);
  }

  /** Whether the content of a part is now somewhere else than where it was read. */
  #isElsewhere({ offset, origin }: Part<Origin>): boolean {
    const { epochs, preimages } = this.#core;
    const block = this.#blockAt(offset);
    const { epoch } = this.#record.point;
    const preimage = preimages.find(block, epoch);
    return preimage === undefined ? epochs.blocks.get(block) < epoch : preimage !== origin;
  }

  /** Divides what is missing by origin, as much as is read at a time; neighbouring blocks on the device stay together. */
  #nextParts(missing: readonly ByteRange[]): { parts: Part<Origin>[]; rest: ByteRange[] } {
    const parts: { offset: number; length: number; origin: Origin }[] = [];
    for (const [index, range] of missing.entries()) {
      for (const { offset, length } of slices(range, this.#core.blockSize)) {
        const origin = this.#originOf(this.#blockAt(offset));
        const last = parts.at(-1);
        if (origin === 'device' && last?.origin === 'device' && last.offset + last.length === offset) {
          last.length += length;
        } else if (parts.length < MAX_PARTS) {
          parts.push({ offset, length, origin });
        } else {
          const left = { offset, length: range.offset + range.length - offset };
          return { parts, rest: [left, ...missing.slice(index + 1)] };
        }
      }
    }
    return { parts, rest: [] };
  }

  async #fill({ offset, origin }: Part<Origin>, into: Uint8Array, options: AbortOptions | undefined): Promise<void> {
    const { blockSize, device, preimages, snapshots } = this.#core;
    if (origin === 'zero') {
      into.fill(0);
    } else if (origin === 'device') {
      await device.read(offset, into, options);
    } else {
      try {
        await preimages.read(origin, offset - origin.block * blockSize, into);
      } catch (error) {
        if (BackupError.is(error, 'SPILL_CORRUPT')) snapshots.loseUnreadable(origin, error);
        throw error;
      }
    }
  }

  /** What must be read again of a part whose read has settled. */
  #stillMissing(part: Part<Origin>, outcome: PromiseSettledResult<void> | undefined): ByteRange[] {
    const failed = outcome?.status === 'rejected';
    if (part.origin !== 'device') {
      if (!failed) return [];
      // If the copy was found corrupt before its block was overwritten, the device or another copy has the content.
      if (BackupError.is(outcome.reason, 'SPILL_CORRUPT') && this.#isElsewhere(part)) return [part];
      throw outcome.reason;
    }
    const blocks = [...slices(part, this.#core.blockSize)];
    // @mutation looked-again
    const moved = blocks.filter(({ offset }) => this.#originOf(this.#blockAt(offset)) !== 'device');
    // The read may have failed only because of blocks that have moved from the device to a pre-image.
    // @mutation read-error
    if (failed && moved.length === 0) throw outcome.reason;
    return failed ? [part] : moved;
  }

  /** Divides a range by origin. A block that can't be read any more counts as data: extents promise no content. */
  #byOrigin(range: ByteRange): Part<Origin | 'data'>[] {
    const parts: { offset: number; length: number; origin: Origin | 'data' }[] = [];
    for (const { offset, length } of slices(range, this.#core.blockSize)) {
      let origin: Origin | 'data' = 'data';
      try {
        origin = this.#originOf(this.#blockAt(offset));
      } catch {}
      const last = parts.at(-1);
      if (last?.origin === origin) last.length += length;
      else parts.push({ offset, length, origin });
    }
    return parts;
  }

  #blockAt(offset: number): number {
    return Math.floor(offset / this.#core.blockSize);
  }
}

/** Cuts a range at the multiples of `unit`. */
function* slices({ offset, length }: ByteRange, unit: number): Generator<ByteRange> {
  const end = offset + length;
  for (let at = offset; at < end; ) {
    const next = Math.min(end, (Math.floor(at / unit) + 1) * unit);
    yield { offset: at, length: next - at };
    at = next;
  }
}
