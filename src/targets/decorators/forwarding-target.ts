import type { AbortOptions } from '../../common/abort.ts';
import { textArgument } from '../../common/arguments.ts';
import type {
  CloudTarget,
  GetOptions,
  Leftovers,
  ListOptions,
  ObjectInfo,
  PutOptions,
  RemoveLeftoversOptions,
  TargetCapabilities,
  TargetMember,
} from '../cloud-target.ts';
import { checkLeftoversOptions } from '../file/leftovers-options.ts';
import { keyText } from '../keys.ts';
import { Lifetime } from '../lifetime.ts';
import {
  abortOptions,
  bodyArgument,
  getOptions,
  keysArgument,
  listOptions,
  prefixOfList,
  putOptions,
  targetArgument,
} from '../target-arguments.ts';

/** The calls of a {@link CloudTarget}. @public */
export type TargetOperation =
  | 'put'
  | 'get'
  | 'stat'
  | 'list'
  | 'delete'
  | 'deleteMany'
  | 'storeTime'
  | 'removeLeftovers';

/** What a decorator knows of the call that it is about to pass on. @public */
export interface TargetCall {
  readonly operation: Exclude<TargetOperation, 'list'>;
  /** The object's key; of `deleteMany`, how many there are; of `storeTime` and `removeLeftovers`, nothing. */
  readonly subject: string;
  readonly signal: AbortSignal | undefined;
  /** Whether it is a create-only put. */
  readonly createOnly: boolean;
  /** Bytes of the body of a put, or of the range of a get; undefined where it isn't known beforehand. */
  readonly bytes: number | undefined;
}

/** A target that can be closed by name. What it was given stays open. @public */
export interface ClosableTarget extends CloudTarget {
  /** Calls made later reject with `CLOSED`. Idempotent. */
  close(): Promise<void>;
}

/**
 * A target that passes every call on to another. Decorators extend it and say only what is different: `around`
 * for every call but `list`, `forwardList` for that, or a single method.
 *
 * `deleteMany`, `storeTime` and `removeLeftovers` are there exactly when the inner target has them. Closing closes this
 * target, never the inner one: that one belongs to its maker.
 *
 * @public
 */
export abstract class ForwardingTarget implements ClosableTarget {
  protected readonly inner: CloudTarget;
  readonly deleteMany?: (keys: readonly string[], options?: AbortOptions) => Promise<void>;
  readonly storeTime?: (options?: AbortOptions) => Promise<Date | undefined>;
  readonly removeLeftovers?: (options?: RemoveLeftoversOptions) => Promise<Leftovers>;
  readonly #lifetime: Lifetime;

  constructor(inner: CloudTarget, what: string) {
    this.inner = targetArgument('target', inner);
    this.#lifetime = new Lifetime(textArgument('what', what));
    if (inner.deleteMany !== undefined) {
      this.deleteMany = async (keys, options = {}) => {
        const { signal } = abortOptions(options);
        const call = { operation: 'deleteMany', subject: `${keysArgument(keys).length} keys`, signal } as const;
        return this.#pass({ ...call, createOnly: false, bytes: undefined }, () =>
          this.forwardDeleteMany(keys, options),
        );
      };
    }
    if (inner.storeTime !== undefined) {
      this.storeTime = async (options = {}) =>
        this.#pass(this.#small('storeTime', '', abortOptions(options)), () => this.forwardStoreTime(options));
    }
    if (inner.removeLeftovers !== undefined) {
      this.removeLeftovers = async (options = {}) => {
        checkLeftoversOptions(options);
        return this.#pass(this.#small('removeLeftovers', '', options), () => this.forwardRemoveLeftovers(options));
      };
    }
  }

  get members(): readonly TargetMember[] | undefined {
    return this.inner.members;
  }

  get capabilities(): TargetCapabilities {
    return this.inner.capabilities;
  }

  async put(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions = {}): Promise<void> {
    const { createOnly = false, onSent, signal } = putOptions(options);
    const bytes = bodyArgument(body).byteLength;
    const passed = onSent === undefined ? options : { ...options, onSent };
    const call: TargetCall = { operation: 'put', subject: keyText(key), signal, createOnly, bytes };
    return this.#pass(call, () => this.forwardPut(key, body, passed));
  }

  async get(key: string, options: GetOptions = {}): Promise<Uint8Array> {
    const { range, signal } = getOptions(options);
    const call: TargetCall = {
      operation: 'get',
      subject: keyText(key),
      signal,
      createOnly: false,
      bytes: range?.length,
    };
    return this.#pass(call, () => this.forwardGet(key, options));
  }

  async stat(key: string, options: AbortOptions = {}): Promise<ObjectInfo | undefined> {
    return this.#pass(this.#small('stat', keyText(key), abortOptions(options)), () => this.forwardStat(key, options));
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo, void, undefined> {
    const { signal } = listOptions(options);
    prefixOfList(prefix);
    this.#lifetime.check(signal);
    for await (const info of this.forwardList(prefix, options)) {
      yield info;
      this.#lifetime.check(signal);
    }
  }

  async delete(key: string, options: AbortOptions = {}): Promise<void> {
    return this.#pass(this.#small('delete', keyText(key), abortOptions(options)), () =>
      this.forwardDelete(key, options),
    );
  }

  async close(): Promise<void> {
    this.#lifetime.close();
  }

  /** Throws `CLOSED` when this target is closed, and the reason of a signal that has aborted. */
  protected requireOpen(signal: AbortSignal | undefined): void {
    this.#lifetime.check(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** What is done about every call but `list`. */
  protected around<T>(_call: TargetCall, invoke: () => Promise<T>): Promise<T> {
    return invoke();
  }

  protected forwardPut(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions): Promise<void> {
    return this.inner.put(key, body, options);
  }

  protected forwardGet(key: string, options: GetOptions): Promise<Uint8Array> {
    return this.inner.get(key, options);
  }

  protected forwardStat(key: string, options: AbortOptions): Promise<ObjectInfo | undefined> {
    return this.inner.stat(key, options);
  }

  protected forwardList(prefix: string, options: ListOptions): AsyncIterable<ObjectInfo> {
    return this.inner.list(prefix, options);
  }

  protected forwardDelete(key: string, options: AbortOptions): Promise<void> {
    return this.inner.delete(key, options);
  }

  protected forwardDeleteMany(keys: readonly string[], options: AbortOptions): Promise<void> {
    // `deleteMany` is only defined when the inner one is.
    return (this.inner as Required<CloudTarget>).deleteMany(keys, options);
  }

  protected forwardStoreTime(options: AbortOptions): Promise<Date | undefined> {
    // As with `deleteMany`.
    return (this.inner as Required<CloudTarget>).storeTime(options);
  }

  protected forwardRemoveLeftovers(options: RemoveLeftoversOptions): Promise<Leftovers> {
    // As with `deleteMany`.
    return (this.inner as Required<CloudTarget>).removeLeftovers(options);
  }

  #small(
    operation: 'stat' | 'delete' | 'storeTime' | 'removeLeftovers',
    subject: string,
    options: AbortOptions,
  ): TargetCall {
    return { operation, subject, signal: options.signal, createOnly: false, bytes: undefined };
  }

  #pass<T>(call: TargetCall, invoke: () => Promise<T>): Promise<T> {
    this.#lifetime.check(call.signal);
    return this.around(call, invoke);
  }
}
