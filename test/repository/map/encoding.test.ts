import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { EntryColumns } from '../../../src/repository/format/entry-columns.ts';
import { decodeLeaf, encodeLeaf } from '../../../src/repository/format/entry-table.ts';
import { InnerNode } from '../../../src/repository/format/inner-node.ts';
import { decodeDescriptor, encodeDescriptor } from '../../../src/repository/format/map-descriptor-codec.ts';
import { MapGeometry } from '../../../src/repository/format/map-geometry.ts';
import type { PackName } from '../../../src/repository/format/record.ts';
import { RunChunk } from '../../../src/repository/format/run-chunk.ts';
import { ChangeBuffer } from '../../../src/repository/map/changes.ts';
import { loadRuns, writeRun } from '../../../src/repository/map/runs.ts';
import { encodeInnerNode, encodeRunChunk } from '../format/support/codecs-at-once.ts';
import { BLOCK_SIZE, entryOf } from './support/naive-map.ts';
import { packNamed, plainIds, RecordStore } from './support/record-store.ts';

/** Bytes put together as the text of `docs/FORMAT.md`, section 7, says, without the encoders. */
const u8 = (...values: number[]) => Buffer.from(values);
const u16 = (value: number) => Buffer.from([value & 255, value >> 8]);
const u32 = (value: number) => Buffer.from([value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24]);
const packBytes = ({ session, random }: PackName) =>
  Buffer.concat([u32(session % 2 ** 32), u32(Math.floor(session / 2 ** 32)), Buffer.from(random, 'hex')]);
const placeBytes = (pack: number, offset: number, stored: number, codec: number) =>
  Buffer.concat([u16(pack), u32(offset), u32(stored | (codec << 24))]);
function checked(identity: Buffer[], location: Buffer[]): string {
  const part = Buffer.concat(location);
  return Buffer.concat([...identity, part, u32(crc32(part))]).toString('hex');
}
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

const P = packNamed(2 ** 40 + 5, 0xab);
const Q = packNamed(3, 0xcd);
const idA = Buffer.alloc(32, 0xaa);
const idB = Buffer.alloc(32, 0xbb);
const a = { id: idA, location: { pack: Q, offset: 8, storedLength: 100, codec: 1, rawLength: BLOCK_SIZE } } as const;
const b = { id: idB, location: { pack: P, offset: 70_000, storedLength: 700, codec: 0, rawLength: 700 } } as const;
/** 1001 blocks, the last of 700 bytes; at fan-out 8 that makes nodes of levels 0 to 3. */
const geometry = new MapGeometry(1000 * BLOCK_SIZE + 700, BLOCK_SIZE, 8);

describe('byte for byte as the format says', () => {
  test('a leaf', () => {
    const columns = new EntryColumns(8);
    columns.set(0, b); // Block 1000.
    const { raw, identityLength } = encodeLeaf(columns, 8);
    expect(hex(raw)).toBe(checked([u8(0b1), idB], [u16(1), packBytes(P), placeBytes(0, 70_000, 700, 0)]));
    expect(identityLength).toBe(1 + 32);
    expect(decodeLeaf(raw, 125, geometry).entry(0)).toEqual({ ...b, id: new Uint8Array(idB) });
    columns.clear();
    columns.set(1, a);
    columns.set(7, { ...a, id: idB });
    expect(hex(encodeLeaf(columns, 8).raw)).toBe(
      checked([u8(0b1000_0010), idA, idB], [u16(1), packBytes(Q), placeBytes(0, 8, 100, 1), placeBytes(0, 8, 100, 1)]),
    );
  });

  test('a run chunk', () => {
    const columns = new EntryColumns(3);
    columns.set(0, a);
    columns.set(1, undefined);
    columns.set(2, b);
    const { raw, identityLength } = encodeRunChunk(Uint32Array.of(3, 500, 1000), columns, 3);
    expect(hex(raw)).toBe(
      checked(
        [u32(3), u32(3), u32(500), u32(1000), u8(0b101), idA, idB],
        [u16(2), packBytes(Q), packBytes(P), placeBytes(0, 8, 100, 1), placeBytes(1, 70_000, 700, 0)],
      ),
    );
    expect(identityLength).toBe(4 + 12 + 1 + 64);
    const ref = { id: idA, location: a.location, firstBlock: 3, lastBlock: 1000, entries: 3 };
    const chunk = new RunChunk(raw, ref, geometry);
    expect([0, 1, 2].map((slot) => chunk.entry(slot)?.location)).toEqual([a.location, undefined, b.location]);
    expect(() => new RunChunk(raw, { ...ref, lastBlock: 999 }, geometry)).toThrow(/other blocks/);
    expect(() => new RunChunk(raw, { ...ref, entries: 2 }, geometry)).toThrow(/number of entries/);
  });

  test('inner nodes, with usage at level 1 only', () => {
    const child = { id: idA, location: { ...a.location, rawLength: 300 } };
    const usage = [
      { pack: P, bytes: 5000 },
      { pack: Q, bytes: 6 },
    ];
    const children = [undefined, { ...child, usage }, undefined, undefined, undefined, undefined, undefined, undefined];
    const level1 = encodeInnerNode(1, children).raw;
    expect(hex(level1)).toBe(
      checked(
        [u8(1, 0b10), idA],
        [
          u16(2),
          packBytes(Q),
          packBytes(P),
          placeBytes(0, 8, 100, 1),
          u32(300),
          u16(2),
          u16(1),
          u32(5000),
          u16(0),
          u32(6),
        ],
      ),
    );
    expect(new InnerNode(level1, 1, 0, geometry).child(1)).toEqual({ ...child, id: new Uint8Array(idA), usage });
    const level2 = encodeInnerNode(2, children).raw;
    expect(hex(level2)).toBe(checked([u8(2, 0b10), idA], [u16(1), packBytes(Q), placeBytes(0, 8, 100, 1), u32(300)]));
    expect(() => new InnerNode(level2, 1, 0, geometry)).toThrow(/level 2 where one of level 1/);
    // 1001 blocks are two children of level 2 at most: more of them lie past the end.
    expect(() => new InnerNode(encodeInnerNode(3, [...children].reverse()).raw, 3, 0, geometry)).toThrow(
      /past the end/,
    );
  });

  test('a descriptor', () => {
    const location = { pack: Q, offset: 9, storedLength: 90, codec: 1, rawLength: 120 } as const;
    const descriptor = {
      size: geometry.size,
      blockSize: BLOCK_SIZE,
      root: { level: 3, id: new Uint8Array(idA), location },
      runs: [[{ id: new Uint8Array(idB), location, firstBlock: 4, lastBlock: 9, entries: 2 }]],
      lost: [{ firstBlock: 7, blockCount: 2 }],
    };
    const place = [3, new Uint8Array(Buffer.from(Q.random, 'hex')), 9, 90, 1, 120];
    const plain = {
      size: 4_096_700,
      blockSize: 4096,
      root: [3, new Uint8Array(idA), place],
      runs: [[[new Uint8Array(idB), place, 4, 9, 2]]],
      lost: [[7, 2]],
    };
    expect(encodeDescriptor(descriptor)).toEqual(plain);
    expect(decodeDescriptor(plain)).toEqual(descriptor);
  });
});

describe('a long run', () => {
  const large = new MapGeometry(2 ** 20 * BLOCK_SIZE, BLOCK_SIZE, 128);

  test.each([
    ['of few packs is split at 65,536 entries', 150_000, 9, [65_536, 65_536, 18_928]],
    ['whose every block is in another pack is split before 4 MiB', 100_000, 100_000, undefined],
  ])('%s', async (_, entries, packs, split) => {
    const names = Array.from({ length: packs }, (_, i) => packNamed(9, i));
    const buffer = new ChangeBuffer(large);
    const { id, location } = entryOf(1);
    for (let i = 0; i < entries; i++) buffer.add([i * 3, { id, location: { ...location, pack: names[i % packs]! } }]);
    const store = new RecordStore();
    const run = await writeRun(buffer, store, plainIds);
    if (split !== undefined) expect(run.map((chunk) => chunk.entries)).toEqual(split);
    for (const { location } of run) expect(location.rawLength).toBeLessThanOrEqual(4 * 2 ** 20);
    expect(run.length).toBeGreaterThan(1);
    const descriptor = { size: large.size, blockSize: BLOCK_SIZE, root: undefined, runs: [run], lost: [] };
    expect(decodeDescriptor(encodeDescriptor(descriptor))).toEqual(descriptor);
    const [chunks] = await loadRuns([run], large, { records: store, ids: plainIds });
    expect(chunks!.reduce((sum, chunk) => sum + chunk.count, 0)).toBe(entries);
    const last = chunks!.at(-1)!;
    expect(last.block(last.count - 1)).toBe((entries - 1) * 3);
    expect(last.entry(last.count - 1)!.location.pack).toEqual(names[(entries - 1) % packs]);
  });
});

test('the widest node of the most scattered blocks still fits its tables', () => {
  const wide = new MapGeometry(248 ** 2 * BLOCK_SIZE, BLOCK_SIZE, 248);
  const { id, location } = entryOf(1);
  const children = Array.from({ length: 248 }, (_, leaf) => ({
    id,
    location: { ...location, pack: packNamed(1, leaf), rawLength: 4000, storedLength: 3000 },
    usage: Array.from({ length: 248 }, (_, i) => ({ pack: packNamed(2, leaf * 248 + i), bytes: 2 ** 32 - 1 })),
  }));
  const { raw } = encodeInnerNode(1, children);
  expect(raw.length).toBeLessThanOrEqual(wide.maxNodeBytes(1));
  expect(new InnerNode(raw, 1, 0, wide).child(247)!.usage).toEqual(children[247]!.usage);
});
