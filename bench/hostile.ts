import { spawnSync } from 'node:child_process';
import { zstdDecompressSync } from 'node:zlib';
import { MsgpackReader } from '../src/common/msgpack-reader.ts';
import { runAtOnce } from '../src/common/yield-to-event-loop.ts';
import { decodeCheckpoint } from '../src/repository/format/checkpoint-codec.ts';
import type { LogState } from '../src/repository/format/log-state.ts';
import { stateFrom } from '../src/repository/format/state-decoding.ts';
import { stateWeight } from '../src/repository/format/state-weight.ts';
import { HOSTILE_ELEMENTS, hostileCheckpoint } from '../test/repository/log/support/hostile-checkpoints.ts';
import { printTable } from './support/rounds.ts';

/**
 * What memory hostile checkpoints take: `node bench/hostile.ts [MiB]`, of content, decompressed; 64 is the most that
 * is accepted. Each has a process of its own. "State" is one that is read whatever it weighs: its bytes of heap for each
 * byte of its weight, which must not be above 1. "Opened" is the checkpoint as a repository reads it.
 */

const MAX_RAW_BYTES = Number(process.argv[2] ?? 64) * 2 ** 20;
const WEIGHED_BYTES = MAX_RAW_BYTES / 8;
const MIB = 2 ** 20;
const gc = globalThis.gc;
const [, , , name] = process.argv;

if (name === undefined) measureAll();
else if (gc !== undefined) await measure(name, gc);

function measureAll(): void {
  const rows = Object.keys(HOSTILE_ELEMENTS).map((each) => {
    const child = ['--expose-gc', '--max-old-space-size=8192', import.meta.filename, process.argv[2] ?? '64', each];
    const { stdout, stderr } = spawnSync(process.execPath, child, { encoding: 'utf8' });
    if (stdout === '') throw new Error(`${each}: ${stderr}`);
    return [each, ...(JSON.parse(stdout) as string[])];
  });
  printTable(['of', 'fetched', 'heap / weight', 'opened: heap', 'peak above the fetched', 'result'], rows);
}

/** What it made stays referenced until the heap has been looked at. */
async function measure(kind: string, collect: () => void): Promise<void> {
  const elements = HOSTILE_ELEMENTS[kind];
  if (elements === undefined) throw new Error(`no elements are called ${kind}`);
  const heap = () => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const small = hostileCheckpoint(elements, { seq: 1, maxRawBytes: WEIGHED_BYTES });
  let before = heap();
  const states: LogState[] = [runAtOnce(stateFrom(new MsgpackReader(contentOf(small), 'LOG_CORRUPT'), Infinity))];
  const perWeight = (heap() - before) / runAtOnce(stateWeight(states[0] as LogState));
  states.pop();

  const bytes = hostileCheckpoint(elements, { seq: 1, maxRawBytes: MAX_RAW_BYTES });
  before = heap();
  let peak = 0;
  const watching = setInterval(() => {
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    peak = Math.max(peak, heapUsed + arrayBuffers - before - bytes.length);
  }, 1);
  let result = 'accepted';
  try {
    states.push(await decodeCheckpoint(undefined, 1, bytes));
  } catch {
    result = 'refused';
  }
  clearInterval(watching);
  const kept = heap() - before;
  const figures = [perWeight.toFixed(2), `${(kept / MIB).toFixed(0)} MiB`, `${(peak / MIB).toFixed(0)} MiB`, result];
  console.log(JSON.stringify([`${(bytes.length / MIB).toFixed(2)} MiB`, ...figures]));
}

function contentOf(checkpoint: Uint8Array): Uint8Array {
  return zstdDecompressSync(checkpoint.subarray(5, checkpoint.length - 32));
}
