import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { BackupRepository } from '../../src/repository/backup-repository.ts';
import type { Unlock } from '../../src/repository/crypto/unlock.ts';
import { FileTarget } from '../../src/targets/file/file-target.ts';
import { type Objects, readRepository } from './independent-reader.ts';
import { GOLDEN, type Golden, goldenFolder, type Manifest, readManifest } from './support/manifest.ts';

/**
 * Repositories as earlier versions of this library have left them: every later one reads them, and so does a reader that
 * knows nothing but `docs/FORMAT.md`.
 */

const bytesOf = (hex: string) => Uint8Array.from(Buffer.from(hex, 'hex'));

function unlocks({ unlock }: Manifest): [string, Unlock | undefined][] {
  if (unlock === null) return [['nothing', undefined]];
  return [
    ['a passphrase', { passphrase: unlock.passphrase }],
    ['a raw key', { key: bytesOf(unlock.key) }],
  ];
}

describe.each(GOLDEN.map((name) => ({ name, manifest: readManifest(name) })))('$name', ({ name, manifest }) => {
  describe.each(unlocks(manifest))('unlocked with %s', (_how, unlock) => {
    test('is read by this version', { timeout: 120_000 }, async () => {
      await using target = new FileTarget(goldenFolder(name));
      await using repository = await BackupRepository.open(target, { unlock, readOnly: true, threads: 0 });
      const listed = await Array.fromAsync(repository.listBackups());
      expect(listed.map(({ id }) => id).toReversed()).toEqual(manifest.backups.map(({ id }) => id));
      for (const [index, info] of listed.toReversed().entries()) {
        const { sha256, lost, ...told } = manifest.backups[index]!;
        expect(info).toMatchObject({ ...told, intact: lost.length === 0 });
        await using image = await repository.openBackup(info.id, { allowLost: true });
        const content = new Uint8Array(image.size);
        await image.read(0, content);
        expect(createHash('sha256').update(content).digest('hex'), `${info.volume}, backup ${index}`).toBe(sha256);
        await using strict = await repository.openBackup(info.id);
        for (const [first] of lost) {
          const read = strict.read(first * info.blockSize, new Uint8Array(1));
          await expect(read).rejects.toMatchObject({ code: 'BLOCK_LOST' });
        }
      }
      for (const id of manifest.forgotten) {
        await expect(repository.openBackup(id)).rejects.toMatchObject({
          code: expect.stringMatching(/^BACKUP_(FORGOTTEN|NOT_FOUND)$/),
        });
      }
    });
  });

  test.runIf(manifest.removedKey !== null)('does not open with a key that was removed', async () => {
    await using target = new FileTarget(goldenFolder(name));
    const unlock = { key: bytesOf(manifest.removedKey as string) };
    await expect(BackupRepository.open(target, { unlock })).rejects.toMatchObject({ code: 'KEY_REFUSED' });
  });

  const objects = objectsOf(name);
  const read = () => readersUnlocks(manifest).map((unlock) => readRepository(objects, unlock));
  let results: ReturnType<typeof read> | undefined;

  test('is read by a reader of FORMAT.md', { timeout: 120_000 }, () => {
    results ??= read();
    const expected = manifest.backups.map((backup) => ({ ...backup, intact: backup.lost.length === 0 }));
    for (const { backups } of results) expect(backups).toEqual(expected);
  });

  test('has a bit of everything', { timeout: 120_000 }, () => {
    results ??= read();
    const seen = new Map(results.flatMap((result) => [...result.seen]));
    const isSingle = name === 'v1-single-writer';
    const types = ['open', 'commit', 'abort', 'forget', 'collect', ...(isSingle ? [] : ['config', 'hold', 'release'])];
    const kinds = types.map((type) => `entry of type ${type}`);
    const inAll = [...kinds, 'tree of level 0', 'run', 'checkpoint', 'checkpoint with backups'];
    if (isSingle) {
      expect(inAll.filter((what) => !seen.has(what))).toEqual([]);
      return;
    }
    const records = [1, 2, 3, 4, 5, 6].map((kind) => new RegExp(`^record of kind ${kind},`));
    const maps = ['no tree', 'tree of level 0', 'tree of level 1', 'tree of level 2', 'run', 'run entry of zeroes'];
    const others = ['lost range', 'pack table', 'relocated record', 'checkpoint', 'record of kind 1, codec 0'];
    const states = [
      'backups',
      'a hold',
      'heads',
      'sessions',
      'sessions dated anew',
      'fenced',
      'fenced dated anew',
      'known',
    ];
    states.push('condemned', 'condemned sessions', 'former relocations', 'quarantined');
    const times = [
      'open session dated anew',
      'fenced session dated anew',
      'collection dated anew',
      'session that is gone',
    ];
    const inCheckpoints = states.map((state) => `checkpoint with ${state}`);
    const ofEncrypted = [
      'entry of type keys',
      'checkpoint with keySlots',
      'checkpoint with removedSlots',
      'slot of kind passphrase',
      'slot of kind key',
    ];
    const wanted = [
      ...inAll,
      ...maps,
      ...others,
      ...times,
      ...inCheckpoints,
      ...(manifest.unlock === null ? [] : ofEncrypted),
    ];
    expect(wanted.filter((what) => !seen.has(what))).toEqual([]);
    for (const record of records)
      expect(
        [...seen.keys()].some((what) => record.test(what)),
        String(record),
      ).toBe(true);
  });

  test('shows a reader of FORMAT.md a bit that is not as it was', { timeout: 120_000 }, () => {
    results ??= read();
    const entry = [...objects.keys()].find((key) => key.startsWith('log/')) as string;
    for (const key of [entry, results[0]?.packs[0] as string]) {
      const bytes = Uint8Array.from(objects.get(key) as Uint8Array);
      bytes[bytes.length >> 1]! ^= 0x10;
      const changed = new Map(objects).set(key, bytes);
      expect(() => readRepository(changed, readersUnlocks(manifest).at(-1)), key).toThrow();
    }
  });
});

function readersUnlocks({ unlock }: Manifest): ({ passphrase?: string; key?: Uint8Array } | undefined)[] {
  return unlock === null ? [undefined] : [{ passphrase: unlock.passphrase }, { key: bytesOf(unlock.key) }];
}

/** Objects as `FileTarget` keeps them: files of the key's name. */
function objectsOf(name: Golden): Objects {
  const folder = goldenFolder(name);
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(
    files.map((file) => {
      const path = join(file.parentPath, file.name);
      return [path.slice(folder.length + 1), Uint8Array.from(readFileSync(path))];
    }),
  );
}
