import type { AbortOptions } from '../../common/abort.ts';
import { described, functionArgument, integerArgument, optionsArgument } from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { isTypeError } from '../../common/realms.ts';
import { tell } from '../../common/tell.ts';
import type {
  CloudTarget,
  GetOptions,
  Leftovers,
  ObjectInfo,
  PutOptions,
  RemoveLeftoversOptions,
  TargetCapabilities,
  TargetMember,
} from '../cloud-target.ts';
import { deleteAll } from '../delete-all.ts';
import { targetArgument } from '../target-arguments.ts';
import { type ClosableTarget, ForwardingTarget, type TargetOperation } from './forwarding-target.ts';
import {
  checkSynchronizeOptions,
  Synchronization,
  type SynchronizedReplica,
  type SynchronizeOptions,
} from './synchronize.ts';

/** Which call of which replica failed. @public */
export interface ReplicaFailure {
  /** Position in the array of replicas. */
  readonly replica: number;
  readonly operation: TargetOperation | 'synchronize';
  /** The object's key, or how many keys were to be deleted. */
  readonly subject: string;
}

/** Options of {@link fanOut}. @public */
export interface FanOutOptions {
  /** How many targets, the primary among them, a put or delete must reach. @defaultValue all of them */
  quorum?: number | undefined;
  /**
   * Told of every failure of a replica, also of those that the quorum allows. What it throws becomes one warning of the process
   * and stops nothing.
   */
  onReplicaError?: ((error: unknown, failure: ReplicaFailure) => void) | undefined;
}

/** What {@link fanOut} makes. @public */
export interface FanOut extends ClosableTarget {
  /**
   * Copies to each replica what it lacks of what the primary has: after it missed puts, or when a new one is added. A
   * repository that is opened on the replica meanwhile, or after this was ended, is an older state of the primary's. Others
   * may go on putting and deleting through this fan-out.
   *
   * Objects of the same key and length are not compared: `verify` of a repository reads each member.
   *
   * @example
   * ```ts
   * const target = fanOut(local, [offsite], { quorum: 1 });
   * const [{ copiedObjects, copiedBytes }] = await target.synchronize();
   * ```
   * @returns what was done to each replica, by position
   * @throws `REPLICA_DIVERGED` where a replica was written to by itself: that replica is left as it is; the error of the
   * first replica (or of the primary) that failed, when all were tried; `signal.reason`, `CLOSED`, `TypeError` for an
   * option that is unknown or out of range
   */
  synchronize(options?: SynchronizeOptions): Promise<readonly SynchronizedReplica[]>;
}

/**
 * Keeps the same objects in several targets.
 *
 * - **The primary alone decides** what exists and who wins a create-only put. A put goes to the primary first and,
 *   once that one has it, to all replicas at once (as a plain put: the race is over). A put that the primary
 *   refuses reaches no replica. Hence a replica never has what the primary never had, but may lack what it has.
 * - **A create-only put that failed on the primary may have taken effect**: `OBJECT_EXISTS` may be about one's own
 *   object, and the answer to a success may be lost. The primary is read back then. Where it holds the very bytes
 *   of the body the put goes on to the replicas and succeeds or fails by the quorum; so does that of another writer
 *   with the same bytes, so racing writers must differ in theirs. Else, also where it can't be read, the put
 *   rejects with what the primary said. An object whose put was given up like that may be on the primary alone.
 * - **A put waits for every replica to settle**, also when the quorum is reached: a straggler of an earlier put
 *   could otherwise overwrite a later one, and copies held for stragglers would have no bound. A replica that
 *   may hang needs a timeout of its own.
 * - Fewer than `quorum`: `QUORUM_NOT_REACHED`, whose `cause` is an `AggregateError` of what went wrong. The primary
 *   has done its part then, and deletes may be repeated.
 * - **`get` and `stat`** go to the primary and, when it fails with anything but "not found", to the replicas in turn.
 *   That a replica has no such object proves nothing, so the primary's error is thrown then.
 * - **A listing comes from the primary alone** and fails with it: whatever the quorum, a replica may lack objects, and
 *   a list without them would look complete.
 * - A replica that missed a put or delete keeps what it had: an older object of the same key, or one since deleted.
 *   {@link FanOut.synchronize} brings it up to date.
 *
 * Bodies are copied where a put may succeed although a target has failed, because a request given up may still be
 * reading its buffer.
 *
 * @throws `TypeError` for a target that is none, an option that is unknown, and a quorum that is not an integer from 1 to
 * the number of targets. Calls throw what the
 * primary throws; `put`, `delete` and `deleteMany` also throw `QUORUM_NOT_REACHED`.
 * @public
 */
export function fanOut(primary: CloudTarget, replicas: readonly CloudTarget[], options: FanOutOptions = {}): FanOut {
  return new FanOutTarget(primary, replicas, options);
}

/** Errors that another target would give as well: they are about the call and not about who was asked. */
const ABOUT_THE_CALL = new Set(['OBJECT_NOT_FOUND', 'INVALID_KEY', 'RANGE_UNSATISFIABLE', 'CLOSED']);

class FanOutTarget extends ForwardingTarget implements FanOut {
  readonly #replicas: readonly CloudTarget[];
  readonly #quorum: number;
  readonly #onReplicaError: FanOutOptions['onReplicaError'];

  constructor(primary: CloudTarget, replicas: readonly CloudTarget[], options: FanOutOptions) {
    super(targetArgument('primary', primary), 'this fan-out');
    if (!Array.isArray(replicas))
      throw new TypeError(`replicas must be an array of targets, not ${described(replicas)}`);
    this.#replicas = replicas.map((replica, index) => targetArgument(`replicas[${index}]`, replica));
    const all = replicas.length + 1;
    const known = { quorum: true, onReplicaError: true } as const;
    const { quorum = all, onReplicaError } = optionsArgument('options', options, known);
    this.#quorum = integerArgument('options.quorum', quorum, 1, all);
    if (onReplicaError !== undefined) functionArgument('options.onReplicaError', onReplicaError);
    this.#onReplicaError = onReplicaError;
  }

  async synchronize(options: SynchronizeOptions = {}): Promise<readonly SynchronizedReplica[]> {
    const checked = checkSynchronizeOptions(options);
    this.requireOpen(checked.signal);
    const results: SynchronizedReplica[] = [];
    const errors: unknown[] = [];
    for (const [replica, target] of this.#replicas.entries()) {
      try {
        results.push(await new Synchronization(this.inner, target, replica, checked).run());
      } catch (error) {
        checked.signal?.throwIfAborted();
        errors.push(error);
        this.#report(error, { replica, operation: 'synchronize', subject: 'the store' });
      }
    }
    if (errors.length > 0) throw errors[0];
    return results;
  }

  override get capabilities(): TargetCapabilities {
    const { maxObjectBytes: _, versioned: __, ...capabilities } = this.inner.capabilities;
    const all = [this.inner, ...this.#replicas].map((target) => target.capabilities);
    const limits = all.flatMap(({ maxObjectBytes }) => maxObjectBytes ?? []);
    return {
      ...capabilities,
      ...(limits.length === 0 ? {} : { maxObjectBytes: Math.min(...limits) }),
      ...(all.some(({ versioned }) => versioned) ? { versioned: true } : {}),
    };
  }

  override get members(): readonly TargetMember[] {
    const replicas = this.#replicas.map((target, index) => ({ name: `replicas[${index}]`, target }));
    return [{ name: 'primary', target: this.inner }, ...replicas];
  }

  protected override async forwardPut(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions): Promise<void> {
    const { createOnly, signal } = options;
    const tolerant = this.#quorum <= this.#replicas.length;
    const copy = tolerant || createOnly ? new Uint8Array(body) : body;
    try {
      // What fails here may be a success all the same, and the caller then has the right to refill the buffer.
      await this.inner.put(key, createOnly ? copy : body, options);
    } catch (error) {
      const own = createOnly && mayHaveHappened(error, signal) && (await this.#primaryHolds(key, copy, signal));
      signal?.throwIfAborted();
      if (!own) throw error;
    }
    await this.#onReplicas('put', key, signal, (replica) => replica.put(key, copy, { signal }));
  }

  protected override async forwardDelete(key: string, options: AbortOptions): Promise<void> {
    await this.inner.delete(key, options);
    await this.#onReplicas('delete', key, options.signal, (replica) => replica.delete(key, options));
  }

  protected override async forwardDeleteMany(keys: readonly string[], options: AbortOptions): Promise<void> {
    await super.forwardDeleteMany(keys, options);
    const subject = `${keys.length} keys`;
    await this.#onReplicas('deleteMany', subject, options.signal, (replica) => deleteAll(replica, keys, options));
  }

  protected override async forwardRemoveLeftovers(options: RemoveLeftoversOptions): Promise<Leftovers> {
    let { count, bytes } = await super.forwardRemoveLeftovers(options);
    await this.#onReplicas('removeLeftovers', 'the store', options.signal, async (replica) => {
      const removed = await replica.removeLeftovers?.(options);
      count += removed?.count ?? 0;
      bytes += removed?.bytes ?? 0;
    });
    return { count, bytes };
  }

  protected override forwardGet(key: string, options: GetOptions): Promise<Uint8Array> {
    return this.#readFromAny('get', key, options.signal, (target) => target.get(key, options));
  }

  protected override async forwardStat(key: string, options: AbortOptions): Promise<ObjectInfo | undefined> {
    return this.#readFromAny('stat', key, options.signal, async (target) => {
      const info = await target.stat(key, options);
      if (info !== undefined || target === this.inner) return info;
      throw new BackupError('OBJECT_NOT_FOUND', `a replica has no object ${key}`);
    });
  }

  /** Whether the primary has an object of these very bytes; not if that can't be found out. */
  async #primaryHolds(key: string, body: Uint8Array, signal: AbortSignal | undefined): Promise<boolean> {
    try {
      const info = await this.inner.stat(key, { signal });
      if (info?.size !== body.byteLength) return false;
      return Buffer.compare(await this.inner.get(key, { signal }), body) === 0;
    } catch {
      return false; // The error of the put says more.
    }
  }

  async #onReplicas(
    operation: TargetOperation,
    subject: string,
    signal: AbortSignal | undefined,
    work: (replica: CloudTarget) => Promise<void>,
  ): Promise<void> {
    const outcomes = await Promise.allSettled(this.#replicas.map(async (replica) => work(replica)));
    signal?.throwIfAborted();
    const errors: unknown[] = [];
    outcomes.forEach((outcome, replica) => {
      if (outcome.status === 'fulfilled') return;
      errors.push(outcome.reason);
      this.#report(outcome.reason, { replica, operation, subject });
    });
    const all = this.#replicas.length + 1;
    const reached = all - errors.length;
    if (reached >= this.#quorum) return;
    const message = `${operation} of ${subject} reached ${reached} of ${all} targets, and the quorum is ${this.#quorum}; it took effect on the primary`;
    throw new BackupError('QUORUM_NOT_REACHED', message, { cause: new AggregateError(errors, 'replicas failed') });
  }

  async #readFromAny<T>(
    operation: TargetOperation,
    key: string,
    signal: AbortSignal | undefined,
    read: (target: CloudTarget) => Promise<T>,
  ): Promise<T> {
    try {
      return await read(this.inner);
    } catch (primaryError) {
      if (isAboutTheCall(primaryError, signal)) throw primaryError;
      for (const [replica, target] of this.#replicas.entries()) {
        try {
          return await read(target);
        } catch (error) {
          signal?.throwIfAborted();
          this.#report(error, { replica, operation, subject: key });
        }
      }
      throw primaryError;
    }
  }

  #report(error: unknown, failure: ReplicaFailure): void {
    tell('onReplicaError', this.#onReplicaError, error, failure);
  }
}

/** Whether a create-only put that failed like this may have stored its body, or have met itself. */
function mayHaveHappened(error: unknown, signal: AbortSignal | undefined): boolean {
  if (signal?.aborted || isTypeError(error)) return false;
  return !BackupError.is(error) || error.retryable || error.code === 'OBJECT_EXISTS';
}

function isAboutTheCall(error: unknown, signal: AbortSignal | undefined): boolean {
  if (signal?.aborted || isTypeError(error)) return true;
  return BackupError.is(error) && ABOUT_THE_CALL.has(error.code);
}
