import { isZero } from '../common/bytes.ts';
import { BackupError } from '../common/errors.ts';
import type { SyncBlockDevice } from '../device/block-device.ts';
import type { Allocation, InTransit } from './preimage-buffers.ts';
import { keysIn } from './preimages.ts';
import type { VolumeCore } from './volume-core.ts';

/**
 * The copying of a block's pre-image from the device to where it is kept: by a claim, which writes wait for, or in one step
 * for the synchronous door.
 *
 * Rule R5: a write that needs the block overwritten waits for `settled` and tests again. A claim that was removed from the
 * table is discarded: it registers no pre-image, and its allocation is released only after its I/O has finished.
 *
 * Rule R13: a claim that finds no room waits for some, in the order of claims and within its deadline, while something may
 * free room; if the block reaches the store meanwhile, it needs none any more. If nothing can free room, or after a wait in
 * vain until some room has become free, the host's policy decides at once.
 */
interface Claim {
  readonly block: number;
  readonly settled: PromiseWithResolvers<void>;
  deadline: Deadline | undefined;
}

/** The claims of a volume, at most one for each block, and the synchronous copy. */
export class PendingCopies {
  readonly #core: VolumeCore;
  readonly #deadlines: Deadlines;
  /** Whether a write may continue once its pre-image is in memory, while the spill is being written. */
  readonly #spillsBehind: boolean;
  readonly #table = new Map<number, Claim>();
  /** Claims in the table that have no room yet, in their order. */
  readonly #waiting = new Set<Claim>();
  /** A claim has waited for room until its deadline, and none has become free since: one wait an outage is enough. */
  #hasWaitedInVain = false;
  #isRetrying = false;
  /** Claims whose I/O has not finished, in the table or not. */
  #atWork = 0;
  #whenAtRest: PromiseWithResolvers<void> | undefined;

  constructor(core: VolumeCore) {
    this.#core = core;
    this.#deadlines = new Deadlines(core.deadlineMs);
    // @mutation spills-behind
    this.#spillsBehind = core.onFailure !== 'fail-write';
    core.buffers.onReleased = () => {
      this.#hasWaitedInVain = false;
      this.#retryWaiting();
    };
    core.snapshots.onReleased = () => this.#retryWaiting();
    core.preimages.onFreed = () => this.#retryWaiting(); // Perhaps for nothing: then no room is to come.
  }

  /** Waits for a block's pre-image, and begins the copy if there is none. Rejects if the write must be refused. */
  join(block: number): Promise<void> {
    return (this.#table.get(block) ?? this.#begin(block)).settled.promise;
  }

  /** Removes the claims on blocks that are being overwritten or were preserved otherwise. */
  remove(first: number, end: number): void {
    for (const block of keysIn(this.#table, first, end)) this.#settle(this.#table.get(block) as Claim);
  }

  /** Removes all claims, and waits for their I/O to finish. */
  async close(): Promise<void> {
    this.remove(0, Number.POSITIVE_INFINITY);
    this.#deadlines.close();
    if (this.#atWork === 0) return;
    this.#whenAtRest ??= Promise.withResolvers<void>();
    await this.#whenAtRest.promise;
  }

  /** Preserves a block in one step, or lets the host's policy decide. Rule R7. */
  copySync(device: SyncBlockDevice, block: number): void {
    const { buffers, preimages, snapshots } = this.#core;
    let allocation = buffers.allocate();
    if (allocation === undefined) {
      preimages.freeNow();
      allocation = buffers.allocate();
    }
    let isZeroes: boolean;
    try {
      if (allocation === undefined) throw buffers.fullError();
      isZeroes = this.#readSync(device, block, allocation);
    } catch (cause) {
      if (allocation !== undefined) buffers.release(allocation);
      snapshots.decide(block, cause);
      return;
    }
    if (isZeroes) buffers.release(allocation);
    // @mutation synchronous-claim-ends
    this.remove(block, block + 1);
    snapshots.register(block, isZeroes ? undefined : allocation);
  }

  /** Copies a block to its allocation, and returns whether it is all zeroes. */
  #readSync(device: SyncBlockDevice, block: number, allocation: Allocation): boolean {
    const { blockSize } = this.#core;
    const { offset, length } = this.#core.blockSpan(block);
    const buffer = allocation.kind === 'memory' ? allocation.bytes : Buffer.allocUnsafeSlow(blockSize);
    const bytes = buffer.subarray(0, length);
    device.readSync(offset, bytes);
    if (isZero(bytes)) return true;
    if (length < blockSize) buffer.fill(0, length);
    if (allocation.kind === 'spill') allocation.spill.writeSync(allocation.slot, buffer);
    return false;
  }

  #begin(block: number): Claim {
    const claim: Claim = { block, settled: Promise.withResolvers<void>(), deadline: undefined };
    claim.settled.promise.catch(() => {}); // The writes that have joined see the error; there may be none left.
    this.#table.set(block, claim);
    const allocation = this.#waiting.size === 0 ? this.#core.buffers.allocate() : undefined;
    // @mutation room-waited-for
    const isWorthWhile = this.#isRoomToCome();
    if (allocation === undefined && !isWorthWhile) {
      this.#fail(claim, this.#core.buffers.fullError());
      return claim;
    }
    // Timers run before I/O is polled: after a long step the answer may have arrived in time and not been seen yet.
    // @mutation room-of-removed-claim
    claim.deadline = this.#deadlines.start(() => setImmediate(() => this.#expire(claim)));
    if (allocation === undefined) this.#waiting.add(claim);
    else void this.#preserve(claim, allocation);
    return claim;
  }

  #isRoomToCome(): boolean {
    const { preimages, snapshots } = this.#core;
    return !this.#hasWaitedInVain && (this.#atWork > 0 || snapshots.areStored || preimages.isRoomToCome);
  }

  /** Lets the claims that wait for room try again, after the current step. */
  #retryWaiting(): void {
    if (this.#waiting.size === 0 || this.#isRetrying) return;
    this.#isRetrying = true;
    queueMicrotask(() => {
      this.#isRetrying = false;
      for (const claim of this.#waiting) this.#retry(claim);
    });
  }

  #retry(claim: Claim): void {
    const { buffers, snapshots } = this.#core;
    // @mutation stored-while-waiting
    if (!snapshots.needsPreimage(claim.block)) {
      this.#settle(claim);
      return;
    }
    const allocation = buffers.allocate();
    if (allocation !== undefined) {
      this.#waiting.delete(claim);
      void this.#preserve(claim, allocation);
    } else if (!this.#isRoomToCome()) {
      this.#fail(claim, buffers.fullError());
    }
  }

  async #preserve(claim: Claim, allocation: Allocation): Promise<void> {
    const { device, buffers, snapshots } = this.#core;
    const { offset, length } = this.#core.blockSpan(claim.block);
    let transit: Uint8Array | undefined;
    let isRegistered = false;
    this.#atWork++;
    try {
      if (allocation.kind === 'spill') transit = buffers.idleTransitBuffer() ?? (await buffers.transitBuffer());
      const buffer = allocation.kind === 'memory' ? allocation.bytes : (transit as Uint8Array);
      if (!this.#isCurrent(claim)) return;
      const bytes = length === buffer.length ? buffer : buffer.subarray(0, length);
      await device.read(offset, bytes);
      const isZeroes = isZero(bytes);
      // Beyond a short last block the buffer still has what this memory held before, which must not be exposed.
      if (length < buffer.length) buffer.fill(0, length);
      if (allocation.kind === 'spill' && !isZeroes && this.#isCurrent(claim)) {
        if (this.#spillsBehind) {
          isRegistered = true;
          await this.#spillBehind(claim, { kind: 'transit', to: allocation, bytes: buffer });
          return;
        }
        await allocation.spill.write(allocation.slot, buffer);
      }
      // @mutation removed-claim
      if (!this.#isCurrent(claim)) return;
      snapshots.register(claim.block, isZeroes ? undefined : allocation);
      isRegistered = !isZeroes;
      this.#settle(claim);
    } catch (error) {
      this.#fail(claim, error);
    } finally {
      if (transit !== undefined) buffers.releaseTransitBuffer(transit);
      if (!isRegistered) buffers.release(allocation);
      this.#atWork--;
      this.#retryWaiting();
      if (this.#atWork === 0) this.#whenAtRest?.resolve();
    }
  }

  /** The pre-image is read from memory at once, and the waiting write continues while the spill is being written. */
  async #spillBehind(claim: Claim, inTransit: InTransit): Promise<void> {
    const { preimages, snapshots } = this.#core;
    const preimage = snapshots.register(claim.block, inTransit);
    this.#settle(claim);
    // @mutation transit-buffer
    await preimages.writeToSlot(preimage, inTransit, (cause) => snapshots.decideInTransit(preimage, cause));
  }

  #settle(claim: Claim): void {
    this.#drop(claim);
    claim.settled.resolve();
  }

  #expire(claim: Claim): void {
    const { buffers, deadlineMs } = this.#core;
    if (this.#waiting.has(claim)) {
      // @mutation one-wait-an-outage
      this.#hasWaitedInVain = true;
      this.#fail(claim, buffers.fullError(deadlineMs));
      this.#retryWaiting();
      return;
    }
    const message = `block ${claim.block} was not preserved within ${deadlineMs} ms`;
    this.#fail(claim, new BackupError('PRESERVE_DEADLINE', message));
  }

  #isCurrent(claim: Claim): boolean {
    return this.#table.get(claim.block) === claim;
  }

  #drop(claim: Claim): void {
    this.#table.delete(claim.block);
    this.#waiting.delete(claim);
    if (claim.deadline !== undefined) this.#deadlines.stop(claim.deadline);
  }

  #fail(claim: Claim, cause: unknown): void {
    if (!this.#isCurrent(claim)) return;
    this.#drop(claim);
    try {
      this.#core.snapshots.decide(claim.block, cause);
      claim.settled.resolve();
    } catch (error) {
      claim.settled.reject(error);
    }
  }
}

const LONGEST_TIMER_MS = 2 ** 31 - 1;

interface Deadline {
  readonly timer: NodeJS.Timeout;
  /** `undefined` once the deadline was stopped. */
  expired: (() => void) | undefined;
  hasFired: boolean;
}

/**
 * Deadlines of equal length that are hardly ever reached. Creating and clearing a timer is a large part of what a claim costs
 * apart from its I/O, so the timer of a stopped deadline keeps running and is refreshed for the next claim.
 */
export class Deadlines {
  readonly #ms: number;
  readonly #stopped: Deadline[] = [];

  constructor(ms: number) {
    this.#ms = ms;
  }

  start(expired: () => void): Deadline | undefined {
    if (this.#ms === Number.POSITIVE_INFINITY) return undefined;
    for (let stopped = this.#stopped.pop(); stopped !== undefined; stopped = this.#stopped.pop()) {
      if (stopped.hasFired) continue;
      stopped.expired = expired;
      stopped.timer.ref().refresh();
      return stopped;
    }
    const fire = () => {
      deadline.hasFired = true;
      deadline.expired?.();
    };
    const timer = setTimeout(fire, Math.min(this.#ms, LONGEST_TIMER_MS));
    const deadline: Deadline = { timer, expired, hasFired: false };
    return deadline;
  }

  stop(deadline: Deadline): void {
    deadline.expired = undefined;
    if (deadline.hasFired) return;
    deadline.timer.unref(); // An idle timer keeps no process alive.
    this.#stopped.push(deadline);
  }

  close(): void {
    for (const { timer } of this.#stopped.splice(0)) clearTimeout(timer);
  }
}
