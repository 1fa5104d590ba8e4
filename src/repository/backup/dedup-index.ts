import { type LogState, mayDedup } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import type { Location, PackName } from '../format/record.ts';

/** How many contents of one session are remembered. */
const MAX_OWN = 2 ** 17;
/** How many contents of committed backups are remembered, for all volumes together: 4 GiB of 64 KiB blocks. */
const MAX_COMMITTED = 2 ** 16;

/**
 * Where the contents are that backups of this process have committed, of any volume. It lives as long as the open
 * repository, and is bounded: a miss costs space, never correctness. What it finds counts only if the log still allows
 * deduplication against that pack (P10).
 */
export class DedupIndex {
  /** Oldest first. */
  readonly #locations = new Map<string, Location>();

  find(key: string, state: LogState): Location | undefined {
    const location = this.#locations.get(key);
    if (location === undefined) return undefined;
    if (mayDedup(state, location.pack)) return location;
    this.#locations.delete(key); // The pack was condemned, moved or quarantined.
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

/** Where the contents are that a session need not store: its own, and those of the {@link DedupIndex}. */
export class SessionDedup {
  readonly #index: DedupIndex;
  readonly #state: () => LogState;
  readonly #own = new Map<string, Location>();
  readonly #referred = new Map<string, PackName>();

  constructor(index: DedupIndex, state: () => LogState) {
    this.#index = index;
    this.#state = state;
  }

  /** Packs of other sessions that this one refers to: if one is condemned before the commit, the commit is refused (P4). */
  get referred(): Iterable<PackName> {
    return this.#referred.values();
  }

  /** Whether a pack is one of `referred`, and so committed and safe already. */
  isReferred(pack: PackName): boolean {
    return this.#referred.has(packKey(pack));
  }

  find(id: Uint8Array): Location | undefined {
    const key = keyOf(id);
    const own = this.#own.get(key);
    if (own !== undefined) return own;
    const found = this.#index.find(key, this.#state());
    if (found !== undefined) this.#referred.set(packKey(found.pack), found.pack);
    return found;
  }

  /** Notes that the session has put a content into one of its own packs. */
  add(id: Uint8Array, location: Location): void {
    if (this.#own.size < MAX_OWN) this.#own.set(keyOf(id), location);
  }

  /** Notes that what the session has stored is committed. */
  committed(): void {
    this.#index.add(this.#own);
    this.#own.clear();
  }
}

function keyOf(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, id.length).toString('latin1');
}
