/**
 * Throughput of the seal pool against the bare primitives that it is made of (zero test, HMAC-SHA-256, zstd 1, AES-256-GCM),
 * on one thread and on two, over the same half-compressible data, in one run: figures of different runs don't compare.
 *
 *     node bench/seal.ts [MiB of data] [bytes per block]
 */
import { randomFillSync } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { isMainThread, type MessagePort, parentPort, Worker, workerData } from 'node:worker_threads';
import { isZero } from '../src/common/bytes.ts';
import { RepositoryKeys } from '../src/repository/crypto/repository-keys.ts';
import { contentId } from '../src/repository/format/derivation.ts';
import { RecordKind } from '../src/repository/format/record.ts';
import { maxStoredLength, sealRecordInto } from '../src/repository/packs/record-sealing.ts';
import { SealPool } from '../src/repository/packs/seal-pool/seal-pool.ts';

const MIB = 1024 * 1024;
const ROUNDS = 5;
const keys = RepositoryKeys.encrypted(new Uint8Array(32).fill(1), new Uint8Array(16));

interface Share {
  readonly data: SharedArrayBuffer;
  readonly from: number;
  readonly to: number;
  readonly blockSize: number;
}

/** What a pool's worker does, without a pool: no messages, no slots, everything in one loop. */
function bare({ data, from, to, blockSize }: Share): number {
  const out = new Uint8Array(maxStoredLength(blockSize));
  let stored = 0;
  for (let at = from; at < to; at += blockSize) {
    const raw = new Uint8Array(data, at, Math.min(blockSize, to - at));
    if (isZero(raw)) continue;
    const head = { kind: RecordKind.block, id: contentId(keys.contentIdKey, raw) };
    stored += sealRecordInto(out, keys.recordKey, head, raw).storedLength;
  }
  return stored;
}

/** Blocks of which every 128 bytes are half noise, half one repeated byte. */
function halfCompressible(bytes: number): SharedArrayBuffer {
  const data = new SharedArrayBuffer(bytes);
  const view = new Uint8Array(data);
  for (let at = 0; at < bytes; at += 128) {
    randomFillSync(view, at, 64);
    view.fill((at >>> 7) & 0xff, at + 64, at + 128);
  }
  return data;
}

class BareThread {
  readonly #worker: Worker;
  readonly ready: Promise<unknown>;

  constructor(share: Share) {
    this.#worker = new Worker(new URL(import.meta.url), { workerData: share });
    this.ready = this.#answer();
  }

  run(): Promise<unknown> {
    const answer = this.#answer();
    this.#worker.postMessage('run');
    return answer;
  }

  end(): Promise<unknown> {
    return this.#worker.terminate();
  }

  #answer(): Promise<unknown> {
    return new Promise((resolve) => this.#worker.once('message', resolve));
  }
}

async function throughPool(pool: SealPool, data: SharedArrayBuffer): Promise<number> {
  const slotBytes = pool.blockSize * pool.blocksPerSlot;
  let stored = 0;
  const under = new Set<Promise<void>>();
  for (let from = 0; from < data.byteLength; from += slotBytes) {
    const slot = await pool.acquire();
    const part = new Uint8Array(data, from, Math.min(slotBytes, data.byteLength - from));
    slot.input.set(part); // Stands for the read from the device.
    const lengths = Array.from({ length: Math.ceil(part.length / pool.blockSize) }, (_, block) =>
      Math.min(pool.blockSize, part.length - block * pool.blockSize),
    );
    const work: Promise<void> = (async () => {
      const ids = await pool.identify(slot, lengths);
      const present = [...ids.keys()].filter((block) => ids[block] !== undefined);
      for (const { storedLength } of await pool.seal(slot, present)) stored += storedLength;
      slot.release();
    })().finally(() => under.delete(work));
    under.add(work);
  }
  await Promise.all(under);
  return stored;
}

async function main(): Promise<void> {
  const bytes = Number(process.argv[2] ?? 256) * MIB;
  const blockSize = Number(process.argv[3] ?? 64 * 1024);
  const data = halfCompressible(bytes);
  const half = Math.ceil(bytes / 2 / blockSize) * blockSize;
  const threads = [
    new BareThread({ data, from: 0, to: half, blockSize }),
    new BareThread({ data, from: half, to: bytes, blockSize }),
  ];
  await Promise.all(threads.map((thread) => thread.ready));
  const pools = [0, 1, 2].map((count) => new SealPool({ keys, blockSize, threads: count }));
  const contestants: Record<string, () => unknown> = {
    'bare, 1 thread': () => bare({ data, from: 0, to: bytes, blockSize }),
    'bare, 2 threads': () => Promise.all(threads.map((thread) => thread.run())),
    'pool, in process': () => throughPool(pools[0] as SealPool, data),
    'pool, 1 thread': () => throughPool(pools[1] as SealPool, data),
    'pool, 2 threads': () => throughPool(pools[2] as SealPool, data),
  };
  // Interleaved, and the best of each: whatever else the machine does only ever slows one down.
  const best = new Map<string, number>();
  const leastCpu = new Map<string, number>();
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [name, run] of Object.entries(contestants)) {
      const start = performance.now();
      const cpu = process.cpuUsage();
      await run();
      const { user, system } = process.cpuUsage(cpu); // Of all threads of this process: what else runs on the machine does not count.
      const rate = bytes / 1e6 / ((performance.now() - start) / 1e3);
      if (round > 0) best.set(name, Math.max(best.get(name) ?? 0, rate)); // The first one warms up.
      if (round > 0)
        leastCpu.set(name, Math.min(leastCpu.get(name) ?? Infinity, (user + system) / 1e3 / (bytes / 1e9)));
    }
  }
  const rate = (name: string) => best.get(name) as number;
  console.log(`${bytes / MIB} MiB in blocks of ${blockSize}, ${availableParallelism()} processors, best of ${ROUNDS}`);
  for (const name of Object.keys(contestants)) {
    const one = ((100 * rate(name)) / rate('bare, 1 thread')).toFixed(0);
    const two = ((100 * rate(name)) / rate('bare, 2 threads')).toFixed(0);
    const cpu = leastCpu.get(name) as number;
    const cpuShare = ((100 * cpu) / (leastCpu.get('bare, 1 thread') as number)).toFixed(0);
    console.log(
      `${name.padEnd(18)}${rate(name).toFixed(0).padStart(6)} MB/s ${one.padStart(4)} % of bare 1 ${two.padStart(4)} % of bare 2` +
        `  ${cpu.toFixed(0).padStart(6)} ms of processor per GB, ${cpuShare.padStart(3)} %`,
    );
  }
  await Promise.all([...pools.map((pool) => pool.close()), ...threads.map((thread) => thread.end())]);
}

if (isMainThread) await main();
else {
  const port = parentPort as MessagePort;
  port.on('message', () => port.postMessage(bare(workerData as Share)));
  port.postMessage('ready');
}
