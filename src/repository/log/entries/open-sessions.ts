import type { Session } from '../../format/log-state.ts';

/** What the open sessions hold: volumes (P2) and bases (P3), counted once and then kept up. */
export class OpenSessions {
  readonly #volumes = new Set<string>();
  /** How many sessions have pinned a base. */
  readonly #pins = new Map<string, number>();

  constructor(sessions: Iterable<Session>) {
    for (const session of sessions) this.add(session);
  }

  /** Whether a session has a backup of the volume under way. */
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

  /** @returns ids of bases that nobody has pinned any more */
  remove({ volumes }: Session): string[] {
    const released: string[] = [];
    for (const [volume, base] of volumes) {
      this.#volumes.delete(volume);
      if (base === undefined) continue;
      const left = (this.#pins.get(base) ?? 0) - 1;
      if (left > 0) this.#pins.set(base, left);
      else if (this.#pins.delete(base)) released.push(base);
    }
    return released;
  }
}
