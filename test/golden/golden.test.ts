import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { BackupRepository } from '../../src/repository/backup-repository.ts';
import type { OpenOptions } from '../../src/repository/open/repository-options.ts';
import { FileTarget } from '../../src/targets/file/file-target.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import { contentOfBackup, openVolume, SMALL } from '../repository/support/repositories.ts';
import { withCode } from '../support/with-code.ts';
import { type Objects, type ReadRepository, readRepository } from './independent-reader.ts';
import { RECIPES } from './recipes/all.ts';
import { GOLDEN, goldenFolder, type Manifest, readManifest, type Secret } from './support/manifest.ts';
import { INVERTING, unlockWith } from './support/secrets.ts';

/**
 * Repositories as earlier versions of this library have left them: every later one reads them, and so does a reader that
 * knows nothing but `docs/FORMAT.md`.
 */

test('each golden repository has a recipe', () => {
  expect(RECIPES.map(({ name }) => name).toSorted()).toEqual(GOLDEN.toSorted());
});

/** Nothing, for a plain repository; otherwise each of its secrets. */
function unlocksOf({ secrets }: Manifest): [string, OpenOptions][] {
  if (secrets.length === 0) return [['nothing', {}]];
  return secrets.map((secret) => [`a ${Object.keys(secret)[0]}`, { unlock: unlockWith(secret) }]);
}

describe.each(GOLDEN.map((name) => ({ name, manifest: readManifest(name) })))('$name', ({ name, manifest }) => {
  const { mode, backups, forgotten, damage, refusesWriters } = manifest;
  const objects = objectsOf(name);
  const unlocks = unlocksOf(manifest);
  const [[, unlocking]] = unlocks as [[string, OpenOptions]];

  describe.each(unlocks)('unlocked with %s', (_how, unlock) => {
    // Large contents are hashed once: what another secret opens is the same key.
    const isHashed = (size: number) => unlock === unlocking || size < 4 * 2 ** 20;

    test('is read by this version', { timeout: 120_000 }, async () => {
      await using target = new FileTarget(goldenFolder(name));
      await using repository = await BackupRepository.open(target, { ...unlock, readOnly: true, threads: 0 });
      if (damage === null) expect(repository.damage).toBeUndefined();
      else {
        const { code, ...rest } = damage;
        expect(repository.damage).toMatchObject({ ...rest, error: { code } });
      }
      const listed = await Array.fromAsync(repository.listBackups());
      expect(listed.map(({ id }) => id).toReversed()).toEqual(backups.map(({ id }) => id));
      for (const [index, info] of listed.toReversed().entries()) {
        const { sha256, lost, ...told } = backups[index]!;
        expect(info).toMatchObject({ ...told, intact: lost.length === 0 });
        await using image = await repository.openBackup(info.id, { allowLost: true });
        if (isHashed(image.size)) {
          const content = new Uint8Array(image.size);
          await image.read(0, content);
          expect(createHash('sha256').update(content).digest('hex'), `${info.volume}, backup ${index}`).toBe(sha256);
        }
        await using strict = await repository.openBackup(info.id);
        for (const [first] of lost) {
          const read = strict.read(first * info.blockSize, new Uint8Array(1));
          await expect(read).rejects.toMatchObject({ code: 'BLOCK_LOST' });
        }
      }
      for (const id of forgotten) {
        await expect(repository.openBackup(id)).rejects.toMatchObject({
          code: expect.stringMatching(/^BACKUP_(FORGOTTEN|NOT_FOUND)$/),
        });
      }
    });
  });

  const singleWriter = mode === 'single-writer';
  const filled = async () => {
    const target = new MemoryTarget({ createOnly: !singleWriter });
    for (const [key, bytes] of objects) await target.put(key, Uint8Array.from(bytes));
    return target;
  };
  const openToWrite = (target: MemoryTarget) => BackupRepository.open(target, { ...unlocking, ...SMALL, singleWriter });

  const isWelcoming = damage === null && refusesWriters === null;
  if (isWelcoming)
    test('is continued by this version', async () => {
      await using target = await filled();
      await using repository = await openToWrite(target);
      const { device, volume } = await openVolume(5);
      const { id } = await repository.backup(volume, { volume: 'continued' });
      expect(Buffer.compare(await contentOfBackup(repository, id), device.bytes)).toBe(0);
      const { ok, damaged, damagedObjects } = await repository.verify({ depth: 'structure' });
      expect({ ok, damaged, damagedObjects }).toEqual({ ok: true, damaged: [], damagedObjects: [] });
    });

  if (damage !== null)
    test('is not written to: its log is not sound', async () => {
      await using target = await filled();
      await expect(openToWrite(target)).rejects.toEqual(withCode(damage?.code as string));
    });

  if (refusesWriters !== null)
    test('is not written to: it asks for what this version does not know', async () => {
      await using target = await filled();
      await expect(openToWrite(target)).rejects.toEqual(withCode('REPOSITORY_UNSUPPORTED'));
      await expect(openToWrite(target)).rejects.toThrow(refusesWriters as string);
    });

  if (manifest.removedKey !== null)
    test('does not open with a key that was removed', async () => {
      await using target = new FileTarget(goldenFolder(name));
      const unlock = unlockWith({ key: manifest.removedKey as string });
      await expect(BackupRepository.open(target, { unlock })).rejects.toMatchObject({ code: 'KEY_REFUSED' });
    });

  const read = (from: Objects) => readersSecrets(manifest).map((secret) => readRepository(from, secret));
  let results: ReturnType<typeof read> | undefined;

  if (damage !== null)
    test('is refused by a reader of FORMAT.md', () => {
      expect(() => read(objects)).toThrow();
    });

  // This reader folds from the first entry. The one in Python reads what is left of a log.
  if (damage === null && !name.startsWith('v1-pruned'))
    describe('a reader of FORMAT.md', () => {
      test('reads it', { timeout: 120_000 }, () => {
        results ??= read(objects);
        const expected = backups.map((backup) => ({ ...backup, intact: backup.lost.length === 0 }));
        for (const each of results) expect(each.backups).toEqual(expected);
      });

      test('comes across all that it is here for', { timeout: 120_000 }, () => {
        results ??= read(objects);
        const seen = new Set(results.flatMap((result) => [...result.seen.keys()]));
        expect(manifest.has.filter((what) => !seen.has(what))).toEqual([]);
      });

      test('is shown a bit that is not as it was', { timeout: 120_000 }, () => {
        results ??= read(objects);
        const [{ newestEntry, packs }] = results as [ReadRepository];
        const pages = [...objects.keys()].filter((key) => key.startsWith('catalogue/')).slice(-1);
        for (const key of [newestEntry, packs[0] as string, ...pages]) {
          const bytes = Uint8Array.from(objects.get(key) as Uint8Array);
          bytes[bytes.length >> 1]! ^= 0x10;
          expect(() => read(new Map(objects).set(key, bytes)), key).toThrow();
        }
      });
    });
});

type ReadersSecret = Parameters<typeof readRepository>[1];

function readersSecrets({ secrets }: Manifest): ReadersSecret[] {
  const secretOf = (secret: Secret): ReadersSecret => {
    if ('passphrase' in secret) return secret;
    if ('key' in secret) return { key: Uint8Array.from(Buffer.from(secret.key, 'hex')) };
    return { unwrap: (wrapped) => wrapped.map((byte) => byte ^ 0xff), provider: INVERTING.id };
  };
  return secrets.length === 0 ? [undefined] : secrets.map(secretOf);
}

/** The objects of a folder: each is the file that its key names. */
function objectsOf(name: string): Objects {
  const folder = goldenFolder(name);
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(
    files.map((file) => {
      const path = join(file.parentPath, file.name);
      return [path.slice(folder.length + 1), Uint8Array.from(readFileSync(path))];
    }),
  );
}
