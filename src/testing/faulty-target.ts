import { abortable } from '../common/abort.ts';
import { choiceArgument, optionsArgument } from '../common/arguments.ts';
import { systemClock, type TargetClock } from '../common/clock.ts';
import { objectWith } from '../device/door.ts';
import type { CloudTarget, ListOptions, ObjectInfo, PutOptions, PutResult } from '../targets/cloud-target.ts';
import {
  ForwardingTarget,
  TARGET_OPERATIONS,
  type TargetCall,
  type TargetOperation,
} from '../targets/decorators/forwarding-target.ts';
import { clockArgument, targetArgument } from '../targets/target-arguments.ts';
import {
  corrupted,
  type Fault,
  type FaultCall,
  type FaultedCall,
  type FaultPlan,
  injectedError,
  truncated,
} from './faults.ts';

/** Options of {@link FaultyTarget}. @public */
export interface FaultyTargetOptions {
  /** A clock for tests that must not wait for `delay`. @defaultValue the system's */
  clock?: Pick<TargetClock, 'sleep'> | undefined;
}

/**
 * A target with faults that a plan chooses, for testing what is built on targets.
 *
 * `truncate` and `corrupt` change the body that a `put` stores and the answer of a `get`. `truncate` ends a `list` early without an
 * error. They have no effect on other calls. The default error is a retryable `TARGET_UNAVAILABLE`. `fail-after` on a `list` throws
 * at its end.
 *
 * @public
 */
export class FaultyTarget extends ForwardingTarget {
  readonly #plan: FaultPlan<TargetOperation>;
  readonly #clock: Pick<TargetClock, 'sleep'>;
  readonly #calls: FaultedCall<TargetOperation>[] = [];

  constructor(inner: CloudTarget, plan: FaultPlan<TargetOperation>, options: FaultyTargetOptions = {}) {
    super(targetArgument('inner', inner), 'this FaultyTarget');
    objectWith('plan', 'a FaultPlan', plan, ['next']);
    const { clock = systemClock } = optionsArgument('options', options, { clock: true });
    this.#plan = plan;
    this.#clock = clockArgument('options.clock', clock, ['sleep']);
  }

  /** All calls so far, in order, with their faults. */
  get calls(): readonly FaultedCall<TargetOperation>[] {
    return this.#calls;
  }

  /** The number of calls of one operation, or of all calls. */
  callCount(operation?: TargetOperation): number {
    if (operation !== undefined) choiceArgument('operation', operation, TARGET_OPERATIONS);
    return this.#calls.filter((call) => operation === undefined || call.operation === operation).length;
  }

  protected override async forwardPut(
    key: string,
    body: Uint8Array<ArrayBuffer>,
    options: PutOptions,
  ): Promise<PutResult> {
    return this.#withFault({ operation: 'put', subject: key }, options.signal, (fault) => {
      let stored = body;
      if (fault?.kind === 'truncate') stored = truncated(body, fault.keepBytes);
      if (fault?.kind === 'corrupt') stored = corrupted(body, fault.bit);
      return this.inner.put(key, stored, options);
    });
  }

  protected override around<T>({ operation, subject, signal }: TargetCall, invoke: () => Promise<T>): Promise<T> {
    if (operation === 'put') return invoke(); // `forwardPut` applies the fault, which may change the body.
    return this.#withFault({ operation, subject }, signal, async (fault) => {
      const answer = await invoke();
      if (operation !== 'get') return answer;
      if (fault?.kind === 'truncate') return truncated(answer as Uint8Array, fault.keepBytes) as T;
      return fault?.kind === 'corrupt' ? (corrupted(answer as Uint8Array, fault.bit) as T) : answer;
    });
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    const call = { operation: 'list', subject: prefix } as const;
    const fault = this.#next(call);
    await this.#before(fault, call, options.signal);
    const keep = fault?.kind === 'truncate' ? (fault.keepBytes ?? 1) : Number.POSITIVE_INFINITY;
    let given = 0;
    if (keep > 0) {
      for await (const info of this.inner.list(prefix, options)) {
        yield info;
        given++;
        if (given >= keep) break;
      }
    }
    if (fault?.kind === 'fail-after') throw injectedError(fault, call, 'TARGET_UNAVAILABLE');
  }

  async #withFault<T>(
    call: FaultCall<TargetOperation>,
    signal: AbortSignal | undefined,
    work: (fault: Fault | undefined) => Promise<T>,
  ): Promise<T> {
    const fault = this.#next(call);
    await this.#before(fault, call, signal);
    const result = await work(fault);
    if (fault?.kind === 'fail-after') throw injectedError(fault, call, 'TARGET_UNAVAILABLE');
    return result;
  }

  #next(call: FaultCall<TargetOperation>): Fault | undefined {
    const fault = this.#plan.next(call);
    this.#calls.push({ ...call, fault });
    return fault;
  }

  async #before(fault: Fault | undefined, call: FaultCall, signal: AbortSignal | undefined): Promise<void> {
    if (fault?.kind === 'fail-before') throw injectedError(fault, call, 'TARGET_UNAVAILABLE');
    if (fault?.kind === 'never-answer') await abortable(new Promise<never>(() => {}), signal);
    if (fault?.kind === 'delay') await this.#clock.sleep(fault.delayMs, signal);
  }
}
