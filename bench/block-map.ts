import { createHash } from 'node:crypto';
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type {
  Location,
  PackName,
  RecordIds,
  RecordKind,
  RecordReader,
  RecordWriter,
} from '../src/repository/format/record.ts';
import { BlockMap } from '../src/repository/map/block-map.ts';
import type { Change } from '../src/repository/map/changes.ts';
import { diffMaps } from '../src/repository/map/diff.ts';
import { walkUsage } from '../src/repository/map/map-usage.ts';
import { writeBlockMap } from '../src/repository/map/write-block-map.ts';
import { LocationSet } from '../src/repository/packs/location-set.ts';

/**
 * What the block map of a 1 TiB volume of 64 KiB blocks costs: `node bench/block-map.ts [blocks]`. Records go to a
 * temporary file, uncompressed and not encrypted, so the time is the map's own and memory is not the store's.
 */

const BLOCK_SIZE = 65_536;
const FAN_OUT = 128;
const BLOCKS = Number(process.argv[2] ?? 2 ** 24);
const BLOCKS_PER_PACK = 512;

const ids: RecordIds = {
  recordId: (kind, identity) =>
    createHash('sha256').update('cow1 record id').update(Uint8Array.of(kind)).update(identity).digest(),
};

class FileStore implements RecordReader, RecordWriter {
  readonly #file: number;
  readonly #places = new Map<string, number>();
  bytes = 0;
  records = 0;
  reads = 0;
  #pack: PackName = { session: 1, random: 'f'.repeat(32) };
  #packStart = 0;
  #packs = 0;

  constructor(path: string) {
    this.#file = openSync(path, 'w+');
  }

  async write(_kind: RecordKind, _id: Uint8Array, raw: Uint8Array): Promise<Location> {
    if (this.records === 0 || this.bytes - this.#packStart > 32 * 2 ** 20) {
      this.#pack = { session: 1, random: (2 ** 40 + this.#packs++).toString(16).padStart(32, '0') };
      this.#packStart = this.bytes;
      this.#places.set(this.#pack.random, this.bytes);
    }
    const offset = 8 + this.bytes - this.#packStart;
    writeSync(this.#file, raw, 0, raw.length, this.bytes);
    this.bytes += raw.length;
    this.records++;
    return { pack: this.#pack, offset, storedLength: raw.length, codec: 0, rawLength: raw.length };
  }

  async read(_kind: RecordKind, _id: Uint8Array, { pack, offset, rawLength }: Location): Promise<Uint8Array> {
    const raw = new Uint8Array(rawLength);
    readSync(this.#file, raw, 0, rawLength, this.#places.get(pack.random)! + offset - 8);
    this.reads++;
    return raw;
  }

  close(): void {
    if (fstatSync(this.#file).size !== this.bytes) throw new Error('the store lost something');
    closeSync(this.#file);
  }
}

/** Makes ids that are as good as random, cheaply: the cost of a real id is not the map's. */
function entryMaker(generation: number) {
  let pack: PackName = { session: 3, random: '' };
  let packOf = -1;
  let slab = new Uint32Array(0);
  let next = 0;
  return (block: number, packNumber: number): Change => {
    if (packNumber !== packOf) pack = { session: 3, random: packNumber.toString(16).padStart(32, '0') };
    packOf = packNumber;
    if (next === slab.length) {
      slab = new Uint32Array(64 * 1024);
      next = 0;
    }
    const id = new Uint8Array(slab.buffer, next * 4, 32);
    let state = (block ^ Math.imul(generation, 0x9e3779b9)) >>> 0;
    for (let i = 0; i < 8; i++) {
      state = (Math.imul(state ^ (state >>> 15), 0x85ebca6b) + i) >>> 0;
      slab[next++] = state;
    }
    const offset = 8 + (block % BLOCKS_PER_PACK) * (BLOCK_SIZE + 28);
    const location = { pack, offset, storedLength: BLOCK_SIZE, codec: 0, rawLength: BLOCK_SIZE } as const;
    return [block, { id, location }];
  };
}

function* fullChanges(): Generator<Change> {
  const entry = entryMaker(0);
  for (let block = 0; block < BLOCKS; block++) yield entry(block, Math.floor(block / BLOCKS_PER_PACK));
}

async function* awaited(changes: Iterable<Change>): AsyncGenerator<Change> {
  yield* changes;
}

function scattered(count: number, generation: number): number[] {
  const blocks = new Set<number>();
  for (let state = generation + 1; blocks.size < count; ) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    blocks.add(Math.floor((state / 2 ** 32) * BLOCKS));
  }
  return [...blocks].sort((a, b) => a - b);
}

const directory = mkdtempSync(join(tmpdir(), 'block-map-'));
const store = new FileStore(join(directory, 'records'));
const rows: Record<string, string | number>[] = [];

async function measure<T>(what: string, work: () => Promise<T>): Promise<T> {
  const { bytes, records, reads } = store;
  const started = performance.now();
  const result = await work();
  const ms = performance.now() - started;
  rows.push({
    what,
    ms: Math.round(ms),
    'records written': store.records - records,
    'map KiB written': Math.round((store.bytes - bytes) / 1024),
    'records read': store.reads - reads,
    'peak RSS so far, MiB': Math.round(process.resourceUsage().maxRSS / 1024),
  });
  return result;
}

const shape = { size: BLOCKS * BLOCK_SIZE, blockSize: BLOCK_SIZE, fanOut: FAN_OUT, writer: store, ids };
const open = (descriptor: Awaited<ReturnType<typeof writeBlockMap>>) => new BlockMap(descriptor, FAN_OUT, store, ids);

async function diffed(a: BlockMap, b: BlockMap, expected: number, exact: boolean): Promise<void> {
  let blocks = 0;
  for await (const { blockCount } of diffMaps(a, b, { exact })) blocks += blockCount;
  if (blocks !== expected) throw new Error(`the diff has ${blocks} blocks, not ${expected}`);
}

try {
  await measure('(start)', async () => {});
  await measure('making the entries, alone', async () => {
    for (const [block] of fullChanges()) if (block >= BLOCKS) throw new Error('too many');
  });
  const full = await measure(`full build, ${BLOCKS} blocks, iterable`, () =>
    writeBlockMap({ ...shape, changes: fullChanges() }),
  );
  await measure('the same from an async iterable', () => writeBlockMap({ ...shape, changes: awaited(fullChanges()) }));
  await measure('all entries read', async () => {
    let count = 0;
    for await (const { entry } of open(full).entries()) count += entry.id.length / 32;
    if (count !== BLOCKS) throw new Error(`${count} entries`);
  });
  await measure('pack usage', async () => {
    let bytes = 0;
    const record = (_pack: PackName, each: number) => {
      bytes += each;
    };
    const sink = { record, blocks: (_leaf: number, pack: PackName, each: number) => record(pack, each) };
    await walkUsage(open(full), sink, { seen: new LocationSet() });
    if (bytes < BLOCKS) throw new Error(`${bytes} bytes`);
  });
  for (const [generation, count] of [
    [1, 1000],
    [2, 100_000],
  ] as const) {
    const entry = entryMaker(generation);
    const changed = scattered(count, generation);
    const changes = () => changed.map((block, i) => entry(block, 2 ** 20 + Math.floor(i / BLOCKS_PER_PACK)));
    const previous = open(full);
    const run = await measure(`${count} scattered changes`, () =>
      writeBlockMap({ ...shape, previous, changes: changes() }),
    );
    await measure('  diff with the base, exact', () => diffed(open(full), open(run), count, true));
    await measure('  diff with the base, rough', () => diffed(open(full), open(run), count, false));
    const folded = await measure('  the same folded', () =>
      writeBlockMap({ ...shape, previous: open(full), changes: changes(), fold: true }),
    );
    await measure('  diff of folded and base', () => diffed(open(full), open(folded), count, true));
    const opened = open(run);
    await measure('  open', () => opened.load());
    await measure('  first lookup', () => opened.lookup(BLOCKS >> 1, 1));
    await measure('  second lookup, elsewhere', () => opened.lookup(BLOCKS >> 2, 1));
  }
  console.table(rows);
} finally {
  store.close();
  rmSync(directory, { recursive: true });
}
