import { mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The code of the documents, as it stands there. */

export const root = join(import.meta.dirname, '../../..');

/** README.md and the guides, by their paths in the repository. */
export const PAGES: readonly string[] = [
  'README.md',
  ...readdirSync(join(root, 'docs/guides')).map((name) => `docs/guides/${name}`),
];

/** A sample of a page, with those that it continues before it. */
export interface Sample {
  readonly page: string;
  /** Of its file, without an extension: `README-1`. */
  readonly name: string;
  readonly code: string;
}

const FENCE = /```ts( continues)?\n(.*?)```/gs;

export function pageText(page: string): string {
  return readFileSync(join(root, page), 'utf8');
}

/** The TypeScript samples of a page. One that is fenced as `ts continues` is one program with the sample before it. */
export function samplesOf(page: string): Sample[] {
  const samples: Sample[] = [];
  const stem = page.replace(/^docs\/guides\//, '').replace(/\.md$/, '');
  for (const [, continues, code] of pageText(page).matchAll(FENCE)) {
    const before = continues === undefined ? undefined : samples.pop();
    const name = before?.name ?? `${stem}-${samples.length + 1}`;
    samples.push({ page, name, code: `${before === undefined ? '' : `${before.code}\n`}${code}` });
  }
  return samples;
}

/** A folder in which programs import this package by its name, as users do. */
export function folderWithPackage(prefix: string): string {
  const folder = mkdtempSync(join(tmpdir(), prefix));
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, 'package.json'), readFileSync(join(root, 'package.json')));
  symlinkSync(join(root, 'dist'), join(folder, 'dist'));
  return folder;
}

/** What samples and examples use without making it: what the page says that there is, and what is the host's own. */
export const AMBIENT_TYPES = `
declare global {
  const repository: import('cow-cloud-backup').BackupRepository;
  const volume: import('cow-cloud-backup').CopyOnWriteVolume;
  const backup: import('cow-cloud-backup').BackupResult;
  const device: import('cow-cloud-backup').BlockDevice;
  const target: import('cow-cloud-backup').CloudTarget;
  const local: import('cow-cloud-backup').CloudTarget;
  const offsite: import('cow-cloud-backup').CloudTarget;
  const passphrase: string;
  const key: Uint8Array;
  const pipeline: import('cow-cloud-backup').BackupPipeline;
  const unlock: import('cow-cloud-backup').Unlock;
  const open: () => Promise<import('cow-cloud-backup').CloudTarget>;
  const store: { pages: number; load(page: number, into: Uint8Array): void; save(page: number, from: Uint8Array): void; fsync(): void };
  function test(name: string, run: (context: { skip(reason?: string): void }) => Promise<void>): void;
}
export {};
`;
