/**
 * What a write costs that needs no pre-image: 4 KiB random writes through a volume with no snapshot live, against the
 * same writes to the bare device. Goals: 97 % of a FileDevice's throughput, 93 % of a MemoryDevice's, at depths 1 and
 * 32; 85 % through the synchronous door; with a state directory, once all regions are marked, nine tenths of that. Arguments: parts of
 * row names, to run those rows only.
 *
 * Every row runs in a process of its own, as a host has one kind of device: what the compiler learned from another
 * kind would be in the way of either side.
 */
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type BlockDevice,
  CopyOnWriteVolume,
  FileDevice,
  MemoryDevice,
  type SyncAccess,
  type SyncBlockDevice,
} from '../src/index.ts';
import { randomOffsets } from './support/random.ts';
import { compare, type Outcome, percent, printTable, type Round } from './support/rounds.ts';

const MIB = 1024 * 1024;
const SIZE = 512 * MIB;
const WRITE_BYTES = 4096;
/**
 * Far more offsets than one round uses: every round goes on where the last of its kind stopped. Base and candidate go
 * through all of them, but are never near each other: the one that came second would find the caches warm.
 */
const OFFSETS_COUNT = 1 << 18;

interface Row {
  readonly name: string;
  readonly goal: number;
  readonly device: 'memory' | 'file';
  /** `sync` is the synchronous door. */
  readonly depth: number | 'sync';
  /** Whether the volume has a state directory. */
  readonly hasState?: boolean;
  readonly writesPerRound: number;
  readonly pairs: number;
}

const ROWS: readonly Row[] = [
  { name: 'FileDevice, depth 1', goal: 0.97, device: 'file', depth: 1, writesPerRound: 256, pairs: 300 },
  { name: 'FileDevice, depth 32', goal: 0.97, device: 'file', depth: 32, writesPerRound: 512, pairs: 300 },
  { name: 'MemoryDevice, depth 1', goal: 0.93, device: 'memory', depth: 1, writesPerRound: 1024, pairs: 2000 },
  { name: 'MemoryDevice, depth 32', goal: 0.93, device: 'memory', depth: 32, writesPerRound: 1024, pairs: 2000 },
  { name: 'FileDevice, synchronous', goal: 0.85, device: 'file', depth: 'sync', writesPerRound: 512, pairs: 300 },
  { name: 'MemoryDevice, synchronous', goal: 0.85, device: 'memory', depth: 'sync', writesPerRound: 1024, pairs: 2000 },
];

/** The same with a state directory. */
const STATE_ROWS: readonly Row[] = ROWS.map((row) => ({
  ...row,
  ...{ name: `${row.name}, state directory`, goal: 0.9 * row.goal, hasState: true },
}));
const ALL_ROWS = [...ROWS, ...STATE_ROWS];

function asyncRounds(device: BlockDevice, offsets: Float64Array, start: number, writes: number, depth: number): Round {
  const buffers = Array.from({ length: depth }, (_, index) => new Uint8Array(WRITE_BYTES).fill(index + 1));
  let next = start;
  return async () => {
    const end = next + writes;
    const writer = async (buffer: Uint8Array) => {
      while (next < end) {
        const offset = offsets[next++ % offsets.length] as number;
        await device.write(offset, buffer);
      }
    };
    await Promise.all(buffers.map(writer));
  };
}

function syncRounds(device: SyncAccess, offsets: Float64Array, start: number, writes: number): Round {
  const buffer = new Uint8Array(WRITE_BYTES).fill(1);
  let next = start;
  return () => {
    for (const end = next + writes; next < end; ) {
      device.writeSync(offsets[next++ % offsets.length] as number, buffer);
    }
  };
}

async function measure(row: Row): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), 'cow-bench-'));
  try {
    const device: SyncBlockDevice =
      row.device === 'memory'
        ? new MemoryDevice(SIZE)
        : await FileDevice.open(join(folder, 'image'), { create: { sizeBytes: SIZE } });
    // Every page is there before the first round.
    for (let at = 0; at < SIZE; at += 4 * MIB) await device.write(at, new Uint8Array(4 * MIB).fill(1));
    const stateDirectory = row.hasState === true ? join(folder, 'state') : undefined;
    const volume = await CopyOnWriteVolume.open(device, { closeDevice: true, stateDirectory });
    // Every region is marked.
    for (let at = 0; stateDirectory !== undefined && at < SIZE; at += MIB)
      await volume.write(at, new Uint8Array(WRITE_BYTES));
    const offsets = randomOffsets(OFFSETS_COUNT, WRITE_BYTES, SIZE);
    const rounds = (of: SyncBlockDevice, start: number) =>
      row.depth === 'sync'
        ? syncRounds(of, offsets, start, row.writesPerRound)
        : asyncRounds(of, offsets, start, row.writesPerRound, row.depth);
    const outcome = await compare({
      base: rounds(device, 0),
      candidate: rounds(volume, OFFSETS_COUNT / 2),
      unitsPerRound: row.writesPerRound,
      pairs: row.pairs,
      warmUpPairs: Math.ceil(row.pairs / 4),
    });
    await volume.close();
    return outcome;
  } finally {
    await rm(folder, { recursive: true });
  }
}

const [first, ...others] = process.argv.slice(2);
if (first === '--row') {
  console.log(JSON.stringify(await measure(ALL_ROWS[Number(others[0])] as Row)));
} else {
  console.log(
    '4 KiB random writes over 512 MiB, no snapshot live: throughput of the volume, 100 % is the bare device\n',
  );
  const chosen = [first, ...others].filter((part) => part !== undefined);
  const table = ALL_ROWS.flatMap(({ name, goal }, index) => {
    if (chosen.length > 0 && !chosen.some((part) => name.includes(part))) return [];
    const output = execFileSync(process.execPath, [import.meta.filename, '--row', String(index)], { encoding: 'utf8' });
    const { baseUs, candidateUs, ratios } = JSON.parse(output) as Outcome;
    const verdict = ratios.median >= goal ? 'met' : 'MISSED';
    const spread = [ratios.min, ratios.median, ratios.max].map(percent);
    return [[name, baseUs.toFixed(3), candidateUs.toFixed(3), ...spread, percent(goal), verdict]];
  });
  printTable(['device', 'bare µs', 'volume µs', 'min', 'median', 'max', 'goal', ''], table);
}
