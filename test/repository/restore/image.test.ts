import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import { metered, RequestMeter } from '../../../src/targets/decorators/request-meter.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { seededRandom } from '../../../src/testing/seeded-random.ts';
import { turn } from '../../support/turn.ts';
import { errorOf, expectSame, isSettled } from '../../volume/support/bytes.ts';
import { WatchedTarget } from '../packs/support/packed-records.ts';
import { BLOCK, createIn, openIn, openVolume, writeBlock } from '../support/repositories.ts';

/** Backups opened as devices, from real repositories. */

async function backedUp(isEncrypted = false, blocks = 50) {
  const objects = new MemoryTarget();
  const { device, volume } = await openVolume(blocks);
  const writer = await createIn(objects, isEncrypted);
  const backup = await writer.backup(volume, { volume: 'disk' });
  const target = new WatchedTarget(objects);
  const repository = await openIn(target, isEncrypted);
  target.gets.length = 0;
  const content = device.bytes.slice();
  return { objects, target, writer, repository, volume, device, content, id: backup.id };
}

const bytesOf = async (image: Pick<BlockDevice, 'read'>, offset: number, length: number) => {
  const bytes = new Uint8Array(length).fill(0xee);
  await image.read(offset, bytes);
  return bytes;
};

describe.each([{ isEncrypted: false }, { isEncrypted: true }])(
  'an image, encrypted: $isEncrypted',
  ({ isEncrypted }) => {
    test('reads as the volume did at the instant, whatever range', async () => {
      const { repository, content, id } = await backedUp(isEncrypted);
      await using image = await repository.openBackup(id, { cacheBytes: 10 * BLOCK });
      expect(image.size).toBe(content.length);
      const random = seededRandom(7);
      const upTo = (limit: number) => Math.floor(random() * limit);
      for (let round = 0; round < 200; round++) {
        const offset = upTo(content.length + 1);
        const length = upTo(Math.min(8 * BLOCK, content.length - offset) + 1);
        expectSame(
          await bytesOf(image, offset, length),
          content.subarray(offset, offset + length),
          `${offset}+${length}`,
        );
      }
      expectSame(await bytesOf(image, 0, content.length), content);
      await errorOf(image.read(content.length - 1, new Uint8Array(2)), 'OUT_OF_RANGE');
      await errorOf(image.write(0, new Uint8Array(1)), 'READ_ONLY');
    });
  },
);

describe('an image', () => {
  test('takes two requests for its first block: the leaf, and the block', async () => {
    const { repository, content, id, target } = await backedUp();
    await using image = await repository.openBackup(id);
    const opening = target.gets.length;
    expectSame(await bytesOf(image, BLOCK, 100), content.subarray(BLOCK, BLOCK + 100));
    expect(target.gets.length - opening).toBe(2);
    expectSame(await bytesOf(image, BLOCK + 50, 100), content.subarray(BLOCK + 50, BLOCK + 150));
    expect(target.gets.length - opening).toBe(2);
  });

  test('fetches a block once for all who read it, and neighbours together', async () => {
    const { repository, id, target, content } = await backedUp();
    await using image = await repository.openBackup(id, { cacheBytes: 3 * BLOCK }); // Too little for reading ahead.
    await bytesOf(image, 2 * BLOCK, 1);
    const before = target.gets.length;
    const reads = [11, 12, 13, 11, 12, 13].map((block) => bytesOf(image, block * BLOCK, BLOCK));
    for (const [index, bytes] of (await Promise.all(reads)).entries()) {
      const block = 11 + (index % 3);
      expectSame(bytes, content.subarray(block * BLOCK, (block + 1) * BLOCK));
    }
    expect(target.gets.length - before).toBe(1);
  });

  test('reads ahead of a sequential reader, which does not wait for that', async () => {
    const { repository, id, target, content } = await backedUp(false, 200);
    await using image = await repository.openBackup(id);
    await bytesOf(image, 0, BLOCK);
    const before = target.gets.length;
    for (let block = 1; block < 200; block++) {
      expectSame(await bytesOf(image, block * BLOCK, BLOCK), content.subarray(block * BLOCK, (block + 1) * BLOCK));
    }
    expect(target.gets.length - before).toBeLessThan(60);
    await using other = await repository.openBackup(id);
    await bytesOf(other, 0, 2 * BLOCK);
    // Whatever is not for a block that is being read hangs.
    const count = target.gets.length;
    let isFirst = true;
    target.before = () => {
      const wait = isFirst ? undefined : new Promise(() => {});
      isFirst = false;
      return wait;
    };
    expectSame(await bytesOf(other, 2 * BLOCK, BLOCK), content.subarray(2 * BLOCK, 3 * BLOCK));
    await turn();
    await turn();
    expect(target.gets.length - count).toBe(2);
  });

  test('keeps as much as it may', async () => {
    const { repository, id, target } = await backedUp();
    const requests = async (cacheBytes: number) => {
      await using image = await repository.openBackup(id, { cacheBytes });
      for (const block of [1, 9, 17, 31]) await bytesOf(image, block * BLOCK, BLOCK);
      const before = target.gets.length;
      for (const block of [1, 9, 17, 31]) await bytesOf(image, block * BLOCK, BLOCK);
      return target.gets.length - before;
    };
    expect(await requests(100 * BLOCK)).toBe(0);
    expect(await requests(2 * BLOCK)).toBe(4);
    expect(await requests(0)).toBe(4);
    await expect(repository.openBackup(id, { cacheBytes: -1 })).rejects.toThrow(TypeError);
  });

  test('fails only the reads of a block that is damaged', async () => {
    const { repository, id, target, content, objects } = await backedUp();
    await using image = await repository.openBackup(id);
    await bytesOf(image, BLOCK, BLOCK);
    const [key, range] = target.gets.at(-1)!.split(' ') as [string, string];
    const offset = Number(range.split('+')[0]);
    const pack = await objects.get(key);
    pack[offset + 10]! ^= 1;
    await objects.put(key, pack);
    await using again = await repository.openBackup(id);
    const reads = Array.from({ length: 12 }, (_, block) => bytesOf(again, block * BLOCK, BLOCK));
    for (const [block, read] of reads.entries()) {
      if (block === 1) await errorOf(read, 'RECORD_CORRUPT');
      else expectSame(await read, content.subarray(block * BLOCK, (block + 1) * BLOCK));
    }
    await errorOf(again.read(0, new Uint8Array(3 * BLOCK)), 'RECORD_CORRUPT');
    expectSame(await bytesOf(again, 2 * BLOCK, BLOCK), content.subarray(2 * BLOCK, 3 * BLOCK));
  });

  test('tries again what failed', async () => {
    const { repository, id, target, content } = await backedUp();
    await using image = await repository.openBackup(id);
    target.before = () => Promise.reject(new BackupError('TARGET_UNAVAILABLE', 'not now'));
    await errorOf(image.read(BLOCK, new Uint8Array(BLOCK)), 'TARGET_UNAVAILABLE');
    target.before = () => {};
    expectSame(await bytesOf(image, BLOCK, BLOCK), content.subarray(BLOCK, 2 * BLOCK));
  });

  test('ends the wait of a reader that gives up, and of no other; a later reader does not wait for a fetch that hangs', async () => {
    const { repository, id, target, content } = await backedUp();
    await using image = await repository.openBackup(id);
    await bytesOf(image, BLOCK, 1);
    const answer = Promise.withResolvers<void>();
    target.before = () => answer.promise;
    const stop = new AbortController();
    const into = new Uint8Array(BLOCK).fill(0xee);
    const first = image.read(2 * BLOCK, into, { signal: stop.signal });
    const second = bytesOf(image, 2 * BLOCK, BLOCK);
    stop.abort(new Error('enough'));
    await expect(first).rejects.toThrow('enough');
    answer.resolve();
    expectSame(await second, content.subarray(2 * BLOCK, 3 * BLOCK));
    expect(into.every((byte) => byte === 0xee)).toBe(true);
    await expect(image.read(0, into, { signal: stop.signal })).rejects.toThrow('enough');

    target.before = () => new Promise(() => {});
    const late = new AbortController();
    const third = image.read(7 * BLOCK, into, { signal: late.signal });
    while (!target.gets.at(-1)!.startsWith('packs/')) await turn();
    await turn();
    await turn();
    late.abort(new Error('late'));
    await expect(third).rejects.toThrow('late');
    target.before = () => {};
    expectSame(await bytesOf(image, 7 * BLOCK, BLOCK), content.subarray(7 * BLOCK, 8 * BLOCK));
  });

  test('ends what is on its way when it is closed, by its owner or with its repository', async () => {
    for (const how of ['image', 'repository'] as const) {
      const { repository, id, target } = await backedUp();
      const image = await repository.openBackup(id);
      await image.read(BLOCK, new Uint8Array(1));
      target.before = () => new Promise(() => {});
      const read = image.read(20 * BLOCK, new Uint8Array(8 * BLOCK));
      read.catch(() => {});
      for (let i = 0; i < 5; i++) await turn();
      expect(await isSettled(read)).toBe(false);
      await (how === 'image' ? image[Symbol.asyncDispose]() : repository.close());
      await errorOf(read, 'CLOSED');
      expect(target.signals.at(-1)?.aborted).toBe(true);
      await errorOf(image.read(BLOCK, new Uint8Array(1)), 'CLOSED');
      await image[Symbol.asyncDispose]();
      if (how === 'image') await repository.close();
    }
  });

  test('of a backup that was forgotten and pruned is BACKUP_FORGOTTEN, and damage is PACK_MISSING', async () => {
    const { repository, writer, volume, id, objects } = await backedUp();
    await using image = await repository.openBackup(id);
    await image.read(BLOCK, new Uint8Array(1));
    for (let block = 0; block < 50; block++) await writeBlock(volume, block);
    const backup = await writer.backup(volume, { volume: 'disk' });
    await writer.forget([id]);
    await image.read(9 * BLOCK, new Uint8Array(1)); // Still there.
    await writer.prune({ graceMs: 0 });
    await errorOf(image.read(31 * BLOCK, new Uint8Array(1)), 'BACKUP_FORGOTTEN');
    await image.read(BLOCK, new Uint8Array(1)); // It was kept.

    await using other = await writer.openBackup(backup.id);
    await other.read(BLOCK, new Uint8Array(1));
    for await (const { key } of objects.list('packs/')) await objects.delete(key);
    await errorOf(other.read(31 * BLOCK, new Uint8Array(1)), 'PACK_MISSING');
  });

  test('reads on while its packs are moved and deleted by another host', async () => {
    const { repository, writer, volume, id } = await backedUp(true);
    for (let block = 0; block < 50; block++) if (block % 4 !== 1) await writeBlock(volume, block);
    const frozen = new Uint8Array(volume.size);
    await volume.read(0, frozen);
    const backup = await writer.backup(volume, { volume: 'disk' });
    await using image = await repository.openBackup(backup.id);
    await image.read(BLOCK, new Uint8Array(1));
    await writer.forget([id]);
    const { repackedPacks } = await writer.prune({ graceMs: 0, minRepackGainBytes: 0, packBytes: 64 * 1024 });
    expect(repackedPacks).toBeGreaterThan(0);
    expectSame(await bytesOf(image, 0, image.size), frozen);
  });

  test('shows which parts are zeroes without fetching content', async () => {
    const { repository, id, target } = await backedUp();
    const image = await repository.openBackup(id);
    await image.read(BLOCK, new Uint8Array(1));
    const before = target.gets.length;
    const extents: string[] = [];
    for await (const { offset, length, kind } of image.extents!(100, 9 * BLOCK)) {
      extents.push(`${kind} ${offset}+${length}`);
    }
    expect(extents).toEqual([
      `zero 100+${BLOCK - 100}`,
      `data ${BLOCK}+${4 * BLOCK}`,
      `zero ${5 * BLOCK}+${BLOCK}`,
      `data ${6 * BLOCK}+${3 * BLOCK + 100}`,
    ]);
    expect(target.gets.length).toBe(before);
    await image[Symbol.asyncDispose]();
  });

  test('counts its requests for the operation that opened it, not for the one that reads first', async () => {
    const { repository, id, content } = await backedUp();
    await using image = await repository.openBackup(id);
    const meter = new RequestMeter({ gets: 0 });
    expectSame(await metered(meter, () => bytesOf(image, 0, content.length)), content);
    expect(meter.requests).toBe(0);
  });
});
