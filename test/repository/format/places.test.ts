import { constants, crc32, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { decompress } from '../../../src/common/compression.ts';
import { sha256Padding } from '../../../src/common/sha256.ts';
import { logValue } from '../../../src/repository/format/decode-values.ts';
import { decodeLeaf } from '../../../src/repository/format/entry-table.ts';
import { InnerNode } from '../../../src/repository/format/inner-node.ts';
import { decodeDescriptor } from '../../../src/repository/format/map-descriptor-codec.ts';
import { MapGeometry } from '../../../src/repository/format/map-geometry.ts';
import { MAX_SEQ } from '../../../src/repository/format/object-keys.ts';
import type { FooterRow } from '../../../src/repository/format/pack-footer.ts';
import { TRAILER_BYTES } from '../../../src/repository/format/pack-footer.ts';
import { withCode } from '../../support/with-code.ts';
import { encodeInnerNode, openFooter, sealFooter } from './support/codecs-at-once.ts';
import { bytes, u32 } from './support/format-text.ts';

/** Where records may be, and of what: the same rules in MessagePack, in location parts and in footers. */

const damaged = withCode('MAP_CORRUPT');
const RANDOM = Buffer.from('0123456789abcdef0123456789abcdef', 'hex');
const u16 = (value: number) => u32(value).subarray(0, 2);
const u64 = (value: number) => bytes(u32(value % 2 ** 32), u32(Math.floor(value / 2 ** 32)));
const geometry = new MapGeometry(64 * 4096, 4096, 8);

/** A leaf whose first blocks have content, in these packs. */
function leaf(
  packs: readonly Buffer[],
  places: readonly { pack: number; offset?: number; stored?: number; codec?: number }[],
) {
  const ids = places.map((_, index) => Buffer.alloc(32, index + 1));
  const rows = places.map(({ pack, offset = 8, stored = 4096, codec = 0 }) =>
    bytes(u16(pack), u32(offset), u32(stored + codec * 2 ** 24)),
  );
  const part = bytes(u16(packs.length), ...packs, ...rows);
  return Uint8Array.from(bytes((1 << places.length) - 1, ...ids, part, u32(crc32(part))));
}

const packOf = (session: number, random: Uint8Array = RANDOM) => bytes(u64(session), random);
const read = (raw: Uint8Array) => () => decodeLeaf(raw, 0, geometry);

describe('a location part', () => {
  const other = Buffer.from(RANDOM).fill(0xee, 15);

  test('names each of its packs once, however alike the names are', () => {
    expect(read(leaf([packOf(1), packOf(2)], [{ pack: 0 }, { pack: 1 }]))).not.toThrow();
    expect(read(leaf([packOf(1), packOf(1, other)], [{ pack: 0 }, { pack: 1 }]))).not.toThrow();
    expect(read(leaf([packOf(1), packOf(1)], [{ pack: 0 }, { pack: 1 }]))).toThrow(damaged);
    expect(read(leaf([packOf(1), packOf(1, other), packOf(1)], [{ pack: 0 }, { pack: 1 }, { pack: 2 }]))).toThrow(
      damaged,
    );
  });

  test('of an inner node does so too', () => {
    const location = {
      pack: { session: 1, random: RANDOM.toString('hex') },
      offset: 8,
      storedLength: 90,
      codec: 0,
      rawLength: 90,
    } as const;
    const usage = [{ pack: location.pack, bytes: 5 }];
    const { raw, identityLength } = encodeInnerNode(1, [
      { id: new Uint8Array(32), location, usage },
      ...new Array(7).fill(undefined),
    ]);
    expect(() => new InnerNode(raw, 1, 0, geometry)).not.toThrow();
    // The second name is that of the usage.
    const body = Buffer.from(raw.subarray(identityLength + 2, -4));
    body.writeUInt16LE(1, body.length - 6);
    const part = bytes(u16(2), packOf(1), body);
    const twice = bytes(raw.subarray(0, identityLength), part, u32(crc32(part)));
    expect(() => new InnerNode(Uint8Array.from(twice), 1, 0, geometry)).toThrow(/named twice/);
  });

  test('names packs of sessions that there may be', () => {
    for (const session of [1, MAX_SEQ]) expect(read(leaf([packOf(session)], [{ pack: 0 }]))).not.toThrow();
    for (const session of [0, MAX_SEQ + 1, 2 ** 53])
      expect(read(leaf([packOf(session)], [{ pack: 0 }]))).toThrow(damaged);
  });
});

test('a location in MessagePack has the same rules', () => {
  const at =
    (...[session, offset, stored, codec, raw]: readonly number[]) =>
    () =>
      logValue.location([session, RANDOM, offset, stored, codec, raw], 'a test');
  for (const right of [
    [1, 8, 1, 0, 1],
    [MAX_SEQ, 8, 29, 0, 1],
    [1, 2 ** 32 - 11, 10, 1, 400],
  ] as const) {
    expect(at(...right)).not.toThrow();
  }
  for (const wrong of [
    [0, 8, 1, 0, 1],
    [MAX_SEQ + 1, 8, 1, 0, 1],
    [1, 7, 1, 0, 1],
    [1, 8, 0, 0, 0],
    [1, 8, 28, 0, 0], // An empty record, sealed.
    [1, 8, 30, 0, 1],
    [1, 8, 99, 0, 100],
    [1, 8, 1, 2, 1],
    [1, 2 ** 32 - 10, 10, 1, 400],
  ] as const) {
    expect(at(...wrong), String(wrong)).toThrow(withCode('LOG_CORRUPT'));
  }
});

test('a volume may have no bytes; then it has no blocks, and no tree', () => {
  const empty = { size: 0, blockSize: 4096, root: null, runs: [], lost: [] };
  expect(decodeDescriptor(empty)).toEqual({ ...empty, root: undefined });
  const root = [0, new Uint8Array(32), [1, RANDOM, 8, 90, 0, 90]];
  expect(() => decodeDescriptor({ ...empty, root })).toThrow(withCode('LOG_CORRUPT'));
  expect(() => decodeDescriptor({ ...empty, lost: [[0, 1]] })).toThrow(withCode('LOG_CORRUPT'));
  expect(decodeDescriptor({ ...empty, size: 1, root }).root?.level).toBe(0);
});

test('a footer lists no record that no location could name', () => {
  const name = { session: 1, random: RANDOM.toString('hex') };
  const row: FooterRow = {
    kind: 1,
    id: new Uint8Array(32),
    offset: 8,
    storedLength: 100,
    codec: 0,
    rawLength: 100,
    hint: 0,
  };
  const open = (change: Partial<FooterRow>) => () => {
    const changed = { ...row, ...change };
    const bodyBytes = 8 + changed.storedLength;
    const rest = sealFooter({ rows: [changed], bodyBytes, bodySha256: new Uint8Array(32) }, name, undefined);
    const footer = rest.subarray(sha256Padding(bodyBytes).length, -TRAILER_BYTES);
    return openFooter(footer, name, bodyBytes + rest.length, undefined).rows;
  };
  expect(open({})()).toHaveLength(1);
  expect(open({ codec: 1, storedLength: 50 })()).toHaveLength(1);
  for (const wrong of [
    { rawLength: 0, storedLength: 0 },
    { rawLength: 0, storedLength: 28 },
    { storedLength: 0 },
    { storedLength: 129 },
    { storedLength: 99 },
    { kind: 7 as never },
    { kind: 0 as never },
    { codec: 2 as never },
    { rawLength: 2 ** 22 + 1, storedLength: 2 ** 22 + 1 },
  ]) {
    expect(open(wrong), JSON.stringify(wrong)).toThrow(withCode('PACK_CORRUPT'));
  }
});

describe('a frame', () => {
  const raw = Buffer.from('the same over and over, '.repeat(20));
  const frame = zstdCompressSync(raw, { pledgedSrcSize: raw.length });
  const skippable = bytes(u32(0x184d2a50), u32(2), 'xx');

  test('may leave out how long its content is, and has to be right where it does not', () => {
    const without = zstdCompressSync(raw, { params: { [constants.ZSTD_c_contentSizeFlag]: 0 } });
    expect(without.length).not.toBe(frame.length);
    expect(decompress(without, raw.length)).toEqual(raw);
    expect(decompress(frame, raw.length)).toEqual(raw);
    for (const length of [raw.length - 1, raw.length + 1]) {
      for (const each of [frame, without]) expect(() => decompress(each, length)).toThrow();
    }
    const lying = Buffer.from(frame);
    const at = lying.indexOf(Buffer.from(u16(raw.length - 256)), 4);
    lying.writeUInt16LE(raw.length - 255, at);
    expect(() => decompress(lying, raw.length)).toThrow();
    expect(() => decompress(lying, raw.length + 1)).toThrow();
  });

  test('stands alone: no second one, and none to be skipped before or after it', () => {
    const halves = [raw.subarray(0, 100), raw.subarray(100)].map((half) => zstdCompressSync(half));
    for (const other of [
      bytes(...halves),
      bytes(skippable, frame),
      bytes(frame, skippable),
      bytes(frame, 0),
      skippable,
    ]) {
      expect(() => decompress(other, raw.length)).toThrow();
    }
  });
});
