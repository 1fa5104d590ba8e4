import type { BackupRecord } from '../../format/log-entry.ts';
import type { Session } from '../../format/log-state.ts';
import { packKey } from '../../format/object-keys.ts';
import type { PackName } from '../../format/record.ts';

/*
 * Two counts over a state that folding asks for again and again. A fold makes each of them once and then updates it with
 * every entry, because counting again for every entry would take time in proportion to entries times state.
 */

/** What the open sessions hold: their volumes (P2) and pinned bases (P3). */
export class OpenSessions {
  readonly #volumes = new Set<string>();
  /** How many sessions have pinned each base. */
  readonly #pins = new Map<string, number>();

  constructor(sessions: Iterable<Session>) {
    for (const session of sessions) this.add(session);
  }

  /** Whether an open session backs up this volume. */
  hasVolume(volume: string): boolean {
    return this.#volumes.has(volume);
  }

  isPinned(backup: string): boolean {
    return this.#pins.has(backup);
  }

  add({ volumes }: Session): void {
    for (const [volume, base] of volumes) {
      this.#volumes.add(volume);
      if (base !== undefined) this.#pins.set(base, (this.#pins.get(base) ?? 0) + 1);
    }
  }

  /** @returns the ids of the bases that no session pins any more */
  remove({ volumes }: Session): string[] {
    const released: string[] = [];
    for (const [volume, base] of volumes) {
      this.#volumes.delete(volume);
      if (base !== undefined && decrement(this.#pins, base)) released.push(base);
    }
    return released;
  }
}

/** In which packs the block maps of backups begin, and how many times each. */
export class MapStarts {
  readonly #counts = new Map<string, number>();

  /** Whether a map begins in the pack of this key. */
  has(key: string): boolean {
    return this.#counts.has(key);
  }

  add(backup: BackupRecord): void {
    for (const pack of startPacks(backup)) {
      const key = packKey(pack);
      this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    }
  }

  remove(backup: BackupRecord): void {
    for (const pack of startPacks(backup)) decrement(this.#counts, packKey(pack));
  }
}

/** The packs that the map of a backup begins in: those of its root and of its runs. */
export function startPacks({ descriptor: { root, runs } }: BackupRecord): PackName[] {
  const packs = runs.flatMap((run) => run.map(({ location }) => location.pack));
  return root === undefined ? packs : [root.location.pack, ...packs];
}

/** @returns whether nothing is left */
function decrement(counts: Map<string, number>, key: string): boolean {
  const left = (counts.get(key) ?? 0) - 1;
  if (left > 0) counts.set(key, left);
  else counts.delete(key);
  return left <= 0;
}
