import { mkdir, rm, writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import os from 'node:os';
import { dirname, join } from 'node:path';
import type { AbortOptions } from '../../src/common/abort.ts';
import { BackupRepository } from '../../src/repository/backup-repository.ts';
import { createRepository } from '../../src/repository/open/create-repository.ts';
import { openRepository } from '../../src/repository/open/open-repository.ts';
import { checkCreateOptions, checkTuning } from '../../src/repository/open/repository-options.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import { seededRandom } from '../../src/testing/seeded-random.ts';
import { RECIPES } from './recipes/all.ts';
import { goldenFolder, type Manifest, manifestPath } from './support/manifest.ts';
import type { Recipe } from './support/recipe.ts';

/*
 * Makes golden repositories anew: `node test/golden/make.ts` all of them, or those that it is given the names of. Not to be done
 * once a version is out: those that are there are what its readers have to be able to read for good, and a new version of the
 * format gets new ones beside them. A new one is a file in `recipes/`, and a line in `recipes/all.ts`.
 */

const SEED = 20_261_123;
const SMALL = { threads: 0, packBytes: 64 * 1024, sealMemoryBytes: 2 ** 20 } as const;

// Entries tell who wrote them, and the name of this machine is nobody's business.
os.hostname = () => 'golden';
syncBuiltinESMExports();

/**
 * A store in which old entries, checkpoints and pages stay, as they do when a prune is cut short: a reader that begins with the first
 * entry compares every checkpoint with what the entries give.
 */
class WithItsPast extends MemoryTarget {
  override async deleteMany(keys: readonly string[], options?: AbortOptions): Promise<void> {
    await super.deleteMany(
      keys.filter((key) => !/^(log|catalogue)\//.test(key)),
      options,
    );
  }

  override async delete(key: string, options?: AbortOptions): Promise<void> {
    if (!/^(log|catalogue)\//.test(key)) await super.delete(key, options);
  }
}

const names = process.argv.slice(2);
const unknown = names.filter((name) => !RECIPES.some((recipe) => recipe.name === name));
if (unknown.length > 0) throw new Error(`there is no recipe for ${unknown.join(', ')}`);
for (const recipe of RECIPES) if (names.length === 0 || names.includes(recipe.name)) await make(recipe);

async function make(recipe: Recipe): Promise<void> {
  const {
    name,
    mode = 'shared',
    encryption,
    fanOut,
    secrets,
    removedKey = null,
    has,
    keepsReserve = false,
    losesPast = false,
  } = recipe;
  const singleWriter = mode === 'single-writer';
  const objects = new (losesPast ? MemoryTarget : WithItsPast)({ createOnly: !singleWriter });
  await createRepository(objects, checkCreateOptions({ encryption, singleWriter }), {}, { fanOut });
  const unlock = encryption === 'none' ? undefined : encryption;
  const repository = await BackupRepository.open(objects, { unlock, singleWriter, ...SMALL });
  const context = await openRepository(objects, { unlock, singleWriter }, checkTuning(SMALL));
  const written = await recipe.write({ random: seededRandom(SEED), context, repository, objects });
  await repository.close();
  if (!keepsReserve) await objects.delete('reserve');
  await rm(goldenFolder(name), { recursive: true, force: true });
  for await (const { key } of objects.list('')) {
    const path = join(goldenFolder(name), key);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, await objects.get(key));
  }
  const { backups, forgotten, damage, refusesWriters } = written;
  const manifest: Manifest = { seed: SEED, mode, secrets, removedKey, backups, forgotten, has, damage, refusesWriters };
  await writeFile(manifestPath(name), `${JSON.stringify(manifest, null, 2)}\n`);
}
