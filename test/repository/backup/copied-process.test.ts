import { describe, expect, test, vi } from 'vitest';
import { sha256Padding } from '../../../src/common/sha256.ts';

// Copies of one process memory: every random generator gives the same bytes to all of them.
vi.mock('node:crypto', async (importOriginal) => ({
  ...(await importOriginal<typeof import('node:crypto')>()),
  randomBytes: (length: number) => Buffer.alloc(length, 7),
  randomFillSync: (bytes: Uint8Array, from: number, length: number) => bytes.fill(7, from, from + length),
  randomUUID: () => '11111111-2222-3333-4444-555555555555',
}));

const { MemoryDevice } = await import('../../../src/device/memory-device.ts');
const { RepositoryKeys } = await import('../../../src/repository/crypto/repository-keys.ts');
const { PackWriter } = await import('../../../src/repository/packs/pack-writer.ts');
const { sealFooter } = await import('../format/support/codecs-at-once.ts');
const { Codec, RecordKind } = await import('../../../src/repository/format/record.ts');
const { sealRecord } = await import('../../../src/repository/packs/record-sealing.ts');
const { MemoryTarget } = await import('../../../src/targets/memory-target.ts');
const { CopyOnWriteVolume } = await import('../../../src/volume/copy-on-write-volume.ts');
const { randomBytesFrom, seededRandom } = await import('../../../src/testing/seeded-random.ts');
const { BackupError } = await import('../../../src/common/errors.ts');
const { errorOf, expectSame } = await import('../../volume/support/bytes.ts');
const { BLOCK, contentOfBackup, createIn, openIn, writeBlock } = await import('../support/repositories.ts');

const keys = RepositoryKeys.encrypted(new Uint8Array(32).fill(1), new Uint8Array(16));
const nonceOf = (bytes: Uint8Array) => Buffer.from(bytes.subarray(0, 12)).toString('hex');

function pagesOf(seed: number, blocks = 40) {
  return randomBytesFrom(seededRandom(seed), blocks * BLOCK);
}

async function copyCluster(bytes: Uint8Array) {
  const device = new MemoryDevice(Uint8Array.from(bytes));
  return { device, volume: await CopyOnWriteVolume.open(device, { blockSize: BLOCK }) };
}

describe('two texts never meet under one key and nonce', () => {
  test('records that share an id and not their locations', () => {
    const head = { kind: RecordKind.leaf, id: new Uint8Array(32).fill(5) };
    const [one, two] = [pagesOf(1, 1), pagesOf(2, 1)].map((raw) =>
      nonceOf(sealRecord(keys.recordKey, head, raw).bytes),
    );
    expect(one).not.toBe(two);
  });

  test('a block that is compressed in another way', () => {
    const head = { kind: RecordKind.block, id: new Uint8Array(32).fill(5) };
    const raw = new Uint8Array(BLOCK).map((_, at) => (at * at) % 50);
    const [one, two] = [1, 19].map((level) => nonceOf(sealRecord(keys.recordKey, head, raw, level).bytes));
    expect(one).not.toBe(two);
  });

  test('footers of packs', () => {
    const pack = { session: 3, random: '0'.repeat(32) };
    const row = { kind: RecordKind.block, id: new Uint8Array(32), offset: 8, storedLength: 9, codec: Codec.raw };
    const body = { bodyBytes: 17, bodySha256: new Uint8Array(32) };
    const padding = sha256Padding(body.bodyBytes).length;
    const [one, two] = [1, 2].map((hint) =>
      nonceOf(sealFooter({ ...body, rows: [{ ...row, rawLength: 9, hint }] }, pack, keys.footerKey).subarray(padding)),
    );
    expect(one).not.toBe(two);
  });
});

test('packs that begin with different contents have different names', async () => {
  const names = [];
  for (const seed of [1, 2]) {
    const target = new MemoryTarget();
    const options = { target, session: 1, footerKey: undefined, createOnly: true, packBytes: 2 ** 16, parallelPuts: 1 };
    const writer = new PackWriter(options);
    const bytes = pagesOf(seed, 1);
    const record = { kind: RecordKind.block, id: bytes.subarray(0, 32), codec: Codec.raw, rawLength: BLOCK, bytes };
    names.push((await writer.add({ ...record, hint: 0 })).pack.random);
    await writer.flush();
  }
  expect(new Set(names).size).toBe(2);
});

describe('two copies of a process in one session', () => {
  const session = async (target: InstanceType<typeof MemoryTarget>, second: number) => {
    const options = { target, session: 1, footerKey: undefined, createOnly: true, packBytes: 2 ** 16, parallelPuts: 1 };
    const writer = new PackWriter(options);
    for (const seed of [1, second]) {
      const bytes = pagesOf(seed, 1);
      const record = { kind: RecordKind.block, id: bytes.subarray(0, 32), codec: Codec.raw, rawLength: BLOCK, bytes };
      await writer.add({ ...record, hint: 0 });
    }
    await writer.flush();
    return writer.stored;
  };

  test('neither overwrite a pack of the other, nor take it for their own', async () => {
    const target = new MemoryTarget();
    const [first] = await session(target, 2);
    const key = `packs/${'0'.repeat(12)}1/${first!.random}`;
    const before = await target.get(key);
    await errorOf(session(target, 3), 'SESSION_SHARED'); // It begins with the same block, so it has the same name.
    expectSame(await target.get(key), before);
  });

  test('that send the same bytes have sent one pack', async () => {
    const target = new MemoryTarget();
    expect(await session(target, 2)).toEqual(await session(target, 2));
    expect(await Array.fromAsync(target.list('packs/'))).toHaveLength(1);
  });

  test('and a put whose answer was lost is recognised as their own', async () => {
    const inner = new MemoryTarget();
    let lost = 1;
    const put = inner.put.bind(inner);
    const target = Object.assign(inner, {
      put: async (...args: Parameters<typeof inner.put>) => {
        await put(...args);
        if (lost++ === 0) throw new BackupError('TARGET_UNREACHABLE', 'the answer was lost', { retryable: true });
      },
    });
    const repository = await createIn(target);
    lost = 0;
    const { volume, device } = await copyCluster(pagesOf(3));
    const result = await repository.backup(volume, { volume: 'disk', outageMs: 60_000 });
    expectSame(await contentOfBackup(repository, result.id), device.bytes);
  });
});

describe.each([false, true])('encrypted: %s', (isEncrypted) => {
  test('a machine that is reverted with its memory commits what its volume holds', async () => {
    const target = new MemoryTarget();
    const repository = await createIn(target, isEncrypted);
    const before = pagesOf(3);
    const { volume } = await copyCluster(before);
    await repository.backup(volume, { volume: 'disk' });
    for (let i = 0; i < 3; i++) {
      await writeBlock(volume, 7 + i, pagesOf(100 + i, 1));
      await repository.backup(volume, { volume: 'disk' });
    }
    await repository.close();
    const again = await openIn(target, isEncrypted);
    const reverted = await copyCluster(before);
    for (let i = 0; i < 4; i++) await (await reverted.volume.createSnapshot()).close();
    await writeBlock(reverted.volume, 30, pagesOf(200, 1));
    const result = await again.backup(reverted.volume, { volume: 'disk' });
    expect(result.changeSource).toBe('compared');
    expectSame(await contentOfBackup(again, result.id), reverted.device.bytes);
    const ids = (await Array.fromAsync(again.listBackups())).map(({ id }) => id);
    expect(new Set(ids).size).toBe(5);
    expect(await again.verify({ depth: 'data' })).toMatchObject({ ok: true });
  });

  test('clones that run side by side each commit their own bytes, one after the other', async () => {
    const target = new MemoryTarget();
    await createIn(target, isEncrypted);
    const bytes = pagesOf(3);
    const clones = [await copyCluster(bytes), await copyCluster(bytes)];
    for (const { volume } of clones) await (await volume.createSnapshot()).close();
    for (let round = 0; round < 3; round++) {
      for (const [index, { volume, device }] of clones.entries()) {
        await writeBlock(volume, 5 * index + round, pagesOf(10 * index + round, 1));
        const repository = await openIn(target, isEncrypted);
        const result = await repository.backup(volume, { volume: 'disk' });
        expect(result.changeSource).not.toBe('tracked');
        expectSame(await contentOfBackup(repository, result.id), device.bytes);
        await repository.close();
      }
    }
  });
});
