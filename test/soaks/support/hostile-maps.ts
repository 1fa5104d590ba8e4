import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { encodeMsgpack } from '../../../src/common/msgpack.ts';
import { RepositoryKeys } from '../../../src/repository/crypto/repository-keys.ts';
import { locationPlain } from '../../../src/repository/format/decode-values.ts';
import { EntryColumns } from '../../../src/repository/format/entry-columns.ts';
import { encodeLeaf } from '../../../src/repository/format/entry-table.ts';
import type { MapDescriptor } from '../../../src/repository/format/map-descriptor.ts';
import { encodeDescriptor } from '../../../src/repository/format/map-descriptor-codec.ts';
import { entryKey, packKey, parseLogKey } from '../../../src/repository/format/object-keys.ts';
import type { FooterRow } from '../../../src/repository/format/pack-footer.ts';
import { type Codec, type Location, RecordKind } from '../../../src/repository/format/record.ts';
import { identityPart } from '../../../src/repository/format/record-parts.ts';
import {
  encodeInnerNode,
  encodePackTable,
  encodeRelocationTable,
  encodeRunChunk,
  sealFooter,
} from '../../repository/format/support/codecs-at-once.ts';
import { type Attack, attack, type Below, hostileFrame, joined, newestOf } from './hostile-attacks.ts';
import { hashOf, sealEntry } from './hostile-values.ts';
import type { World } from './hostile-world.ts';

/** Packs, maps and tables that no writer would make, in a plain repository: with ids, checksums and entries that are right. */

const FAN_OUT = 128;
const BLOCK = 4096;
const KEYS = RepositoryKeys.plain();
type Bytes = Uint8Array<ArrayBuffer>;

/** A pack, record by record. */
class CraftedPack {
  readonly session: number;
  readonly random: string;
  readonly #parts: Uint8Array[] = [Buffer.from('CWPACK01')];
  readonly #rows: FooterRow[] = [];
  #end = 8;

  constructor(session: number, below: Below) {
    this.session = session;
    this.random = Array.from({ length: 32 }, () => below(16).toString(16)).join('');
  }

  /** @param stored - what stands there, where it is not the raw bytes */
  add(kind: RecordKind, id: Uint8Array, raw: Uint8Array, stored?: Uint8Array, rawLength = raw.length): Location {
    const bytes = stored ?? raw;
    const codec = (stored === undefined ? 0 : 1) as Codec;
    const location = { pack: this, offset: this.#end, storedLength: bytes.length, codec, rawLength };
    this.#rows.push({ kind, id, offset: this.#end, storedLength: bytes.length, codec, rawLength, hint: 0 });
    this.#parts.push(bytes);
    this.#end += bytes.length;
    return location;
  }

  record(kind: RecordKind, raw: Uint8Array, stored?: Uint8Array): { id: Uint8Array; location: Location } {
    const id = kind === RecordKind.block ? KEYS.contentId(raw) : KEYS.recordId(kind, identityPart(kind, raw, FAN_OUT));
    return { id, location: this.add(kind, id, raw, stored) };
  }

  bytes(change: (rows: FooterRow[]) => FooterRow[] = (rows) => rows): Bytes {
    const body = joined(...this.#parts);
    const bodySha256 = createHash('sha256').update(body).digest();
    const footer = { rows: change(this.#rows), bodyBytes: body.length, bodySha256 };
    return joined(body, sealFooter(footer, this, undefined));
  }
}

interface Crafted {
  readonly name: string;
  readonly descriptor: Partial<MapDescriptor>;
  readonly packTables?: readonly unknown[];
  readonly footer?: (rows: FooterRow[]) => FooterRow[];
}

type Craft = (pack: CraftedPack, below: Below) => Crafted;

const CRAFTS: readonly Craft[] = [
  oneLeafForAll,
  oneLeafForAll,
  framedBlock,
  framedNode,
  flippedNode,
  flippedNode,
  absurdSize,
  lostEverywhere,
  sameRuns,
  strangeTable,
  changedFooter,
  elsewhere,
];

/** A backup of a map that nobody would write: an `open` and a `commit`, after the newest entry. */
export function craftedMaps(world: World, below: Below): Attack | undefined {
  if (world.flavour.encrypted) return undefined;
  const newest = newestOf(world);
  const pack = new CraftedPack(newest + 1, below);
  const craft = CRAFTS[below(CRAFTS.length)] as Craft;
  const { name, descriptor, packTables = [], footer } = craft(pack, below);
  const body = pack.bytes(footer);
  const sha256 = createHash('sha256').update(body).digest();
  const [, top] = [...world.objects].find(([key]) => {
    const parsed = parseLogKey(key);
    return parsed?.kind === 'entry' && parsed.seq === newest;
  }) as [string, Bytes];
  const volume = below(3) === 0 ? '__proto__' : 'crafted';
  const head = (seq: number, prev: Uint8Array) => ({ v: 1, seq, prev, id: new Uint8Array(16), at: 1e12, tail: [] });
  const map = encodeDescriptor({
    size: 128 * BLOCK,
    blockSize: BLOCK,
    root: undefined,
    runs: [],
    lost: [],
    ...descriptor,
  });
  const backup = {
    id: new Uint8Array(16).fill(0xbb),
    volume,
    parent: null,
    base: null,
    frozenAt: 8.64e15,
    trackingId: '',
    point: 0,
    intact: true,
    descriptor: map,
    metadata: {},
    stats: { storedBytes: Number.MAX_SAFE_INTEGER, changedBlocks: Number.MAX_SAFE_INTEGER },
  };
  const open = { type: 'open', owner: '%', volumes: [[volume, null]], fence: [], adopt: [] };
  const session = newest + 1;
  const packs = [[session, new Uint8Array(Buffer.from(pack.random, 'hex')), body.length, sha256]];
  const edits: [string, Bytes][] = [[packKey(pack), body]];
  let prev = hashOf(top);
  const commit = { type: 'commit', session, backups: [backup], packs, packTables };
  for (const [index, fact] of [open, commit].entries()) {
    const seq = newest + 1 + index;
    const bytes = sealEntry(encodeMsgpack({ ...head(seq, prev), ...fact }));
    prev = hashOf(bytes);
    edits.push([entryKey(seq, world.flavour.singleWriter ? prev : undefined), bytes]);
  }
  return attack(`a backup with ${name}`, edits, { shows: false });
}

/** A tree in which each node has one child again and again: a few kilobytes for 16 TiB. */
function oneLeafForAll(pack: CraftedPack, below: Below): Crafted {
  const levels = 1 + below(4);
  const size = BLOCK * Math.min(2 ** 32, FAN_OUT ** (levels + 1));
  const block = pack.record(RecordKind.block, new Uint8Array(BLOCK).fill(1));
  const columns = new EntryColumns(FAN_OUT);
  for (let slot = 0; slot < FAN_OUT; slot++) columns.set(slot, block);
  let node = pack.record(RecordKind.leaf, encodeLeaf(columns, FAN_OUT).raw);
  for (let level = 1; level <= levels; level++) {
    const usage = level === 1 ? [{ pack, bytes: BLOCK * FAN_OUT }] : undefined;
    // Of the highest level only as many as the volume has.
    const count = level === 4 ? 16 : FAN_OUT;
    const children = Array.from({ length: FAN_OUT }, (_, slot) => (slot < count ? { ...node, usage } : undefined));
    node = pack.record(RecordKind.inner, encodeInnerNode(level, children).raw);
  }
  return { name: `one leaf for ${size} bytes`, descriptor: { size, root: { level: levels, ...node } } };
}

function leafOf(blocks: readonly { id: Uint8Array; location: Location }[]): Uint8Array {
  const columns = new EntryColumns(FAN_OUT);
  for (const [slot, block] of blocks.entries()) columns.set(slot, block);
  return encodeLeaf(columns, FAN_OUT).raw;
}

function framedBlock(pack: CraftedPack, below: Below): Crafted {
  const raw = new Uint8Array(BLOCK).fill(7);
  const { frame, name } = hostileFrame(raw, below);
  const block = pack.record(RecordKind.block, raw, frame.subarray(0, BLOCK));
  const leaf = pack.record(RecordKind.leaf, leafOf([block]));
  return { name: `a block that is ${name}`, descriptor: { root: { level: 0, ...leaf } } };
}

function framedNode(pack: CraftedPack, below: Below): Crafted {
  const block = pack.record(RecordKind.block, new Uint8Array(BLOCK).fill(8));
  const raw = leafOf(Array.from({ length: FAN_OUT }, () => block));
  const { frame, name } = hostileFrame(raw, below);
  const leaf = pack.record(RecordKind.leaf, raw, frame.subarray(0, raw.length));
  return { name: `a leaf that is ${name}`, descriptor: { root: { level: 0, ...leaf } } };
}

/** A node with bytes that are different, under the id and the check that are right for it. */
function flippedNode(pack: CraftedPack, below: Below): Crafted {
  const block = pack.record(RecordKind.block, new Uint8Array(BLOCK).fill(9));
  const leaf = pack.record(RecordKind.leaf, leafOf(Array.from({ length: FAN_OUT }, () => block)));
  const usage = [{ pack, bytes: 1 }];
  const isLeaf = below(2) === 0;
  const children = Array.from({ length: FAN_OUT }, () => ({ ...leaf, usage }));
  const raw = isLeaf
    ? leafOf(Array.from({ length: FAN_OUT }, () => block))
    : new Uint8Array(encodeInnerNode(1, children).raw);
  for (let n = below(3); n >= 0; n--) raw[below(raw.length)] = [0, 1, 127, 128, 255][below(5)] as number;
  const kind = isLeaf ? RecordKind.leaf : RecordKind.inner;
  let identity = raw.length;
  try {
    identity = identityPart(kind, raw, FAN_OUT).length;
  } catch {
    // It says that it is longer than it is.
  }
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
  if (identity < raw.length - 4) view.setUint32(raw.length - 4, crc32(raw.subarray(identity, -4)), true);
  const id = KEYS.recordId(kind, raw.subarray(0, identity));
  const location = pack.add(kind, id, raw);
  const size = isLeaf ? BLOCK * FAN_OUT : BLOCK * FAN_OUT * FAN_OUT;
  return { name: 'a node of changed bytes', descriptor: { size, root: { level: isLeaf ? 0 : 1, id, location } } };
}

function absurdSize(_: CraftedPack, below: Below): Crafted {
  const sizes: [number, number][] = [
    [Number.MAX_SAFE_INTEGER, 2 ** 22],
    [2 ** 44, 4096],
    [0, 4096],
    [1, 2 ** 22],
  ];
  const [size, blockSize] = sizes[below(sizes.length)] as [number, number];
  return { name: `${size} bytes of zeroes`, descriptor: { size, blockSize } };
}

function lostEverywhere(_: CraftedPack, below: Below): Crafted {
  const blockSize = BLOCK;
  const isOne = below(2) === 0;
  const many = Array.from({ length: 65_536 }, (_item, index) => ({ firstBlock: index * 3, blockCount: 2 }));
  const lost = isOne ? [{ firstBlock: 0, blockCount: 2 ** 32 }] : many;
  return { name: `${lost.length} lost ranges`, descriptor: { size: 2 ** 44, blockSize, lost } };
}

function sameRuns(pack: CraftedPack, below: Below): Crafted {
  const block = pack.record(RecordKind.block, new Uint8Array(BLOCK).fill(5));
  const count = 2 + below(5000);
  const blocks = Uint32Array.from({ length: count }, (_, slot) => slot * 7);
  const columns = new EntryColumns(count);
  for (let slot = 0; slot < count; slot++) columns.set(slot, slot % 2 === 0 ? block : undefined);
  const raw = encodeRunChunk(blocks, columns, count).raw;
  if (below(3) === 0)
    new DataView(raw.buffer, raw.byteOffset).setUint32(0, [0, 1, count - 1, 65_536][below(4)] as number, true);
  let id: Uint8Array = new Uint8Array(32);
  try {
    id = KEYS.recordId(RecordKind.runChunk, identityPart(RecordKind.runChunk, raw, FAN_OUT));
  } catch {
    // It says that it is longer than it is.
  }
  const location = pack.add(RecordKind.runChunk, id, raw);
  const chunk = { id, location, firstBlock: 0, lastBlock: (count - 1) * 7, entries: count };
  const runs = Array.from({ length: 8 }, () => [chunk]);
  return { name: 'one run eight times', descriptor: { size: 2 ** 44, runs } };
}

function strangeTable(pack: CraftedPack, below: Below): Crafted {
  const rows = Array.from({ length: [1, 2, 60_000][below(3)] as number }, (_, index) => ({
    session: below(2) === 0 ? pack.session : 1 + below(2 ** 31),
    random: index.toString(16).padStart(32, '0'),
    size: 2 ** 32 - 1,
    sha256: new Uint8Array(32),
  }));
  const kinds = [RecordKind.table, RecordKind.table, RecordKind.relocation, RecordKind.leaf];
  const kind = kinds[below(kinds.length)] as RecordKind;
  const to = { pack, offset: 8, storedLength: 1 };
  const raw = kind === RecordKind.relocation ? encodeRelocationTable([{ offset: 8, to }]) : encodePackTable(rows);
  const id = KEYS.recordId(RecordKind.table, raw);
  const location = pack.add(kind, id, raw);
  const count = [rows.length, 1, 2 ** 32, Number.MAX_SAFE_INTEGER][below(4)] as number;
  const table = [id, locationPlain(location), count];
  const times = [1, 2, 2000][below(3)] as number;
  return { name: 'strange tables of packs', descriptor: {}, packTables: Array.from({ length: times }, () => table) };
}

function changedFooter(pack: CraftedPack, below: Below): Crafted {
  const block = pack.record(RecordKind.block, new Uint8Array(BLOCK).fill(6));
  const leaf = pack.record(RecordKind.leaf, leafOf([block, block]));
  const lengths = [0, 1, 2 ** 24, 2 ** 32 - 1];
  const ways: ((row: FooterRow) => FooterRow)[] = [
    (row) => ({ ...row, storedLength: lengths[below(4)] as number }),
    (row) => ({ ...row, rawLength: 0 }),
    (row) => ({ ...row, kind: below(16) as RecordKind }),
    (row) => ({ ...row, codec: below(16) as Codec }),
    (row) => ({ ...row, hint: Number.MAX_SAFE_INTEGER }),
    (row) => ({ ...row, id: new Uint8Array(32) }),
  ];
  const way = ways[below(ways.length)] as (typeof ways)[number];
  const at = below(2);
  const footer = (rows: FooterRow[]) => {
    if (below(3) === 0) return [...rows, ...rows];
    return rows.map((row, index) => (index === at ? way(row) : row));
  };
  return { name: 'a footer that says something else', descriptor: { root: { level: 0, ...leaf } }, footer };
}

/** Places that are in another record, beyond the end, or in another pack. */
function elsewhere(pack: CraftedPack, below: Below): Crafted {
  const block = pack.record(RecordKind.block, new Uint8Array(BLOCK).fill(4));
  const stranger = { session: 1 + below(2 ** 31), random: 'ab'.repeat(16) };
  const places: Location[] = [
    { ...block.location, offset: 2 ** 32 - 1 - BLOCK - 1 },
    { ...block.location, offset: 9 },
    { ...block.location, pack: stranger },
    { ...block.location, storedLength: BLOCK + 28 },
  ];
  const location = places[below(places.length)] as Location;
  const leaf = pack.record(RecordKind.leaf, leafOf([{ id: block.id, location }]));
  return { name: 'a block that is elsewhere', descriptor: { root: { level: 0, ...leaf } } };
}
