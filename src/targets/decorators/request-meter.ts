import { AsyncLocalStorage } from 'node:async_hooks';
import { abortable } from '../../common/abort.ts';
import { limitArgument, optionsArgument } from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { CloudTarget, ListOptions, ObjectInfo, PutOptions, PutResult } from '../cloud-target.ts';
import { ForwardingTarget, type TargetCall } from './forwarding-target.ts';

/**
 * The most that an operation may request from the target. A request that would exceed one of the limits is not sent.
 *
 * @public
 */
export interface RequestBudget {
  /** PUT requests. */
  readonly puts?: number | undefined;
  /** GET, HEAD and LIST requests. */
  readonly gets?: number | undefined;
  readonly uploadBytes?: number | undefined;
  readonly downloadBytes?: number | undefined;
}

const BUDGET_OPTIONS: Readonly<Record<keyof RequestBudget, true>> = {
  puts: true,
  gets: true,
  uploadBytes: true,
  downloadBytes: true,
};

/** Counts the requests of one operation, across everything that it calls and awaits. */
export class RequestMeter {
  puts = 0;
  gets = 0;
  deletes = 0;
  uploadBytes = 0;
  downloadBytes = 0;
  /** Bytes of bodies that the store has received so far, including those of puts that failed later or are under way. */
  sentBytes = 0;
  readonly #budget: RequestBudget;
  /** The meter of the operation that this one's is a part of. */
  readonly #whole: RequestMeter | undefined;

  /** @throws TypeError */
  constructor(budget: RequestBudget = {}, whole?: RequestMeter) {
    this.#budget = checkBudget(budget);
    this.#whole = whole;
  }

  /**
   * A meter for work that only reads, and that the operation could do without: it may spend a share of what the budget leaves.
   * What it counts is counted here, too.
   */
  partForReading(share: number): RequestMeter {
    const { gets, downloadBytes } = this.#budget;
    const part = (most: number | undefined, used: number) =>
      most === undefined ? undefined : Math.max(0, Math.floor((most - used) * share));
    return new RequestMeter(
      { gets: part(gets, this.gets), downloadBytes: part(downloadBytes, this.downloadBytes) },
      this,
    );
  }

  get requests(): number {
    return this.puts + this.gets + this.deletes;
  }

  /** @throws `BUDGET_EXCEEDED` before anything is sent */
  put(bytes: number): void {
    this.#check('puts', this.puts + 1);
    this.#check('uploadBytes', this.uploadBytes + bytes);
    this.puts++;
    this.uploadBytes += bytes;
  }

  /** @param bytes - the length of the answer if it is known in advance, or else 0 */
  get(bytes: number): void {
    this.#check('gets', this.gets + 1);
    this.#check('downloadBytes', this.downloadBytes + bytes);
    this.#whole?.get(bytes);
    this.gets++;
  }

  /** Counts bytes that have arrived. */
  received(bytes: number): void {
    this.#whole?.received(bytes);
    this.downloadBytes += bytes;
  }

  #check(what: keyof RequestBudget, total: number): void {
    const most = this.#budget[what];
    if (most !== undefined && total > most) {
      throw new BackupError(
        'BUDGET_EXCEEDED',
        `the next request would bring this operation to ${total} ${what}, and its budget is ${most}`,
      );
    }
  }
}

const current = new AsyncLocalStorage<RequestMeter | undefined>();

/** Runs `work`, and counts every request that it makes, directly or indirectly, with `meter`. */
export function metered<T>(meter: RequestMeter | undefined, work: () => T): T {
  return current.run(meter, work);
}

/** The meter of the operation that is running. */
export function currentMeter(): RequestMeter | undefined {
  return current.getStore();
}

/** @throws TypeError */
export function checkBudget(budget: RequestBudget | undefined): RequestBudget {
  const checked = optionsArgument('budget', budget, BUDGET_OPTIONS);
  for (const [name, most] of Object.entries(checked)) {
    if (most !== undefined) limitArgument(`budget.${name}`, most, 0);
  }
  return checked;
}

/** The number of entries in one page of a listing in S3 and most other stores. */
const PAGE_ENTRIES = 1000;

/**
 * A repository's view of its target. Every request is counted for the operation that makes it, and every call settles as soon as
 * its signal aborts, even if the target ignores signals or never answers. An abandoned put may still read its buffer, so
 * callers never use the buffer of a failed put again.
 */
export class MeteredTarget extends ForwardingTarget {
  constructor(inner: CloudTarget) {
    super(inner, 'this repository');
  }

  protected override async around<T>({ operation, bytes, signal }: TargetCall, invoke: () => Promise<T>): Promise<T> {
    const meter = currentMeter();
    if (operation === 'put') meter?.put(bytes ?? 0);
    else if (operation !== 'delete' && operation !== 'deleteMany') meter?.get(bytes ?? 0);
    else if (meter !== undefined) meter.deletes++;
    const answer = await abortable(invoke(), signal);
    if (operation === 'get') meter?.received((answer as Uint8Array).length);
    return answer;
  }

  protected override async forwardPut(
    key: string,
    body: Uint8Array<ArrayBuffer>,
    options: PutOptions,
  ): Promise<PutResult> {
    const meter = currentMeter();
    if (meter === undefined) return this.inner.put(key, body, options);
    let reported = 0;
    const onSent = (bytes: number) => {
      reported += bytes;
      meter.sentBytes += bytes;
      options.onSent?.(bytes);
    };
    const stored = await this.inner.put(key, body, { ...options, onSent });
    // Some targets report nothing or only a part. One that repeats a body reports more than its length.
    meter.sentBytes += Math.max(0, body.length - reported);
    return stored;
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    const meter = currentMeter();
    let entries = 0;
    meter?.get(0);
    const objects = this.inner.list(prefix, options)[Symbol.asyncIterator]();
    let ended = false;
    try {
      for (;;) {
        const { value, done } = await abortable(objects.next(), options.signal);
        ended = done === true;
        if (ended) return;
        if (entries > 0 && entries % PAGE_ENTRIES === 0) meter?.get(0);
        entries++;
        await yieldToEventLoop(); // A target in memory gives a thousand keys at once.
        yield value as ObjectInfo;
      }
    } finally {
      // This is not awaited, because an iterator that is stuck in `next` does not reach its `return` either.
      if (!ended) (async () => objects.return?.())().catch(() => {});
    }
  }
}
