import type { AbortOptions } from '../../common/abort.ts';
import type { StoredBackup } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { walkPlaces } from '../map/place-walk.ts';
import { PlaceSet } from '../packs/location-set.ts';
import type { PlacedRecords } from './placed-records.ts';

const NO_OFFSETS: ReadonlySet<number> = new Set();

/** Every place in some packs that maps name. More maps may be added later on; after a failure it is of no more use. */
export class LivePlaces {
  readonly #records: PlacedRecords;
  readonly #wanted: ReadonlySet<string>;
  readonly #walked = new Set<string>();
  readonly #seen = new PlaceSet();
  readonly #offsets = new Map<string, Set<number>>();

  /** @param wanted - keys of packs */
  constructor(records: PlacedRecords, wanted: ReadonlySet<string>) {
    this.#records = records;
    this.#wanted = wanted;
  }

  /** Whether it looks for these packs. */
  covers(wanted: ReadonlySet<string>): boolean {
    return [...wanted].every((key) => this.#wanted.has(key));
  }

  async walk(backups: readonly StoredBackup[], { signal }: AbortOptions): Promise<void> {
    for (const backup of backups) {
      signal?.throwIfAborted();
      if (this.#walked.has(backup.id)) continue;
      const map = this.#records.map(backup.descriptor);
      await walkPlaces(map, this.#wanted, ({ pack, offset }) => this.#add(packKey(pack), offset), {
        signal,
        seen: this.#seen,
      });
      this.#walked.add(backup.id);
    }
  }

  /** Offsets in a pack, by its key. */
  in(key: string): ReadonlySet<number> {
    return this.#offsets.get(key) ?? NO_OFFSETS;
  }

  #add(key: string, offset: number): void {
    const offsets = this.#offsets.get(key);
    if (offsets === undefined) this.#offsets.set(key, new Set([offset]));
    else offsets.add(offset);
  }
}
