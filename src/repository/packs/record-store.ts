import type { AbortOptions } from '../../common/abort.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { RepositoryKeys } from '../crypto/repository-keys.ts';
import type { LogState } from '../format/log-state.ts';
import type { MappedBlock } from '../format/map-descriptor.ts';
import { type Location, type ReadRecordOptions, RecordKind, type RecordReader } from '../format/record.ts';
import { GatheredReads } from './batched-reads.ts';
import { RecordCache } from './record-cache.ts';
import { type FetchTally, RecordFetcher } from './record-fetcher.ts';
import { Relocations } from './relocations.ts';

const DEFAULT_CACHE_BYTES = 16 * 1024 * 1024;

/** What a {@link RecordStore} needs of its repository. */
export interface RecordStoreParts {
  readonly target: CloudTarget;
  readonly keys: RepositoryKeys;
  readonly fanOut: number;
  /** The log as it is known now. */
  state(): LogState;
  /** Most bytes of nodes and runs to keep. @defaultValue 16 MiB */
  readonly cacheBytes?: number | undefined;
  /** Replays what others have appended. */
  catchUp(options: AbortOptions): Promise<LogState>;
}

/** Called with each block's content, in any order; awaited. The bytes may be views: copy what is kept. */
export type Deliver = (block: number, bytes: Uint8Array) => Promise<void> | void;

export interface ReadBlocksOptions extends AbortOptions {
  /** Told of each block that can't be read, and the others go on. Without, the first failure ends the call. */
  readonly onFailed?: ((block: number, error: unknown) => void) | undefined;
}

/**
 * The one place that reads what packs hold: records of maps, and blocks; wherever they are now (P9), opened and checked
 * against their ids.
 *
 * What misses a pack fails with `PACK_MISSING` only after the newest entries of the log have been read: `explainMissingPack` says
 * whether it is missing because its backup was forgotten.
 */
export class RecordStore implements RecordReader {
  readonly #fetcher: RecordFetcher;
  readonly #reads: GatheredReads;
  readonly #cache: RecordCache;

  constructor(parts: RecordStoreParts) {
    const { target, keys, fanOut, cacheBytes = DEFAULT_CACHE_BYTES } = parts;
    const relocations = new Relocations(this);
    const state = () => parts.state();
    const catchUp = (options: AbortOptions) => parts.catchUp(options);
    this.#fetcher = new RecordFetcher({ target, keys, fanOut, relocations, state, catchUp });
    this.#reads = new GatheredReads(this.#fetcher);
    this.#cache = new RecordCache(cacheBytes);
  }

  /**
   * One record. Those that are asked for in one turn of the event loop and stand near each other come with one request. The
   * bytes are shared: they must not be changed.
   */
  async read(
    kind: RecordKind,
    id: Uint8Array,
    location: Location,
    { signal, keep = true }: ReadRecordOptions = {},
  ): Promise<Uint8Array> {
    signal?.throwIfAborted();
    const kept = this.#cache.get(location);
    if (kept !== undefined && kept.kind === kind && Buffer.compare(kept.id, id) === 0) return kept.raw;
    const raw = await this.#reads.read({ kind, id, location }, { signal });
    if (keep && isOfMap(kind)) this.#cache.add(kind, id, location, raw);
    return raw;
  }

  /**
   * Fetches blocks, those that stand near each other in a pack together, several requests at a time, and checks each
   * against its id. Nothing is delivered any more once it has settled.
   *
   * @throws `PACK_MISSING`, `RECORD_CORRUPT`, what the target gives, and what `deliver` throws
   */
  readBlocks(
    wanted: readonly MappedBlock[],
    deliver: Deliver,
    tally: FetchTally,
    { signal, onFailed }: ReadBlocksOptions = {},
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

  /** A record of a map has just been written: who reads it next needs no request. */
  remember(kind: RecordKind, id: Uint8Array, location: Location, raw: Uint8Array): void {
    if (isOfMap(kind)) this.#cache.add(kind, id, location, raw);
  }

  /** A record of a map, if it is in memory. */
  peek(location: Location): Uint8Array | undefined {
    return this.#cache.get(location)?.raw;
  }
}

/** The others are read once, or are kept elsewhere. */
function isOfMap(kind: RecordKind): boolean {
  return kind === RecordKind.leaf || kind === RecordKind.inner || kind === RecordKind.runChunk;
}
