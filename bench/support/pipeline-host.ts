/** What the host's writes wait for while a pipeline works. */
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BackupPipeline, CopyOnWriteVolume, FileDevice } from '../../src/index.ts';
import { fillRandom, shuffledBlocks } from './random.ts';
import { median } from './rounds.ts';

const MIB = 1024 * 1024;
const BLOCK = 65_536;
const SIZE = 512 * MIB;
const WRITES = 1024;
const ROUNDS = 12;
const ORDER = shuffledBlocks(SIZE / BLOCK);

export interface HostRow {
  readonly name: string;
  readonly folder: string;
  readonly depth: number;
}

export interface Latencies {
  readonly iops: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** Throughput against that of the idle volume in the same round: the median. */
  readonly ratio: number;
}

export const hostConditions = [
  'no snapshot is live',
  'a snapshot is live',
  'a pipeline sweeps',
  'a lazy pipeline stores them',
  'the store never answers',
];

const never = (_block: number, _bytes: Uint8Array, { signal }: { signal: AbortSignal }) =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));

export async function measureHost({ folder, depth }: HostRow): Promise<Latencies[]> {
  const own = await mkdtemp(join(folder, 'cow-bench-'));
  try {
    const device = await FileDevice.open(join(own, 'image'), { create: { sizeBytes: SIZE } });
    const content = new Uint8Array(4 * MIB);
    fillRandom(content);
    for (let at = 0; at < SIZE; at += content.length) await device.write(at, content);
    const preserve = { memoryBytes: 2 * WRITES * BLOCK };
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK, closeDevice: true, preserve });
    const all = hostConditions.map(() => ({
      waits: [] as number[],
      perSecond: [] as number[],
      ratios: [] as number[],
    }));
    for (let round = -2; round < ROUNDS; round++) {
      const perSecond: number[] = [];
      for (let turn = 0; turn < all.length; turn++) {
        const condition = (round + 2 + turn) % all.length;
        const { waits, elapsedMs } = await writesUnder(volume, condition, depth, Math.abs(round));
        perSecond[condition] = (WRITES / elapsedMs) * 1000;
        if (round >= 0) all[condition]?.waits.push(...waits);
      }
      if (round < 0) continue;
      for (const [condition, of] of all.entries()) {
        of.perSecond.push(perSecond[condition] as number);
        of.ratios.push((perSecond[condition] as number) / (perSecond[0] as number));
      }
    }
    await volume.close();
    return all.map(({ waits, perSecond, ratios }) => {
      const sorted = Float64Array.from(waits).sort();
      const at = (share: number) =>
        (sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] as number) * 1000;
      return { iops: median(perSecond), p50: at(0.5), p99: at(0.99), max: at(1), ratio: median(ratios) };
    });
  } finally {
    await rm(own, { recursive: true });
  }
}

async function writesUnder(volume: CopyOnWriteVolume, condition: number, depth: number, seed: number) {
  const snapshot = condition === 0 ? undefined : await volume.createSnapshot();
  const pipeline =
    snapshot === undefined || condition === 1
      ? undefined
      : BackupPipeline.start(snapshot, { store: condition === 4 ? never : async () => {} });
  if (condition === 2) pipeline?.sweep();
  const bytes = new Uint8Array(4096).fill(seed + 1);
  const waits: number[] = [];
  let next = 0;
  const writer = async () => {
    while (next < WRITES) {
      const block = ORDER[(seed * WRITES + next++) % ORDER.length] as number;
      const began = performance.now();
      await volume.write(block * BLOCK, bytes);
      waits.push(performance.now() - began);
    }
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: depth }, writer));
  const elapsedMs = performance.now() - began;
  void pipeline?.done.catch(() => {});
  await pipeline?.close();
  await snapshot?.close();
  return { waits, elapsedMs };
}
