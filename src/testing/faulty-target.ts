import type { AbortOptions } from '../common/abort.ts';
import { choiceArgument, optionsArgument } from '../common/arguments.ts';
import { objectWith } from '../device/door.ts';
import { systemClock, type TargetClock } from '../targets/clock.ts';
import type {
  CloudTarget,
  GetOptions,
  Leftovers,
  ListOptions,
  ObjectInfo,
  PutOptions,
  RemoveLeftoversOptions,
} from '../targets/cloud-target.ts';
import { ForwardingTarget, type TargetOperation } from '../targets/decorators/forwarding-target.ts';
import { clockArgument, targetArgument } from '../targets/target-arguments.ts';
import {
  corrupted,
  type Fault,
  type FaultCall,
  type FaultedCall,
  type FaultPlan,
  injectedError,
  neverAnswer,
  truncated,
} from './faults.ts';

const OPERATIONS: readonly TargetOperation[] = [
  'put',
  'get',
  'stat',
  'list',
  'delete',
  'deleteMany',
  'storeTime',
  'removeLeftovers',
];

/** Options of {@link FaultyTarget}. @public */
export interface FaultyTargetOptions {
  /** Replaced in tests that must not wait for `delay`. */
  clock?: Pick<TargetClock, 'sleep'> | undefined;
}

/**
 * A target on which things go wrong as a plan says, for testing what is built on targets.
 *
 * `truncate` and `corrupt` befall the body of a `put` (what is stored is not what was given) and the answer of a
 * `get`; on a `list`, `truncate` ends the listing early without an error. They do nothing to other calls. Errors
 * without one of their own are `TARGET_UNAVAILABLE` and may be retried. `fail-after` on a `list` throws at its end.
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

  /** Every call so far, in order, with what befell it. */
  get calls(): readonly FaultedCall<TargetOperation>[] {
    return this.#calls;
  }

  /** How many calls there were of one operation, or in all. */
  callCount(operation?: TargetOperation): number {
    if (operation !== undefined) choiceArgument('operation', operation, OPERATIONS);
    return this.#calls.filter((call) => operation === undefined || call.operation === operation).length;
  }

  protected override async forwardPut(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions): Promise<void> {
    await this.#suffer({ operation: 'put', subject: key }, options.signal, (fault) => {
      let stored = body;
      if (fault?.kind === 'truncate') stored = truncated(body, fault.keepBytes);
      if (fault?.kind === 'corrupt') stored = corrupted(body, fault.bit);
      return this.inner.put(key, stored, options);
    });
  }

  protected override forwardGet(key: string, options: GetOptions): Promise<Uint8Array> {
    return this.#suffer({ operation: 'get', subject: key }, options.signal, async (fault) => {
      const bytes = await this.inner.get(key, options);
      if (fault?.kind === 'truncate') return truncated(bytes, fault.keepBytes);
      return fault?.kind === 'corrupt' ? corrupted(bytes, fault.bit) : bytes;
    });
  }

  protected override forwardStat(key: string, options: AbortOptions): Promise<ObjectInfo | undefined> {
    return this.#suffer({ operation: 'stat', subject: key }, options.signal, () => this.inner.stat(key, options));
  }

  protected override forwardDelete(key: string, options: AbortOptions): Promise<void> {
    return this.#suffer({ operation: 'delete', subject: key }, options.signal, () => this.inner.delete(key, options));
  }

  protected override forwardDeleteMany(keys: readonly string[], options: AbortOptions): Promise<void> {
    const call = { operation: 'deleteMany', subject: `${keys.length} keys` } as const;
    return this.#suffer(call, options.signal, () => super.forwardDeleteMany(keys, options));
  }

  protected override forwardStoreTime(options: AbortOptions): Promise<Date | undefined> {
    return this.#suffer({ operation: 'storeTime', subject: '' }, options.signal, () => super.forwardStoreTime(options));
  }

  protected override forwardRemoveLeftovers(options: RemoveLeftoversOptions): Promise<Leftovers> {
    const call = { operation: 'removeLeftovers', subject: '' } as const;
    return this.#suffer(call, options.signal, () => super.forwardRemoveLeftovers(options));
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

  async #suffer<T>(
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
    if (fault?.kind === 'never-answer') await neverAnswer(signal);
    if (fault?.kind === 'delay') await this.#clock.sleep(fault.delayMs, signal);
  }
}
