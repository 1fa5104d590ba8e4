/** What is encoded and decoded in memory, each at the largest size that the format or a limit allows. */
import { hash } from 'node:crypto';
import { sha256Padding } from '../../src/common/sha256.ts';
import { runInSteps } from '../../src/common/yield-to-event-loop.ts';
import { BlockStateMap, MemoryTarget, PipelineRecord } from '../../src/index.ts';
import { RepositoryKeys } from '../../src/repository/crypto/repository-keys.ts';
import { anchorNumbers } from '../../src/repository/format/anchors.ts';
import { volumeSuffix } from '../../src/repository/format/catalogue-pages.ts';
import { decodeCheckpoint, encodeCheckpoint } from '../../src/repository/format/checkpoint-codec.ts';
import { EntryColumns } from '../../src/repository/format/entry-columns.ts';
import { encodingInnerNode, InnerNode, type NodeRef } from '../../src/repository/format/inner-node.ts';
import { sealingObject } from '../../src/repository/format/log-object.ts';
import { EMPTY_STATE, type LogState, type StoredBackup } from '../../src/repository/format/log-state.ts';
import { MapGeometry } from '../../src/repository/format/map-geometry.ts';
import { packKey, VERIFIED_KEY } from '../../src/repository/format/object-keys.ts';
import { openingFooter, sealingFooter, TRAILER_BYTES } from '../../src/repository/format/pack-footer.ts';
import {
  decodingPackTable,
  encodingPackTable,
  MAX_TABLE_PACKS,
} from '../../src/repository/format/pack-table-record.ts';
import { type Location, type PackName, RecordKind } from '../../src/repository/format/record.ts';
import {
  decodingRelocationTable,
  encodingRelocationTable,
  MAX_RELOCATION_ROWS,
} from '../../src/repository/format/relocation-table.ts';
import { encodingRunChunk, RunChunk } from '../../src/repository/format/run-chunk.ts';
import { openRecord, sealRecord } from '../../src/repository/packs/record-sealing.ts';
import { VerifiedTimes } from '../../src/repository/verify/earlier-verifications.ts';
import { cleanly, type Step } from './longest-step.ts';
import { fillRandom } from './random.ts';

const KEY = new Uint8Array(32).fill(7);
const FAN_OUT = 248;
const name = (n: number) => n.toString(16).padStart(8, '0').repeat(4);
/** Content that does not compress, as ids don't: a checkpoint that does would be refused for the memory that it takes. */
const idOf = (n: number) => new Uint8Array(hash('sha256', String(n), 'buffer'));
const packOf = (n: number): PackName => ({ session: n + 1, random: name(n) });
const locationIn = (n: number): Location => ({
  pack: packOf(n),
  offset: 8,
  storedLength: 1000,
  codec: 1,
  rawLength: 4000,
});

/** A state of so many backups, of which the packs of half as many, or as many as are given, are known or condemned. */
export function stateOf(count: number, packCount = count / 2): LogState {
  const backups = new Map<string, StoredBackup>();
  for (let n = 0; n < count; n++) {
    const volume = `volume ${n % 100}`;
    const id = hash('sha256', `backup ${n}`).slice(0, 24) + volumeSuffix(volume);
    backups.set(id, {
      id,
      volume,
      parent: undefined,
      base: undefined,
      frozenAt: 1_700_000_000_000 + n,
      trackingId: '5f0c7f6e-4f5b-4f0e-9f0e-0123456789ab',
      point: n,
      intact: true,
      descriptor: {
        size: 2 ** 30,
        blockSize: 65_536,
        root: { level: 1, id: idOf(n), location: locationIn(n) },
        runs: [[{ id: idOf(n), location: locationIn(n), firstBlock: 5, lastBlock: 90, entries: 60 }]],
        lost: [],
      },
      metadata: { job: 'nightly' },
      stats: { storedBytes: 12_345 + n, changedBlocks: n },
      seq: n + 1,
      committedAt: 1_700_000_000_000 + n,
      session: n + 1,
    });
  }
  const packs = [...backups.keys()].slice(0, packCount);
  return {
    ...EMPTY_STATE,
    seq: 10 * count,
    anchors: anchorNumbers(10 * count).map((seq) => ({ seq, hash: new Uint8Array(16) })),
    backups,
    heads: new Map([...backups.keys()].slice(0, 100).map((id, n) => [`volume ${n}`, { id, seq: n + 1 }])),
    known: new Map(
      packs.map((random, n) => [n + 1, { packs: new Map([[random, FACTS]]), tables: [], dead: new Set() }]),
    ),
    condemned: new Map(
      packs.map((random) => [packKey({ session: 9, random }), { pack: { session: 9, random }, seq: 5, at: 6 }]),
    ),
  };
}

const FACTS = { size: 8 * 2 ** 20, sha256: new Uint8Array(32) };

export async function codecs(step: Step, only?: string): Promise<void> {
  const clean = cleanly(step);
  if (only === undefined || only === 'checkpoints') await checkpoints(clean);
  if (only === undefined || only === 'tables') await tables(clean);
  if (only === undefined || only === 'nodes') await nodes(clean);
  if (only === undefined || only === 'records') await records(clean);
  if (only === undefined || only === 'verifiedTimes') await verifiedTimes(clean);
  if (only === undefined || only === 'states') await states(clean);
}

async function checkpoints(step: Step): Promise<void> {
  const state = stateOf(100_000);
  for (const round of ['', ', again']) {
    const bytes = await step(`checkpoint of 100,000 backups: encode${round}`, () => encodeCheckpoint(KEY, state));
    if (bytes === undefined) throw new Error('too large');
    await step(`checkpoint of 100,000 backups: decode${round}`, () => decodeCheckpoint(KEY, state.seq, bytes));
  }
}

async function tables(step: Step): Promise<void> {
  const packs = Array.from({ length: MAX_TABLE_PACKS }, (_, n) => ({ ...packOf(n), size: 9, sha256: KEY }));
  const packTable = await step(`table of ${packs.length} packs: encode`, () => runInSteps(encodingPackTable(packs)));
  await step(`table of ${packs.length} packs: decode`, () => runInSteps(decodingPackTable(packTable, packs.length)));
  const moved = Array.from({ length: MAX_RELOCATION_ROWS }, (_, n) => ({
    offset: 8 + n * 100,
    to: { pack: packOf(n), offset: 8, storedLength: 99 },
  }));
  const relocations = await step(`table of ${moved.length} relocations: encode`, () =>
    runInSteps(encodingRelocationTable(moved)),
  );
  await step(`table of ${moved.length} relocations: decode`, () => runInSteps(decodingRelocationTable(relocations)));
  for (const count of [2 ** 16, 2 ** 20]) {
    const row = { kind: 1, id: KEY, offset: 0, storedLength: 40, codec: 0, rawLength: 12, hint: 3 } as const;
    const rows = new Array<typeof row>(count).fill(row);
    for (const key of [undefined, KEY]) {
      const what = `footer of ${count} rows${key === undefined ? '' : ', encrypted'}`;
      const bodyBytes = 8 + count * 40;
      const footer = await step(`${what}: seal`, () =>
        runInSteps(sealingFooter({ rows, bodyBytes, bodySha256: KEY }, packOf(1), key)),
      );
      const sealed = footer.subarray(sha256Padding(bodyBytes).length, -TRAILER_BYTES);
      await step(`${what}: open`, () => runInSteps(openingFooter(sealed, packOf(1), bodyBytes + footer.length, key)));
    }
  }
}

async function nodes(step: Step): Promise<void> {
  const geometry = new MapGeometry(FAN_OUT ** 2 * 4096, 4096, FAN_OUT);
  let pack = 0;
  const children = Array.from(
    { length: FAN_OUT },
    (): NodeRef => ({
      id: KEY,
      location: locationIn(pack++),
      usage: Array.from({ length: FAN_OUT }, () => ({ pack: packOf(pack++), bytes: 4000 })),
    }),
  );
  const { raw } = await step(`inner node of ${pack} packs: encode`, () => runInSteps(encodingInnerNode(1, children)));
  const node = await step(`inner node of ${raw.length} bytes: decode`, () => new InnerNode(raw, 1, 0, geometry));
  await step('inner node: all children', () => node.children());
  const count = 59_800;
  const columns = new EntryColumns(count);
  const blocks = Uint32Array.from({ length: count }, (_, n) => n);
  for (let n = 0; n < count; n++) columns.set(n, { id: KEY, location: { ...locationIn(n), rawLength: 4096 } });
  const chunk = await step(`run chunk of ${count} packs: encode`, () =>
    runInSteps(encodingRunChunk(blocks, columns, count)),
  );
  const ref = { id: KEY, location: locationIn(1), firstBlock: 0, lastBlock: count - 1, entries: count };
  await step(`run chunk of ${chunk.raw.length} bytes: decode`, () => new RunChunk(chunk.raw, ref, geometry));
}

async function records(step: Step): Promise<void> {
  const keys = RepositoryKeys.encrypted(KEY, new Uint8Array(16));
  const random = new Uint8Array(4 * 1024 * 1024);
  fillRandom(random);
  for (const [what, raw] of [
    ['random', random],
    ['uniform', new Uint8Array(4 * 1024 * 1024).fill(1)],
  ] as const) {
    const head = { kind: RecordKind.block, id: keys.contentId(raw) };
    const { codec, bytes } = await step(`${what} record of 4 MiB: seal`, () => sealRecord(keys.recordKey, head, raw));
    const record = { ...head, codec, rawLength: raw.length };
    await step(`${what} record of 4 MiB: open`, () => openRecord(keys, FAN_OUT, record, bytes));
  }
}

/** What the target itself copies in one step counts too: 25 MB. */
async function verifiedTimes(step: Step): Promise<void> {
  const count = 2 ** 21;
  const body = Buffer.alloc(1 + count * 12, 1);
  for (let n = 0; n < count; n++) body.write(name(n).slice(16), 1 + n * 12, 'hex');
  const target = new MemoryTarget();
  await target.put(VERIFIED_KEY, await runInSteps(sealingObject(KEY, 'cow1 verified', 0, body)));
  const times = await step(`cache/verified of ${count} packs: read`, () => VerifiedTimes.read(target, KEY, undefined));
  const there = Array.from({ length: count }, (_, n) => ({ session: 1, random: name(n) }));
  for (const pack of there.slice(0, 64)) times.note(pack, 1_800_000_000_000);
  await step(`cache/verified of ${count} packs: write`, () => times.save(there));
}

async function states(step: Step): Promise<void> {
  const blockSize = 4096;
  for (const [blocks, every] of [
    [2 ** 28, 2 ** 14],
    [2 ** 24, 2],
  ] as const) {
    const map = new BlockStateMap(blocks, 'pending');
    for (let block = 0; block < blocks; block += every) map.set(block, 'storing');
    const runs = (2 * blocks) / every;
    const bytes = await step(`states of ${runs} runs: encode`, () => map.encode());
    await step(`states of ${runs} runs, ${bytes.length} bytes: decode`, () => BlockStateMap.decode(bytes));
    const point = { trackingId: '5f0c7f6e-4f5b-4f0e-9f0e-0123456789ab', epoch: 1 };
    const parts = { size: blocks * blockSize, blockSize, frozenAt: new Date(0), point, states: map };
    const record = await step(`record of ${runs} runs: encode`, () => new PipelineRecord(parts).encode());
    await step(`record of ${runs} runs: decode`, () => PipelineRecord.decode(record));
  }
}
