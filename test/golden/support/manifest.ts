import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** What a golden repository holds, known from what was written and not from what was read back. */

export const GOLDEN = ['v1-plain', 'v1-encrypted', 'v1-single-writer'] as const;
export type Golden = (typeof GOLDEN)[number];

export interface GoldenBackup {
  readonly id: string;
  readonly volume: string;
  readonly size: number;
  readonly blockSize: number;
  readonly metadata: Readonly<Record<string, string>>;
  /** `[first block, number of blocks]`. */
  readonly lost: readonly (readonly [number, number])[];
  /** Of the content, with zeroes where it is lost; hex. */
  readonly sha256: string;
}

export interface Manifest {
  /** Of the content; ids and keys are random. */
  readonly seed: number;
  /** What unlocks an encrypted one: either, as its slots say. */
  readonly unlock: { readonly passphrase: string; readonly key: string } | null;
  /** Key that was added and removed again, hex. */
  readonly removedKey: string | null;
  /** Oldest first, as the log commits them. */
  readonly backups: readonly GoldenBackup[];
  /** Ids of forgotten backups. */
  readonly forgotten: readonly string[];
}

export function goldenFolder(name: Golden): string {
  return join(import.meta.dirname, '..', name);
}

export function manifestPath(name: Golden): string {
  return `${goldenFolder(name)}.json`;
}

export function readManifest(name: Golden): Manifest {
  return JSON.parse(readFileSync(manifestPath(name), 'utf8')) as Manifest;
}
