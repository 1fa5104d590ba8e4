// This folder holds targets that wrap others. This file is their base: each overrides only what it changes.

import type { AbortOptions } from '../../common/abort.ts';
import { textArgument } from '../../common/arguments.ts';
import type {
  CloudTarget,
  GetOptions,
  Leftovers,
  ListOptions,
  ObjectInfo,
  PutOptions,
  PutResult,
  RemoveLeftoversOptions,
  TargetCapabilities,
  TargetMember,
} from '../cloud-target.ts';
import { keyText } from '../keys.ts';
import { Lifetime } from '../lifetime.ts';
import {
  abortOptions,
  bodyArgument,
  getOptions,
  keysArgument,
  leftoversOptions,
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

/** All operations. */
export const TARGET_OPERATIONS: readonly TargetOperation[] = [
  'put',
  'get',
  'stat',
  'list',
  'delete',
  'deleteMany',
  'storeTime',
  'removeLeftovers',
];

/** A call that a decorator is about to pass on. @public */
export interface TargetCall {
  readonly operation: Exclude<TargetOperation, 'list'>;
  /** The key of the object; the number of keys of `deleteMany`; empty for `storeTime` and `removeLeftovers`. */
  readonly subject: string;
  readonly signal: AbortSignal | undefined;
  /** Whether the call is a create-only put. */
  readonly createOnly: boolean;
  /** The length of the body of a put or of the range of a get, in bytes; `undefined` if it is not known in advance. */
  readonly bytes: number | undefined;
}

/** A decorator, which has a method to close it. The inner target stays open. @public */
export interface ClosableTarget extends CloudTarget {
  /** Closes this target: later calls reject with `CLOSED`. It may be called again. */
  close(): Promise<void>;
}

/**
 * A target that passes every call on to another target. Decorators extend it and override only what they change: `around` for
 * every call but `list`, `forwardList` for that, or the `forward...` method of a single call.
 *
 * `deleteMany`, `storeTime` and `removeLeftovers` exist exactly if the inner target has them. Closing this target does not close
 * the inner one, which belongs to the host.
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
        const subject = `${keysArgument(keys).length} keys`;
        return this.#pass('deleteMany', subject, signal, () => this.forwardDeleteMany(keys, options));
      };
    }
    if (inner.storeTime !== undefined) {
      this.storeTime = async (options = {}) =>
        this.#pass('storeTime', '', abortOptions(options).signal, () => this.forwardStoreTime(options));
    }
    if (inner.removeLeftovers !== undefined) {
      this.removeLeftovers = async (options = {}) => {
        const { signal } = leftoversOptions(options);
        return this.#pass('removeLeftovers', '', signal, () => this.forwardRemoveLeftovers(options));
      };
    }
  }

  get members(): readonly TargetMember[] | undefined {
    return this.inner.members;
  }

  get capabilities(): TargetCapabilities {
    return this.inner.capabilities;
  }

  async put(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions = {}): Promise<PutResult> {
    const { createOnly = false, onSent, signal } = putOptions(options);
    const bytes = bodyArgument(body).byteLength;
    const passed = onSent === undefined ? options : { ...options, onSent };
    return this.#pass('put', keyText(key), signal, () => this.forwardPut(key, body, passed), bytes, createOnly);
  }

  async get(key: string, options: GetOptions = {}): Promise<Uint8Array> {
    const { range, signal } = getOptions(options);
    return this.#pass('get', keyText(key), signal, () => this.forwardGet(key, options), range?.length);
  }

  async stat(key: string, options: AbortOptions = {}): Promise<ObjectInfo | undefined> {
    const { signal } = abortOptions(options);
    return this.#pass('stat', keyText(key), signal, () => this.forwardStat(key, options));
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
    const { signal } = abortOptions(options);
    return this.#pass('delete', keyText(key), signal, () => this.forwardDelete(key, options));
  }

  async close(): Promise<void> {
    this.#lifetime.close();
  }

  /** Throws `CLOSED` if this target is closed, and the reason of a signal that has aborted. */
  protected requireOpen(signal: AbortSignal | undefined): void {
    this.#lifetime.check(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Wraps every call but `list`. */
  protected around<T>(_call: TargetCall, invoke: () => Promise<T>): Promise<T> {
    return invoke();
  }

  protected forwardPut(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions): Promise<PutResult> {
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
    // The three methods below are called only if the inner target has them.
    return (this.inner as Required<CloudTarget>).deleteMany(keys, options);
  }

  protected forwardStoreTime(options: AbortOptions): Promise<Date | undefined> {
    return (this.inner as Required<CloudTarget>).storeTime(options);
  }

  protected forwardRemoveLeftovers(options: RemoveLeftoversOptions): Promise<Leftovers> {
    return (this.inner as Required<CloudTarget>).removeLeftovers(options);
  }

  #pass<T>(
    operation: TargetCall['operation'],
    subject: string,
    signal: AbortSignal | undefined,
    invoke: () => Promise<T>,
    bytes?: number,
    createOnly = false,
  ): Promise<T> {
    this.#lifetime.check(signal);
    return this.around({ operation, subject, signal, createOnly, bytes }, invoke);
  }
}
