import type { AbortOptions } from '../../common/abort.ts';
import type { CloudTarget } from '../../target/cloud-target.ts';
import type { RepositoryKeys } from '../keys/repository-keys.ts';
import type { LogState } from '../log/log-state.ts';
import type { MappedBlock } from '../map/block-map.ts';
import { type FetchTally, fetchBlocks } from '../restore/block-fetcher.ts';
import { type Location, packKey, type RecordKind, type RecordReader } from './record.ts';
import { StoredRecords } from './stored-records.ts';

/** What a {@link RecordStore} needs of its repository. */
export interface RecordStoreParts {
  readonly target: CloudTarget;
  readonly keys: RepositoryKeys;
  readonly fanOut: number;
  /** The log as it is known now. */
  state(): LogState;
  readonly cacheBytes?: number | undefined;
  /** Replays what others have appended. */
  catchUp(options: AbortOptions): Promise<LogState>;
}

/** Called with each block's content, in any order; awaited. The bytes may be views: copy what is kept. */
export type Deliver = (block: number, bytes: Uint8Array) => Promise<void> | void;

/** The one place that reads what packs hold: records of maps, and blocks. */
export class RecordStore implements RecordReader {
  readonly #parts: RecordStoreParts;
  readonly #records: StoredRecords;

  constructor(parts: RecordStoreParts) {
    this.#parts = parts;
    this.#records = new StoredRecords(parts);
  }

  read(kind: RecordKind, id: Uint8Array, location: Location, options: AbortOptions = {}): Promise<Uint8Array> {
    const kept = this.peek(location);
    if (kept !== undefined) return Promise.resolve(kept);
    return this.#records.read(kind, id, location, options);
  }

  /** Fetches blocks, those that stand near each other in a pack together, and checks each against its id. */
  readBlocks(
    wanted: readonly MappedBlock[],
    deliver: Deliver,
    tally: FetchTally,
    options: AbortOptions = {},
  ): Promise<void> {
    return fetchBlocks(this.#parts, wanted, deliver, tally, options.signal);
  }

  /**
   * Records by their place. Not by their id: that does not cover where a node says things are, and two nodes of one id may
   * say different things of which a collector keeps only one.
   */
  readonly #kept = new Map<string, Uint8Array>();

  /** A record has just been written. */
  remember(location: Location, raw: Uint8Array): void {
    this.#kept.set(placeKey(location), raw);
  }

  /** A record, if it is in memory. */
  peek(location: Location): Uint8Array | undefined {
    return this.#kept.get(placeKey(location));
  }
}

function placeKey({ pack, offset }: Location): string {
  return `${packKey(pack)}/${offset}`;
}
