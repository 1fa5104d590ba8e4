/**
 * The maps of a volume of 1 TiB in 64 KiB blocks: comparing two state maps of which 0.1 % differ (goal: under 10 ms,
 * the first call of a process too), their encoded size, and the memory that both maps of a volume take.
 */
import { execFileSync } from 'node:child_process';
import { type BlockDevice, BlockStateMap, CopyOnWriteVolume } from '../src/index.ts';
import { shuffledBlocks } from './support/random.ts';
import { median, printTable } from './support/rounds.ts';

const BLOCKS = 2 ** 24;
const CHANGED = Math.round(BLOCKS / 1000);
const GOAL_MS = 10;
const ROUNDS = 30;
const FRESH_PROCESSES = 7;

type Layout = 'scattered' | 'clustered';

/** A record of a moment, and what it has become: some blocks were preserved since. */
function twoMaps(layout: Layout): { previous: BlockStateMap; current: BlockStateMap } {
  const previous = new BlockStateMap(BLOCKS);
  const current = previous.clone();
  if (layout === 'scattered') {
    // One in each thousand, at a place of its own within it.
    const places = shuffledBlocks(997);
    for (let index = 0; index < CHANGED; index++) {
      current.set(index * 1000 + (places[index % places.length] as number), 'preserved');
    }
  } else {
    const runs = 16;
    for (let run = 0; run < runs; run++) {
      const firstBlock = Math.floor((BLOCKS / runs) * run) + 12_345;
      current.set({ firstBlock, blockCount: Math.floor(CHANGED / runs) }, 'preserved');
    }
  }
  return { previous, current };
}

function timed<T>(work: () => T): { ms: number; value: T } {
  const started = performance.now();
  const value = work();
  return { ms: performance.now() - started, value };
}

async function fiveTimes(work: () => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (let time = 0; time < 5; time++) {
    const started = performance.now();
    await work();
    times.push(performance.now() - started);
  }
  return times;
}

function diffMs({ previous, current }: { previous: BlockStateMap; current: BlockStateMap }): {
  ms: number;
  ranges: number;
  blocks: number;
} {
  let ranges = 0;
  let blocks = 0;
  const { ms } = timed(() => {
    for (const { blockCount } of current.diff(previous)) {
      ranges++;
      blocks += blockCount;
    }
  });
  return { ms, ranges, blocks };
}

const spread = (values: readonly number[]) =>
  [Math.min(...values), median(values), Math.max(...values)].map((value) => value.toFixed(2));

/** A device of 1 TiB that holds nothing: only the maps over it are of interest. */
const empty: BlockDevice = {
  size: BLOCKS * 64 * 1024,
  sectorSize: 4096,
  read: async (_, into) => {
    into.fill(0);
  },
  write: async () => {},
  flush: async () => {},
  [Symbol.asyncDispose]: async () => {},
};

async function bytesPerBlock(): Promise<[changeMap: number, stateMap: number]> {
  const before = process.memoryUsage().arrayBuffers;
  const volume = await CopyOnWriteVolume.open(empty);
  const between = process.memoryUsage().arrayBuffers;
  await volume.createSnapshot();
  const after = process.memoryUsage().arrayBuffers;
  return [(between - before) / BLOCKS, (after - between) / BLOCKS];
}

if (process.argv[2] !== undefined) {
  // A fresh process makes one call and ends.
  console.log(diffMs(twoMaps(process.argv[2] as Layout)).ms);
} else {
  const [changeMap, stateMap] = await bytesPerBlock();
  console.log(`${BLOCKS} blocks (1 TiB of 64 KiB), 0.1 % changed; milliseconds, goal of every diff: ${GOAL_MS}\n`);
  const rows: string[][] = [];
  for (const layout of ['scattered', 'clustered'] as const) {
    const first = Array.from({ length: FRESH_PROCESSES }, () =>
      Number(execFileSync(process.execPath, ['--disable-warning=ExperimentalWarning', import.meta.filename, layout])),
    );
    const maps = twoMaps(layout);
    const { ranges, blocks } = diffMs(maps);
    if (blocks < CHANGED - 16) throw new Error(`the diff found ${blocks} blocks of ${CHANGED}`);
    const later = Array.from({ length: ROUNDS }, () => diffMs(maps).ms);
    const verdict = (values: readonly number[]) => (median(values) < GOAL_MS ? 'met' : 'MISSED');
    rows.push([`diff, ${layout}, ${ranges} ranges, first call of a process`, ...spread(first), verdict(first)]);
    rows.push([`diff, ${layout}, ${ranges} ranges, later calls`, ...spread(later), verdict(later)]);
    const encoded = await maps.current.encode();
    const encodeMs = await fiveTimes(() => maps.current.encode());
    const decodeMs = await fiveTimes(() => BlockStateMap.decode(encoded));
    rows.push([`encode, ${layout}, to ${encoded.length} bytes`, ...spread(encodeMs), '']);
    rows.push([`decode, ${layout}`, ...spread(decodeMs), '']);
  }
  printTable(['', 'min', 'median', 'max', ''], rows);
  console.log(
    `\nbytes a block: ${changeMap.toFixed(3)} change map + ${stateMap.toFixed(3)} state map (goal: 2 together)`,
  );
}
