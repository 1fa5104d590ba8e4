import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { build, type Options } from 'tsup';
import { beforeAll, expect, test } from 'vitest';
import config from '../../../../tsup.config.ts';
import { folderForFile } from '../../../support/folders.ts';

/** The pool in a process of its own: from the sources, and from the bundle that the package's build makes. */

const root = join(import.meta.dirname, '../../../..');
const folder = folderForFile();
const MODULES = {
  pool: 'src/repository/packs/seal-pool/seal-pool.ts',
  keys: 'src/repository/crypto/repository-keys.ts',
};

beforeAll(async () => {
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  const options = config as Options;
  const entry = { ...(options.entry as Record<string, string>), ...MODULES };
  await build({ ...options, config: false, entry, outDir: join(folder, 'dist'), clean: false, silent: true });
});

test.each([
  ['the sources', join(root, MODULES.pool), join(root, MODULES.keys)],
  ['the bundle', join(folder, 'dist/pool.js'), join(folder, 'dist/keys.js')],
])(
  'a pool from %s works in threads, keeps the process alive while it works and not when idle',
  async (_, pool, keys) => {
    const program = `
    import { SealPool } from '${pathToFileURL(pool)}';
    import { RepositoryKeys } from '${pathToFileURL(keys)}';
    const keys = RepositoryKeys.encrypted(new Uint8Array(32).fill(1), new Uint8Array(16));
    const pool = new SealPool({ keys, blockSize: 4096, threads: 2 });
    const slot = await pool.acquire();
    slot.input.fill(3, 4096, 8192);
    const ids = await pool.identify(slot, [4096, 4096]);
    const sealed = await pool.seal(slot, [1]);
    console.log(ids.map((id) => id?.length), sealed[0].codec, sealed[0].storedLength < 100);
    // The pool is left open.`;
    const file = join(folder, 'program.mjs');
    writeFileSync(file, program);
    // An idle pool that kept the process alive would run into the time limit; one that did not while busy, exit early.
    const { stdout } = await promisify(execFile)(process.execPath, [file], { timeout: 20_000 });
    expect(stdout.trim()).toBe('[ undefined, 32 ] 1 true');
  },
);
