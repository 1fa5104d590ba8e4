/**
 * What the first overwrite of a block costs while a snapshot is live, against a bare device whose writer does by hand
 * what can not be saved: one more read of a block and one more write of a block for every overwrite. 64 KiB blocks,
 * an image file, pre-images in memory or in a spill file. Arguments: parts of row names, to run those rows only.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BlockDevice, CopyOnWriteVolume, FileDevice, type VolumeSnapshot } from '../src/index.ts';
import { fillRandom, shuffledBlocks } from './support/random.ts';
import { compare, percent, printTable, type Round } from './support/rounds.ts';

const MIB = 1024 * 1024;
const BLOCK = 64 * 1024;
const BLOCKS_PER_ROUND = 128;
const ROUND_BYTES = BLOCKS_PER_ROUND * BLOCK;
const PAIRS = 40;
const ORDER = shuffledBlocks(BLOCKS_PER_ROUND);

/** Visits every block once, so many at a time. */
async function eachBlock(depth: number, visit: (block: number, lane: number) => Promise<void>): Promise<void> {
  let next = 0;
  const visitor = async (_: unknown, lane: number) => {
    while (next < ORDER.length) await visit(ORDER[next++] as number, lane);
  };
  await Promise.all(Array.from({ length: depth }, visitor));
}

/** Reads the block, writes it elsewhere, and then overwrites it. */
function byHand(device: BlockDevice, copies: BlockDevice, write: Uint8Array, depth: number): Round {
  const buffers = Array.from({ length: depth }, () => new Uint8Array(BLOCK));
  return () =>
    eachBlock(depth, async (block, lane) => {
      const buffer = buffers[lane] as Uint8Array;
      await device.read(block * BLOCK, buffer);
      await copies.write(block * BLOCK, buffer);
      await device.write(block * BLOCK, write);
    });
}

function throughVolume(volume: CopyOnWriteVolume, write: Uint8Array, depth: number): Round {
  return () => eachBlock(depth, (block) => volume.write(block * BLOCK, write));
}

const folder = await mkdtemp(join(tmpdir(), 'cow-bench-'));
try {
  const device = await FileDevice.open(join(folder, 'image'), { create: { sizeBytes: ROUND_BYTES } });
  const content = new Uint8Array(ROUND_BYTES);
  fillRandom(content);
  await device.write(0, content);

  const table: string[][] = [];
  const chosen = process.argv.slice(2);
  for (const place of ['memory', 'spill file'] as const) {
    const inMemory = place === 'memory';
    const copiesPath = join(folder, `copies for ${place}`);
    const copies = await FileDevice.open(copiesPath, { create: { sizeBytes: ROUND_BYTES } });
    await copies.write(0, content);
    const volume = await CopyOnWriteVolume.open(device, {
      blockSize: BLOCK,
      preserve: inMemory
        ? { memoryBytes: ROUND_BYTES }
        : { memoryBytes: 0, spillPath: join(folder, 'spill'), spillBytes: ROUND_BYTES },
    });
    let snapshot: VolumeSnapshot | undefined;
    for (const writeBytes of [4096, BLOCK]) {
      const write = content.slice(0, writeBytes);
      for (const depth of [1, 8]) {
        const name = `${place}, writes of ${writeBytes / 1024} KiB, depth ${depth}`;
        if (chosen.length > 0 && !chosen.some((part) => name.includes(part))) continue;
        const { baseUs, candidateUs, ratios } = await compare({
          base: byHand(device, copies, write, depth),
          candidate: throughVolume(volume, write, depth),
          unitsPerRound: BLOCKS_PER_ROUND,
          before: async () => {
            await snapshot?.close();
            snapshot = await volume.createSnapshot();
          },
          pairs: PAIRS,
          warmUpPairs: 10,
        });
        table.push([
          name,
          baseUs.toFixed(1),
          candidateUs.toFixed(1),
          ...[ratios.min, ratios.median, ratios.max].map(percent),
        ]);
      }
    }
    await volume.close();
    await copies[Symbol.asyncDispose]();
  }
  console.log(
    `First overwrites of ${BLOCK / 1024} KiB blocks of an image file with a snapshot live (${ROUND_BYTES / MIB} MiB a round):`,
  );
  console.log(
    'throughput of the volume; 100 % is a bare device with one block read and one block write more by hand\n',
  );
  printTable(['pre-images', 'by hand µs', 'volume µs', 'min', 'median', 'max'], table);
  await device.close();
} finally {
  await rm(folder, { recursive: true });
}
