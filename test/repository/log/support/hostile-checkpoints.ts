import { zstdCompressSync } from 'node:zlib';
import { encodeMsgpack } from '../../../../src/common/msgpack.ts';
import { anchorBytes } from '../../../../src/repository/format/anchors.ts';
import { sealObject } from '../../../../src/repository/format/log-object.ts';
import { randomBytesFrom, seededRandom } from '../../../../src/testing/seeded-random.ts';
import { zeroAnchors } from './facts.ts';

/**
 * Checkpoints that are valid in every field, and take as much memory as can be: of one part of the state, as many of the
 * smallest elements as fit. Nothing in them is random, so they compress well.
 */

export interface HostileElements {
  /** The field of the checkpoint whose array they are elements of. */
  readonly field: string;
  /** The element of a number, from 0. */
  readonly element: (n: number) => unknown;
}

const idOf = (n: number, length = 16) => {
  const bytes = Buffer.alloc(length);
  if (length > 0) bytes.writeUInt32LE(n);
  return bytes;
};
const HASH = new Uint8Array(32);
const location = [1, idOf(1), 8, 1, 1, 100];

/** A name, a size and a SHA-256. */
const knownPack = (n: number) => Buffer.concat([idOf(n), Uint8Array.of(1, 0, 0, 0), HASH]);

const backup = (n: number) => ({
  id: idOf(n),
  volume: 'v',
  frozenAt: 0,
  trackingId: '',
  point: 0,
  intact: true,
  descriptor: { size: 2 ** 40, blockSize: 4096, runs: [] as unknown[], lost: [] as unknown[] },
  metadata: {} as Record<string, string>,
  stats: { storedBytes: 0, changedBlocks: 0 },
  seq: 1,
  committedAt: 0,
  session: 1,
});
const withDescriptor = (n: number, more: object) => {
  const base = backup(n);
  return { ...base, descriptor: { ...base.descriptor, ...more } };
};
const many = <T>(count: number, item: (n: number) => T) => Array.from({ length: count }, (_, n) => item(n));

const LOST = many(60, (n) => [2 * n, 1]);
const NAMES = Object.fromEntries(many(4000, (n) => [String.fromCharCode(32 + (n >> 6), 32 + (n & 63)), '']));
const CHUNKS = many(1000, (n) => [idOf(n, 32), [1, idOf(1), 8, 30, 1, 76], 2 * n, 2 * n + 1, 2]);
const VOLUMES = many(4000, (n) => [String.fromCharCode(32 + (n >> 6), 32 + (n & 63)), null]);
const ADOPTED = many(16_384, (n) => n + 1);

/** By what they are. */
export const HOSTILE_ELEMENTS: Readonly<Record<string, HostileElements>> = {
  backups: { field: 'backups', element: backup },
  'backups with a root': { field: 'pinned', element: (n) => withDescriptor(n, { root: [0, idOf(n, 32), location] }) },
  'backups with lost blocks': { field: 'backups', element: (n) => withDescriptor(n, { lost: LOST }) },
  'backups with runs': { field: 'backups', element: (n) => withDescriptor(n, { runs: [CHUNKS] }) },
  'backups with metadata': { field: 'backups', element: (n) => ({ ...backup(n), metadata: NAMES }) },
  heads: { field: 'heads', element: (n) => [n.toString(36), idOf(n), 1] },
  'forgotten backups': { field: 'forgotten', element: (n) => idOf(n) },
  holds: { field: 'holds', element: (n) => [idOf(n), [0, null]] },
  'open sessions': { field: 'sessions', element: (n) => [n + 1, HASH, 0, 'me', [], []] },
  'sessions of many volumes': { field: 'sessions', element: (n) => [n + 1, HASH, 0, '', VOLUMES, []] },
  'sessions that adopted many': {
    field: 'fenced',
    element: (n) => [n + 1, HASH, 0, '', [], ADOPTED, [1, 0, null], [1, 0]],
  },
  // A row without any names would have too many values for its bytes.
  'sessions with hardly any known packs': {
    field: 'known',
    element: (n) => [n + 1, n % 3 === 0 ? knownPack(n) : idOf(0, 0), [], idOf(0, 0)],
  },
  'sessions of one known pack': { field: 'known', element: (n) => [n + 1, knownPack(n), [], idOf(0, 0)] },
  'tables of packs': {
    field: 'known',
    element: (n) => [n + 1, idOf(0, 0), many(100, () => [idOf(n, 32), location, 1]), idOf(0, 0)],
  },
  'known packs': {
    field: 'known',
    element: (n) => [n + 1, Buffer.concat(many(2000, (each) => knownPack(n * 2000 + each))), [], idOf(0, 0)],
  },
  'condemned packs': { field: 'condemned', element: (n) => [n + 1, 0, [[n + 1, idOf(n)]], []] },
  'condemned sessions': {
    field: 'condemned',
    element: (n) => [n + 1, 0, [], many(4000, (each) => 1 + n * 4000 + each)],
  },
  'former relocations': {
    field: 'condemned',
    element: (n) => [n + 1, 0, [], [], [[1, idOf(n), idOf(n, 32), location]]],
  },
  relocations: { field: 'relocations', element: (n) => [1, idOf(n), idOf(n, 32), location] },
  'quarantined packs': { field: 'quarantined', element: (n) => [n + 1, idOf(n)] },
  'key slots': { field: 'keySlots', element: (n) => n.toString(16).padStart(16, '0') },
  features: { field: 'features', element: (n) => n.toString(36) },
  'removed slots': { field: 'removedSlots', element: (n) => n.toString(16).padStart(16, '0') },
};

const FIELDS = [
  'backups',
  'pinned',
  'heads',
  'forgotten',
  'holds',
  'sessions',
  'fenced',
  'known',
  'condemned',
  'relocations',
  'quarantined',
  'keySlots',
  'removedSlots',
];

/** What is to be made. */
export interface HostileOptions {
  /** Of the entry. */
  readonly seq: number;
  /** Most elements. */
  readonly count?: number;
  /** Most bytes of the content, decompressed. */
  readonly maxRawBytes?: number;
}

/** A checkpoint of a plain repository that consists of such elements. */
export function hostileCheckpoint(elements: HostileElements, options: HostileOptions): Uint8Array<ArrayBuffer> {
  let raw = hostileContent(elements, options);
  let frame = zstdCompressSync(raw);
  // A content that compresses too well is refused unread: a field that no reader knows helps.
  const lacking = Math.ceil((raw.length - 65_536) / 120) - frame.length;
  if (lacking > 0) {
    raw = hostileContent(elements, options, randomBytesFrom(seededRandom(1), lacking));
    frame = zstdCompressSync(raw);
  }
  const head = Buffer.from([1, 0, 0, 0, 0]);
  head.writeUInt32LE(raw.length, 1);
  return sealObject(undefined, 'cow1 checkpoint', options.seq, Buffer.concat([head, frame]));
}

/** What such a checkpoint holds, decompressed. */
export function hostileContent(
  { field, element }: HostileElements,
  { seq, count = Infinity, maxRawBytes = Infinity }: HostileOptions,
  padding: Uint8Array = new Uint8Array(),
): Uint8Array {
  const others = Object.fromEntries(FIELDS.filter((name) => name !== field).map((name) => [name, []]));
  const anchors = anchorBytes(zeroAnchors(seq));
  const state = { v: 1, seq, hash: HASH, floor: null, anchors, pages: [[], []], goneThrough: 0 };
  const start = Buffer.from(encodeMsgpack({ ...state, padding, ...others }));
  const fields = 8 + Object.keys(others).length + 1;
  const parts: Uint8Array[] = [
    Uint8Array.of(0xde, 0, fields),
    start.subarray(3),
    encodeMsgpack(field),
    Buffer.alloc(5),
  ];
  let left = maxRawBytes - parts.reduce((sum, { length }) => sum + length, 0);
  let written = 0;
  for (; written < count; written++) {
    const bytes = encodeMsgpack(element(written));
    left -= bytes.length;
    if (left < 0) break;
    parts.push(bytes);
  }
  const head = parts[3] as Buffer;
  head[0] = 0xdd;
  head.writeUInt32BE(written, 1);
  return Buffer.concat(parts);
}
