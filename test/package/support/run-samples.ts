import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/**
 * Runs samples one after the other, each in a folder of its own in which there is a `disk.img` and nothing else, and prints
 * which of the tests that a sample defines have failed, as JSON by the sample's name. A program of its own, run where the
 * package can be imported by its name.
 *
 * Arguments: the names of the samples' files without their extension.
 */

// As users import it, so that there is one copy of the package.
const library = (await import(
  pathToFileURL(join(process.cwd(), 'dist/index.js')).href
)) as typeof import('../../../src/index.ts');
const { BackupRepository, CopyOnWriteVolume, MemoryDevice, MemoryTarget } = library;

const home = process.cwd();
const failed: Record<string, string[]> = {};

for (const name of process.argv.slice(2)) {
  const folder = join(home, `run-${name}`);
  mkdirSync(folder);
  process.chdir(folder);
  writeFileSync('disk.img', Buffer.alloc(5 * 65536 + 1000, 'content'));
  const failures: string[] = [];
  failed[name] = failures;
  const tests: (() => Promise<void>)[] = [];

  const device = new MemoryDevice(1 << 20);
  device.bytes.fill(1, 0, 300_000);
  const volume = await CopyOnWriteVolume.open(device);
  const encryption = { key: new Uint8Array(32).fill(1) };
  const repository = await BackupRepository.create(new MemoryTarget(), { encryption, threads: 0 });
  const backup = await repository.backup(volume, { volume: 'disk' });
  const pages = new Map<number, Uint8Array>();
  const store = {
    pages: 512,
    load: (page: number, into: Uint8Array) => into.set(pages.get(page) ?? new Uint8Array(into.length)),
    save: (page: number, from: Uint8Array) => void pages.set(page, from.slice()),
    fsync: () => {},
  };
  const test = (title: string, run: (context: { skip(): void }) => Promise<void>) =>
    void tests.push(() => run({ skip() {} }).catch(() => void failures.push(title)));
  Object.assign(globalThis, { repository, volume, backup, store, test });

  try {
    await import(pathToFileURL(join(home, `${name}.ts`)).href);
  } catch (cause) {
    throw new Error(`sample ${name} failed`, { cause });
  }
  for (const run of tests) await run();
  await repository.close();
  await volume.close();
}

console.log(`\n${JSON.stringify(failed)}`);
