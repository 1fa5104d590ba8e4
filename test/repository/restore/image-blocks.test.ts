import { expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { BackupImage } from '../../../src/repository/restore/backup-image.ts';
import { BackupReader, type BlockContent, type BlockSource } from '../../../src/repository/restore/backup-reader.ts';
import { turn } from '../../support/turn.ts';
import { errorOf, expectSame, filled, MIB } from '../../volume/support/bytes.ts';
import { BLOCK_SIZE, entryOf, writeStep } from '../map/support/naive-map.ts';
import { plainIds, RecordStore } from '../map/support/record-store.ts';

/** Images of artificial sources, with contents that real repositories seldom hold. */

const entry = {
  id: new Uint8Array(32),
  location: { pack: { session: 1, random: '0'.repeat(32) }, offset: 8, storedLength: 1, codec: 0, rawLength: 1 },
} as const;

/** An image source of which block b is full of b + 1. */
function sourceOf(blockSize: number, contents: BlockContent[], size = contents.length * blockSize) {
  const fetched: number[][] = [];
  const lookups: string[] = [];
  let onTheWay = 0;
  const counted = { most: 0 };
  const source: BlockSource = {
    size,
    blockSize,
    lookup: async (first, count) => {
      lookups.push(`${first}+${count}`);
      return contents.slice(first, first + count);
    },
    fetch: async (blocks, deliver) => {
      fetched.push(blocks.map(({ block }) => block));
      onTheWay += blocks.length;
      counted.most = Math.max(counted.most, onTheWay);
      for (const { block } of blocks) {
        await turn();
        deliver(block, filled(block + 1, Math.min(blockSize, size - block * blockSize)));
        onTheWay--;
      }
    },
  };
  return { source, fetched, lookups, counted };
}

const OPTIONS = { cacheBytes: 100 * MIB, allowLost: false };

async function read(image: BackupImage, offset: number, length: number): Promise<Uint8Array> {
  const into = new Uint8Array(length).fill(0xee);
  await image.read(offset, into);
  return into;
}

test('lost blocks reject only the reads that need them, with BLOCK_LOST, or are zeroes if that is allowed', async () => {
  const { source } = sourceOf(100, [entry, 'lost', entry, 'zero']);
  await using strict = new BackupImage(source, OPTIONS);
  const reads = [0, 1, 2, 3].map((block) => read(strict, block * 100, 100));
  await errorOf(reads[1]!, 'BLOCK_LOST');
  expectSame(await reads[0]!, filled(1, 100));
  expectSame(await reads[2]!, filled(3, 100));
  expectSame(await reads[3]!, filled(0, 100));
  await errorOf(read(strict, 0, 400), 'BLOCK_LOST');
  await using lenient = new BackupImage(source, { ...OPTIONS, allowLost: true });
  expectSame(await read(lenient, 50, 200), Buffer.concat([filled(1, 50), filled(0, 100), filled(3, 50)]));
  const kinds: string[] = [];
  for await (const { offset, length, kind } of strict.extents(0, 400)) kinds.push(`${kind} ${offset}+${length}`);
  expect(kinds).toEqual(['data 0+300', 'zero 300+100']);
});

test('a long read holds a part of itself at a time', async () => {
  const blocks = 100;
  const { source, counted, fetched } = sourceOf(MIB, new Array(blocks).fill(entry));
  await using image = new BackupImage(source, { ...OPTIONS, cacheBytes: 4 * MIB });
  const into = await read(image, 0, blocks * MIB);
  for (let block = 0; block < blocks; block++) expect(into[block * MIB + 77]).toBe(block + 1);
  expect(counted.most).toBeLessThanOrEqual(17);
  expect(fetched.flat()).toHaveLength(blocks); // Each once.
});

test('a failed lookup fails the reads that need it, and is repeated for the next one', async () => {
  const { source } = sourceOf(100, new Array(1000).fill(entry));
  const lookup = source.lookup.bind(source);
  source.lookup = async (first, count, options) => {
    if (first < 100) throw new BackupError('MAP_CORRUPT', 'no');
    return lookup(first, count, options);
  };
  await using image = new BackupImage(source, OPTIONS);
  const reads = [read(image, 0, 100), read(image, 50_000, 100)];
  await errorOf(reads[0]!, 'MAP_CORRUPT');
  expectSame(await reads[1]!, filled(501 % 256, 100));
  source.lookup = lookup;
  expectSame(await read(image, 0, 100), filled(1, 100));
});

test('a source that fails as a whole fails all that it was asked for', async () => {
  const { source } = sourceOf(100, new Array(10).fill(entry));
  const { fetch } = source;
  source.fetch = async () => {
    throw new BackupError('TARGET_ERROR', 'no');
  };
  await using image = new BackupImage(source, OPTIONS);
  await errorOf(read(image, 0, 1000), 'TARGET_ERROR');
  source.fetch = fetch;
  expectSame(await read(image, 0, 100), filled(1, 100));
});

test('a block that failed while it was read ahead is fetched again when it is read', async () => {
  const { source, fetched } = sourceOf(100, new Array(100).fill(entry));
  const { fetch } = source;
  source.fetch = async (blocks, deliver, options) => {
    if (blocks.every(({ block }) => block < 2)) return fetch(blocks, deliver, options);
    for (const { block } of blocks) options.onFailed?.(block, new BackupError('TARGET_ERROR', 'no'));
  };
  await using image = new BackupImage(source, OPTIONS);
  await read(image, 0, 100);
  await read(image, 100, 100);
  for (let i = 0; i < 10; i++) await turn();
  source.fetch = fetch;
  expectSame(await read(image, 200, 100), filled(3, 100));
  expect(fetched.flat().slice(0, 3)).toEqual([0, 1, 2]);
});

test('blocks after a long sequential read are fetched behind the blocks of the read', async () => {
  const { source, fetched } = sourceOf(MIB, new Array(100).fill(entry));
  await using image = new BackupImage(source, { ...OPTIONS, cacheBytes: 16 * MIB });
  await read(image, 0, 30 * MIB);
  await read(image, 30 * MIB, 30 * MIB);
  for (let i = 0; i < 50; i++) await turn();
  expect(fetched.flat()).toHaveLength(64);
  const requestOf = (block: number) => fetched.findIndex((blocks) => blocks.includes(block));
  expect(requestOf(60)).toBeGreaterThan(requestOf(59));
});

test('the reader of a backup finds stored blocks, zeroes and lost blocks', async () => {
  const changes: [number, ReturnType<typeof entryOf>][] = [1, 2, 30].map((block) => [block, entryOf(block)]);
  const records = new RecordStore();
  const map = await writeStep(records, 8, { size: 40 * BLOCK_SIZE, changes, lost: [3, 4, 20] });
  const context = { records, keys: plainIds, format: { fanOut: 8 } } as never;
  const source = new BackupReader(context, { id: 'backup', descriptor: map.descriptor });
  const kinds = (await source.lookup(1, 35, {})).map((content) => (typeof content === 'string' ? content : 'stored'));
  const at = (kind: string) => kinds.flatMap((each, index) => (each === kind ? [index + 1] : []));
  expect([at('stored'), at('lost'), at('zero').length]).toEqual([[1, 2, 30], [3, 4, 20], 29]);
  expect([source.size, source.blockSize]).toEqual([40 * BLOCK_SIZE, BLOCK_SIZE]);
});

test('closing calls onClose once, and ends reads that wait for a lookup', async () => {
  const { source } = sourceOf(100, new Array(10).fill(entry));
  source.lookup = () => new Promise(() => {});
  let closed = 0;
  const image = new BackupImage(source, { ...OPTIONS, onClose: () => void closed++ });
  const reading = read(image, 0, 100);
  reading.catch(() => {});
  await turn();
  const unsent = read(image, 500, 100);
  await Promise.all([image.close(), image.close()]);
  await errorOf(reading, 'CLOSED');
  await errorOf(unsent, 'CLOSED');
  await errorOf(image.flush(), 'CLOSED');
  expect(closed).toBe(1);
});

test('a long read that comes to its next part as the image closes rejects with CLOSED', async () => {
  const { source } = sourceOf(MIB, new Array(32).fill(entry));
  // The first two parts are there; the third is asked for in one of these steps.
  for (let steps = 0; steps < 6; steps++) {
    const answer = Promise.withResolvers<void>();
    source.fetch = async (blocks, deliver) => {
      if (blocks.some(({ block }) => block === 7)) await answer.promise;
      for (const { block } of blocks) deliver(block, filled(1, MIB));
    };
    const image = new BackupImage(source, OPTIONS);
    const reading = image.read(0, new Uint8Array(32 * MIB));
    reading.catch(() => {});
    for (let i = 0; i < 4; i++) await turn();
    answer.resolve();
    for (let step = 0; step < steps; step++) await undefined;
    await image.close();
    await errorOf(reading, 'CLOSED'); // Waited forever.
  }
});

test.each(['lookup', 'fetch'] as const)(
  'a %s that no reader waits for any more is given up, read ahead or not',
  async (stage) => {
    const { source } = sourceOf(100, new Array(100).fill(entry));
    const { lookup, fetch } = source;
    const signals: (AbortSignal | undefined)[] = [];
    const silence = (_first: never, _second: never, { signal }: { signal?: AbortSignal | undefined }) => {
      signals.push(signal);
      return new Promise<never>(() => {});
    };
    await using image = new BackupImage(source, OPTIONS);
    Object.assign(source, { [stage]: silence });
    const readers = [new AbortController(), new AbortController()];
    const reads = readers.map(({ signal }, index) => image.read(index * 100, new Uint8Array(100), { signal }));
    for (const reading of reads) reading.catch(() => {});
    for (let i = 0; i < 10; i++) await turn();
    expect(signals.map((signal) => signal?.aborted)).toEqual([false, false]); // The second one reads ahead.
    readers[0]!.abort(new Error('enough'));
    await expect(reads[0]).rejects.toThrow('enough');
    expect(signals[0]?.aborted).toBe(false);
    readers[1]!.abort(new Error('enough'));
    await expect(reads[1]).rejects.toThrow('enough');
    expect(signals.map((signal) => signal?.aborted)).toEqual([true, true]);
    Object.assign(source, { lookup, fetch });
    expectSame(await read(image, 0, 300), Buffer.concat([1, 2, 3].map((byte) => filled(byte, 100))));
  },
);

test('extents of a large image let the event loop turn, though nothing of it needs a request', async () => {
  const blocks = 2 ** 22;
  const source: BlockSource = {
    size: blocks * 4096,
    blockSize: 4096,
    lookup: async (_first, count) => new Array<BlockContent>(count).fill('zero'),
    fetch: async () => {},
  };
  await using image = new BackupImage(source, { allowLost: false, cacheBytes: 0 });
  let turns = 0;
  const count = () => {
    turns++;
    next = setImmediate(count);
  };
  let next = setImmediate(count);
  const extents = await Array.fromAsync(image.extents(0, image.size));
  clearImmediate(next);
  expect(extents).toEqual([{ offset: 0, length: image.size, kind: 'zero' }]);
  expect(turns).toBeGreaterThan(0); // How many depends on how fast the machine is.
});
