/** A pipeline to a store that returns at once, against bare loops that read the same blocks and look for zeroes. */

import { createCipheriv, createSecretKey, randomFillSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdCompressSync } from 'node:zlib';
import { isZero } from '../../src/common/bytes.ts';
import {
  BackupPipeline,
  CopyOnWriteVolume,
  compression,
  encryption,
  FileDevice,
  MemoryDevice,
  type PipelineRecord,
  type VolumeSnapshot,
} from '../../src/index.ts';
import { fillRandom, shuffledBlocks } from './random.ts';
import { compare } from './rounds.ts';

const MIB = 1024 * 1024;
const AT_ONCE = 16;
const KEY = new Uint8Array(32).fill(7);
const KEY_OBJECT = createSecretKey(KEY);
const PAIRS = { sweep: 12, incremental: 60, intercepted: 8, 'sweep, transformed': 6 };

export interface StoreRow {
  readonly name: string;
  /** Absent: memory. */
  readonly folder: string | undefined;
  readonly blockSize: number;
  readonly work: 'sweep' | 'incremental' | 'intercepted' | 'sweep, transformed';
}

interface Side {
  readonly mibPerSecond: number;
  /** Of all threads of the process. */
  readonly cpuMsPerMib: number;
  /** Resident memory beyond what there was before the round: the most of all rounds. */
  readonly peakMib: number;
}

export interface Measured {
  readonly base: Side;
  readonly candidate: Side;
  readonly ratios: { readonly min: number; readonly median: number; readonly max: number };
}

/** Of what the rounds of one side take beside time. */
class Meter {
  #cpuUs = 0;
  #peak = 0;
  #rounds = 0;

  metered(round: () => Promise<void>): () => Promise<void> {
    return async () => {
      const before = process.memoryUsage.rss();
      const look = () => {
        this.#peak = Math.max(this.#peak, process.memoryUsage.rss() - before);
      };
      const timer = setInterval(look, 5);
      const cpu = process.cpuUsage();
      await round();
      const { user, system } = process.cpuUsage(cpu);
      clearInterval(timer);
      look();
      this.#cpuUs += user + system;
      this.#rounds++;
    };
  }

  side(bytesPerRound: number, usPerByte: number): Side {
    const mib = bytesPerRound / MIB;
    return {
      mibPerSecond: 1e6 / (usPerByte * MIB),
      cpuMsPerMib: this.#cpuUs / 1000 / this.#rounds / mib,
      peakMib: this.#peak / MIB,
    };
  }
}

/** Visits blocks, so many at a time. */
async function each(blocks: readonly number[], visit: (block: number, lane: number) => Promise<void>): Promise<void> {
  let next = 0;
  const visitor = async (_: unknown, lane: number) => {
    while (next < blocks.length) await visit(blocks[next++] as number, lane);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, visitor));
}

async function transformed(bytes: Uint8Array): Promise<void> {
  const params = { [constants.ZSTD_c_compressionLevel]: 1 };
  const frame =
    bytes.length < 32_768 ? zstdCompressSync(bytes, { params }) : await promisify(zstdCompress)(bytes, { params });
  const cipher = createCipheriv('aes-256-gcm', KEY_OBJECT, randomFillSync(new Uint8Array(12)));
  Buffer.concat([cipher.update(frame), cipher.final(), cipher.getAuthTag()]);
}

const store = async () => {};

export async function measureStore({ folder, blockSize, work }: StoreRow): Promise<Measured> {
  const size = (work === 'sweep, transformed' ? 64 : 256) * MIB;
  const own = folder === undefined ? undefined : await mkdtemp(join(folder, 'cow-bench-'));
  try {
    const device =
      own === undefined
        ? new MemoryDevice(size, { sectorSize: 4096 })
        : await FileDevice.open(join(own, 'image'), { create: { sizeBytes: size } });
    // Half of each page compresses.
    const content = new Uint8Array(4 * MIB);
    fillRandom(content);
    for (let at = 0; at < content.length; at += 4096) content.fill(7, at, at + 2048);
    for (let at = 0; at < size; at += content.length) await device.write(at, content);
    const volume = await CopyOnWriteVolume.open(device, {
      blockSize,
      closeDevice: true,
      preserve: { memoryBytes: 2 * size },
    });
    const outcome = await roundsOf(volume, work);
    await volume.close();
    return outcome;
  } finally {
    if (own !== undefined) await rm(own, { recursive: true });
  }
}

async function roundsOf(volume: CopyOnWriteVolume, work: StoreRow['work']): Promise<Measured> {
  const { blockSize } = volume;
  const all = Array.from({ length: volume.size / blockSize }, (_, block) => block);
  const changed = shuffledBlocks(all.length).slice(0, Math.max(1, Math.round(all.length / 1000)));
  const blocks = work === 'incremental' ? changed.toSorted((a, b) => a - b) : all;
  const buffers = Array.from({ length: AT_ONCE }, () => new Uint8Array(blockSize));
  const transforms = work === 'sweep, transformed' ? [compression(), encryption(KEY)] : [];
  const fresh = new Uint8Array(blockSize).fill(5);
  let previous: PipelineRecord | undefined;
  let snapshot: VolumeSnapshot | undefined;

  const read = async (block: number, lane: number) => {
    const bytes = transforms.length > 0 ? new Uint8Array(blockSize) : (buffers[lane] as Uint8Array);
    await (snapshot as VolumeSnapshot).read(block * blockSize, bytes);
    if (!isZero(bytes) && transforms.length > 0) await transformed(bytes);
  };
  const byHand = async (block: number, lane: number) => {
    await volume.write(block * blockSize, fresh);
    await read(block, lane);
    snapshot?.mark(block, 'storing');
    snapshot?.mark(block, 'stored');
  };
  const base = new Meter();
  const candidate = new Meter();
  const pipeline = async () => {
    const started = BackupPipeline.start(snapshot as VolumeSnapshot, { store, transforms, previous });
    if (work === 'intercepted') await each(all, (block) => volume.write(block * blockSize, fresh));
    else started.sweep();
    const { storedBlocks } = await started.done;
    if (storedBlocks !== blocks.length) throw new Error(`${storedBlocks} blocks were stored, not ${blocks.length}`);
  };
  if (work === 'incremental') {
    snapshot = await volume.createSnapshot();
    ({ record: previous } = await BackupPipeline.start(snapshot, { store }).sweep().done);
    for (const block of changed) await volume.write(block * blockSize, fresh);
  }
  const { baseUs, candidateUs, ratios } = await compare({
    base: base.metered(() => each(blocks, work === 'intercepted' ? byHand : read)),
    candidate: candidate.metered(pipeline),
    unitsPerRound: blocks.length * blockSize,
    before: async () => {
      await snapshot?.close();
      snapshot = await volume.createSnapshot();
    },
    pairs: PAIRS[work],
    warmUpPairs: 3,
  });
  await snapshot?.close();
  const bytes = blocks.length * blockSize;
  return { ratios, base: base.side(bytes, baseUs), candidate: candidate.side(bytes, candidateUs) };
}
