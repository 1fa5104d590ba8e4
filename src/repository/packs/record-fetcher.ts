import { type AbortOptions, abortable } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { RepositoryKeys } from '../crypto/repository-keys.ts';
import type { Relocation } from '../format/log-entry.ts';
import type { LogState } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { RecordKind } from '../format/record.ts';
import { readPackBytes } from './pack-reader.ts';
import { openRecord } from './record-sealing.ts';
import { byPack, type PlacedRecord, type RecordSpan, spansOf, type WantedRecord } from './record-spans.ts';
import { inPlace, type Relocations, type RelocationTables, relocationTables } from './relocations.ts';

const REQUESTS_AT_A_TIME = 8;
/** Of one call, and as many bytes again at most of what was opened last. */
const MAX_BYTES_IN_FLIGHT = 32 * 1024 * 1024;
const TABLES_AT_A_TIME = 16;
/** A pack may be moved, and deleted, while its records are being read from where they were a moment ago. */
const MAX_LOOKS = 3;

/** What fetching has cost. */
export interface FetchTally {
  fetchedBytes: number;
  requests: number;
}

/** What a {@link RecordFetcher} needs of its repository. */
export interface RecordFetcherParts {
  readonly target: CloudTarget;
  readonly keys: RepositoryKeys;
  readonly fanOut: number;
  readonly relocations: Relocations;
  /** The log as it is known now. */
  state(): LogState;
  /** Replays what others have appended. */
  catchUp(options: AbortOptions): Promise<LogState>;
}

/** Called with each record's raw bytes, in any order; awaited. They may be views: copy what is kept. */
export type DeliverRecord<T> = (wanted: T, raw: Uint8Array) => Promise<void> | void;

export interface FetchOptions<T> extends AbortOptions {
  readonly tally?: FetchTally | undefined;
  /** Told of each record that can't be read, and the others go on. Without, the first failure ends the call. */
  readonly onFailed?: ((wanted: T, error: unknown) => void) | undefined;
}

/**
 * Reads records from packs: those that stand near each other with one request, several requests at a time, each record
 * opened and checked against its id, those of packs that were moved where they are now.
 */
export class RecordFetcher {
  readonly #parts: RecordFetcherParts;

  constructor(parts: RecordFetcherParts) {
    this.#parts = parts;
  }

  /**
   * Nothing is delivered any more once it has settled. While a record is being delivered its request counts as under way.
   *
   * @throws `PACK_MISSING`, also after a look at the newest entries of the log; `RECORD_CORRUPT`, what the target gives,
   * and what `deliver` throws
   */
  async fetch<T extends WantedRecord>(
    wanted: readonly T[],
    deliver: DeliverRecord<T>,
    options: FetchOptions<T> = {},
  ): Promise<void> {
    options.signal?.throwIfAborted();
    if (wanted.length > 0) await new Fetch(this.#parts, deliver, options).run(wanted);
  }
}

interface Request<T extends WantedRecord> {
  readonly span: RecordSpan<T>;
  /** How often the log was looked at for these records. */
  readonly looks: number;
  /** Part of a request that failed: the log has been looked at for it. */
  readonly isPart?: boolean;
}

/** One call. */
class Fetch<T extends WantedRecord> {
  readonly #parts: RecordFetcherParts;
  readonly #deliver: DeliverRecord<T>;
  readonly #options: FetchOptions<T>;
  /** Ends requests when the caller aborts, or something failed. */
  readonly #stop = new AbortController();
  readonly #requests: Request<T>[] = [];
  #next = 0;
  #active = 0;
  #activeBytes = 0;
  readonly #done = Promise.withResolvers<void>();
  #failure: { readonly error: unknown } | undefined;
  /** Packs that are not there, whatever the log says. */
  readonly #gone = new Map<string, BackupError>();

  constructor(parts: RecordFetcherParts, deliver: DeliverRecord<T>, options: FetchOptions<T>) {
    this.#parts = parts;
    this.#deliver = deliver;
    this.#options = options;
  }

  async run(wanted: readonly T[]): Promise<void> {
    const { signal } = this.#options;
    const stop = () => this.#stop.abort(signal?.reason);
    signal?.addEventListener('abort', stop, { once: true });
    try {
      this.#enqueue(await this.#place(wanted, 0), 0);
      this.#startMore();
      await this.#done.promise;
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }

  get #signal(): AbortSignal {
    return this.#stop.signal;
  }

  #enqueue(placed: readonly PlacedRecord<T>[], looks: number): void {
    for (const span of spansOf(placed)) this.#requests.push({ span, looks });
  }

  #startMore(): void {
    while (this.#failure === undefined && this.#next < this.#requests.length) {
      const request = this.#requests[this.#next] as Request<T>;
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

  async #answer(request: Request<T>): Promise<void> {
    const { pack, offset, end, records } = request.span;
    const { target, keys, fanOut } = this.#parts;
    const known = this.#gone.get(packKey(pack));
    if (known !== undefined) return this.#failAll(records, known);
    let bytes: Uint8Array;
    try {
      // The wait ends with the signal, also where the target does not care for it.
      bytes = await abortable(readPackBytes(target, pack, offset, end - offset, this.#signal), this.#signal);
    } catch (error) {
      this.#signal.throwIfAborted();
      if (BackupError.is(error, 'PACK_MISSING')) return this.#missed(request, error);
      return this.#failAll(records, error);
    }
    const { tally } = this.#options;
    if (tally !== undefined) {
      tally.requests++;
      tally.fetchedBytes += bytes.length;
    }
    let opened: { readonly id: Uint8Array; readonly at: number; readonly raw: Uint8Array } | undefined;
    for (const record of records) {
      await yieldToEventLoop();
      this.#signal.throwIfAborted();
      const { kind, id, location } = record.wanted;
      const at = record.offset - offset;
      // Blocks of one content follow each other here: they are one record.
      if (opened?.at !== at || Buffer.compare(opened.id, id) !== 0) {
        try {
          const { codec, rawLength, storedLength } = location;
          const stored = bytes.subarray(at, at + storedLength);
          opened = { id, at, raw: openRecord(keys, fanOut, { kind, id, codec, rawLength }, stored) };
        } catch (error) {
          this.#fail(record.wanted, error);
          continue;
        }
      }
      await this.#deliver(record.wanted, opened.raw);
    }
  }

  /** P8: who misses a pack replays the log. What was moved is followed; else it is forgotten, or damaged. */
  async #missed(request: Request<T>, error: BackupError): Promise<void> {
    const { span, looks, isPart = false } = request;
    let stayed: readonly PlacedRecord<T>[] = span.records;
    const mayMove = span.records.filter(({ wanted }) => wanted.kind !== RecordKind.relocation);
    if (!isPart && mayMove.length > 0) {
      try {
        await this.#parts.catchUp({ signal: this.#signal });
      } catch (failure) {
        this.#signal.throwIfAborted();
        return this.#failAll(span.records, failure); // Whether it is damage is not known.
      }
      const here = packKey(span.pack);
      const isHere = ({ pack }: PlacedRecord<T>) => packKey(pack) === here;
      const placed = await this.#place(
        mayMove.map(({ wanted }) => wanted),
        looks + 1,
      );
      const moved = placed.filter((record) => !isHere(record));
      if (looks + 1 < MAX_LOOKS) this.#enqueue(moved, looks + 1);
      else this.#failAll(moved, error);
      const fixed = span.records.filter(({ wanted }) => wanted.kind === RecordKind.relocation);
      stayed = [...fixed, ...placed.filter(isHere)].sort((a, b) => a.offset - b.offset);
    }
    if (stayed.length === 0) return;
    const isShort = BackupError.is(error.cause, 'RANGE_UNSATISFIABLE');
    if (isShort && stayed.length > 1 && this.#options.onFailed !== undefined) {
      // What stands before the end of a pack that was cut off can be read.
      const middle = stayed.length >>> 1;
      for (const half of [stayed.slice(0, middle), stayed.slice(middle)]) {
        for (const part of spansOf(half)) this.#requests.push({ span: part, looks, isPart: true });
      }
      return;
    }
    const key = packKey(span.pack);
    if (!isShort && relocationTables(this.#parts.state(), key) === undefined) this.#gone.set(key, error);
    this.#failAll(stayed, error);
  }

  /** Where records are as of the newest known state. Those of which that can't be told have failed. */
  async #place(wanted: readonly T[], looks: number): Promise<PlacedRecord<T>[]> {
    const state = this.#parts.state();
    if (state.relocations.size + state.formerRelocations.size === 0) return wanted.map(inPlace);
    const placed: PlacedRecord<T>[] = [];
    const moved: { readonly key: string; readonly records: readonly T[]; readonly tables: RelocationTables }[] = [];
    for (const [key, records] of byPack(wanted, ({ location }) => location.pack)) {
      const tables = relocationTables(state, key);
      if (tables === undefined) {
        for (const record of records) placed.push(inPlace(record));
        continue;
      }
      // Tables are where the log says, so there is never a second step.
      const fixed = records.filter(({ kind }) => kind === RecordKind.relocation);
      for (const record of fixed) placed.push(inPlace(record));
      const others = records.filter(({ kind }) => kind !== RecordKind.relocation);
      if (others.length > 0) moved.push({ key, records: others, tables });
    }
    const follow = ({ key, records, tables }: (typeof moved)[number]) => this.#follow(key, records, tables, looks);
    for await (const found of mapConcurrently(moved, follow, TABLES_AT_A_TIME)) {
      for (const record of found) placed.push(record);
    }
    return placed;
  }

  async #follow(
    key: string,
    records: readonly T[],
    tables: RelocationTables,
    looks: number,
  ): Promise<readonly PlacedRecord<T>[]> {
    const signal = this.#signal;
    try {
      return await this.#parts.relocations.follow(records, tables, { signal });
    } catch (error) {
      signal.throwIfAborted();
      let failure = error;
      if (BackupError.is(error, 'PACK_MISSING') && looks + 1 < MAX_LOOKS) {
        // The table may have been replaced, and the pack in which it stood deleted.
        try {
          const now = relocationTables(await this.#parts.catchUp({ signal }), key);
          if (now === undefined) return records.map(inPlace);
          if (!isSame(now.newest, tables.newest)) return await this.#follow(key, records, now, looks + 1);
        } catch (unknown) {
          signal.throwIfAborted();
          failure = unknown;
        }
      }
      for (const record of records) this.#fail(record, failure);
      return [];
    }
  }

  #failAll(records: readonly PlacedRecord<T>[], error: unknown): void {
    for (const { wanted } of records) this.#fail(wanted, error);
  }

  #fail(wanted: T, error: unknown): void {
    const { onFailed } = this.#options;
    if (onFailed === undefined) throw error;
    onFailed(wanted, error);
  }
}

function isSame(a: Relocation | undefined, b: Relocation | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return Buffer.compare(a.id, b.id) === 0 && packKey(a.location.pack) === packKey(b.location.pack);
}
