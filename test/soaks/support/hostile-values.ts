import { createHash } from 'node:crypto';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { decodeMsgpack, encodeMsgpack } from '../../../src/common/msgpack.ts';

/** MessagePack as nobody writes it. */

type Below = (limit: number) => number;

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let level = 0; level < depth; level++) value = [value];
  return value;
}

function withKey(key: string, value: unknown): object {
  return Object.defineProperty({}, key, { value, enumerable: true });
}

/** Values that stand where another one should. */
const VALUES: readonly (() => unknown)[] = [
  () => Number.NaN,
  () => Number.POSITIVE_INFINITY,
  () => Number.NEGATIVE_INFINITY,
  () => -1,
  () => -0,
  () => 0,
  () => 0.5,
  () => 1,
  () => 1e300,
  () => -1e300,
  () => 8.64e15,
  () => -8.64e15,
  () => 2 ** 32,
  () => 2 ** 52 - 2,
  () => Number.MAX_SAFE_INTEGER,
  () => 2 ** 63,
  () => null,
  () => true,
  () => '',
  () => '__proto__',
  () => 'constructor',
  () => '%zz/%zz/%00/1:%/%',
  () => 'h/1099511627776/x.y/1',
  () => `\u0000\u202e${'é'.repeat(300)}`,
  () => 'x'.repeat(1024),
  () => 'x'.repeat(2_000_000),
  () => new Uint8Array(0),
  () => new Uint8Array(16),
  () => new Uint8Array(32).fill(255),
  () => new Uint8Array(2_000_000),
  () => [],
  () => ({}),
  () => nested(12),
  () => nested(40),
  () => Array.from({ length: 100_000 }, () => ({})),
  () => Array.from({ length: 100_000 }, () => []),
  () => Object.fromEntries(Array.from({ length: 50_000 }, (_, index) => [`k${index}`, index])),
  () => withKey('__proto__', { polluted: 'yes' }),
  () => withKey('constructor', { prototype: { polluted: 'yes' } }),
  () => withKey('toString', 'x'),
];

/** The same map with one thing about it, or a few, that is different. */
export function mutatedPlain(bytes: Uint8Array, below: Below): Uint8Array<ArrayBuffer> {
  const value = decodeMsgpack(bytes, 'LOG_CORRUPT');
  const changes = 1 + (below(3) === 0 ? below(4) : 0);
  for (let change = 0; change < changes; change++) changeOne(value, below);
  return encodeMsgpack(value);
}

interface Place {
  readonly holder: Record<string, unknown>;
  readonly name: string;
}

function changeOne(root: unknown, below: Below): void {
  const places: Place[] = [];
  collect(root, places);
  const { holder, name } = places[below(places.length)] as Place;
  const other = places[below(places.length)] as Place;
  const choice = below(10);
  if (choice < 5) holder[name] = (VALUES[below(VALUES.length)] as () => unknown)();
  else if (choice < 6) holder[name] = structuredClone(other.holder[other.name]);
  else if (choice < 7) holder[name] = typeof holder[name] === 'number' ? (holder[name] as number) + 1 : null;
  else if (Array.isArray(holder)) {
    if (choice < 8) holder.splice(Number(name), 1);
    else if (choice < 9) holder.push(structuredClone(holder[Number(name)]));
    else holder.reverse();
  } else delete holder[name];
}

function collect(value: unknown, places: Place[]): void {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return;
  const holder = value as Record<string, unknown>;
  for (const name of Object.keys(holder)) {
    places.push({ holder, name });
    collect(holder[name], places);
  }
}

/** Bytes that are MessagePack, or nearly, and cost more than they take up. */
export function messagePackBomb(below: Below, bytes: number): Uint8Array<ArrayBuffer> {
  const body = new Uint8Array(bytes);
  const head = (type: number, count: number) => {
    body[0] = type;
    new DataView(body.buffer).setUint32(1, count);
  };
  switch (below(8)) {
    case 0: // An array of empty maps.
      body.fill(0x80);
      head(0xdd, bytes - 5);
      break;
    case 1: // An array of empty arrays.
      body.fill(0x90);
      head(0xdd, bytes - 5);
      break;
    case 2: // Arrays in arrays.
      body.fill(0x91);
      break;
    case 3: // A map of so many entries of one byte.
      body.fill(0xa0);
      head(0xdf, Math.floor((bytes - 5) / 2));
      break;
    case 4: // Claims that nothing stands behind.
      body.fill(0xff);
      head(0xdd, 0xffffffff);
      break;
    case 5: // Texts of one character, each its own.
      body.fill(0xa1);
      head(0xdd, Math.floor((bytes - 5) / 2));
      break;
    case 6: // Maps with maps for keys.
      body.fill(0x81);
      break;
    default: // Extensions.
      body.fill(0xd4);
  }
  return body;
}

/** A map that has a field of a bomb beside those that belong there. @param fields - of the map, fewer than 15 */
export function bombedMap(fields: Record<string, unknown>, name: string, bomb: Uint8Array): Uint8Array<ArrayBuffer> {
  const plain = encodeMsgpack({ ...fields, [name]: null }); // The field's value is the last byte.
  return new Uint8Array(Buffer.concat([plain.subarray(0, -1), bomb]));
}

/** The object of an entry, a checkpoint or a cache of a plain repository: everybody can make its checksum. */
export function sealPlain(label: string, body: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat([body, createHash('sha256').update(label).update(body).digest()]));
}

/** The object of an entry. @param frame - whatever is to stand for its content, compressed; `undefined` for none */
export function sealEntry(
  raw: Uint8Array,
  frame: Uint8Array | undefined = framed(raw),
  length = raw.length,
): Uint8Array<ArrayBuffer> {
  return sealPlain('cow1 log', packed(raw, frame, length));
}

/** The content of entries, checkpoints and pages, as it is stored. */
export function packed(raw: Uint8Array, frame: Uint8Array | undefined, length = raw.length): Uint8Array<ArrayBuffer> {
  const content = frame ?? raw;
  const body = new Uint8Array(5 + content.length);
  body[0] = frame === undefined ? 0 : 1;
  new DataView(body.buffer).setUint32(1, length, true);
  body.set(content, 5);
  return body;
}

function framed(raw: Uint8Array): Uint8Array | undefined {
  const frame = zstdCompressSync(raw);
  return frame.length < raw.length ? frame : undefined;
}

/** What was compressed in the object of an entry or of a checkpoint. */
export function rawContent(whole: Uint8Array): Uint8Array {
  const body = whole.subarray(0, -32);
  const length = new DataView(body.buffer, body.byteOffset).getUint32(1, true);
  return body[0] === 0
    ? body.subarray(5)
    : new Uint8Array(zstdDecompressSync(body.subarray(5), { maxOutputLength: length }));
}

export function hashOf(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(createHash('sha256').update(bytes).digest());
}
