import { type AbortOptions, abortable, abortOptionsArgument } from '../common/abort.ts';
import { BackupError } from '../common/errors.ts';
import { COMPLETED, type SyncBlockDevice } from '../device/block-device.ts';
import { checkBytes, checkLength } from '../device/door.ts';
import { checkSpan, isMultiple } from '../device/span.ts';
import type { PendingCopies } from './preimage-copies.ts';
import type { VolumeCore } from './volume-core.ts';

/** How many blocks a write preserves at a time. */
const MAX_CLAIMS_A_WRITE = 16;

/**
 * Copy before write. Every write of a volume comes through here, whatever its door and kind.
 *
 * For block b and the newest live snapshot's epoch N:
 *
 *     epoch[b] >= N                           the write goes to the device at once
 *     epoch[b] <  N, no snapshot wants b      the same
 *     epoch[b] <  N, with an open pre-image   the same; what the pre-image serves ends here
 *     epoch[b] <  N otherwise                 claim b, wait, test everything again
 *
 * The last test of all blocks, the setting of their epochs, the removal of claims and the call of the device are one
 * synchronous step. Nothing of it is undone when the write fails, since a failed write may have torn the block. Rule
 * R2. Hence the invariant R3: while `epoch[b] < s.epoch`, no write to b is in flight and the device holds b as of s,
 * which is what lets readers go to the device without any lock.
 */
export class CopyBeforeWrite {
  readonly #copies: PendingCopies;
  readonly #core: VolumeCore;

  constructor(core: VolumeCore, copies: PendingCopies) {
    this.#core = core;
    this.#copies = copies;
  }

  /** The plain write. It has a path of its own, which allocates nothing when no pre-image is needed. */
  write(offset: number, from: Uint8Array, options: AbortOptions | undefined): Promise<void> {
    const core = this.#core;
    if (typeof offset !== 'number' || !(from instanceof Uint8Array)) return this.#writeChecked(offset, from, options);
    const { length } = from;
    const first = Math.floor(offset * core.blocksPerByte);
    const last = Math.floor((offset + length - 1) * core.blocksPerByte);
    // A write that the device will not refuse, and that needs no pre-image, goes straight to the device.
    const passes =
      core.isWritable &&
      options === undefined &&
      offset >= 0 &&
      length > 0 &&
      offset + length <= core.size &&
      isMultiple(offset, core.sectorSize) &&
      isMultiple(length, core.sectorSize) &&
      core.gate.isOpen;
    const { state } = core;
    // @mutation marked-first
    const isMarked = passes && (state === undefined || state.mayWrite(first, last));
    if (!isMarked || !this.#tryOverwrite(first, last)) return this.#writeChecked(offset, from, options);
    core.gate.enter();
    let done: Promise<void>;
    try {
      done = core.device.write(offset, from);
    } catch (error) {
      core.gate.leave();
      return Promise.reject(error);
    }
    return this.#tracked(done);
  }

  /**
   * A write of any kind, which may have to wait. `call` passes it to the device; `checkAgain` is called just before, and
   * throws to refuse the write.
   */
  async writeWithCopies(
    offset: number,
    length: number,
    options: AbortOptions | undefined,
    call: () => Promise<void>,
    checkAgain: () => void = () => {},
  ): Promise<void> {
    abortOptionsArgument(options);
    this.#check(offset, length);
    if (length === 0) return;
    const { blocksPerByte, gate, snapshots, state } = this.#core;
    const first = Math.floor(offset * blocksPerByte);
    const last = Math.floor((offset + length - 1) * blocksPerByte);
    // @mutation preserving-write-is-not-in-flight
    let next = first;
    for (;;) {
      // After an await everything is tested again (rule R2), and nothing is issued while an instant is being taken: a write
      // that was preserving would lengthen the drain.
      // @mutation held-write-waits
      if (!gate.isOpen) await gate.pass(options?.signal);
      this.#core.requireOpen();
      options?.signal?.throwIfAborted();
      const claims: Promise<void>[] = [];
      while (claims.length < MAX_CLAIMS_A_WRITE) {
        next = snapshots.nextNeeding(next, last + 1);
        if (next > last) break;
        // @mutation claim-joined
        claims.push(this.#copies.join(next));
        next++;
      }
      if (claims.length > 0) {
        const preserved = claims.length === 1 ? (claims[0] as Promise<void>) : Promise.all(claims);
        // @mutation tested-again
        await abortable<unknown>(preserved, options?.signal);
      } else if (!this.#needsNothing(first, last)) {
        next = first; // Something has changed since a block was tested.
      } else if (state === undefined || state.mayWrite(first, last)) {
        break;
      } else {
        await abortable(state.mark(first, last), options?.signal);
        next = first;
      }
    }
    // @mutation length-compared-again
    checkAgain();
    // @mutation epoch-before-call
    this.#overwrite(first, last);
    gate.enter();
    try {
      // @mutation call-of-device
      await call();
    } finally {
      // @mutation call-settled
      gate.leave();
    }
  }

  #writeChecked(offset: number, from: Uint8Array, options: AbortOptions | undefined): Promise<void> {
    try {
      checkBytes('from', from);
    } catch (error) {
      return Promise.reject(error);
    }
    const { device } = this.#core;
    const { length } = from;
    // The buffer may be resized while the write waits: then the device would get blocks that were not preserved.
    const checkAgain = () => checkLength('from', from, length);
    return this.writeWithCopies(offset, length, options, () => device.write(offset, from, options), checkAgain);
  }

  /** Reads, preserves and writes in one step, and never waits. Rule R7. */
  writeSync(device: SyncBlockDevice, offset: number, from: Uint8Array): void {
    const core = this.#core;
    const { blocksPerByte, snapshots } = core;
    checkBytes('from', from);
    const { length } = from;
    if (!core.isWritable) this.#check(offset, length); // Throws the reason.
    checkSpan(core, offset, length);
    if (length === 0) return;
    const first = Math.floor(offset * blocksPerByte);
    const last = Math.floor((offset + length - 1) * blocksPerByte);
    if (core.state !== undefined && !core.state.mayWrite(first, last)) core.state.markSync(first, last);
    if (!this.#tryOverwrite(first, last)) {
      const end = last + 1;
      for (let block = snapshots.nextNeeding(first, end); block < end; block = snapshots.nextNeeding(block + 1, end)) {
        this.#copies.copySync(device, block);
      }
      checkLength('from', from, length);
      this.#overwrite(first, last);
    }
    device.writeSync(offset, from);
  }

  #check(offset: number, length: number): void {
    const { device } = this.#core;
    this.#core.requireOpen();
    checkSpan(device, offset, length);
    if (device.readOnly === true) throw new BackupError('READ_ONLY', 'the device is read-only');
  }

  #needsNothing(first: number, last: number): boolean {
    const { snapshots } = this.#core;
    return snapshots.newestEpoch === 0 || snapshots.nextNeeding(first, last + 1) > last;
  }

  /** Marks blocks as written now, unless one of them needs a pre-image first. Returns whether it did. */
  #tryOverwrite(first: number, last: number): boolean {
    const { blocks, current } = this.#core.epochs;
    // Most writes are to a block that was written after the newest instant: one comparison, and nothing to do.
    if (first === last && blocks.isSince(first, current)) return true;
    if (!this.#needsNothing(first, last)) return false;
    this.#overwrite(first, last);
    return true;
  }

  /** Marks blocks as written now: claims on them are removed, and the intervals of their open pre-images end. */
  #overwrite(first: number, last: number): void {
    const { epochs, snapshots } = this.#core;
    const end = last + 1;
    // @mutation current-epoch
    const { current } = epochs;
    // Blocks that were written after the newest instant have neither a claim nor an open pre-image.
    if (epochs.blocks.nextBefore(current, first, end) === end) return;
    epochs.blocks.set(first, end, current);
    // @mutation claim-ends
    this.#copies.remove(first, end);
    snapshots.overwritten(first, end, current);
  }

  #tracked(done: Promise<void>): Promise<void> {
    if (done === COMPLETED) {
      this.#core.gate.leave();
      return done;
    }
    // A device that returns no promise, against its obligations, must not leave a write in flight.
    return Promise.resolve(done).then(this.#landed, this.#failed);
  }

  // Created once, so that a write in flight allocates no closure.
  readonly #landed = (): void => this.#core.gate.leave();
  readonly #failed = (error: unknown): never => {
    this.#core.gate.leave();
    throw error;
  };
}
