import type { AbortOptions } from '../common/abort.ts';
import { integerArgument } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';
import type {
  CloudTarget,
  GetOptions,
  ListOptions,
  ObjectInfo,
  PutOptions,
  TargetCapabilities,
} from './cloud-target.ts';
import { deleteAll } from './delete-all.ts';
import { type ClosableTarget, ForwardingTarget, type TargetOperation } from './forwarding-target.ts';

/** Which call of which replica failed. @public */
export interface ReplicaFailure {
  /** Position in the array of replicas. */
  readonly replica: number;
  readonly operation: TargetOperation;
  /** The object's key, or how many keys were to be deleted. */
  readonly subject: string;
}

/** Options of {@link fanOut}. @public */
export interface FanOutOptions {
  /** How many targets, the primary among them, a put or delete must reach. @defaultValue all of them */
  quorum?: number | undefined;
  /** Told of every failure of a replica, also of those that the quorum allows. */
  onReplicaError?: ((error: unknown, failure: ReplicaFailure) => void) | undefined;
}

/**
 * Keeps the same objects in several targets.
 *
 * - **The primary alone decides** what exists and who wins a create-only put. A put goes to the primary first and,
 *   once that one has it, to all replicas at once (as a plain put: the race is over). A put that the primary
 *   refuses reaches no replica.
 * - **A put waits for every replica to settle**, also when the quorum is reached: a straggler of an earlier put
 *   could otherwise overwrite a later one, and copies held for stragglers would have no bound. A replica that
 *   may hang needs a timeout of its own.
 * - Fewer than `quorum`: `QUORUM_NOT_REACHED`, whose `cause` is an `AggregateError` of what went wrong. The primary
 *   has done its part then, and deletes may be repeated.
 * - **Reads** go to the primary and, when it fails with anything but "not found", to the replicas in turn. That a
 *   replica has no such object proves nothing, so the primary's error is thrown then. A listing falls back only
 *   where `quorum` is all targets, since only then no replica lacks an acknowledged object.
 * - Below that quorum a replica may hold an older object of the same key for good.
 *
 * Replicas get a copy of the body when a put may succeed in spite of their failure, because a request given up
 * may still be reading it.
 *
 * @public
 */
export function fanOut(
  primary: CloudTarget,
  replicas: readonly CloudTarget[],
  options: FanOutOptions = {},
): ClosableTarget {
  return new FanOutTarget(primary, replicas, options);
}

/** Errors that another target would give as well: they are about the call and not about who was asked. */
const ABOUT_THE_CALL = new Set(['OBJECT_NOT_FOUND', 'INVALID_KEY', 'RANGE_UNSATISFIABLE', 'CLOSED']);

class FanOutTarget extends ForwardingTarget {
  readonly #replicas: readonly CloudTarget[];
  readonly #quorum: number;
  readonly #onReplicaError: FanOutOptions['onReplicaError'];

  constructor(primary: CloudTarget, replicas: readonly CloudTarget[], options: FanOutOptions) {
    super(primary, 'this fan-out');
    this.#replicas = [...replicas];
    const all = replicas.length + 1;
    this.#quorum = integerArgument('quorum', options.quorum ?? all, 1, all);
    this.#onReplicaError = options.onReplicaError;
  }

  override get capabilities(): TargetCapabilities {
    const { maxObjectBytes: _, ...capabilities } = this.inner.capabilities;
    const limits = [this.inner, ...this.#replicas].flatMap((target) => target.capabilities.maxObjectBytes ?? []);
    return limits.length === 0 ? capabilities : { ...capabilities, maxObjectBytes: Math.min(...limits) };
  }

  protected override async forwardPut(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions): Promise<void> {
    const tolerant = this.#quorum <= this.#replicas.length;
    const copy = tolerant ? new Uint8Array(body) : body;
    await this.inner.put(key, body, options);
    const { signal } = options;
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

  protected override forwardGet(key: string, options: GetOptions): Promise<Uint8Array<ArrayBuffer>> {
    return this.#readFromAny('get', key, options.signal, (target) => target.get(key, options));
  }

  protected override async forwardStat(key: string, options: AbortOptions): Promise<ObjectInfo | undefined> {
    return this.#readFromAny('stat', key, options.signal, async (target) => {
      const info = await target.stat(key, options);
      if (info !== undefined || target === this.inner) return info;
      throw new BackupError('OBJECT_NOT_FOUND', `a replica has no object ${key}`);
    });
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    const replicas = this.#quorum > this.#replicas.length ? this.#replicas : [];
    let { after } = options;
    let primaryError: unknown;
    for (const [position, target] of [this.inner, ...replicas].entries()) {
      try {
        for await (const info of target.list(prefix, { ...options, after })) {
          yield info;
          after = info.key;
        }
        return;
      } catch (error) {
        options.signal?.throwIfAborted();
        if (position > 0) {
          this.#report(error, { replica: position - 1, operation: 'list', subject: prefix });
          continue;
        }
        if (isAboutTheCall(error, options.signal)) throw error;
        primaryError = error;
      }
    }
    throw primaryError;
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
    const message = `${operation} of ${subject} reached ${reached} of ${all} targets, ${this.#quorum} needed; it took effect on the primary`;
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

  /** A listener that throws must not fail the call: it is heard of on the next tick. */
  #report(error: unknown, failure: ReplicaFailure): void {
    try {
      this.#onReplicaError?.(error, failure);
    } catch (thrown) {
      process.nextTick(() => {
        throw thrown;
      });
    }
  }
}

function isAboutTheCall(error: unknown, signal: AbortSignal | undefined): boolean {
  if (signal?.aborted || error instanceof TypeError) return true;
  return BackupError.is(error) && ABOUT_THE_CALL.has(error.code);
}
