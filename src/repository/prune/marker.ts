import type { AbortOptions } from '../../common/abort.ts';
import type { StoredBackup } from '../log/log-state.ts';
import { type UsageSink, walkUsage } from '../map/place-walk.ts';
import { type PackName, packKey } from '../records/record.ts';
import type { RepositoryContext } from '../repository-context.ts';
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

const LEAF_NUMBERS = 2 ** 29;

/**
 * Marks what maps need, each read in full. More maps may be added later on: what they share with those before is not read
 * again. After a failure it is of no more use.
 */
export class Marker {
  /** By pack key: places as maps have them, relocations not followed. */
  readonly named = new Map<string, NamedPack>();
  readonly records: PlacedRecords;
  readonly #marked = new Set<string>();
  readonly #seen = new Set<string>();
  readonly #numbers = new Map<string, number>();
  /** By volume: the most that any version of a leaf needs of a pack. */
  readonly #most = new Map<string, Map<number, number>>();

  constructor(context: RepositoryContext) {
    this.records = new PlacedRecords(context);
  }

  /** @throws what reading a map gives: then nothing may be condemned (P7) */
  async mark(backups: readonly StoredBackup[], options: AbortOptions = {}): Promise<void> {
    for (const backup of backups) {
      options.signal?.throwIfAborted();
      if (this.#marked.has(backup.id)) continue;
      const map = this.records.map(backup.descriptor);
      await walkUsage(map, this.#sinkOf(backup), { ...options, seen: this.#seen });
      this.#marked.add(backup.id);
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
