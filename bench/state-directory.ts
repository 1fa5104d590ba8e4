/**
 * What the state directory of a volume of 1 TiB takes (64 KiB blocks, one block written in each region since an instant): opening it after a
 * clean close and after a kill, in a process of its own. Goals: 1 s, 100 MiB.
 */
import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CopyOnWriteVolume } from '../src/index.ts';
import { printTable } from './support/rounds.ts';
import { sparseDevice } from './support/sparse-device.ts';

/** Of the device. */
const SECTOR = 4096;
const BLOCK = 64 * 1024;
const BLOCKS = 2 ** 24;
const REGION_BLOCKS = 64;
const AT_ONCE = 256;

const open = (stateDirectory: string) =>
  CopyOnWriteVolume.open(sparseDevice(BLOCKS * (BLOCK / SECTOR)), { stateDirectory, preserve: { spillBytes: 0 } });

/** Opens it in this process, and says how long that took and what it takes. */
async function opening(folder: string): Promise<object> {
  const before = process.memoryUsage.rss();
  const began = performance.now();
  const volume = await open(folder);
  const ms = performance.now() - began;
  const MiB = (process.memoryUsage.rss() - before) / 2 ** 20;
  return { found: volume.recovery?.found, ms, MiB, overReadBytes: volume.recovery?.overReadBytes };
}

/** Writes to each region, and closes the volume or is killed. */
async function use(folder: string, ends: 'closed' | 'killed'): Promise<void> {
  const volume = await open(folder);
  await (await volume.createSnapshot()).close();
  const bytes = new Uint8Array(4096).fill(1);
  let next = 0;
  const writer = async () => {
    for (let region = next++; region < BLOCKS / REGION_BLOCKS; region = next++) {
      await volume.write((region * REGION_BLOCKS + (region % REGION_BLOCKS)) * BLOCK, bytes);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, writer));
  if (ends === 'killed') process.kill(process.pid, 'SIGKILL');
  await volume.close();
}

const [what, folder, ends] = process.argv.slice(2) as [string | undefined, string, 'closed' | 'killed'];
if (what === 'open') {
  console.log(JSON.stringify(await opening(folder)));
  process.kill(process.pid, 'SIGKILL'); // As it is, for the next one.
} else if (what === 'use') {
  await use(folder, ends);
} else {
  const rows: string[][] = [];
  for (const each of ['closed', 'killed']) {
    const parent = await mkdtemp(join(tmpdir(), 'cow-bench-'));
    const state = join(parent, 'state');
    const run = (...args: string[]) =>
      spawnSync(process.execPath, [...process.execArgv, import.meta.filename, ...args], { encoding: 'utf8' });
    const began = performance.now();
    const { stderr, status } = run('use', state, each);
    if (status !== 0 && each === 'closed') throw new Error(stderr);
    const useMs = performance.now() - began;
    const sizes = await Promise.all((await readdir(state)).map(async (name) => (await stat(join(state, name))).size));
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    const { found, ms, MiB, overReadBytes } = JSON.parse(run('open', state).stdout) as Record<string, number>;
    const verdict = (ms as number) < 1000 && (MiB as number) < 100 ? 'met' : 'MISSED';
    rows.push([
      each,
      String(found),
      (bytes / 2 ** 20).toFixed(1),
      (ms as number).toFixed(0),
      (MiB as number).toFixed(0),
    ]);
    rows.at(-1)?.push(((overReadBytes as number) / 2 ** 30).toFixed(0), (useMs / 1000).toFixed(1), verdict);
    await rm(parent, { recursive: true });
  }
  printTable(
    ['volume of 1 TiB', 'found', 'MiB of state', 'ms to open', 'MiB of memory', 'GiB read more', 's of writing', ''],
    rows,
  );
}
