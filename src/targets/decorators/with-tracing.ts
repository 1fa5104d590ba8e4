import { type TracingChannel, tracingChannel } from 'node:diagnostics_channel';
import { optionsArgument, textArgument } from '../../common/arguments.ts';
import { isBytes } from '../../common/realms.ts';
import type { CloudTarget, ListOptions, ObjectInfo } from '../cloud-target.ts';
import { type ClosableTarget, ForwardingTarget, type TargetCall, type TargetOperation } from './forwarding-target.ts';

/** What subscribers of the tracing channels get, the same object for all events of a call. @public */
export interface TargetTrace {
  readonly operation: TargetOperation;
  /** The name that was given to {@link withTracing}. */
  readonly target: string;
  /** The object's key, the prefix of a listing, or how many keys are deleted. */
  readonly subject: string;
  readonly createOnly: boolean;
  /** Bytes of the body of a put or of the answer of a get. */
  bytes?: number | undefined;
  /** How many objects a listing has given. */
  objects?: number | undefined;
  /** Why the call rejected. */
  error?: unknown;
}

/** Options of {@link withTracing}. @public */
export interface TracingOptions {
  /** Tells several targets apart. @defaultValue 'target' */
  name?: string | undefined;
}

type Channels = Readonly<Record<TargetOperation, TracingChannel<string, TargetTrace>>>;

const nameOf = (operation: string) => `cow-cloud-backup:target.${operation}`;
const channel = (operation: TargetOperation) => tracingChannel<string, TargetTrace>(nameOf(operation));

const CHANNELS: Channels = {
  put: channel('put'),
  get: channel('get'),
  stat: channel('stat'),
  list: channel('list'),
  delete: channel('delete'),
  deleteMany: channel('deleteMany'),
  storeTime: channel('storeTime'),
  removeLeftovers: channel('removeLeftovers'),
};

/**
 * Names of the tracing channels that {@link withTracing} publishes on, by operation.
 *
 * @example
 * ```ts
 * tracingChannel(TARGET_CHANNELS.put).subscribe({ asyncEnd: (trace) => console.log(trace) });
 * ```
 *
 * @public
 */
export const TARGET_CHANNELS = Object.freeze(
  Object.fromEntries(Object.keys(CHANNELS).map((operation) => [operation, nameOf(operation)])),
) as Readonly<Record<TargetOperation, string>>;

/**
 * Tells of each call on the `node:diagnostics_channel` tracing channels `cow-cloud-backup:target.put`, `.get`,
 * `.stat`, `.list`, `.delete`, `.deleteMany`, `.storeTime` and `.removeLeftovers`: `start`, `end`, `asyncStart`, `asyncEnd` and
 * `error`, each with a {@link TargetTrace}. A listing is one call from its first object to its end. Bodies are never given out.
 * Without subscribers it costs one comparison a call. Calls throw what those of `target` throw.
 *
 * @throws `TypeError` for a target that is none, an option that is unknown, and a name that is no text
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
    // What the channel sees resolves with nothing, lest a body come to hang on the trace as its result.
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
