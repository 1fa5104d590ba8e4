import { rm, writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import os from 'node:os';
import { join } from 'node:path';
import { BackupRepository } from '../../src/repository/backup-repository.ts';
import type { Unlock } from '../../src/repository/crypto/unlock.ts';
import { openRepository } from '../../src/repository/open/open-repository.ts';
import { checkTuning } from '../../src/repository/open/repository-options.ts';
import { FileTarget } from '../../src/targets/file/file-target.ts';
import { RESERVED } from '../../src/targets/file/object-path.ts';
import { seededRandom } from '../../src/testing/seeded-random.ts';
import { writeBackups, writeFew, writePrelude } from './support/history.ts';
import { GOLDEN, type Golden, goldenFolder, type Manifest, manifestPath } from './support/manifest.ts';

/*
 * Makes the golden repositories anew: `node test/golden/make.ts`. Not to be done once a version is out: those that are
 * there are what its readers have to be able to read for ever; a new version of the format gets new ones beside them.
 */

const SEED = 20_261_123;
const SMALL = { threads: 0, packBytes: 64 * 1024, sealMemoryBytes: 2 ** 20 } as const;
const PASSPHRASE = 'the cow jumped over the moön';

// Entries tell who wrote them, and the name of this machine is nobody's business.
os.hostname = () => 'golden';
syncBuiltinESMExports();

for (const name of GOLDEN) await make(name);

async function make(name: Golden): Promise<void> {
  const folder = goldenFolder(name);
  await rm(folder, { recursive: true, force: true });
  const key = new Uint8Array(32).fill(0x6b);
  const removed = new Uint8Array(32).fill(0x72);
  const isPlain = name !== 'v1-encrypted';
  const singleWriter = name === 'v1-single-writer';
  const encryption: Unlock | 'none' = isPlain ? 'none' : { key };
  const unlock = isPlain ? undefined : { key };
  await using target = new FileTarget(folder);
  await using repository = await BackupRepository.create(target, { encryption, singleWriter, ...SMALL });
  const context = await openRepository(target, { unlock, singleWriter }, checkTuning(SMALL));
  const source = { random: seededRandom(SEED), context, repository };
  const keys = isPlain ? null : { passphrase: { passphrase: PASSPHRASE }, removed: { key: removed } };
  if (!singleWriter) await writePrelude(source, keys);
  const written = await (singleWriter ? writeFew(source) : writeBackups(source));
  // The mark of a folder is random, and belongs to the folder rather than to the repository.
  await rm(join(folder, RESERVED), { recursive: true });
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  const manifest: Manifest = {
    seed: SEED,
    unlock: isPlain ? null : { passphrase: PASSPHRASE, key: hex(key) },
    removedKey: isPlain ? null : hex(removed),
    backups: written.backups,
    forgotten: written.forgotten,
  };
  await writeFile(manifestPath(name), `${JSON.stringify(manifest, null, 2)}\n`);
}
