import { packKey } from '../format/object-keys.ts';
import type { Location, PackName } from '../format/record.ts';

type Place = Pick<Location, 'pack' | 'offset'>;

/** A set of locations that takes a few bytes for each: a repository has a million map nodes and more. */
export class LocationSet {
  readonly #byPack = new Map<string, Set<number>>();
  #last: PackName | undefined;
  #offsets = new Set<number>();

  /** Returns whether the location is new. */
  add({ pack, offset }: Place): boolean {
    const offsets = this.#of(pack);
    if (offsets.has(offset)) return false;
    offsets.add(offset);
    return true;
  }

  remove({ pack, offset }: Place): void {
    this.#of(pack).delete(offset);
  }

  has({ pack, offset }: Place): boolean {
    return this.#of(pack).has(offset);
  }

  #of(pack: PackName): Set<number> {
    // Nodes that follow each other mostly name one pack, by one object.
    if (pack === this.#last) return this.#offsets;
    const key = packKey(pack);
    const offsets = this.#byPack.get(key) ?? new Set();
    this.#byPack.set(key, offsets);
    this.#last = pack;
    this.#offsets = offsets;
    return offsets;
  }
}
