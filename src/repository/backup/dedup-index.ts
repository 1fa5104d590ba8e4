import { type LogState, mayDedup } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import type { Location, PackName } from '../format/record.ts';
import type { Adoption } from './adoption.ts';

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
  /** By the key of a pack: the contents that are in it. */
  readonly #byPack = new Map<string, Set<string>>();
  /** The state that this follows. */
  #followed: Pick<LogState, 'seq' | 'condemned'> = { seq: 0, condemned: new Map() };

  find(key: string, state: LogState): Location | undefined {
    this.#follow(state);
    const location = this.#locations.get(key);
    if (location === undefined) return undefined;
    if (mayDedup(state, location.pack)) return location;
    this.#delete(key); // The pack was condemned, moved or quarantined.
    return undefined;
  }

  /** @param state - that has the packs of these locations as known */
  add(contents: Iterable<[key: string, location: Location]>, state: LogState): void {
    this.#follow(state);
    for (const [key, location] of contents) {
      this.#delete(key);
      this.#locations.set(key, location);
      const pack = packKey(location.pack);
      const ofPack = this.#byPack.get(pack);
      if (ofPack === undefined) this.#byPack.set(pack, new Set([key]));
      else ofPack.add(key);
    }
    for (const oldest of this.#locations.keys()) {
      if (this.#locations.size <= MAX_COMMITTED) return;
      this.#delete(oldest);
    }
  }

  /** Drops what was condemned. The state does not name it any more when it is gone, and pages are not read here. */
  #follow({ seq, condemned, goneThrough }: LogState): void {
    if (condemned !== this.#followed.condemned) {
      // @mutation gone-names-are-dropped
      const isUnclear = goneThrough > this.#followed.seq;
      for (const [pack, keys] of this.#byPack) {
        if (isUnclear || condemned.has(pack)) for (const key of keys) this.#delete(key);
      }
    }
    this.#followed = { seq, condemned };
  }

  #delete(key: string): void {
    const location = this.#locations.get(key);
    if (location === undefined) return;
    this.#locations.delete(key);
    const pack = packKey(location.pack);
    const ofPack = this.#byPack.get(pack);
    ofPack?.delete(key);
    if (ofPack?.size === 0) this.#byPack.delete(pack);
  }
}

/** Where a content is. */
export interface FoundContent {
  readonly location: Location;
  /** Its stored length where it is used out of an adopted session for the first time, else 0. */
  readonly adoptedBytes: number;
}

/** Where the contents are that a session need not store: its own, adopted ones, and those of the {@link DedupIndex}. */
export class SessionDedup {
  readonly #index: DedupIndex;
  readonly #state: () => LogState;
  readonly #adoption: Adoption | undefined;
  readonly #own = new Map<string, Location>();
  readonly #referred = new Map<string, PackName>();

  constructor(index: DedupIndex, state: () => LogState, adoption: Adoption | undefined) {
    this.#index = index;
    this.#state = state;
    this.#adoption = adoption;
  }

  /** Packs of other sessions that this one refers to: if one is condemned before the commit, the commit is refused (P4). */
  get referred(): Iterable<PackName> {
    return this.#referred.values();
  }

  /** Whether the store has had a pack since before this session, so that what is in it is safe already. */
  isStored(pack: PackName): boolean {
    return this.#referred.has(packKey(pack)) || (this.#adoption?.uses(pack) ?? false);
  }

  /** Has to be awaited before swept blocks are looked for; intercepted ones make do with what is known. */
  async prepare(blocks: readonly number[]): Promise<void> {
    await this.#adoption?.prepare(blocks);
  }

  find(id: Uint8Array, rawLength: number): FoundContent | undefined {
    const key = keyOf(id);
    const own = this.#own.get(key);
    if (own !== undefined) return { location: own, adoptedBytes: 0 };
    const adopted = this.#adoption?.find(id, rawLength);
    if (adopted !== undefined) {
      this.add(id, adopted);
      return { location: adopted, adoptedBytes: adopted.storedLength };
    }
    const found = this.#index.find(key, this.#state());
    if (found === undefined) return undefined;
    this.#referred.set(packKey(found.pack), found.pack);
    return { location: found, adoptedBytes: 0 };
  }

  /** Notes that a content is in one of the session's own packs, or in an adopted one. */
  add(id: Uint8Array, location: Location): void {
    if (this.#own.size < MAX_OWN) this.#own.set(keyOf(id), location);
  }

  /** Notes that what the session has stored is committed. */
  committed(): void {
    this.#index.add(this.#own, this.#state());
    this.#own.clear();
  }
}

function keyOf(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, id.length).toString('latin1');
}
