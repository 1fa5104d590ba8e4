// This folder reads and writes what packs hold: records are sealed, written, found (relocations.ts), fetched and
// opened.

import type { AbortOptions } from '../../common/abort.ts';
import { ownBytes } from '../../common/bytes.ts';
import { LruCache } from '../../common/lru-cache.ts';
import type { MappedBlock } from '../format/map-descriptor.ts';
import { packKey } from '../format/object-keys.ts';
import { type Location, type ReadRecordOptions, RecordKind, type RecordReader } from '../format/record.ts';
import { BatchedReads } from './batched-reads.ts';
import { type FetchTally, RecordFetcher, type RecordFetcherParts } from './record-fetcher.ts';
import { READ_SPANS, type SpanLimits } from './record-spans.ts';
import { type RelocationPolicy, Relocations } from './relocations.ts';

const DEFAULT_CACHE_BYTES = 16 * 1024 * 1024;

/** What a {@link RecordStore} reads, and how. */
export interface RecordStoreParts
  extends Pick<RecordFetcherParts, 'target' | 'keys' | 'fanOut' | 'state' | 'catchUp' | 'rereadsDamage'> {
  /** Most bytes of nodes and runs to keep in memory; 0 for none. @defaultValue 16 MiB */
  readonly cacheBytes?: number | undefined;
  /** @defaultValue `lenient` */
  readonly relocations?: RelocationPolicy | undefined;
  /** @defaultValue {@link READ_SPANS} */
  readonly spans?: SpanLimits | undefined;
  /** Ends every read that has no signal of its own. */
  readonly signal?: AbortSignal | undefined;
}

/** Called with each block's content, in any order; awaited. The bytes may be views: copy what is kept. */
export type Deliver = (block: number, bytes: Uint8Array) => Promise<void> | void;

export interface ReadBlocksOptions extends AbortOptions {
  /** Called for each block that can't be read; the others go on. Without it the first failure ends the call. */
  readonly onFailed?: ((block: number, error: unknown) => void) | undefined;
}

/**
 * The one road to what packs hold: records of maps, tables and blocks, wherever they are now (P9), opened and checked against
 * their ids. There are three kinds of stores, which differ in their options only:
 *
 * - The repository's, for readers: it keeps nodes in memory, and follows relocations leniently.
 * - The collector's. For reading blocks any copy of a node is good enough. The collector must read the exact copy that a map
 *   names: two copies of one id can name different packs. So it is strict about relocations.
 * - A verification's: it keeps nothing, since what was read before says nothing about the store today; it is strict about
 *   relocations, and reads what looks damaged a second time.
 *
 * All of them keep records by their locations and not by their ids, and fail with `PACK_MISSING` only after the newest
 * entries of the log have been read (P8): a pack that is missing then is damage, unless the backup was forgotten.
 */
export class RecordStore implements RecordReader {
  /** Where records of packs that were repacked are. */
  readonly relocations: Relocations;
  /** Stored bytes of the single records that were read from packs. */
  readBytes = 0;
  readonly #fetcher: RecordFetcher;
  readonly #reads: BatchedReads;
  /** Raw records of maps by their locations. */
  readonly #cache: LruCache<string, KeptRecord>;
  readonly #signal: AbortSignal | undefined;

  constructor(parts: RecordStoreParts) {
    const { target, keys, fanOut, rereadsDamage, spans = READ_SPANS, cacheBytes = DEFAULT_CACHE_BYTES } = parts;
    const state = () => parts.state();
    const catchUp = (options: AbortOptions) => parts.catchUp(options);
    this.#signal = parts.signal;
    this.relocations = new Relocations({ policy: parts.relocations ?? 'lenient', records: this, state, catchUp });
    const { relocations } = this;
    this.#fetcher = new RecordFetcher({ target, keys, fanOut, relocations, state, catchUp, rereadsDamage, spans });
    this.#reads = new BatchedReads(this.#fetcher);
    this.#cache = new LruCache(cacheBytes);
  }

  /**
   * One record. Records that are asked for in one turn of the event loop and are near each other in a pack come with one
   * request. The bytes are shared: they must not be changed.
   */
  async read(
    kind: RecordKind,
    id: Uint8Array,
    location: Location,
    { signal = this.#signal, keep = true }: ReadRecordOptions = {},
  ): Promise<Uint8Array> {
    signal?.throwIfAborted();
    const kept = this.#cache.get(keyOf(location));
    if (kept !== undefined && kept.kind === kind && Buffer.compare(kept.id, id) === 0) return kept.raw;
    const raw = await this.#reads.read({ kind, id, location }, { signal });
    this.readBytes += location.storedLength;
    if (keep) this.remember(kind, id, location, raw);
    return raw;
  }

  /**
   * Fetches blocks, those that are near each other in a pack together, several requests at a time, and checks each against
   * its id. Nothing is delivered any more once it has settled.
   *
   * @throws `PACK_MISSING`, `RECORD_CORRUPT`, what the target throws, and what `deliver` throws
   */
  readBlocks(
    wanted: readonly MappedBlock[],
    deliver: Deliver,
    tally: FetchTally,
    { signal = this.#signal, onFailed }: ReadBlocksOptions = {},
  ): Promise<void> {
    const blocks = wanted.map(({ block, entry: { id, location } }) => ({
      kind: RecordKind.block,
      id,
      location,
      block,
    }));
    return this.#fetcher.fetch(blocks, ({ block }, bytes) => deliver(block, bytes), {
      signal,
      tally,
      onFailed: onFailed === undefined ? undefined : ({ block }, error) => onFailed(block, error),
    });
  }

  /** Keeps a record of a map that was read or written, so that reading it takes no request. Its bytes must not change. */
  remember(kind: RecordKind, id: Uint8Array, location: Location, raw: Uint8Array): void {
    const key = keyOf(location);
    if (!isOfMap(kind) || this.#cache.get(key) !== undefined) return;
    const own = ownBytes(raw);
    this.#cache.set(key, { kind, id: Uint8Array.from(id), raw: own }, own.buffer.byteLength + OVERHEAD_BYTES);
  }

  /** A record of a map, if it is in memory. */
  peek(location: Location): Uint8Array | undefined {
    return this.#cache.get(keyOf(location))?.raw;
  }
}

/** Tables are kept by {@link Relocations}, and blocks by their readers. */
function isOfMap(kind: RecordKind): boolean {
  return kind === RecordKind.leaf || kind === RecordKind.inner || kind === RecordKind.runChunk;
}

/** What is held for each record in addition to its bytes, roughly. */
const OVERHEAD_BYTES = 400;

interface KeptRecord {
  readonly kind: RecordKind;
  readonly id: Uint8Array;
  readonly raw: Uint8Array;
}

/** An id does not cover where a node says that blocks are: two nodes of one id may name different packs. */
function keyOf({ pack, offset }: Location): string {
  return `${packKey(pack)}/${offset}`;
}
