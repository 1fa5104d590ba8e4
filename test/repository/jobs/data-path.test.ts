import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { BlockFeed } from '../../../src/repository/jobs/block-feed.ts';
import { BlockPipeline } from '../../../src/repository/jobs/block-pipeline.ts';
import { StoredBlocks } from '../../../src/repository/jobs/stored-blocks.ts';
import { RepositoryKeys } from '../../../src/repository/keys/repository-keys.ts';
import { BlockMap } from '../../../src/repository/map/block-map.ts';
import type { MapDescriptor } from '../../../src/repository/map/descriptor.ts';
import { writeBlockMap } from '../../../src/repository/map/write-block-map.ts';
import { PackWriter } from '../../../src/repository/pack/pack-writer.ts';
import { NodeWriter } from '../../../src/repository/records/node-writer.ts';
import { packKey } from '../../../src/repository/records/record.ts';
import { StoredRecords } from '../../../src/repository/records/stored-records.ts';
import { BackupImage } from '../../../src/repository/restore/backup-image.ts';
import { SealPool } from '../../../src/repository/workers/seal-pool.ts';
import { MemoryTarget } from '../../../src/target/memory-target.ts';
import { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import type { VolumeSnapshot } from '../../../src/volume/volume-snapshot.ts';

/** A backup's data path without its log: snapshot, feed, pipeline, packs, map, and an image read back through them. */

const BLOCK = 4096;
const FAN_OUT = 8;
const PACK_BYTES = 40_000;

class Repository {
  readonly target = new MemoryTarget();
  readonly keys: RepositoryKeys;
  readonly puts: string[] = [];
  #sessions = 0;

  constructor(isEncrypted: boolean) {
    this.keys = isEncrypted ? RepositoryKeys.encrypted(randomBytes(32), randomBytes(16)) : RepositoryKeys.plain();
    const put = this.target.put.bind(this.target);
    this.target.put = async (key, ...rest) => {
      this.puts.push(key);
      await put(key, ...rest);
    };
  }

  map(descriptor: MapDescriptor): BlockMap {
    const source = { target: this.target, keys: this.keys, fanOut: FAN_OUT };
    return new BlockMap(descriptor, FAN_OUT, new StoredRecords(source), this.keys);
  }

  image(descriptor: MapDescriptor, options = { cacheBytes: 1 << 16, allowLost: false }): BackupImage {
    const source = { target: this.target, keys: this.keys, fanOut: FAN_OUT };
    return new BackupImage(this.map(descriptor), source, options);
  }

  /** What a job does, but for the log. `during` runs once the lazy part is under way. */
  async store(snapshot: VolumeSnapshot, base?: MapDescriptor, during?: () => Promise<void>) {
    const session = ++this.#sessions;
    const feed = new BlockFeed(snapshot.states, 4);
    const stored = new StoredBlocks();
    const writer = () =>
      new PackWriter({
        target: this.target,
        session,
        footerKey: this.keys.footerKey,
        packBytes: PACK_BYTES,
        parallelPuts: 2,
        onStored: ({ random }) => pipeline.packStored(packKey({ session, random })),
      });
    const packs = { intercepted: writer(), swept: writer() };
    await using pool = new SealPool({ keys: this.keys, blockSize: BLOCK, threads: 0, memoryBytes: 1 << 20 });
    const baseMap = base && this.map(base);
    const { signal } = new AbortController();
    const pipeline: BlockPipeline = new BlockPipeline({ snapshot, feed, base: baseMap, pool, packs, stored, signal });
    snapshot.volume.events.on('blockPreserved', (of, blocks) => {
      if (of === snapshot) feed.preserved(blocks);
    });
    const loops = Promise.all([pipeline.run(() => {}), pipeline.run(() => {})]);
    await during?.();
    feed.sweep();
    await loops;
    const lost = [...snapshot.states.ranges('lost')].map(({ firstBlock, blockCount }) => ({ firstBlock, blockCount }));
    const descriptor = await writeBlockMap({
      ...(baseMap === undefined ? {} : { previous: baseMap }),
      size: snapshot.size,
      blockSize: BLOCK,
      fanOut: FAN_OUT,
      changes: stored.sorted(),
      lost,
      writer: new NodeWriter(this.keys, packs.swept),
      ids: this.keys,
    });
    await packs.intercepted.flush(); // Blocks and map of a small backup travel together.
    await packs.swept.flush();
    return { descriptor, tally: pipeline.tally };
  }
}

async function contentOf(device: { size: number; read(offset: number, into: Uint8Array): Promise<void> }) {
  const bytes = new Uint8Array(device.size);
  await device.read(0, bytes);
  return bytes;
}

async function openVolume(blocks = 50) {
  const device = new MemoryDevice(blocks * BLOCK + 1000);
  for (let block = 0; block < blocks; block++) {
    if (block % 5 !== 0) device.bytes.set(randomBytes(BLOCK), block * BLOCK); // Every fifth is zeroes.
    if (block % 7 === 3) device.bytes.fill(0x77, block * BLOCK, (block + 1) * BLOCK); // Some are alike.
  }
  const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
  return { device, volume };
}

describe.each([{ isEncrypted: false }, { isEncrypted: true }])('encrypted: $isEncrypted', ({ isEncrypted }) => {
  test('a volume that is written meanwhile reads back as its instant', async () => {
    const { device, volume } = await openVolume();
    const repository = new Repository(isEncrypted);
    const snapshot = await volume.createSnapshot();
    const frozen = device.bytes.slice();
    const { descriptor } = await repository.store(snapshot, undefined, async () => {
      for (let i = 0; i < 40; i++) await volume.write(((i * 7919) % 50) * BLOCK + 100, randomBytes(3000));
    });
    expect(snapshot.states.counts).toMatchObject({ pending: 0, preserved: 0, storing: 0, lost: 0 });
    expect(Buffer.compare(await contentOf(repository.image(descriptor)), frozen)).toBe(0);
    expect(Buffer.compare(device.bytes, frozen)).not.toBe(0);
  });

  test('an incremental stores only what differs from its base', async () => {
    const { device, volume } = await openVolume();
    const repository = new Repository(isEncrypted);
    const first = await volume.createSnapshot();
    const base = await repository.store(first);
    const before = await contentOf(repository.image(base.descriptor));
    await volume.write(3 * BLOCK, randomBytes(BLOCK));
    await volume.write(11 * BLOCK, new Uint8Array(BLOCK)); // Now zeroes.
    await volume.write(20 * BLOCK, device.bytes.slice(20 * BLOCK, 21 * BLOCK)); // The same again.
    const second = await volume.createSnapshot();
    const changed = volume.changedSince(first.point);
    expect(changed).toBeDefined();
    const isChanged = (block: number) =>
      changed?.some(({ firstBlock, blockCount }) => firstBlock <= block && block < firstBlock + blockCount);
    for (let block = 0; block < second.states.blockCount; block++) {
      if (isChanged(block) !== true) second.mark(block, 'inherited');
    }
    const { descriptor, tally } = await repository.store(second, base.descriptor);
    expect(tally).toMatchObject({ readBytes: 3 * BLOCK, changedBlocks: 2 });
    expect(Buffer.compare(await contentOf(repository.image(descriptor)), device.bytes)).toBe(0);
    expect(Buffer.compare(await contentOf(repository.image(base.descriptor)), before)).toBe(0);
    const session2 = repository.puts.filter((key) => key.startsWith('packs/0000000000002/'));
    expect(session2.length).toBe(1); // One pack: a block, and the run.
  });

  test('equal blocks are stored once', async () => {
    const device = new MemoryDevice(64 * BLOCK);
    const content = randomBytes(BLOCK);
    for (let block = 0; block < 64; block++) device.bytes.set(content, block * BLOCK);
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const repository = new Repository(isEncrypted);
    const { descriptor, tally } = await repository.store(await volume.createSnapshot());
    // Two loops may meet the same content at the same time, each in its first batch.
    expect(tally.newBytes).toBeLessThanOrEqual(8 * (BLOCK + 28));
    expect(Buffer.compare(await contentOf(repository.image(descriptor)), device.bytes)).toBe(0);
  });

  test('a lost block is not read as zeroes', async () => {
    const device = new MemoryDevice(new Uint8Array(8 * BLOCK).fill(9));
    const preserve = { memoryBytes: 0, onFailure: 'lose-block' } as const;
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK, preserve });
    const repository = new Repository(isEncrypted);
    const snapshot = await volume.createSnapshot();
    await volume.write(2 * BLOCK, new Uint8Array(BLOCK).fill(1));
    const { descriptor } = await repository.store(snapshot);
    expect(descriptor.lost).toEqual([{ firstBlock: 2, blockCount: 1 }]);
    const image = repository.image(descriptor);
    const into = new Uint8Array(BLOCK);
    await image.read(BLOCK, into);
    expect(into).toEqual(new Uint8Array(BLOCK).fill(9));
    await expect(image.read(2 * BLOCK, into)).rejects.toMatchObject({ code: 'BLOCK_LOST' });
    await repository.image(descriptor, { cacheBytes: BLOCK, allowLost: true }).read(2 * BLOCK, into);
    expect(into).toEqual(new Uint8Array(BLOCK));
  });

  test('a damaged or missing pack is a coded error, and what is whole still reads', async () => {
    const { device, volume } = await openVolume(30);
    const repository = new Repository(isEncrypted);
    const { descriptor } = await repository.store(await volume.createSnapshot());
    const [entry] = (await repository.map(descriptor).lookup(1, 1)).entries;
    const key = packKey(entry!.location.pack);
    const body = await repository.target.get(key);
    body[entry!.location.offset + 20]! ^= 1;
    await repository.target.put(key, body);
    const into = new Uint8Array(BLOCK);
    await expect(repository.image(descriptor).read(BLOCK, into)).rejects.toMatchObject({ code: 'RECORD_CORRUPT' });
    await repository.image(descriptor).read(29 * BLOCK, into);
    expect(into).toEqual(device.bytes.slice(29 * BLOCK, 30 * BLOCK));
    await repository.target.delete(key);
    await expect(repository.image(descriptor).read(BLOCK, into)).rejects.toMatchObject({ code: 'PACK_MISSING' });
  });
});
