import type { BackupRecord } from '../../format/log-entry.ts';
import { packKey } from '../../format/object-keys.ts';
import type { PackName } from '../../format/record.ts';

/** The packs in which maps begin, and how many times each. */
export class DescriptorPacks {
  readonly #counts = new Map<string, number>();

  /** Whether a map begins in the pack of that key. */
  has(key: string): boolean {
    return this.#counts.has(key);
  }

  add(backup: BackupRecord): void {
    for (const pack of descriptorPacks(backup)) {
      const key = packKey(pack);
      this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    }
  }

  remove(backup: BackupRecord): void {
    for (const pack of descriptorPacks(backup)) {
      const key = packKey(pack);
      const left = (this.#counts.get(key) ?? 0) - 1;
      if (left > 0) this.#counts.set(key, left);
      else this.#counts.delete(key);
    }
  }
}

/** Where the root and the runs of a backup stand. */
export function descriptorPacks({ descriptor: { root, runs } }: BackupRecord): PackName[] {
  const packs = runs.flatMap((run) => run.map(({ location }) => location.pack));
  return root === undefined ? packs : [root.location.pack, ...packs];
}
