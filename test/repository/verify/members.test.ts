import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import type { VerifyDepth } from '../../../src/repository/verify/verify-options.ts';
import { fanOut } from '../../../src/targets/decorators/fan-out.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { createIn, openIn, openVolume, writeBlock } from '../support/repositories.ts';

async function setUp() {
  const stores = [new MemoryTarget(), new MemoryTarget(), new MemoryTarget()] as const;
  const [primary, ...replicas] = stores;
  const target = fanOut(primary, replicas);
  const repository = await createIn(target, true);
  const { volume } = await openVolume(40);
  for (let round = 0; round < 3; round++) {
    await repository.backup(volume, { volume: 'disk' });
    await writeBlock(volume, round);
  }
  const keys: string[] = [];
  for await (const { key } of primary.list('')) keys.push(key);
  const first = (prefix: string) => keys.find((key) => key.startsWith(prefix))!;
  const verify = async (depth: VerifyDepth = 'data') => {
    const { ok, damaged, damagedReplicas } = await repository.verify({ depth });
    const found = damagedReplicas.map(({ member, object, error }) => `${member} ${object} ${error.code}`);
    return { ok, damaged: damaged.map(({ pack }) => pack), found };
  };
  return { stores, target, repository, first, verify };
}

async function flip(store: MemoryTarget, key: string): Promise<void> {
  const bytes = new Uint8Array(await store.get(key));
  bytes[Math.floor(bytes.length / 2)]! ^= 1;
  await store.put(key, bytes);
}

async function cut(store: MemoryTarget, key: string): Promise<void> {
  await store.put(key, new Uint8Array(await store.get(key)).slice(0, -1));
}

describe('verify of a fan-out', () => {
  test.each<VerifyDepth>(['structure', 'checksums', 'data'])(
    'with %s finds nothing where nothing is wrong',
    async (depth) => {
      const { verify } = await setUp();
      expect(await verify(depth)).toEqual({ ok: true, damaged: [], found: [] });
    },
  );

  const lacking: [prefix: string, code: string][] = [
    ['packs/', 'PACK_MISSING'],
    ['log/', 'OBJECT_NOT_FOUND'],
    ['keys/', 'OBJECT_NOT_FOUND'],
    ['format', 'OBJECT_NOT_FOUND'],
  ];
  test.each(lacking)('names the replica that lacks an object of %s', async (prefix, code) => {
    const { stores, target, first, verify } = await setUp();
    await stores[2].delete(first(prefix));
    const found = [`replicas[1] ${first(prefix)} ${code}`];
    expect(await verify('structure')).toEqual({ ok: false, damaged: [], found });
    await target.synchronize();
    expect(await verify()).toEqual({ ok: true, damaged: [], found: [] });
  });

  const shorter: [prefix: string, code: string][] = [
    ['packs/', 'PACK_CORRUPT'],
    ['keys/', 'REPOSITORY_CORRUPT'],
    ['log/', 'REPOSITORY_CORRUPT'],
  ];
  test.each(shorter)('names the replica whose object of %s is cut short', async (prefix, code) => {
    const { stores, first, verify } = await setUp();
    await cut(stores[1], first(prefix));
    const found = [`replicas[0] ${first(prefix)} ${code}`];
    expect(await verify('structure')).toEqual({ ok: false, damaged: [], found });
  });

  test('reads the packs of each replica with data, and synchronize copies again what is damaged', async () => {
    const { stores, target, repository, first, verify } = await setUp();
    await flip(stores[2], first('packs/'));
    await flip(stores[1], first('keys/'));
    expect(await verify('structure')).toMatchObject({ found: [expect.stringContaining('replicas[0] keys/')] });
    const { damagedReplicas } = await repository.verify({ depth: 'data' });
    expect(damagedReplicas.map(({ member, object }) => [member, object])).toEqual([
      ['replicas[0]', first('keys/')],
      ['replicas[1]', first('packs/')],
    ]);
    expect(await target.synchronize()).toMatchObject([{ copiedObjects: 0 }, { copiedObjects: 0 }]);
    await target.synchronize({ recopy: damagedReplicas.map(({ object }) => object) });
    expect(await verify()).toEqual({ ok: true, damaged: [], found: [] });
  });

  test('blames the primary alone for what is damaged there', async () => {
    const { stores, first, verify } = await setUp();
    await flip(stores[0], first('packs/'));
    const { damaged, found } = await verify();
    expect({ damaged, found }).toEqual({ damaged: [first('packs/')], found: [] });
  });

  test('says which member does not answer', async () => {
    const { stores } = await setUp();
    const error = () => new BackupError('PERMISSION_DENIED', 'no');
    const refusing = new FaultyTarget(stores[1], {
      next: ({ subject }) => (subject === 'packs/' ? { kind: 'fail-before', error } : undefined),
    });
    const repository = await openIn(fanOut(stores[0], [refusing]), true);
    const work = repository.verify({ depth: 'structure' });
    await expect(work).rejects.toMatchObject({ code: 'PERMISSION_DENIED', message: 'replicas[0]: no' });
  });

  test('counts and bounds what it asks of replicas as well', async () => {
    const { stores } = await setUp();
    const alone = await openIn(stores[0], true);
    const together = await openIn(fanOut(stores[0], [stores[1]]), true);
    const bytes: number[] = [];
    for (const repository of [alone, together]) {
      let transferred = 0;
      await repository.verify({
        depth: 'data',
        onProgress: ({ transferredBytes }) => (transferred = transferredBytes),
      });
      bytes.push(transferred);
    }
    expect(bytes[1]! / bytes[0]!).toBeGreaterThan(1.5);
    const budget = { downloadBytes: bytes[0]! + 1000 };
    await expect(together.verify({ depth: 'data', budget })).rejects.toMatchObject({
      code: 'BUDGET_EXCEEDED',
      message: expect.stringMatching(/^replicas\[0\]: /),
    });
  });
});
