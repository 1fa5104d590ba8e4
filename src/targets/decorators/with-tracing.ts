import { type TracingChannel, tracingChannel } from 'node:diagnostics_channel';
import { optionsArgument, textArgument } from '../../common/arguments.ts';
import { isBytes } from '../../common/realms.ts';
import type { CloudTarget, ListOptions, ObjectInfo } from '../cloud-target.ts';
import {
  type ClosableTarget,
  ForwardingTarget,
  TARGET_OPERATIONS,
  type TargetCall,
  type TargetOperation,
} from './forwarding-target.ts';

/** The message of the tracing channels. All events of a call have the same object. @public */
export interface TargetTrace {
  readonly operation: TargetOperation;
  /** The name that was given to {@link withTracing}. */
  readonly target: string;
  /** The key of the object, the prefix of a listing, or the number of keys of `deleteMany`. */
  readonly subject: string;
  readonly createOnly: boolean;
  /** The length of the body of a put or of the answer to a get, in bytes. */
  bytes?: number | undefined;
  /** The number of objects that a listing has yielded. */
  objects?: number | undefined;
  /** The error with which the call rejected. */
  error?: unknown;
}

/** Options of {@link withTracing}. @public */
export interface TracingOptions {
  /** A name that distinguishes several targets. @defaultValue 'target' */
  name?: string | undefined;
}

const nameOf = (operation: string) => `cow-cloud-backup:target.${operation}`;

function byOperation<T>(of: (name: string) => T): Readonly<Record<TargetOperation, T>> {
  const entries = TARGET_OPERATIONS.map((operation) => [operation, of(nameOf(operation))]);
  return Object.freeze(Object.fromEntries(entries)) as Readonly<Record<TargetOperation, T>>;
}

const CHANNELS = byOperation((name): TracingChannel<string, TargetTrace> => tracingChannel<string, TargetTrace>(name));

/**
 * The names of the tracing channels of {@link withTracing}, by operation.
 *
 * @example
 * ```ts
 * subscribe(`tracing:${TARGET_CHANNELS.put}:asyncEnd`, (trace) => console.log(trace));
 * ```
 *
 * @public
 */
export const TARGET_CHANNELS: Readonly<Record<TargetOperation, string>> = byOperation((name) => name);

/**
 * Publishes each call on the `node:diagnostics_channel` tracing channels `cow-cloud-backup:target.put`, `.get`, `.stat`, `.list`,
 * `.delete`, `.deleteMany`, `.storeTime` and `.removeLeftovers`: the events `start`, `end`, `asyncStart`, `asyncEnd` and `error`,
 * each with a {@link TargetTrace}. A listing is one call from its first object to its end. Bodies are never published. Without
 * subscribers, a call costs one more comparison. Calls throw what those of `target` throw.
 *
 * @throws `TypeError` for an invalid target, an unknown option, and a name that is not a text
 * @public
 */
export function withTracing(target: CloudTarget, options: TracingOptions = {}): ClosableTarget {
  const { name = 'target' } = optionsArgument('options', options, { name: true });
  return new TracedTarget(target, textArgument('options.name', name));
}

class TracedTarget extends ForwardingTarget {
  readonly #name: string;

  constructor(inner: CloudTarget, name: string) {
    super(inner, 'this traced target');
    this.#name = name;
  }

  protected override around<T>(call: TargetCall, invoke: () => Promise<T>): Promise<T> {
    const traced = CHANNELS[call.operation];
    if (!traced.hasSubscribers) return invoke();
    const { operation, subject, createOnly } = call;
    const trace: TargetTrace = { operation, target: this.#name, subject, createOnly };
    if (operation === 'put') trace.bytes = call.bytes;
    // The observed promise resolves with nothing, because the channel adds its result to the trace, and bodies must not be there.
    let answer: Promise<T> | undefined;
    const observed = traced.tracePromise(() => {
      answer = invoke();
      return answer.then((result) => {
        if (isBytes(result)) trace.bytes = result.byteLength;
      });
    }, trace);
    return observed.then(() => answer as Promise<T>);
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    const traced = CHANNELS.list;
    if (!traced.hasSubscribers) {
      yield* this.inner.list(prefix, options);
      return;
    }
    const trace: TargetTrace = {
      operation: 'list',
      target: this.#name,
      subject: prefix,
      createOnly: false,
      objects: 0,
    };
    traced.start.publish(trace);
    traced.end.publish(trace);
    try {
      for await (const info of this.inner.list(prefix, options)) {
        trace.objects = (trace.objects ?? 0) + 1;
        yield info;
      }
    } catch (error) {
      trace.error = error;
      traced.error.publish(trace);
      throw error;
    } finally {
      traced.asyncStart.publish(trace);
      traced.asyncEnd.publish(trace);
    }
  }
}
