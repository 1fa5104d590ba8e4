import { type AbortOptions, abortable } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { RepositoryKeys } from '../crypto/repository-keys.ts';
import { packKey } from '../format/object-keys.ts';
import { type PackName, RecordKind } from '../format/record.ts';
import { readPackBytes } from './pack-reader.ts';
import { openRecord } from './record-sealing.ts';
import { byPack, type RecordSpan, type SpanLimits, spansOf, storedIn, type WantedRecord } from './record-spans.ts';
import { type LocatedRecord, MAX_LOOKS, type Relocations, type RelocationsParts } from './relocations.ts';

const REQUESTS_AT_A_TIME = 8;
/** Of one call. Records that were opened last take as many bytes again at most. */
const MAX_BYTES_IN_FLIGHT = 32 * 1024 * 1024;

export interface FetchTally {
  fetchedBytes: number;
  requests: number;
}

export interface RecordFetcherParts extends Pick<RelocationsParts, 'state' | 'catchUp'> {
  readonly target: CloudTarget;
  readonly keys: RepositoryKeys;
  readonly fanOut: number;
  readonly relocations: Relocations;
  readonly spans: SpanLimits;
  /**
   * Whether what looks damaged is read a second time before it is believed, because a bad answer is not bad data; and
   * whether a pack that is missing is not asked for again until the log has gone on. @defaultValue false
   */
  readonly rereadsDamage?: boolean | undefined;
}

/** Called with each record's raw bytes, in any order; awaited. The bytes may be views: copy what is kept. */
export type DeliverRecord<T> = (wanted: T, raw: Uint8Array) => Promise<void> | void;

export interface FetchOptions<T> extends AbortOptions {
  readonly tally?: FetchTally | undefined;
  /** Called for each record that can't be read; the others go on. Without it the first failure ends the call. */
  readonly onFailed?: ((wanted: T, error: unknown) => void) | undefined;
}

/** Packs that are not there, by key, and the newest entry of the log when that was seen. */
type GonePacks = Map<string, { readonly error: BackupError; readonly seq: number }>;

/**
 * Reads records from packs: those that are near each other with one request, several requests at a time. Each record is
 * opened and checked against its id. Records of packs that were repacked are read where they are now.
 */
export class RecordFetcher {
  readonly #parts: RecordFetcherParts;
  readonly #gone: GonePacks = new Map();

  constructor(parts: RecordFetcherParts) {
    this.#parts = parts;
  }

  /**
   * Nothing is delivered any more once it has settled. While a record is being delivered its request counts as under way.
   *
   * @throws `PACK_MISSING`, after the newest entries of the log have been read; `RECORD_CORRUPT`; `MAP_CORRUPT` where
   * relocations are followed strictly; what the target throws, and what `deliver` throws
   */
  async fetch<T extends WantedRecord>(
    wanted: readonly T[],
    deliver: DeliverRecord<T>,
    options: FetchOptions<T> = {},
  ): Promise<void> {
    options.signal?.throwIfAborted();
    // A restore that is tried again finds a pack that was put back meanwhile.
    const gone = this.#parts.rereadsDamage === true ? this.#gone : new Map();
    if (wanted.length > 0) await new FetchRun(this.#parts, gone, deliver, options).run(wanted);
  }
}

interface SpanRequest<T extends WantedRecord> {
  readonly pack: PackName;
  readonly span: RecordSpan<LocatedRecord<T>>;
  /** How often the log was read for these records because their pack was missing. */
  readonly looks: number;
  /** Part of a request that failed: the log has been read for it. */
  readonly isPart?: boolean;
  /** What looked damaged is read again. */
  readonly isSecondRead?: boolean;
}

class FetchRun<T extends WantedRecord> {
  readonly #parts: RecordFetcherParts;
  readonly #deliver: DeliverRecord<T>;
  readonly #options: FetchOptions<T>;
  /** Ends requests when the caller aborts, or something failed. */
  readonly #stop = new AbortController();
  readonly #requests: SpanRequest<T>[] = [];
  #next = 0;
  #active = 0;
  #activeBytes = 0;
  readonly #done = Promise.withResolvers<void>();
  #failure: { readonly error: unknown } | undefined;
  readonly #gone: GonePacks;

  constructor(parts: RecordFetcherParts, gone: GonePacks, deliver: DeliverRecord<T>, options: FetchOptions<T>) {
    this.#parts = parts;
    this.#gone = gone;
    this.#deliver = deliver;
    this.#options = options;
  }

  async run(wanted: readonly T[]): Promise<void> {
    const { signal } = this.#options;
    const stop = () => this.#stop.abort(signal?.reason);
    signal?.addEventListener('abort', stop, { once: true });
    try {
      this.#enqueue(await this.#locate(wanted, 0), { looks: 0 });
      this.#startMore();
      await this.#done.promise;
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }

  get #signal(): AbortSignal {
    return this.#stop.signal;
  }

  #enqueue(located: readonly LocatedRecord<T>[], how: Pick<SpanRequest<T>, 'looks' | 'isPart' | 'isSecondRead'>): void {
    for (const records of byPack(located, ({ pack }) => pack).values()) {
      const { pack } = records[0] as LocatedRecord<T>;
      for (const span of spansOf(records, this.#parts.spans)) this.#requests.push({ ...how, pack, span });
    }
  }

  #startMore(): void {
    while (this.#failure === undefined && this.#next < this.#requests.length) {
      const request = this.#requests[this.#next] as SpanRequest<T>;
      const bytes = request.span.end - request.span.offset;
      const isFull = this.#active >= REQUESTS_AT_A_TIME || this.#activeBytes + bytes > MAX_BYTES_IN_FLIGHT;
      if (this.#active > 0 && isFull) return;
      this.#next++;
      this.#active++;
      this.#activeBytes += bytes;
      this.#answer(request)
        .catch((error: unknown) => {
          this.#failure ??= { error };
          this.#stop.abort(error);
        })
        .then(() => {
          this.#active--;
          this.#activeBytes -= bytes;
          this.#startMore();
        });
    }
    if (this.#active > 0) return;
    if (this.#failure === undefined) this.#done.resolve();
    else this.#done.reject(this.#failure.error);
  }

  async #answer(request: SpanRequest<T>): Promise<void> {
    const { pack, span, looks, isSecondRead = false } = request;
    const { target, state } = this.#parts;
    const known = this.#gone.get(packKey(pack));
    if (known?.seq === state().seq) return this.#failAll(span.records, known.error);
    let bytes: Uint8Array;
    try {
      // The wait ends with the signal, also where the target ignores it.
      const length = span.end - span.offset;
      bytes = await abortable(readPackBytes(target, pack, span.offset, length, this.#signal), this.#signal);
    } catch (error) {
      this.#signal.throwIfAborted();
      if (BackupError.is(error, 'PACK_MISSING')) return this.#missed(request, error);
      return this.#failAll(span.records, error);
    }
    const { tally } = this.#options;
    if (tally !== undefined) {
      tally.requests++;
      tally.fetchedBytes += bytes.length;
    }
    const damaged = await this.#open(span, bytes);
    if (this.#parts.rereadsDamage === true && !isSecondRead) {
      this.#enqueue([...damaged.keys()], { looks, isPart: true, isSecondRead: true });
    } else {
      for (const [{ wanted }, error] of damaged) this.#fail(wanted, error);
    }
  }

  /** Delivers the records of a span; resolves with those that are damaged. */
  async #open(span: RecordSpan<LocatedRecord<T>>, bytes: Uint8Array): Promise<ReadonlyMap<LocatedRecord<T>, unknown>> {
    const { keys, fanOut } = this.#parts;
    const damaged = new Map<LocatedRecord<T>, unknown>();
    const goesOn = this.#options.onFailed !== undefined || this.#parts.rereadsDamage === true;
    let opened: { readonly id: Uint8Array; readonly offset: number; readonly raw: Uint8Array } | undefined;
    for (const record of span.records) {
      await yieldToEventLoop();
      this.#signal.throwIfAborted();
      const { kind, id, location } = record.wanted;
      const { offset } = record;
      // Blocks of one content follow each other here: they are one record.
      if (opened?.offset !== offset || Buffer.compare(opened.id, id) !== 0) {
        try {
          const { codec, rawLength } = location;
          const raw = openRecord(keys, fanOut, { kind, id, codec, rawLength }, storedIn(span, record, bytes));
          opened = { id, offset, raw };
        } catch (error) {
          if (!goesOn) throw error;
          damaged.set(record, error);
          continue;
        }
      }
      await this.#deliver(record.wanted, opened.raw);
    }
    return damaged;
  }

  /** P8: a reader that misses a pack reads the log on. Records that were moved are followed; the others are missing. */
  async #missed(request: SpanRequest<T>, error: BackupError): Promise<void> {
    const { pack, span, looks, isPart = false, isSecondRead = false } = request;
    const here = packKey(pack);
    let stayed: readonly LocatedRecord<T>[] = span.records;
    const mayMove = span.records.filter(({ wanted }) => wanted.kind !== RecordKind.relocation);
    if (!isPart && mayMove.length > 0) {
      try {
        await this.#parts.catchUp({ signal: this.#signal });
      } catch (failure) {
        this.#signal.throwIfAborted();
        return this.#failAll(span.records, failure); // Whether it is damage is not known.
      }
      const isHere = (record: LocatedRecord<T>) => packKey(record.pack) === here;
      const located = await this.#locate(
        mayMove.map(({ wanted }) => wanted),
        looks + 1,
      );
      const moved = located.filter((record) => !isHere(record));
      if (looks + 1 < MAX_LOOKS) this.#enqueue(moved, { looks: looks + 1 });
      else this.#failAll(moved, error);
      const fixed = span.records.filter(({ wanted }) => wanted.kind === RecordKind.relocation);
      stayed = [...fixed, ...located.filter(isHere)].sort((a, b) => a.offset - b.offset);
    }
    if (stayed.length === 0) return;
    const isShort = BackupError.is(error.cause, 'RANGE_UNSATISFIABLE');
    if (isShort && stayed.length > 1 && this.#options.onFailed !== undefined) {
      // Records before the end of a pack that was cut off can be read.
      const middle = stayed.length >>> 1;
      for (const half of [stayed.slice(0, middle), stayed.slice(middle)]) this.#enqueue(half, { looks, isPart: true });
      return;
    }
    if (this.#parts.rereadsDamage === true && !isSecondRead) {
      return this.#enqueue(stayed, { looks, isPart: true, isSecondRead: true });
    }
    if (!isShort && !this.#parts.relocations.isRelocated(here)) {
      this.#gone.set(here, { error, seq: this.#parts.state().seq });
    }
    this.#failAll(stayed, error);
  }

  /** Where records are as of the newest known state. Records of which that can't be said have failed. */
  async #locate(wanted: readonly T[], looks: number): Promise<LocatedRecord<T>[]> {
    const { located, failed } = await this.#parts.relocations.locateAll(wanted, { looks, signal: this.#signal });
    for (const [record, error] of failed) this.#fail(record, error);
    return located;
  }

  #failAll(records: readonly LocatedRecord<T>[], error: unknown): void {
    for (const { wanted } of records) this.#fail(wanted, error);
  }

  #fail(wanted: T, error: unknown): void {
    const { onFailed } = this.#options;
    if (onFailed === undefined) throw error;
    onFailed(wanted, error);
  }
}
