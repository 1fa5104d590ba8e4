import type { AbortOptions } from '../../common/abort.ts';
import { type BackupError, isDamage } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { StepCounter, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { mapOver, type RepositoryContext } from '../context/repository-context.ts';
import type { Relocation } from '../format/log-entry.ts';
import type { LogState, StoredBackup } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { type Location, type PackName, RecordKind } from '../format/record.ts';
import { type UsageSink, walkUsage } from '../map/map-usage.ts';
import { eachEntry, type MapVisitor, type VisitedRecord, visitMap } from '../map/visit.ts';
import { LocationSet } from '../packs/location-set.ts';
import { RecordStore } from '../packs/record-store.ts';

/**
 * Which packs are live: rules P7 and P9. First the maps are marked: {@link LivePacks} gathers the packs that they name. Then
 * relocations are followed: of a pack that was repacked the table and the packs that it leads to are live, and not the old one.
 * A repack asks in addition where in its packs live records are: {@link LiveLocations}.
 */

/** A backup of which the map can't be read in full. */
export interface DamagedMap {
  readonly backup: StoredBackup;
  readonly error: BackupError;
}

/** What is needed as of a state, relocations followed. */
export interface Live {
  /** Keys of packs. */
  readonly live: Set<string>;
  /** By pack key: an estimate of the bytes needed, as {@link LivePacks.named} says, tables included. */
  readonly bytes: ReadonlyMap<string, number>;
}

const LEAF_NUMBERS = 2 ** 29;
const TABLES_AT_A_TIME = 16;
/** Backups that follow each other have most of their runs in common, and marking and repacking both read them. */
const RUN_BYTES = 32 * 1024 * 1024;

/** The records that a collector reads: see {@link RecordStore}. */
export function collectorRecords({ target, keys, format, log }: RepositoryContext): RecordStore {
  return new RecordStore({
    target,
    keys,
    fanOut: format.fanOut,
    cacheBytes: RUN_BYTES,
    relocations: 'strict',
    state: () => log.state,
    catchUp: (options) => log.catchUp(options),
  });
}

/**
 * Marks what maps need, each read in full. More maps may be added later on: what they share with those before is not read
 * again. A map that can't be read in full leaves behind only what was marked of it before the damage.
 */
export class LivePacks {
  /**
   * Packs as maps name them, relocations not followed, by their keys, and how much of each is needed. Nodes and runs count
   * exactly. Blocks count by the version of each leaf that needs most of the pack: later versions need a part of what the
   * first one did, so this is what all of them need together. The number is too high where newer runs hide some blocks, or
   * where several blocks of a volume have one record.
   */
  readonly named = new Map<string, number>();
  readonly records: RecordStore;
  readonly #context: RepositoryContext;
  readonly #marked = new Set<string>();
  readonly #seen = new LocationSet();
  readonly #numbers = new Map<string, number>();
  /** By volume: the most that any version of a leaf needs of a pack. */
  readonly #most = new Map<string, Map<number, number>>();

  /** @param records - shared with other markings, to read less */
  constructor(context: RepositoryContext, records = collectorRecords(context)) {
    this.#context = context;
    this.records = records;
  }

  /** @throws what reading a map throws: then nothing may be condemned that it may need (P7) */
  async mark(backups: readonly StoredBackup[], options: AbortOptions = {}): Promise<void> {
    for (const backup of backups) {
      options.signal?.throwIfAborted();
      if (this.#marked.has(backup.id)) continue;
      await this.#markOne(backup, options);
      this.#marked.add(backup.id);
    }
  }

  /** As {@link LivePacks.mark}, but resolves with the backups that are damaged, and marks all others. */
  async markReadable(backups: readonly StoredBackup[], options: AbortOptions = {}): Promise<DamagedMap[]> {
    const damaged: DamagedMap[] = [];
    for (const backup of backups) {
      try {
        await this.mark([backup], options);
      } catch (error) {
        if (!isDamage(error)) throw error;
        damaged.push({ backup, error });
      }
    }
    return damaged;
  }

  /**
   * What the marked maps need, relocations followed.
   *
   * @param onDamage - called for tables that can't be read; without it they throw
   * @throws what reading a table throws
   */
  async followed(
    state: LogState,
    options: AbortOptions,
    onDamage?: (relocation: Relocation, error: BackupError) => void,
  ): Promise<Live> {
    const needed = new Map<string, number>();
    const moved: { readonly relocation: Relocation; readonly bytes: number }[] = [];
    const steps = new StepCounter();
    const add = (key: string, bytes: number) => needed.set(key, (needed.get(key) ?? 0) + bytes);
    for (const [key, bytes] of this.named) {
      if (steps.isDue()) await yieldToEventLoop();
      const relocation = state.relocations.get(key);
      if (relocation === undefined) add(key, bytes);
      else moved.push({ relocation, bytes });
    }
    const targetsOf = async (relocation: Relocation) => {
      try {
        return await this.records.relocations.targets(relocation, options);
      } catch (error) {
        if (onDamage === undefined || !isDamage(error)) throw error;
        onDamage(relocation, error);
        return [];
      }
    };
    const look = async (each: (typeof moved)[number]) => ({ ...each, targets: await targetsOf(each.relocation) });
    for await (const { relocation, bytes, targets } of mapConcurrently(moved, look, TABLES_AT_A_TIME)) {
      options.signal?.throwIfAborted();
      await yieldToEventLoop();
      add(packKey(relocation.location.pack), relocation.location.storedLength);
      for (const target of targets) add(packKey(target.pack), Math.min(bytes, target.bytes));
    }
    return { live: new Set(needed.keys()), bytes: needed };
  }

  async #markOne(backup: StoredBackup, { signal }: AbortOptions): Promise<void> {
    const added: Location[] = [];
    const seen = {
      add: (location: Location) => {
        const isNew = this.#seen.add(location);
        if (isNew) added.push(location);
        return isNew;
      },
    };
    try {
      await walkUsage(mapOver(this.#context, this.records, backup.descriptor), this.#sinkOf(backup), { signal, seen });
    } catch (error) {
      // What is below these was not walked to its end: the next map that has them must not skip them.
      for (const location of added) this.#seen.remove(location);
      throw error;
    }
  }

  #sinkOf({ volume, descriptor }: StoredBackup): UsageSink {
    const name = `${descriptor.blockSize} ${volume}`;
    const most = this.#most.get(name) ?? new Map<number, number>();
    this.#most.set(name, most);
    return {
      record: (pack, bytes) => this.#add(pack, bytes),
      blocks: (leaf, pack, bytes) => {
        const at = this.#numberOf(pack) * LEAF_NUMBERS + leaf;
        const before = most.get(at) ?? 0;
        if (bytes > before) most.set(at, bytes);
        this.#add(pack, Math.max(0, bytes - before));
      },
    };
  }

  #add(pack: PackName, bytes: number): void {
    const key = packKey(pack);
    this.named.set(key, (this.named.get(key) ?? 0) + bytes);
  }

  #numberOf(pack: PackName): number {
    const key = packKey(pack);
    let number = this.#numbers.get(key);
    if (number === undefined) {
      number = this.#numbers.size;
      this.#numbers.set(key, number);
    }
    return number;
  }
}

const NO_OFFSETS: ReadonlySet<number> = new Set();

/**
 * Every location in some packs that maps name: of nodes, runs and blocks, those too that newer runs hide. Only leaves that
 * have something there are read. More maps may be added later on; after a failure it is of no more use.
 */
export class LiveLocations {
  readonly #context: RepositoryContext;
  readonly #records: RecordStore;
  readonly #wanted: ReadonlySet<string>;
  readonly #walked = new Set<string>();
  readonly #seen = new LocationSet();
  readonly #offsets = new Map<string, Set<number>>();
  #last: PackName | undefined;
  /** Of the last pack; `undefined` if it is not wanted. */
  #lastOffsets: Set<number> | undefined;

  /** @param wanted - keys of packs */
  constructor(context: RepositoryContext, records: RecordStore, wanted: ReadonlySet<string>) {
    this.#context = context;
    this.#records = records;
    this.#wanted = wanted;
  }

  /** Whether it looks for these packs. */
  covers(wanted: ReadonlySet<string>): boolean {
    return [...wanted].every((key) => this.#wanted.has(key));
  }

  async walk(backups: readonly StoredBackup[], { signal }: AbortOptions): Promise<void> {
    const visitor: MapVisitor = {
      enter: (at) => this.#enter(at),
      entries: (entries) =>
        eachEntry(entries, (_block, entry) => {
          if (entry !== undefined) this.#add(entry.location);
        }),
    };
    for (const backup of backups) {
      signal?.throwIfAborted();
      if (this.#walked.has(backup.id)) continue;
      await visitMap(mapOver(this.#context, this.#records, backup.descriptor), visitor, { signal });
      this.#walked.add(backup.id);
    }
  }

  /** Offsets in a pack, by its key. */
  in(key: string): ReadonlySet<number> {
    return this.#offsets.get(key) ?? NO_OFFSETS;
  }

  #enter(at: VisitedRecord): boolean {
    if (!this.#seen.add(at.ref.location)) return false;
    this.#add(at.ref.location);
    if (at.kind !== RecordKind.leaf || at.ref.usage === undefined) return true;
    return at.ref.usage.some(({ pack }) => this.#offsetsOf(pack) !== undefined);
  }

  #add({ pack, offset }: Location): void {
    this.#offsetsOf(pack)?.add(offset);
  }

  #offsetsOf(pack: PackName): Set<number> | undefined {
    // Entries that follow each other mostly name one pack, by one object.
    if (pack === this.#last) return this.#lastOffsets;
    const key = packKey(pack);
    this.#last = pack;
    this.#lastOffsets = this.#offsets.get(key);
    if (this.#lastOffsets === undefined && this.#wanted.has(key)) {
      this.#lastOffsets = new Set();
      this.#offsets.set(key, this.#lastOffsets);
    }
    return this.#lastOffsets;
  }
}
