import { type AbortOptions, abortable } from '../../common/abort.ts';
import { ownBytes } from '../../common/bytes.ts';
import { currentMeter, metered, type RequestMeter } from '../../targets/decorators/request-meter.ts';
import { packKey } from '../format/object-keys.ts';
import { RecordKind } from '../format/record.ts';
import type { RecordFetcher } from './record-fetcher.ts';
import type { WantedRecord } from './record-spans.ts';

/**
 * Single records that are asked for one by one, read in batches: DataLoader's idea. Records that are asked for in one turn
 * of the event loop go out together, so that neighbours share a request. A record that is being read already is shared by
 * all callers. Aborting one caller does not cancel the request for the others.
 */

/** One record that is being read, for one caller or several. */
interface PendingRead extends WantedRecord {
  readonly key: string;
  readonly result: PromiseWithResolvers<Uint8Array>;
  readonly account: Account;
  readonly batch: Batch;
  /** Callers that have not given up. */
  waiting: number;
  /** It has been answered, or no caller waits for it any more. */
  isOver: boolean;
}

/** Reads that go out together. */
interface Batch {
  readonly reads: PendingRead[];
  isSent: boolean;
  /** Ends their requests when no caller waits any more. */
  readonly abandoned: AbortController;
  /** Reads that are not over. */
  open: number;
  /** Whether the callers of any of its reads have given up. */
  hasGivenUp: boolean;
}

/** Reads of one operation. Only they share requests, so that each operation pays for its own and meets only its own budget. */
interface Account {
  readonly meter: RequestMeter | undefined;
  /** By kind, id and location, from being asked for until they are over. */
  readonly underWay: Map<string, PendingRead>;
  /** Not sent yet. */
  next: Batch | undefined;
}

export class BatchedReads {
  readonly #fetcher: RecordFetcher;
  readonly #accounts = new Map<RequestMeter | undefined, Account>();

  constructor(fetcher: RecordFetcher) {
    this.#fetcher = fetcher;
  }

  /** The raw bytes, to be shared and not to be changed. @throws as {@link RecordFetcher.fetch} */
  async read(wanted: WantedRecord, { signal }: AbortOptions): Promise<Uint8Array> {
    signal?.throwIfAborted();
    const read = this.#join(wanted);
    read.waiting++;
    const giveUp = () => this.#giveUp(read);
    signal?.addEventListener('abort', giveUp, { once: true });
    try {
      return await abortable(read.result.promise, signal);
    } finally {
      signal?.removeEventListener('abort', giveUp);
    }
  }

  #join({ kind, id, location }: WantedRecord): PendingRead {
    const meter = currentMeter();
    const account = this.#accounts.get(meter) ?? { meter, underWay: new Map<string, PendingRead>(), next: undefined };
    this.#accounts.set(meter, account);
    const { offset, storedLength, codec, rawLength } = location;
    const name = [
      kind,
      Buffer.from(id).toString('hex'),
      packKey(location.pack),
      offset,
      storedLength,
      codec,
      rawLength,
    ];
    const key = name.join();
    const known = account.underWay.get(key);
    if (known !== undefined) return known;
    if (account.next === undefined) {
      account.next = { reads: [], isSent: false, abandoned: new AbortController(), open: 0, hasGivenUp: false };
      setImmediate(() => metered(meter, () => this.#send(account)));
    }
    const result = Promise.withResolvers<Uint8Array>();
    result.promise.catch(() => {}); // All callers may have given up.
    const batch = account.next;
    const state = { waiting: 0, isOver: false };
    // Ids are often views of what their owners fill again.
    const read: PendingRead = { kind, id: Uint8Array.from(id), location, key, result, account, batch, ...state };
    batch.reads.push(read);
    batch.open++;
    account.underWay.set(key, read);
    return read;
  }

  /** A read that no caller waits for is over, whatever else its batch is for: a caller that asks from now on begins anew. */
  #giveUp(read: PendingRead): void {
    if (--read.waiting > 0 || read.isOver) return;
    read.batch.hasGivenUp = true;
    this.#end(read);
  }

  #end(read: PendingRead): void {
    if (read.isOver) return;
    read.isOver = true;
    const { account, batch } = read;
    account.underWay.delete(read.key);
    this.#close(account);
    if (--batch.open === 0 && batch.isSent && batch.hasGivenUp) batch.abandoned.abort();
  }

  #close(account: Account): void {
    if (account.underWay.size > 0 || account.next !== undefined) return;
    if (this.#accounts.get(account.meter) === account) this.#accounts.delete(account.meter);
  }

  async #send(account: Account): Promise<void> {
    const batch = account.next as Batch;
    account.next = undefined;
    batch.isSent = true;
    this.#close(account);
    const { signal } = batch.abandoned;
    const failed = (read: PendingRead, error: unknown) => {
      this.#end(read);
      read.result.reject(error);
    };
    const deliver = (read: PendingRead, raw: Uint8Array) => {
      this.#end(read);
      read.result.resolve(ownBytes(raw)); // A view would keep the whole request's bytes in memory.
    };
    const wanted = batch.reads.filter(({ isOver }) => !isOver);
    // Tables are fetched apart: other records of this batch may wait for one of them to say where they are.
    const isTable = ({ kind }: PendingRead) => kind === RecordKind.relocation;
    await Promise.all([
      this.#fetch(wanted.filter(isTable), deliver, failed, signal),
      this.#fetch(
        wanted.filter((read) => !isTable(read)),
        deliver,
        failed,
        signal,
      ),
    ]);
  }

  async #fetch(
    reads: readonly PendingRead[],
    deliver: (read: PendingRead, raw: Uint8Array) => void,
    onFailed: (read: PendingRead, error: unknown) => void,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await this.#fetcher.fetch(reads, deliver, { onFailed, signal });
    } catch (error) {
      for (const read of reads) onFailed(read, error);
    }
  }
}
