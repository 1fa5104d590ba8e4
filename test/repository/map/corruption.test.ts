import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { decodeMsgpack, encodeMsgpack } from '../../../src/common/msgpack.ts';
import { decodeLeaf } from '../../../src/repository/format/entry-table.ts';
import { InnerNode } from '../../../src/repository/format/inner-node.ts';
import { decodeDescriptor, encodeDescriptor } from '../../../src/repository/format/map-descriptor-codec.ts';
import { MapGeometry } from '../../../src/repository/format/map-geometry.ts';
import { RecordKind } from '../../../src/repository/format/record.ts';
import { RunChunk } from '../../../src/repository/format/run-chunk.ts';
import type { BlockMap } from '../../../src/repository/map/block-map.ts';
import type { Change } from '../../../src/repository/map/changes.ts';
import { property } from '../../support/randomness.ts';
import { packUsage } from './support/map-nodes.ts';
import { BLOCK_SIZE, collect, entryOf, openMap, writeStep } from './support/naive-map.ts';
import { RecordStore, type StoredRecord } from './support/record-store.ts';

const FAN_OUT = 8;
const size = 200 * BLOCK_SIZE;

/** A map of leaves, nodes of two levels and a run. */
async function sample() {
  const store = new RecordStore();
  const all: Change[] = Array.from({ length: 200 }, (_, block) => [
    block,
    block % 9 === 0 ? undefined : entryOf(block),
  ]);
  const full = await writeStep(store, FAN_OUT, { size, changes: all });
  const map = await writeStep(
    store,
    FAN_OUT,
    {
      size,
      changes: [
        [3, entryOf(900)],
        [50, undefined],
        [130, entryOf(901)],
      ],
    },
    full,
  );
  expect(map.descriptor.runs.length).toBe(1);
  return { store, map };
}

async function readAll(map: BlockMap): Promise<void> {
  await packUsage(map);
  await collect(map.entries());
}

function isMapCorrupt(error: unknown): boolean {
  return BackupError.is(error, 'MAP_CORRUPT');
}

function ofKind(store: RecordStore, kind: RecordKind): StoredRecord {
  return store.written.findLast((record) => record.kind === kind)!;
}

/** Where a record's identity part ends, found without the decoders. */
function identityLength({ kind, raw }: StoredRecord): number {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const entries = kind === RecordKind.runChunk ? view.getUint32(0, true) : FAN_OUT;
  const head = kind === RecordKind.leaf ? 0 : kind === RecordKind.inner ? 1 : 4 + 4 * entries;
  const bitmap = raw.subarray(head, head + Math.ceil(entries / 8));
  let present = 0;
  for (const byte of bitmap) for (let bit = 0; bit < 8; bit++) present += (byte >> bit) & 1;
  return head + bitmap.length + 32 * present;
}

/** Makes the check of the location part right again: somebody did it on purpose. */
function forgeCheck(raw: Uint8Array, from: number): void {
  const end = raw.length - 4;
  new DataView(raw.buffer, raw.byteOffset).setUint32(end, crc32(raw.subarray(from, end)), true);
}

describe.each([
  ['leaf', RecordKind.leaf],
  ['inner node', RecordKind.inner],
  ['run chunk', RecordKind.runChunk],
] as const)('a %s with', (_, kind) => {
  test('a bit of any byte flipped is MAP_CORRUPT', async () => {
    const { store, map } = await sample();
    const record = ofKind(store, kind);
    const intact = record.raw;
    await readAll(openMap(store, FAN_OUT, map.descriptor));
    for (let at = 0; at < intact.length; at++) {
      record.raw = new Uint8Array(intact);
      record.raw[at]! ^= 1 << ((at * 5) % 8);
      await expect(readAll(openMap(store, FAN_OUT, map.descriptor))).rejects.toSatisfy(isMapCorrupt);
    }
  });

  test('its end cut off, or something after it, is MAP_CORRUPT', async () => {
    const { store, map } = await sample();
    const record = ofKind(store, kind);
    const intact = record.raw;
    for (let length = 0; length <= intact.length + 3; length++) {
      if (length === intact.length) continue;
      record.raw = new Uint8Array(length);
      record.raw.set(intact.subarray(0, length));
      await expect(readAll(openMap(store, FAN_OUT, map.descriptor))).rejects.toSatisfy(isMapCorrupt);
    }
  });

  test('its location part forged never yields another content id: only places change, or it is MAP_CORRUPT', async () => {
    const { store, map } = await sample();
    const record = ofKind(store, kind);
    const intact = record.raw;
    const from = identityLength(record);
    const truth = (await collect(map.entries())).map(
      ({ block, entry }) => `${block} ${Buffer.from(entry.id).toString('hex')}`,
    );
    const outcomes = { refused: 0, places: 0 };
    for (let at = from; at < intact.length - 4; at++) {
      record.raw = new Uint8Array(intact);
      record.raw[at]! ^= 0x15;
      forgeCheck(record.raw, from);
      try {
        const found = await collect(openMap(store, FAN_OUT, map.descriptor).entries());
        expect(found.map(({ block, entry }) => `${block} ${Buffer.from(entry.id).toString('hex')}`)).toEqual(truth);
        outcomes.places++;
      } catch (error) {
        // A wrong place of a node ends where the record reader finds no such record there.
        expect(BackupError.is(error, 'MAP_CORRUPT') || BackupError.is(error, 'PACK_MISSING')).toBe(true);
        outcomes.refused++;
      }
    }
    expect(outcomes.refused).toBeGreaterThan(0);
    expect(outcomes.places).toBeGreaterThan(0);
  });
});

test('a record of the same kind in the place of another is refused by its id', async () => {
  const { store, map } = await sample();
  const leaves = store.written.filter(({ kind, raw }) => kind === RecordKind.leaf && raw.length > 300);
  const [a, b] = leaves.filter(({ raw }) => raw.length === leaves[0]!.raw.length) as [StoredRecord, StoredRecord];
  expect(b).toBeDefined();
  [a.raw, b.raw] = [b.raw, a.raw];
  await expect(readAll(openMap(store, FAN_OUT, map.descriptor))).rejects.toThrow(/is not what its id says/);
});

test('fuzzed records give a map error or something within bounds, never anything else', async () => {
  const { store, map } = await sample();
  const geometry = new MapGeometry(size, BLOCK_SIZE, FAN_OUT);
  const ref = map.descriptor.runs[0]![0]!;
  const decoders = [
    [RecordKind.leaf, (raw: Uint8Array) => decodeLeaf(raw, 3, geometry).count],
    [RecordKind.inner, (raw: Uint8Array) => new InnerNode(raw, 1, 0, geometry).level],
    [RecordKind.runChunk, (raw: Uint8Array) => new RunChunk(raw, ref, geometry).count],
  ] as const;
  const outcomes = { decoded: 0, refused: 0 };
  const mutation = fc.record({ at: fc.nat(), value: fc.integer({ min: 0, max: 255 }) });
  fc.assert(
    fc.property(
      fc.constantFrom(...decoders),
      fc.oneof(fc.uint8Array({ maxLength: 600 }), fc.array(mutation, { minLength: 1, maxLength: 4 })),
      fc.boolean(),
      ([kind, decode], bytes, forged) => {
        const record = store.written.find((each) => each.kind === kind && each.hint <= 24 && each.raw.length > 60)!;
        let raw: Uint8Array = record.raw;
        if (bytes instanceof Uint8Array) raw = bytes;
        else {
          raw = new Uint8Array(raw);
          for (const { at, value } of bytes) raw[at % raw.length] = value;
          const end = identityLength({ ...record, raw });
          if (forged && end + 4 <= raw.length) forgeCheck(raw, end);
        }
        try {
          expect(decode(raw)).toBeLessThanOrEqual(FAN_OUT);
          outcomes.decoded++;
        } catch (error) {
          if (!isMapCorrupt(error)) throw error;
          outcomes.refused++;
        }
      },
    ),
    property(5000),
  );
  expect(outcomes.refused).toBeGreaterThan(1000);
  expect(outcomes.decoded).toBeGreaterThan(0);
});

// biome-ignore lint/suspicious/noExplicitAny: a descriptor being made wrong in every way has no type
type Fields = Record<string, any>;

describe('a descriptor', () => {
  test('whose MessagePack was mutated decodes to the same shape or is LOG_CORRUPT', async () => {
    const { map } = await sample();
    const bytes = encodeMsgpack(encodeDescriptor(map.descriptor));
    const mutation = fc.record({ at: fc.nat(bytes.length - 1), value: fc.integer({ min: 0, max: 255 }) });
    let refused = 0;
    fc.assert(
      fc.property(fc.array(mutation, { minLength: 1, maxLength: 3 }), (mutations) => {
        const mutated = new Uint8Array(bytes);
        for (const { at, value } of mutations) mutated[at] = value;
        try {
          const decoded = decodeDescriptor(decodeMsgpack(mutated, 'LOG_CORRUPT'));
          expect(decoded.size).toBeLessThanOrEqual(decoded.blockSize * 2 ** 32);
        } catch (error) {
          if (!BackupError.is(error, 'LOG_CORRUPT')) throw error;
          refused++;
        }
      }),
      property(3000),
    );
    expect(refused).toBeGreaterThan(300);
  });

  test('that claims much is refused before anything is read or allocated', async () => {
    const { map } = await sample();
    const plain = () => structuredClone(encodeDescriptor(map.descriptor)) as Fields;
    const claims: [string, (fields: Fields) => void][] = [
      ['no size', (d) => delete d.size],
      ['a negative size', (d) => (d.size = -1)],
      ['a broken size', (d) => (d.size = 4096.5)],
      ['too many blocks', (d) => (d.size = 2 ** 52)],
      ['an odd block size', (d) => (d.blockSize = 4097)],
      ['a small block size', (d) => (d.blockSize = 2048)],
      ['a large block size', (d) => (d.blockSize = 2 ** 23)],
      ['a block size of three powers', (d) => (d.blockSize = 12_288)],
      ['a level past all', (d) => (d.root[0] = 11)],
      ['a short id', (d) => (d.root[1] = new Uint8Array(31))],
      ['a root that is no root', (d) => (d.root = 7)],
      ['nine runs', (d) => (d.runs = Array.from({ length: 9 }, () => d.runs[0]))],
      ['an empty run', (d) => (d.runs = [[]])],
      ['chunks out of order', (d) => d.runs[0].push(d.runs[0][0])],
      ['more entries than blocks', (d) => (d.runs[0][0][4] = 129)],
      ['one entry for two ends', (d) => (d.runs[0][0][4] = 1)],
      ['a chunk past the end', (d) => (d.runs[0][0][3] = 200)],
      ['a chunk of the wrong length', (d) => (d.runs[0][0][1][5] = d.runs[0][0][1][3] = 4_000_000)],
      ['a codec not known', (d) => (d.root[2][4] = 2)],
      ['a place inside the magic', (d) => (d.root[2][2] = 4)],
      ['a place past every pack', (d) => (d.root[2][2] = 2 ** 32 - 2)],
      ['a pack of a short name', (d) => (d.root[2][1] = new Uint8Array(15))],
      ['nothing stored', (d) => (d.root[2][3] = 0)],
      [
        'lost ranges that touch',
        (d) =>
          (d.lost = [
            [1, 2],
            [3, 1],
          ]),
      ],
      [
        'lost ranges out of order',
        (d) =>
          (d.lost = [
            [9, 2],
            [3, 1],
          ]),
      ],
      ['an empty lost range', (d) => (d.lost = [[9, 0]])],
      ['a lost range past the end', (d) => (d.lost = [[199, 2]])],
      ['lost ranges that are none', (d) => (d.lost = null)],
    ];
    expect(decodeDescriptor(plain())).toEqual(map.descriptor);
    for (const [name, claim] of claims) {
      const fields = plain();
      claim(fields);
      expect(() => decodeDescriptor(fields), name).toThrow(BackupError);
    }
    const million = Array.from({ length: 8 }, () =>
      Array.from({ length: 3 }, (_, i) => {
        const raw = 65_536 * 46;
        return [
          map.descriptor.root!.id,
          [1, new Uint8Array(16), 8, raw, 0, raw],
          i * 100_000,
          i * 100_000 + 70_000,
          65_536,
        ];
      }),
    );
    const large = { size: 2 ** 40, blockSize: 65_536, root: null, lost: [] };
    expect(() => decodeDescriptor({ ...large, runs: million })).toThrow(/more run entries/);
    expect(decodeDescriptor({ ...large, runs: million.slice(0, 5) }).runs.length).toBe(5);
  });

  test('whose root is not as high as the volume needs, or longer than any node, is refused', async () => {
    const { store, map } = await sample();
    const { descriptor } = map;
    const root = descriptor.root!;
    expect(() => openMap(store, FAN_OUT, { ...descriptor, root: { ...root, level: root.level + 1 } })).toThrow(/level/);
    const location = { ...root.location, rawLength: 1_000_000, storedLength: 1_000_000 };
    expect(() => openMap(store, FAN_OUT, { ...descriptor, root: { ...root, location } })).toThrow(/as long as/);
  });
});
