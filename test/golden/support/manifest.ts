import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RepositoryMode } from '../../../src/repository/format/format-object.ts';

/** What a golden repository holds, known from what was written and not from what was read back. */

const FOLDER = join(import.meta.dirname, '..');

/** The names of all of them. Each is a folder with the objects as files, and a manifest beside it. */
export const GOLDEN: readonly string[] = readdirSync(FOLDER)
  .filter((name) => name.startsWith('v1-') && name.endsWith('.json'))
  .map((name) => name.slice(0, -'.json'.length));

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

/** Something that unlocks a repository: keys are hex, and a provider is one of `support/secrets.ts`, by its id. */
export type Secret = { readonly passphrase: string } | { readonly key: string } | { readonly provider: string };

/** A log whose newest end is not sound. This library opens it for reading only, as of an earlier entry; other readers refuse it. */
export interface GoldenDamage {
  readonly code: 'LOG_CORRUPT' | 'LOG_FORKED';
  readonly openedAsOf: number;
  readonly newestListed: number;
}

export interface Manifest {
  /** Of the content; ids and keys are random. */
  readonly seed: number;
  readonly mode: RepositoryMode;
  /** Each of them unlocks it; a plain one has none. */
  readonly secrets: readonly Secret[];
  /** Key that was added and removed again, hex. */
  readonly removedKey: string | null;
  /** Oldest first, as the log commits them. */
  readonly backups: readonly GoldenBackup[];
  /** Ids of forgotten backups. */
  readonly forgotten: readonly string[];
  /** What a reader must come across in it, as `independent-reader.ts` names it: what this repository is here for. */
  readonly has: readonly string[];
  readonly damage: GoldenDamage | null;
  /** What it asks of writers that this version does not know: they are refused, and readers are not. */
  readonly refusesWriters: string | null;
}

export function goldenFolder(name: string): string {
  return join(FOLDER, name);
}

export function manifestPath(name: string): string {
  return `${goldenFolder(name)}.json`;
}

export function readManifest(name: string): Manifest {
  return JSON.parse(readFileSync(manifestPath(name), 'utf8')) as Manifest;
}
