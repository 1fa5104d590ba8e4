import type { AbortOptions } from '../../common/abort.ts';
import { type BackupError, isDamage } from '../../common/errors.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { StoredBackup } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import type { Location, PackName } from '../format/record.ts';
import { type UsageSink, walkUsage } from '../map/place-walk.ts';
import { PlaceSet } from '../packs/location-set.ts';
import { PlacedRecords } from './placed-records.ts';

/** A pack as maps name it. */
export interface NamedPack {
  readonly pack: PackName;
  /**
   * How much of it is needed: nodes and runs exactly, blocks as the version of each leaf that needs most of them says.
   * Later versions of a leaf need a part of what the first one did, so this is what all of them need together; more where
   * newer runs hide some or where one block stands in several places of a volume.
   */
  bytes: number;
}

/** A backup of which the map can't be read in full. */
export interface DamagedMap {
  readonly backup: StoredBackup;
  readonly error: BackupError;
}

const LEAF_NUMBERS = 2 ** 29;

/**
 * Marks what maps need, each read in full. More maps may be added later on: what they share with those before is not read
 * again. A map that can't be read in full leaves behind what was marked of it, which is more than nothing, and nothing else.
 */
export class Marker {
  /** By pack key: places as maps have them, relocations not followed. */
  readonly named = new Map<string, NamedPack>();
  readonly records: PlacedRecords;
  readonly #marked = new Set<string>();
  readonly #seen = new PlaceSet();
  readonly #numbers = new Map<string, number>();
  /** By volume: the most that any version of a leaf needs of a pack. */
  readonly #most = new Map<string, Map<number, number>>();

  constructor(context: RepositoryContext) {
    this.records = new PlacedRecords(context);
  }

  /** @throws what reading a map gives: then nothing may be condemned that it may need (P7) */
  async mark(backups: readonly StoredBackup[], options: AbortOptions = {}): Promise<void> {
    for (const backup of backups) {
      options.signal?.throwIfAborted();
      if (this.#marked.has(backup.id)) continue;
      await this.#markOne(backup, options);
      this.#marked.add(backup.id);
    }
  }

  /** As {@link Marker.mark}; resolves with the backups that are damaged, and marks all others. */
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

  async #markOne(backup: StoredBackup, { signal }: AbortOptions): Promise<void> {
    const added: Location[] = [];
    const seen = {
      add: (place: Location) => {
        const isNew = this.#seen.add(place);
        if (isNew) added.push(place);
        return isNew;
      },
    };
    try {
      await walkUsage(this.records.map(backup.descriptor), this.#sinkOf(backup), { signal, seen });
    } catch (error) {
      // What lies below these was not walked to its end: the next map that has them must not skip them.
      for (const place of added) this.#seen.remove(place);
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
    const named = this.named.get(key);
    if (named === undefined) this.named.set(key, { pack, bytes });
    else named.bytes += bytes;
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
