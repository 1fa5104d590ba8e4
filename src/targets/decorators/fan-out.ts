import type { AbortOptions } from '../../common/abort.ts';
import { described, functionArgument, integerArgument, optionsArgument } from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { isTypeError } from '../../common/realms.ts';
import { report } from '../../common/report.ts';
import type {
  CloudTarget,
  GetOptions,
  Leftovers,
  ObjectInfo,
  PutOptions,
  PutResult,
  RemoveLeftoversOptions,
  StoredObject,
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

/** The call of a replica that failed. @public */
export interface ReplicaFailure {
  /** The position in the array of replicas. */
  readonly replica: number;
  readonly operation: TargetOperation | 'synchronize';
  /** The key of the object, or the number of keys of `deleteMany`. */
  readonly subject: string;
}

/** Options of {@link fanOut}. @public */
export interface FanOutOptions {
  /** The number of targets, including the primary, that a put or delete must reach. @defaultValue all of them */
  quorum?: number | undefined;
  /**
   * Called for every failure of a replica, including those that the quorum allows. An error that it throws becomes one process
   * warning and has no other effect.
   */
  onReplicaError?: ((error: unknown, failure: ReplicaFailure) => void) | undefined;
}

/** What {@link fanOut} makes. @public */
export interface FanOut extends ClosableTarget {
  /**
   * Copies to each replica the objects of the primary that it lacks, because it missed puts or is new. A repository that is opened
   * on the replica meanwhile, or after an abort, is an older state of the primary's. Puts and deletes through this fan-out may
   * continue meanwhile.
   *
   * Objects of the same key and length are not compared; `verify` of a repository reads each member.
   *
   * @example
   * ```ts
   * const target = fanOut(local, [offsite], { quorum: 1 });
   * for (const { copiedObjects, copiedBytes } of await target.synchronize()) console.log(copiedObjects, copiedBytes);
   * ```
   * @returns the result for each replica, by position
   * @throws `REPLICA_DIVERGED` if a replica was not only written through this fan-out; that replica is not changed. After all
   * replicas were tried, the first error of a replica or of the primary. `signal.reason`, `CLOSED`, and `TypeError` for an option
   * that is unknown or out of range
   */
  synchronize(options?: SynchronizeOptions): Promise<readonly SynchronizedReplica[]>;
}

/**
 * Keeps the same objects in several targets.
 *
 * - **The primary alone decides** which objects exist and which create-only put wins. A put goes to the primary first and, when
 *   that has succeeded, to all replicas at once (as a plain put, because the race is over). A put that the primary refuses
 *   reaches no replica. A replica therefore never has an object that the primary never had, but it may lack objects.
 * - **A create-only put that failed on the primary may have taken effect**: `OBJECT_EXISTS` may be about its own object, and the
 *   answer to a success may be lost. The object is read back then. If it has the bytes of the body, the put goes on to the
 *   replicas and succeeds or fails by the quorum. This is also true for another writer with the same bytes, so racing writers
 *   must put different bytes. Otherwise, or if the primary can't be read, the put rejects with the primary's error, and the
 *   object may exist on the primary alone.
 * - **A put waits for every replica to settle**, even when the quorum has been reached. A late request of an earlier put could
 *   otherwise overwrite a later one, and copies of bodies would pile up. A replica that may hang needs its own timeout.
 * - If fewer targets than `quorum` succeed, the call rejects with `QUORUM_NOT_REACHED`, whose `cause` is an `AggregateError`. The
 *   call has taken effect on the primary then. Deletes may be repeated.
 * - **`get` and `stat`** go to the primary and, if it fails with anything but "not found", to the replicas in turn. A replica may
 *   lack the object, which proves nothing, so the primary's error is thrown then. Tags are the primary's alone: a `stat` that a
 *   replica answers has none, and a `get` with `ifTag` goes to no replica.
 * - **A listing comes from the primary alone** and fails with it. A replica may lack objects, and its listing would look
 *   complete.
 * - A replica that missed a put or delete keeps its old object. {@link FanOut.synchronize} brings it up to date.
 *
 * Bodies are copied when a put may succeed although a target has failed, because an abandoned request may still read its buffer.
 *
 * @example
 * ```ts
 * const disk = new FileTarget('/mnt/backup-disk/repository');
 * const replica = withRetries(offsite); // `offsite` is a target of yours, such as an `S3Target`.
 * await using target = fanOut(disk, [replica], {
 *   quorum: 1, // A put succeeds once the disk has the object.
 *   onReplicaError: (error, { operation, subject }) => console.warn(`the replica missed ${operation} ${subject}:`, error),
 * });
 * await using repository = await BackupRepository.open(target, { unlock: { passphrase } });
 * ```
 *
 * @throws `TypeError` for an invalid target, an unknown option, and a quorum that is not an integer from 1 to the number of
 * targets. Calls throw what the primary throws; `put`, `delete` and `deleteMany` also throw `QUORUM_NOT_REACHED`.
 * @public
 */
export function fanOut(primary: CloudTarget, replicas: readonly CloudTarget[], options: FanOutOptions = {}): FanOut {
  return new FanOutTarget(primary, replicas, options);
}

/** Errors that are about the call and not about the target: another target would throw them, too. */
const ABOUT_THE_CALL = new Set(['OBJECT_NOT_FOUND', 'OBJECT_CHANGED', 'INVALID_KEY', 'RANGE_UNSATISFIABLE', 'CLOSED']);

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

  protected override async forwardPut(
    key: string,
    body: Uint8Array<ArrayBuffer>,
    options: PutOptions,
  ): Promise<PutResult> {
    const { createOnly, signal } = options;
    const tolerant = this.#quorum <= this.#replicas.length;
    const copy = tolerant || createOnly ? new Uint8Array(body) : body;
    let stored: PutResult;
    try {
      // A put that fails here may be counted as a success, and the caller may then refill the buffer: hence the copy.
      stored = await this.inner.put(key, createOnly ? copy : body, options);
    } catch (error) {
      if (!createOnly || !mayHaveHappened(error, signal)) throw error;
      const found = await this.#foundOnPrimary(key, copy, signal);
      signal?.throwIfAborted();
      if (found === undefined) throw error;
      stored = found;
    }
    await this.#onReplicas('put', key, signal, (replica) => replica.put(key, copy, { signal }));
    return stored;
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
    if (options.ifTag !== undefined) return this.inner.get(key, options);
    return this.#readFromAny('get', key, options.signal, (target) => target.get(key, options));
  }

  protected override async forwardStat(key: string, options: AbortOptions): Promise<ObjectInfo | undefined> {
    return this.#readFromAny('stat', key, options.signal, async (target) => {
      const info = await target.stat(key, options);
      if (target === this.inner) return info;
      if (info === undefined) throw new BackupError('OBJECT_NOT_FOUND', `a replica has no object ${key}`);
      const { tag: _, ...known } = info;
      return known;
    });
  }

  /** The primary's object if it has exactly these bytes; `undefined` if it has not, or if this can't be found out. */
  async #foundOnPrimary(
    key: string,
    body: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<StoredObject | undefined> {
    try {
      const info = await this.inner.stat(key, { signal });
      if (info?.size !== body.byteLength) return undefined;
      const { tag } = info;
      const bytes = await this.inner.get(key, tag === undefined ? { signal } : { ifTag: tag, signal });
      return Buffer.compare(bytes, body) === 0 ? { tag } : undefined;
    } catch {
      return undefined; // The error of the put is the more important one.
    }
  }

  async #onReplicas(
    operation: TargetOperation,
    subject: string,
    signal: AbortSignal | undefined,
    work: (replica: CloudTarget) => Promise<unknown>,
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
    report('onReplicaError', this.#onReplicaError, error, failure);
  }
}

/** Whether a create-only put with this error may have stored its body, or may have lost the race against itself. */
function mayHaveHappened(error: unknown, signal: AbortSignal | undefined): boolean {
  if (signal?.aborted || isTypeError(error)) return false;
  return !BackupError.is(error) || error.retryable || error.code === 'OBJECT_EXISTS';
}

function isAboutTheCall(error: unknown, signal: AbortSignal | undefined): boolean {
  if (signal?.aborted || isTypeError(error)) return true;
  return BackupError.is(error) && ABOUT_THE_CALL.has(error.code);
}
