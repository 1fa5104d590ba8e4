/**
 * What a pipeline costs, and what it costs the host. Arguments: parts of row names, to run those rows only; the parts are
 * `store` (throughput against bare loops), `host` (latencies of the host's writes) and `loop` (the longest step of the event loop).
 * Images are in the system's temporary folder (set `TMPDIR` to choose a disk), and in /dev/shm, if there is one.
 *
 * Every row runs in a process of its own, as in `write-path.ts`.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { GOAL_MS, LongestSteps } from './support/longest-step.ts';
import { type HostRow, hostConditions, measureHost } from './support/pipeline-host.ts';
import { pipelines } from './support/pipeline-steps.ts';
import { type Measured, measureStore, type StoreRow } from './support/pipeline-store.ts';
import { percent, printTable } from './support/rounds.ts';

const MIB = 1024 * 1024;
const PLACES = [
  { place: 'memory', folder: undefined },
  ...(existsSync('/dev/shm') ? [{ place: 'tmpfs', folder: '/dev/shm' }] : []),
  { place: 'disk', folder: tmpdir() },
];

const size = (bytes: number) => (bytes < MIB ? `${bytes / 1024} KiB` : `${bytes / MIB} MiB`);

const STORE_ROWS: StoreRow[] = PLACES.flatMap(({ place, folder }) =>
  [4096, 65_536, MIB].flatMap((blockSize) =>
    (['sweep', 'incremental', 'intercepted', 'sweep, transformed'] as const).map((work) => ({
      name: `store ${place}, ${size(blockSize)}, ${work}`,
      folder,
      blockSize,
      work,
    })),
  ),
);

const HOST_ROWS: HostRow[] = PLACES.filter(({ folder }) => folder !== undefined).flatMap(({ place, folder }) =>
  [1, 32].map((depth) => ({ name: `host ${place}, depth ${depth}`, folder: folder as string, depth })),
);

/** Runs one row in a process of its own, or this one if it is that process. */
function inProcess<T>(kind: string, index: number): T {
  const output = execFileSync(process.execPath, [import.meta.filename, '--row', kind, String(index)], {
    encoding: 'utf8',
  });
  return JSON.parse(output) as T;
}

function storeTable(rows: readonly (readonly [StoreRow, number])[]): void {
  if (rows.length === 0) return;
  console.log(
    'A pipeline to a store that returns at once; 100 % is the throughput of bare loops that read the same blocks\n',
  );
  const table = rows.map(([{ name }, index]) => {
    const { ratios, base, candidate } = inProcess<Measured>('store', index);
    const cells = (of: Measured['base']) => [of.mibPerSecond.toFixed(0), of.cpuMsPerMib.toFixed(2)];
    return [
      name.slice('store '.length),
      ...cells(base),
      ...cells(candidate),
      candidate.peakMib.toFixed(0),
      ...[ratios.min, ratios.median, ratios.max].map(percent),
    ];
  });
  const bare = ['bare MiB/s', 'CPU ms/MiB'];
  printTable(['', ...bare, 'pipeline MiB/s', 'CPU ms/MiB', 'peak MiB', 'min', 'median', 'max'], table);
}

function hostTable(rows: readonly (readonly [HostRow, number])[]): void {
  if (rows.length === 0) return;
  console.log('\nThe host’s 4 KiB random writes, each the first one of its block of 64 KiB, in microseconds\n');
  const table = rows.flatMap(([{ name }, index]) =>
    inProcess<Awaited<ReturnType<typeof measureHost>>>('host', index).map((of, condition) => [
      condition === 0 ? name.slice('host '.length) : '',
      hostConditions[condition] as string,
      of.iops.toFixed(0),
      ...[of.p50, of.p99, of.max].map((us) => us.toFixed(0)),
      percent(of.ratio),
    ]),
  );
  printTable(['', 'while', 'writes/s', 'p50', 'p99', 'max', 'of the idle volume’s'], table);
}

async function loopTable(): Promise<void> {
  const steps = new LongestSteps();
  await pipelines((name, operation) => steps.step(name, operation));
  console.log(`\nThe longest step of the event loop, in milliseconds of CPU time, goal ${GOAL_MS}\n`);
  printTable(['', 'longest', 'collecting', ''], steps.rows);
}

const [first, kind, index] = process.argv.slice(2);
if (first === '--row') {
  const row =
    kind === 'store'
      ? measureStore(STORE_ROWS[Number(index)] as StoreRow)
      : measureHost(HOST_ROWS[Number(index)] as HostRow);
  console.log(JSON.stringify(await row));
} else {
  const chosen = process.argv.slice(2);
  const isChosen = (name: string) => chosen.length === 0 || chosen.some((part) => name.includes(part));
  const pick = <Row extends { readonly name: string }>(rows: readonly Row[]) =>
    rows.map((row, at) => [row, at] as const).filter(([{ name }]) => isChosen(name));
  storeTable(pick(STORE_ROWS));
  hostTable(pick(HOST_ROWS));
  if (isChosen('loop')) await loopTable();
}
