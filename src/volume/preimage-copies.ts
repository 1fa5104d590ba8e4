import { BackupError } from '../common/errors.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { type Deadline, Deadlines } from './deadlines.ts';
import { keysIn } from './keys-in.ts';
import type { InTransit, PreimageSpace, Room } from './preimage-space.ts';
import type { Preimage } from './preimages.ts';

/**
 * One block's pre-image on its way from the device to where it is kept. Rule R5: whoever needs the block overwritten
 * waits for `settled` and tests again; a claim that has been removed from the table registers nothing, and gives its
 * room back only when its I/O has come to rest.
 *
 * Rule R13: a claim that finds no room waits for some, in the order of claims and within its deadline, while there is
 * something from which room may come; a block that reaches the store meanwhile needs none any more. Where there is nothing
 * to wait for, and once a wait has been in vain until some room has come back, the host's choice is taken at once.
 */
interface Claim {
  readonly block: number;
  readonly settled: PromiseWithResolvers<void>;
  deadline: Deadline | undefined;
}

/** What the volume does about claims. */
export interface ClaimOwner {
  readonly device: BlockDevice;
  readonly space: PreimageSpace;
  readonly deadlineMs: number;
  /** Whether a write may go on once the pre-image has been read, while the spill is still to take it. */
  readonly spillsBehind: boolean;
  /** A block's place on the device, in bytes; the last one may be short. */
  blockSpan(block: number): { offset: number; length: number };
  /** Takes over a pre-image; `room` is `undefined` when it is all zeroes. */
  register(block: number, room: Room | InTransit | undefined): Preimage;
  /** Writes a registered pre-image to its slot, and decides what becomes of it if that fails. Does not reject. */
  takeToSlot(preimage: Preimage, room: InTransit): Promise<void>;
  /** Whether the block must still be preserved before it is overwritten. */
  needsPreimage(block: number): boolean;
  /** Whether somebody stores blocks of a snapshot, or pre-images that nobody needs are read or about to be freed. */
  readonly isRoomToCome: boolean;
  /** Decides what becomes of a block that could not be preserved; throws if the write must not go on. */
  decide(block: number, error: BackupError): void;
}

/** The claims of a volume: at most one a block. */
export class Claims {
  readonly #owner: ClaimOwner;
  readonly #deadlines: Deadlines;
  readonly #table = new Map<number, Claim>();
  /** Claims in the table that have no room yet, in their order. */
  readonly #waiting = new Set<Claim>();
  /** A claim has waited for room until its deadline, and none has come back since: one wait an outage is enough. */
  #hasWaitedInVain = false;
  #isLooking = false;
  /** Claims whose I/O has not come to rest, in the table or not. */
  #atWork = 0;
  #whenAtRest: PromiseWithResolvers<void> | undefined;

  constructor(owner: ClaimOwner) {
    this.#owner = owner;
    this.#deadlines = new Deadlines(owner.deadlineMs);
    owner.space.onGiven = () => {
      this.#hasWaitedInVain = false;
      this.look();
    };
  }

  /** Those that wait for room look again, once the running step has ended. */
  look(): void {
    if (this.#waiting.size === 0 || this.#isLooking) return;
    this.#isLooking = true;
    queueMicrotask(() => {
      this.#isLooking = false;
      for (const claim of this.#waiting) this.#lookAgain(claim);
    });
  }

  /** Waits for a block's pre-image, which is begun if nobody has begun it. Rejects when the write must not go on. */
  join(block: number): Promise<void> {
    return (this.#table.get(block) ?? this.#begin(block)).settled.promise;
  }

  /** Blocks are overwritten, or preserved otherwise, or no longer matter. */
  remove(first: number, end: number): void {
    for (const block of keysIn(this.#table, first, end)) this.#settle(this.#table.get(block) as Claim);
  }

  /** Removes all, and waits for their I/O to come to rest. */
  async close(): Promise<void> {
    this.remove(0, Number.POSITIVE_INFINITY);
    this.#deadlines.close();
    if (this.#atWork === 0) return;
    this.#whenAtRest ??= Promise.withResolvers<void>();
    await this.#whenAtRest.promise;
  }

  #begin(block: number): Claim {
    const claim: Claim = { block, settled: Promise.withResolvers<void>(), deadline: undefined };
    claim.settled.promise.catch(() => {}); // Whoever joined hears of it; perhaps nobody has any more.
    this.#table.set(block, claim);
    const { deadlineMs } = this.#owner;
    const room = this.#waiting.size === 0 ? this.#owner.space.take() : undefined;
    if (room === undefined) {
      this.#waitForRoom(claim);
      return claim;
    }
    // Timers run before I/O is looked at: after a stretch of other work the answer may be there already.
    // @mutation room-of-removed-claim
    const expire = () => setImmediate(() => this.#expire(claim, deadlineMs));
    claim.deadline = this.#deadlines.start(expire);
    void this.#preserve(claim, room);
    return claim;
  }

  #waitForRoom(claim: Claim): void {
    // @mutation room-waited-for
    const isWorthWhile = this.#isRoomToCome();
    if (!isWorthWhile) {
      this.#fail(claim, this.#owner.space.fullError());
      return;
    }
    this.#waiting.add(claim);
    claim.deadline = this.#deadlines.start(() => setImmediate(() => this.#expire(claim, this.#owner.deadlineMs)));
  }

  #isRoomToCome(): boolean {
    return !this.#hasWaitedInVain && (this.#atWork > 0 || this.#owner.isRoomToCome);
  }

  #lookAgain(claim: Claim): void {
    // @mutation stored-while-waiting
    if (!this.#owner.needsPreimage(claim.block)) {
      this.#settle(claim);
      return;
    }
    const room = this.#owner.space.take();
    if (room !== undefined) {
      this.#waiting.delete(claim);
      void this.#preserve(claim, room);
    } else if (!this.#isRoomToCome()) {
      this.#fail(claim, this.#owner.space.fullError());
    }
  }

  async #preserve(claim: Claim, room: Room): Promise<void> {
    const { device, space } = this.#owner;
    const { offset, length } = this.#owner.blockSpan(claim.block);
    let transit: Uint8Array | undefined;
    let registered = false;
    this.#atWork++;
    try {
      if (room.kind === 'spill') transit = space.idleTransitBuffer() ?? (await space.transitBuffer());
      const buffer = room.kind === 'memory' ? room.bytes : (transit as Uint8Array);
      if (!this.#isCurrent(claim)) return;
      const bytes = length === buffer.length ? buffer : buffer.subarray(0, length);
      await device.read(offset, bytes);
      const isZero = isAllZero(bytes);
      // Past the end of a short last block there is what this memory held before, which is nobody else's business.
      if (length < buffer.length) buffer.fill(0, length);
      if (room.kind === 'spill' && !isZero && this.#isCurrent(claim)) {
        if (this.#owner.spillsBehind) {
          registered = true;
          await this.#spillBehind(claim, { kind: 'transit', slot: room.slot, bytes: buffer });
          return;
        }
        await space.write(room.slot, buffer);
      }
      // @mutation removed-claim
      if (!this.#isCurrent(claim)) return;
      this.#owner.register(claim.block, isZero ? undefined : room);
      registered = !isZero;
      this.#settle(claim);
    } catch (error) {
      this.#fail(claim, error);
    } finally {
      if (transit !== undefined) space.giveTransitBuffer(transit);
      if (!registered) space.give(room);
      this.#atWork--;
      this.look();
      if (this.#atWork === 0) this.#whenAtRest?.resolve();
    }
  }

  /** The pre-image serves from memory at once, and the write that waits goes on while the spill is at work. */
  async #spillBehind(claim: Claim, room: InTransit): Promise<void> {
    const preimage = this.#owner.register(claim.block, room);
    this.#settle(claim);
    // @mutation transit-buffer
    await this.#owner.takeToSlot(preimage, room);
  }

  #settle(claim: Claim): void {
    this.#drop(claim);
    claim.settled.resolve();
  }

  #expire(claim: Claim, deadlineMs: number): void {
    if (this.#waiting.has(claim)) {
      // @mutation one-wait-an-outage
      this.#hasWaitedInVain = true;
      this.#fail(claim, this.#owner.space.fullError(deadlineMs));
      this.look();
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
      this.#owner.decide(claim.block, preserveError(claim.block, cause));
      claim.settled.resolve();
    } catch (error) {
      claim.settled.reject(error);
    }
  }
}

/** What writers and listeners are told, with the device's, the spill's or the limits' own error as its cause. */
export function preserveError(block: number, cause: unknown): BackupError {
  const why = BackupError.is(cause, 'PREIMAGE_SPACE') ? `: ${cause.message}` : '';
  return new BackupError('PRESERVE_FAILED', `the pre-image of block ${block} could not be preserved${why}`, {
    cause,
    retryable: true,
  });
}

let zeroes = new Uint8Array(64 * 1024);

/** Compares at memory speed, and ends at the first difference. */
export function isAllZero(bytes: Uint8Array): boolean {
  if (bytes[0] !== 0) return bytes.length === 0;
  if (zeroes.length < bytes.length) zeroes = new Uint8Array(bytes.length);
  return Buffer.compare(bytes, zeroes.subarray(0, bytes.length)) === 0;
}
