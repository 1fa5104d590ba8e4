import type { BackupRepository } from '../../../../src/repository/backup-repository.ts';
import type { BackupInfo } from '../../../../src/repository/context/backup-info.ts';
import { BLOCK } from '../../support/repositories.ts';

/** A backup as it must be. */
export interface Kept {
  readonly id: string;
  readonly volume: string;
  readonly content: Uint8Array;
}

/** The trivially correct model of a repository: which backups it must have, and their content, copied whole at each instant. */
export class Ledger {
  /** Oldest first. */
  readonly kept = new Map<string, Kept>();
  /** Of which nobody was told whether they are there: the commit, or the forgetting, is unknown. */
  readonly #unknown = new Map<string, Kept>();
  readonly #forgotten = new Set<string>();
  /** Content of all that ever was. */
  readonly contents = new Map<string, Uint8Array>();

  /** Somebody was told that it is there. */
  commit(backup: Kept): void {
    this.contents.set(backup.id, backup.content);
    // A lazy backup that commits by itself may be forgotten before anybody looks at it.
    if (!this.#forgotten.has(backup.id)) this.kept.set(backup.id, backup);
  }

  /** It is there, or it is not. */
  doubt(backup: Kept): void {
    this.kept.delete(backup.id);
    this.#unknown.set(backup.id, backup);
    this.contents.set(backup.id, backup.content);
  }

  forget(id: string): void {
    this.kept.delete(id);
    this.#forgotten.add(id);
  }

  of(volume: string): Kept[] {
    return [...this.kept.values()].filter((backup) => backup.volume === volume);
  }

  /**
   * What the repository lists is what must be there. What is doubted becomes known.
   *
   * @param underWay - may have committed themselves meanwhile
   */
  async compare(repository: BackupRepository, underWay: ReadonlySet<string> = new Set()): Promise<void> {
    const listed: BackupInfo[] = [];
    for await (const info of repository.listBackups()) listed.unshift(info);
    for (const { id, volume } of listed) {
      const doubted = this.#unknown.get(id);
      if (doubted !== undefined) this.kept.set(id, doubted);
      else if (!this.kept.has(id) && !underWay.has(id))
        throw new Error(`backup ${id} of ${volume} should not be there`);
    }
    this.#unknown.clear();
    const ids = new Set(listed.map(({ id }) => id));
    const lost = [...this.kept.keys()].find((id) => !ids.has(id));
    if (lost !== undefined) throw new Error(`backup ${lost} is not there any more`);
    for (const info of listed) {
      const kept = this.kept.get(info.id);
      if (kept === undefined) continue;
      if (!info.intact || info.size !== kept.content.length || info.volume !== kept.volume)
        throw new Error(`backup ${info.id} is described wrongly`);
    }
  }

  /** Every backup that must be there reads back byte for byte. */
  async read(repository: BackupRepository, ids: Iterable<string> = this.kept.keys()): Promise<void> {
    for (const id of ids) {
      await using image = await repository.openBackup(id);
      const bytes = new Uint8Array(image.size).fill(0xee);
      await image.read(0, bytes);
      sameBytes(bytes, this.contents.get(id) as Uint8Array, `backup ${id}`);
    }
  }
}

/** @throws with the first block that differs */
export function sameBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  if (Buffer.compare(actual, expected) === 0) return;
  if (actual.length !== expected.length) throw new Error(`${what} has ${actual.length} bytes`);
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  throw new Error(`${what} differs in block ${Math.floor(at / BLOCK)}, at byte ${at}`);
}
