import { describe, expect, test } from 'vitest';
import { compress } from '../../../../src/common/compression.ts';
import { RepositoryKeys } from '../../../../src/repository/crypto/repository-keys.ts';
import { Codec, RecordKind } from '../../../../src/repository/format/record.ts';
import { SealPool } from '../../../../src/repository/packs/seal-pool/seal-pool.ts';
import { randomBytesFrom, seededRandom } from '../../../../src/testing/seeded-random.ts';
import { randomBytes, testSeed } from '../../../support/randomness.ts';
import { sealedRecord } from '../../format/support/format-text.ts';
import { throughPool } from './support/pools.ts';

const BLOCK = 16 * 1024;
const repositoryKey = randomBytes(32);
const repositoryId = randomBytes(16);
const REPOSITORIES = {
  plain: RepositoryKeys.plain(),
  encrypted: RepositoryKeys.encrypted(repositoryKey, repositoryId),
};

/** Zeroes, noise, repetition, mixtures; the last one may be short. */
function someBlocks(random: () => number, count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, index) => {
    const length = index === count - 1 ? 1 + Math.floor(random() * BLOCK) : BLOCK;
    const block = new Uint8Array(length);
    const noise = Math.floor(random() * 4);
    if (noise > 0) block.set(randomBytesFrom(random, Math.ceil((length * noise) / 3)).subarray(0, length));
    return block;
  });
}

describe.each([0, 1, 3])('with %i threads', (threads) => {
  test.each(Object.entries(REPOSITORIES))(
    'many slots at once give the records of a repository that is %s',
    async (_, keys) => {
      const seed = testSeed();
      const random = seededRandom(seed);
      await using pool = new SealPool({ keys, blockSize: BLOCK, threads, memoryBytes: 2 << 20 });
      const rounds = Array.from({ length: 40 }, () =>
        someBlocks(random, 1 + Math.floor(random() * pool.blocksPerSlot)),
      );
      await Promise.all(
        rounds.map(async (blocks) => {
          const { ids, opened, sealed } = await throughPool(pool, keys, blocks);
          blocks.forEach((block, index) => {
            const isZero = block.every((byte) => byte === 0);
            expect(ids[index], `seed ${seed}`).toEqual(isZero ? undefined : keys.contentId(block));
            expect(opened.get(index), `seed ${seed}`).toEqual(isZero ? undefined : Buffer.from(block));
          });
          for (const { block, bytes, storedLength, codec } of sealed) {
            const raw = blocks[block] as Uint8Array;
            const frame = compress(raw, 1);
            expect(codec).toBe(frame === undefined ? Codec.raw : Codec.zstd);
            expect(storedLength).toBe(bytes.length);
            // Byte for byte what any other thread makes of it, but for the nonce.
            const content = frame ?? raw;
            const head = { kind: RecordKind.block, id: ids[block] as Uint8Array, codec, rawLength: raw.length };
            const expected = keys.encrypted
              ? sealedRecord(repositoryKey, repositoryId, { ...head, nonce: bytes.subarray(0, 12), content })
              : Buffer.from(content);
            expect(Buffer.from(bytes).equals(expected), `seed ${seed}`).toBe(true);
          }
        }),
      );
    },
  );

  test('records come in the order asked for, of the blocks asked for', async () => {
    await using pool = new SealPool({ keys: REPOSITORIES.encrypted, blockSize: BLOCK, threads });
    using slot = await pool.acquire();
    slot.input.set(randomBytes(BLOCK * 4));
    await pool.identify(slot, [BLOCK, BLOCK, BLOCK, BLOCK]);
    expect((await pool.seal(slot, [3, 1])).map(({ block }) => block)).toEqual([3, 1]);
    expect(await pool.seal(slot, [])).toEqual([]);
    expect((await pool.seal(slot, [0])).map(({ block }) => block)).toEqual([0]);
  });

  test('ids outlive their slot, and do not change when it is used again', async () => {
    await using pool = new SealPool({ keys: REPOSITORIES.plain, blockSize: BLOCK, threads, memoryBytes: 40_000 });
    expect(pool.slotCount).toBe(1);
    const [first, second] = [randomBytes(BLOCK), randomBytes(BLOCK)];
    const before = await throughPool(pool, REPOSITORIES.plain, [first]);
    await throughPool(pool, REPOSITORIES.plain, [second]);
    expect(before.ids).toEqual([REPOSITORIES.plain.contentId(first)]);
  });

  test('the plaintext stays in the slot as it was', async () => {
    await using pool = new SealPool({ keys: REPOSITORIES.encrypted, blockSize: BLOCK, threads });
    using slot = await pool.acquire();
    const raw = randomBytes(BLOCK);
    slot.input.set(raw);
    await pool.identify(slot, [BLOCK]);
    await pool.seal(slot, [0]);
    expect(Buffer.from(slot.input.subarray(0, BLOCK))).toEqual(raw);
  });

  test('calls that make no sense are a TypeError, and leave the slot usable', async () => {
    await using pool = new SealPool({ keys: REPOSITORIES.plain, blockSize: BLOCK, threads, memoryBytes: 1 << 20 });
    await using other = new SealPool({ keys: REPOSITORIES.plain, blockSize: BLOCK, threads, memoryBytes: 1 << 20 });
    const slot = await pool.acquire();
    slot.input.fill(0, 0, BLOCK);
    slot.input.fill(1, BLOCK, 2 * BLOCK);
    await expect(pool.seal(slot, [0])).rejects.toThrow(TypeError); // Not identified yet.
    for (const length of [0, -1, BLOCK + 1, 1.5, Number.NaN]) {
      await expect(pool.identify(slot, [length])).rejects.toThrow(TypeError);
    }
    await expect(pool.identify(slot, new Array(pool.blocksPerSlot + 1).fill(BLOCK))).rejects.toThrow(TypeError);
    await expect(other.identify(slot, [BLOCK])).rejects.toThrow(TypeError);
    const running = pool.identify(slot, [BLOCK, BLOCK]);
    await expect(pool.identify(slot, [BLOCK])).rejects.toThrow(TypeError); // One at a time.
    expect(await running).toEqual([undefined, expect.any(Uint8Array)]);
    for (const block of [0, 2, -1, 0.5]) await expect(pool.seal(slot, [block])).rejects.toThrow(TypeError);
    expect(await pool.seal(slot, [1])).toHaveLength(1);
    slot.release();
    slot.release();
    await expect(pool.identify(slot, [BLOCK])).rejects.toThrow(TypeError);
    await expect(pool.seal(slot, [1])).rejects.toThrow(TypeError);
  });

  test('everything rejects with CLOSED once closed, and closing twice is the same', async () => {
    const pool = new SealPool({ keys: REPOSITORIES.encrypted, blockSize: BLOCK, threads, memoryBytes: 40_000 });
    const slot = await pool.acquire();
    slot.input.fill(1);
    const outcomes = [pool.identify(slot, [BLOCK]), pool.acquire()].map((call) => call.catch((error) => error.code));
    await Promise.all([pool.close(), pool.close()]);
    expect(await Promise.all(outcomes)).toEqual(['CLOSED', 'CLOSED']);
    await expect(pool.acquire()).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(pool.identify(slot, [BLOCK])).rejects.toMatchObject({ code: 'CLOSED' });
    slot.release();
    await pool.close();
  });
});

describe('memory', () => {
  test.each([
    [4096, 256 * 1024, 2],
    [65_536, 4 << 20, 0],
    [65_536, 32 << 20, 8],
    [1 << 20, 16 << 20, 2],
    [4 << 20, 9 << 20, 4],
  ])('of blocks of %i bytes stays within %i bytes', async (blockSize, memoryBytes, threads) => {
    await using pool = new SealPool({ keys: REPOSITORIES.plain, blockSize, memoryBytes, threads });
    const buffers = new Set<ArrayBufferLike>();
    for (let taken = 0; taken < pool.slotCount; taken++) {
      const slot = await pool.acquire();
      expect(slot.input.length).toBe(blockSize * pool.blocksPerSlot);
      buffers.add(slot.input.buffer);
    }
    const bytes = [...buffers].reduce((sum, buffer) => sum + buffer.byteLength, 0);
    expect(buffers.size).toBe(pool.slotCount);
    expect(bytes).toBe(pool.memoryBytes);
    expect(bytes).toBeLessThanOrEqual(memoryBytes);
    const blockBytes = 2 * blockSize + 28 + 40;
    expect(memoryBytes - bytes).toBeLessThan(blockBytes * pool.blocksPerSlot); // There is no room for another one.
  });

  test('that has no room for one block is a TypeError, as are other options out of range', () => {
    const keys = REPOSITORIES.plain;
    for (const wrong of [
      { memoryBytes: 2 * BLOCK },
      { threads: -1 },
      { threads: 1.5 },
      { blockSize: 0 },
      { blockSize: (4 << 20) + 1 },
      { level: 30 },
    ]) {
      expect(() => new SealPool({ keys, blockSize: BLOCK, ...wrong })).toThrow(TypeError);
    }
  });
});
