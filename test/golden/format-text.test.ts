import { crc32, zstdDecompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { decodeMsgpack } from '../../src/common/msgpack.ts';
import { BackupRepository } from '../../src/repository/backup-repository.ts';
import { RepositoryKeys } from '../../src/repository/crypto/repository-keys.ts';
import { decodeCheckpoint } from '../../src/repository/format/checkpoint-codec.ts';
import { decodeLeaf } from '../../src/repository/format/entry-table.ts';
import { InnerNode } from '../../src/repository/format/inner-node.ts';
import { EMPTY_STATE, type LogState } from '../../src/repository/format/log-state.ts';
import { MapGeometry } from '../../src/repository/format/map-geometry.ts';
import { footerLength, TRAILER_BYTES } from '../../src/repository/format/pack-footer.ts';
import { PageStore } from '../../src/repository/log/pages/page-store.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import {
  decodeEntry,
  decodePackTable,
  decodeRelocationTable,
  openFooter,
} from '../repository/format/support/codecs-at-once.ts';
import {
  appendixA,
  bytes,
  formatText,
  gcm,
  hkdf256,
  hmac256,
  sealedRecord,
  sha256,
  u32,
} from '../repository/format/support/format-text.ts';
import { applyEntry } from '../repository/log/support/fold-at-once.ts';
import { readRepository } from './independent-reader.ts';

/**
 * The whole repository of Appendix A of `docs/FORMAT.md`: every object put together anew from the text's own smaller
 * values, read by a reader of the text, and read by this library.
 */

const vector = appendixA();
const key = vector('repository key');
const repositoryId = vector('repository id');
const nonce = vector('nonce');
const keys = RepositoryKeys.encrypted(key, repositoryId);
const u16 = (value: number) => u32(value).subarray(0, 2);
const u64 = (value: number) => bytes(u32(value % 2 ** 32), u32(Math.floor(value / 2 ** 32)));
const idOf = (kind: number, part: Uint8Array) =>
  hmac256(hkdf256(key, repositoryId, 'cow1 record id'), bytes(kind, part));

const FAN_OUT = 128;
const BLOCK = 4096;
const SIZE = 130 * BLOCK + 16;
const NAME = { session: 1, random: 'f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff' };
const PACK = `packs/0000000000001/${NAME.random}`;
const packName = bytes(u64(NAME.session), Buffer.from(NAME.random, 'hex'));
const c = Buffer.alloc(BLOCK, 0x63);
const volumeDigest = sha256(bytes('cow1 volume', 'disk')).subarray(0, 16);
/** The end of it stands for its volume. */
const BACKUP_ID = bytes(Buffer.alloc(12, 0xbb), volumeDigest.subarray(0, 4));
const idA = vector('content id of a, encrypted');
const idC = vector('content id of c');
/** Pages of the catalogue: each key, and what has the object. */
const PAGES = Object.fromEntries(
  ['page of backups', 'page of packs'].flatMap((name) => {
    const object = `catalogue/0000000000002/${sha256(vector(name)).toString('hex', 0, 16)}`;
    return [
      [object, name],
      [`${object}-2`, name],
    ];
  }),
);
const geometry = new MapGeometry(SIZE, BLOCK, FAN_OUT);

/** The records of the pack in their order, and where each stands. */
const RECORDS = [
  { name: 'a', kind: 1, codec: 0, id: idA, rawLength: 16, content: vector('block a'), hint: 130 },
  { name: 'c', kind: 1, codec: 1, id: idC, rawLength: BLOCK, content: vector('zstd frame of c'), hint: 0 },
  { name: 'leaf 0', ...node(2, 'leaf 0'), hint: 0 },
  { name: 'leaf 1', ...node(2, 'leaf 1'), hint: 128 },
  { name: 'inner node', ...node(3, 'inner node', 'the inner node'), hint: 0 },
  { name: 'run chunk', ...node(4, 'run chunk', 'the run chunk'), hint: 5 },
];

function node(kind: number, name: string, called = name) {
  const content = vector(name);
  return { kind, codec: 0, id: vector(`record id of ${called}`), rawLength: content.length, content };
}

const storedLength = ({ content }: { content: Buffer }) => content.length + 28;

function placed(name: string) {
  let offset = 8;
  for (const record of RECORDS) {
    const stored = storedLength(record);
    if (record.name === name) {
      return { offset, stored, ...record, place: bytes(u16(0), u32(offset), u32(stored + record.codec * 2 ** 24)) };
    }
    offset += stored;
  }
  throw new Error(`no record is ${name}`);
}

/** A location part that names the one pack. */
function located(...places: Buffer[]): Buffer {
  const part = bytes(u16(1), packName, ...places);
  return bytes(part, u32(crc32(part)));
}

function bitmap(...bits: number[]): Buffer {
  const map = Buffer.alloc(FAN_OUT / 8);
  for (const bit of bits) map[bit >> 3]! |= 1 << (bit & 7);
  return map;
}

describe('records', () => {
  test('block c', () => {
    expect(hmac256(hkdf256(key, repositoryId, 'cow1 content id'), c)).toEqual(idC);
    expect(zstdDecompressSync(vector('zstd frame of c'))).toEqual(c);
  });

  test('leaves', () => {
    const identity0 = bytes(bitmap(0, 5), idC, idC);
    expect(bytes(identity0, located(placed('c').place, placed('c').place))).toEqual(vector('leaf 0'));
    expect(idOf(2, identity0)).toEqual(vector('record id of leaf 0'));
    const identity1 = bytes(bitmap(2), idA);
    expect(bytes(identity1, located(placed('a').place))).toEqual(vector('leaf 1'));
    expect(idOf(2, identity1)).toEqual(vector('record id of leaf 1'));
    expect(decodeLeaf(Uint8Array.from(vector('leaf 1')), 1, geometry).entry(2)).toEqual({
      id: Uint8Array.from(idA),
      location: { pack: NAME, offset: 8, storedLength: 44, codec: 0, rawLength: 16 },
    });
  });

  test('an inner node', () => {
    const [leaf0, leaf1] = [placed('leaf 0'), placed('leaf 1')];
    const identity = bytes(1, bitmap(0, 1), leaf0.id, leaf1.id);
    const children = [leaf0, leaf1].map(({ place, rawLength }) => bytes(place, u32(rawLength)));
    const usage = [2 * placed('c').stored, placed('a').stored].map((used) => bytes(u16(1), u16(0), u32(used)));
    expect(bytes(identity, located(...children, ...usage))).toEqual(vector('inner node'));
    expect(idOf(3, identity)).toEqual(vector('record id of the inner node'));
    const read = new InnerNode(vector('inner node'), 1, 0, geometry).child(1);
    expect(read?.usage).toEqual([{ pack: NAME, bytes: placed('a').stored }]);
  });

  test('a run chunk', () => {
    const identity = bytes(u32(2), u32(5), u32(6), 0b10, idC);
    expect(bytes(identity, located(placed('c').place))).toEqual(vector('run chunk'));
    expect(idOf(4, identity)).toEqual(vector('record id of the run chunk'));
  });

  test('tables', () => {
    const [size, checksum] = [vector('pack').length, sha256(vector('pack'))];
    const table = bytes(packName, u32(size), checksum);
    expect(table).toEqual(vector('table of packs'));
    expect(idOf(5, table)).toEqual(vector('record id of the table'));
    expect(decodePackTable(table, 1)).toEqual([{ ...NAME, size, sha256: Uint8Array.from(checksum) }]);
    const random = 'e0e1e2e3e4e5e6e7e8e9eaebecedeeef';
    const moved = bytes(u64(2 ** 40 + 9), Buffer.from(random, 'hex'));
    const [a, c] = [placed('a'), placed('c')];
    const rows = bytes(u32(a.offset), moved, u32(1000), u32(a.stored), u32(c.offset), moved, u32(8), u32(c.stored));
    expect(rows).toEqual(vector('relocation table'));
    expect(idOf(6, rows)).toEqual(vector('record id of the relocations'));
    const pack = { session: 2 ** 40 + 9, random };
    expect(decodeRelocationTable(rows)).toMatchObject([
      { offset: a.offset, to: { pack, offset: 1000, storedLength: a.stored } },
      { offset: c.offset, to: { pack, offset: 8, storedLength: c.stored } },
    ]);
  });
});

test('the pack', () => {
  const rows = RECORDS.map((record) => {
    const { id, rawLength, codec, kind, hint } = record;
    return bytes(id, u32(storedLength(record)), u32(rawLength + codec * 2 ** 24 + kind * 2 ** 28), u64(hint));
  });
  const records = RECORDS.map((record) => sealedRecord(key, repositoryId, { ...record, nonce }));
  const body = bytes('CWPACK01', ...records);
  const zeroes = Buffer.alloc(64 - ((body.length + 9) % 64));
  const padding = bytes(0x80, zeroes, u64(body.length * 8).reverse());
  expect((body.length + padding.length) % 64).toBe(0);
  expect(padding).toEqual(vector('padding of the pack'));
  const footer = bytes(u32(rows.length), sha256(body), ...rows);
  expect(footer).toEqual(vector('raw footer'));
  expect(sha256(footer)).toEqual(vector('checksum of the raw footer'));
  const aad = bytes('cow1 footer', PACK);
  const sealed = bytes(nonce, gcm(hkdf256(key, repositoryId, 'cow1 footer key'), nonce, footer, aad));
  expect(bytes(body, padding, sealed, u32(sealed.length), 'CWFOOT01')).toEqual(vector('pack'));

  const pack = vector('pack');
  const length = footerLength(pack.subarray(-TRAILER_BYTES), pack.length);
  const stored = pack.subarray(-TRAILER_BYTES - length, -TRAILER_BYTES);
  const read = openFooter(stored, NAME, pack.length, keys.footerKey);
  expect(Buffer.from(read.bodySha256)).toEqual(sha256(body));
  expect([...read.rows].map(({ hint, kind, offset }) => [kind, hint, offset])).toEqual(
    RECORDS.map(({ name, hint, kind }) => [kind, hint, placed(name).offset]),
  );
});

describe('the log', () => {
  const logKey = hkdf256(key, repositoryId, 'cow1 log key');
  const sealed = (label: string, seq: number, body: Uint8Array) =>
    bytes(nonce, gcm(logKey, nonce, body, bytes(label, u64(seq))));
  /** The content of a body, which says how it is stored and how long it is. */
  const contentOf = (name: string) => {
    const body = vector(name);
    const raw = body[0] === 0 ? body.subarray(5) : zstdDecompressSync(body.subarray(5));
    expect(body.subarray(0, 5)).toEqual(bytes(body[0]!, u32(raw.length)));
    return decodeMsgpack(raw, 'LOG_CORRUPT');
  };
  const b16 = (byte: number) => Buffer.alloc(16, byte);
  const at = 1_700_000_000_000;
  const entry1 = {
    ...{ v: 1, seq: 1, prev: Buffer.alloc(32), id: b16(0x11), at },
    ...{ type: 'open', owner: 'host', volumes: [['disk', null]], fence: [], adopt: [] },
  };
  const location = (name: string) => {
    const { offset, stored, codec, rawLength } = placed(name);
    return [1, Buffer.from(NAME.random, 'hex'), offset, stored, codec, rawLength];
  };
  const backup = {
    ...{ id: BACKUP_ID, volume: 'disk', parent: null, base: null, frozenAt: at + 1000, trackingId: 'tracking' },
    ...{ point: 7, intact: false, metadata: { note: 'café' } },
    descriptor: {
      size: SIZE,
      blockSize: BLOCK,
      root: [1, vector('record id of the inner node'), location('inner node')],
      runs: [[[vector('record id of the run chunk'), location('run chunk'), 5, 6, 2]]],
      lost: [[100, 2]],
    },
    stats: { storedBytes: vector('pack').length, changedBlocks: 4 },
  };
  const entry2 = {
    ...{ v: 1, seq: 2, prev: vector('hash of entry 1'), id: b16(0x22), at: at + 60_000, type: 'commit', session: 1 },
    backups: [backup],
    packs: [[1, Buffer.from(NAME.random, 'hex'), vector('pack').length, sha256(vector('pack'))]],
    packTables: [],
  };

  test('entry 1', () => {
    expect(contentOf('body of entry 1')).toEqual({ ...entry1, tail: [] });
    expect(sha256(bytes('cow1 log', vector('body of entry 1')))).toEqual(vector('checksum of body 1'));
    expect(sealed('cow1 log', 1, vector('body of entry 1'))).toEqual(vector('entry 1'));
    expect(sha256(vector('entry 1'))).toEqual(vector('hash of entry 1'));
    const unencrypted = bytes(vector('body of entry 1'), vector('checksum of body 1'));
    expect(decodeEntry(undefined, 1, unencrypted).entry.type).toBe('open');
  });

  test('entry 2', () => {
    expect(contentOf('body of entry 2')).toEqual({ ...entry2, tail: [entry1] });
    expect(sealed('cow1 log', 2, vector('body of entry 2'))).toEqual(vector('entry 2'));
    expect(sha256(vector('entry 2'))).toEqual(vector('hash of entry 2'));
  });

  let state: LogState = EMPTY_STATE;
  for (const seq of [1, 2]) {
    const { entry, hash } = decodeEntry(keys.logKey, seq, vector(`entry ${seq}`));
    state = applyEntry(state, entry, hash);
  }
  const stored = { ...backup, seq: 2, committedAt: at + 60_000, session: 1 };
  const size = vector('pack').length;
  /** What is in no page. */
  const rest = {
    ...{ v: 1, seq: 2, hash: vector('hash of entry 2'), floor: null, goneThrough: 0 },
    ...{ pinned: [], sessions: [], fenced: [], condemned: [], relocations: [], quarantined: [] },
    ...{ keySlots: [], removedSlots: [], forgotten: [], holds: [] },
    anchors: bytes(vector('hash of entry 2').subarray(0, 16), vector('hash of entry 1').subarray(0, 16)),
  };
  const nowhere = { pages: [[], []], backups: [], heads: [], known: [] };
  test('the checkpoint', async () => {
    expect(sealed('cow1 checkpoint', 2, vector('body of the checkpoint'))).toEqual(vector('checkpoint'));
    const packs = bytes(Buffer.from(NAME.random, 'hex'), u32(size), sha256(vector('pack')));
    expect(contentOf('body of the checkpoint')).toEqual({
      ...{ ...rest, ...nowhere },
      backups: [stored],
      heads: [['disk', BACKUP_ID, 2]],
      known: [[1, packs, [], Buffer.alloc(0)]],
    });
    expect(await decodeCheckpoint(keys.logKey, 2, vector('checkpoint'))).toEqual({ ...state });
  });

  test('the checkpoint with pages', async () => {
    const u56 = (value: number) => u64(value).subarray(0, 7).reverse();
    expect(vector('digest of the volume')).toEqual(volumeDigest);
    expect(vector('key of the backup')).toEqual(bytes(volumeDigest, u56(2)));
    expect(vector('key of the pack')).toEqual(bytes(u56(1), Buffer.from(NAME.random, 'hex')));
    expect(contentOf('body of the page of backups')).toEqual({ v: 1, table: 'backups', rows: [stored] });
    expect(contentOf('body of the page of packs')).toEqual({ v: 1, table: 'packs', rows: entry2.packs });
    const pages = Object.entries({ backups: 'backup', packs: 'pack' }).map(([table, row]) => {
      const object = vector(`page of ${table}`);
      expect(sealed('cow1 page', 2, vector(`body of the page of ${table}`))).toEqual(object);
      const rowKey = vector(`key of the ${row}`);
      return [[2, sha256(object), object.length, 1, 1, rowKey, rowKey]];
    });
    const body = vector('body of the checkpoint with pages');
    expect(sealed('cow1 checkpoint', 2, body)).toEqual(vector('checkpoint with pages'));
    expect(contentOf('body of the checkpoint with pages')).toEqual({ ...rest, ...nowhere, pages });
    const target = new MemoryTarget();
    for (const [object, page] of Object.entries(PAGES)) await target.put(object, Uint8Array.from(vector(page)));
    const hot = await decodeCheckpoint(keys.logKey, 2, vector('checkpoint with pages'));
    expect(await new PageStore({ target, logKey: keys.logKey }).takeIn(hot, 'all')).toEqual({ ...state });
  });
});

describe.each([
  ['checkpoint', {}],
  ['checkpoint with pages', PAGES],
])('all of it together, with the %s', (checkpoint, pages) => {
  const objects = new Map<string, Uint8Array<ArrayBuffer>>(
    Object.entries({
      'keys/0123456789abcdef': 'slot, passphrase',
      [PACK]: 'pack',
      'log/ffffffffffffe': 'entry 1',
      'log/ffffffffffffd': 'entry 2',
      'log/ffffffffffffd-c': checkpoint,
      ...pages,
    }).map(([object, name]) => [object, Uint8Array.from(vector(name))]),
  );
  objects.set('format', Uint8Array.from(formatText(vector('format, encrypted'), key, repositoryId)));
  const passphrase = vector('passphrase as typed').toString('utf8');
  const content = Buffer.alloc(SIZE);
  for (const block of [0, 6]) content.set(c, block * BLOCK);
  content.set(vector('block a'), 130 * BLOCK);

  test('is read by a reader of the text', () => {
    const { backups } = readRepository(objects, { passphrase });
    const metadata = { note: 'café' };
    const shape = { volume: 'disk', size: SIZE, blockSize: BLOCK, metadata, lost: [[100, 2]], intact: false };
    expect(backups).toEqual([{ id: BACKUP_ID.toString('hex'), ...shape, sha256: sha256(content).toString('hex') }]);
  });

  test('is read by this library', async () => {
    const target = new MemoryTarget();
    for (const [object, body] of objects) await target.put(object, body);
    await using repository = await BackupRepository.open(target, {
      unlock: { passphrase },
      readOnly: true,
      threads: 0,
    });
    await using image = await repository.openBackup(BACKUP_ID.toString('hex'), { allowLost: true });
    const read = Buffer.alloc(SIZE, 0xee);
    await image.read(0, read);
    expect(read.equals(content)).toBe(true);
    expect((await repository.latestBackup('disk'))?.lostBytes).toBe(2 * BLOCK);
  });
});
