import { type LogState, mayDedup } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import type { Location, PackName } from '../format/record.ts';

/** Contents of the session itself that are remembered. */
const MAX_OWN = 2 ** 17;
/** Contents of committed backups that are remembered, of all volumes together: 4 GiB of 64 KiB blocks. */
const MAX_COMMITTED = 2 ** 16;

/**
 * Where contents are that backups of this process have committed, of whatever volume. Bounded: a miss costs space, never
 * correctness; and what it says is believed only as far as the log does (P10).
 */
export class ContentIndex {
  /** The oldest first. */
  readonly #locations = new Map<string, Location>();

  find(key: string, state: LogState): Location | undefined {
    const location = this.#locations.get(key);
    if (location === undefined) return undefined;
    if (mayDedup(state, location.pack)) return location;
    this.#locations.delete(key); // Condemned, moved or damaged since.
    return undefined;
  }

  add(contents: Iterable<[key: string, location: Location]>): void {
    for (const [key, location] of contents) {
      this.#locations.delete(key);
      this.#locations.set(key, location);
    }
    for (const oldest of this.#locations.keys()) {
      if (this.#locations.size <= MAX_COMMITTED) return;
      this.#locations.delete(oldest);
    }
  }
}

/** Where contents are that a session need not store: those that it has stored already, and those of the index. */
export class KnownContents {
  readonly #index: ContentIndex;
  readonly #state: () => LogState;
  readonly #own = new Map<string, Location>();
  readonly #referred = new Map<string, PackName>();

  constructor(index: ContentIndex, state: () => LogState) {
    this.#index = index;
    this.#state = state;
  }

  /** Packs of others that were told of: the commit is refused if one of them has been condemned by then (P4). */
  get referred(): Iterable<PackName> {
    return this.#referred.values();
  }

  /** Whether what was told lies in a pack that is committed, and so safe already. */
  isReferred(pack: PackName): boolean {
    return this.#referred.has(packKey(pack));
  }

  get(id: Uint8Array): Location | undefined {
    const key = keyOf(id);
    const own = this.#own.get(key);
    if (own !== undefined) return own;
    const found = this.#index.find(key, this.#state());
    if (found !== undefined) this.#referred.set(packKey(found.pack), found.pack);
    return found;
  }

  /** The session has put a content into a pack of its own. */
  add(id: Uint8Array, location: Location): void {
    if (this.#own.size < MAX_OWN) this.#own.set(keyOf(id), location);
  }

  /** What the session has stored is committed. */
  committed(): void {
    this.#index.add(this.#own);
    this.#own.clear();
  }
}

function keyOf(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, id.length).toString('latin1');
}
