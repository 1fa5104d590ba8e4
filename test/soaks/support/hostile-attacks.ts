import { zstdCompressSync } from 'node:zlib';
import { decodeMsgpack, encodeMsgpack } from '../../../src/common/msgpack.ts';
import { signObject } from '../../../src/repository/format/format-object.ts';
import { checkpointKey, entryKey, parseLogKey } from '../../../src/repository/format/object-keys.ts';
import { craftedMaps } from './hostile-maps.ts';
import {
  bombedMap,
  hashOf,
  messagePackBomb,
  mutatedPlain,
  packed,
  rawContent,
  sealEntry,
  sealPlain,
} from './hostile-values.ts';
import type { World } from './hostile-world.ts';

/** What somebody does who may write to the store. In a plain repository they can compute every checksum. */
export interface Attack {
  readonly name: string;
  /** New bytes of objects; `undefined` where one is deleted. */
  readonly edits: ReadonlyMap<string, Uint8Array<ArrayBuffer> | undefined>;
  /** Sizes that listings tell. */
  readonly lies: ReadonlyMap<string, number>;
  /**
   * Whether the library can know that it is one. Else, in a plain repository, it is a repository like another: it may say
   * anything, and everything that is done to it settles all the same.
   */
  readonly shows: boolean;
}

export type Below = (limit: number) => number;
type Bytes = Uint8Array<ArrayBuffer>;

/** Of how each of the attacks is made. */
const WAYS: readonly ((world: World, below: Below) => Attack | undefined)[] = [
  damaged,
  damaged,
  exchanged,
  exchanged,
  lied,
  strays,
  ahead,
  resealed,
  resealed,
  resealed,
  resealed,
  bombed,
  framed,
  appended,
  appended,
  (world, below) => craftedMaps(world, below),
];

export function attackOn(world: World, below: Below): Attack {
  for (;;) {
    const attack = (WAYS[below(WAYS.length)] as (typeof WAYS)[number])(world, below);
    if (attack !== undefined) return attack;
  }
}

export function attack(name: string, edits: Iterable<[string, Bytes | undefined]>, more: Partial<Attack> = {}): Attack {
  return { name, edits: new Map(edits), lies: new Map(), shows: true, ...more };
}

/** Each kind of object is as likely, however many there are. */
function someKey({ objects }: World, below: Below): string {
  const kinds = Map.groupBy(objects.keys(), (key) => {
    const parsed = parseLogKey(key);
    return parsed === undefined ? (key.split('/')[0] as string) : parsed.kind;
  });
  const keys = [...kinds.values()][below(kinds.size)] as string[];
  return keys[below(keys.length)] as string;
}

function damaged(world: World, below: Below): Attack {
  const key = someKey(world, below);
  const whole = world.objects.get(key) as Bytes;
  const at = below(whole.length);
  const noise = Uint8Array.from({ length: 1 + below(5000) }, () => below(256));
  const ways: [string, Bytes][] = [
    ['a flipped bit', whole.with(at, (whole[at] as number) ^ (1 << below(8)))],
    ['cut', whole.slice(0, at)],
    ['cut by one', whole.slice(0, -1)],
    ['empty', new Uint8Array(0)],
    ['noise', noise],
    ['something after it', joined(whole, noise)],
    ['its beginning twice', joined(whole.subarray(0, at), whole)],
    ['20 MiB of zeroes', new Uint8Array(20 * 2 ** 20)],
    ['70 MiB after it', joined(whole, new Uint8Array(70 * 2 ** 20))],
    ['bare MessagePack', messagePackBomb(below, 100_000)],
  ];
  const [how, bytes] = ways[below(ways.length)] as [string, Bytes];
  return attack(`${key}: ${how}`, [[key, bytes]]);
}

function exchanged(world: World, below: Below): Attack | undefined {
  const key = someKey(world, below);
  const { objects, foreign, earlier, flavour } = world;
  const like = [...objects.keys()].filter((each) => each !== key && each.split('/')[0] === key.split('/')[0]);
  const choice = below(4);
  if (choice === 0 && like.length > 0) {
    const other = like[below(like.length)] as string;
    return attack(`${key}: the bytes of ${other}`, [[key, objects.get(other)]]);
  }
  if (choice === 1) {
    const keys = [...foreign.keys()].filter((each) => each.split('/')[0] === key.split('/')[0]);
    const other = keys[below(keys.length)] as string;
    // Of a plain repository an entry or a checkpoint of another one is as good as any.
    const shows = flavour.encrypted || !(key.startsWith('log/') || key === 'format');
    return attack(`${key}: another repository's ${other}`, [[key, foreign.get(other)]], { shows });
  }
  if (choice === 2 && earlier.has(key)) {
    return attack(`${key}: an older version`, [[key, earlier.get(key)]]);
  }
  const keys = [...objects.keys()];
  const other = keys[below(keys.length)] as string;
  return other === key ? undefined : attack(`${key}: the bytes of ${other}`, [[key, objects.get(other)]]);
}

/** A listing is of another moment than a reading. */
function lied(world: World, below: Below): Attack {
  const key = someKey(world, below);
  const whole = world.objects.get(key) as Bytes;
  const sizes = [0, 1, 40, whole.length - 1, whole.length + 1, 2 ** 24, 2 ** 33, Number.MAX_SAFE_INTEGER];
  const size = Math.max(0, sizes[below(sizes.length)] as number);
  const isLarge = below(2) === 0;
  const edits: [string, Bytes][] = isLarge ? [[key, joined(whole, new Uint8Array(64 * 2 ** 20))]] : [];
  const name = `${key}: said to have ${size} bytes${isLarge ? ', and has 64 MiB more' : ''}`;
  return attack(name, edits, { lies: new Map([[key, isLarge ? whole.length : size]]) });
}

function strays(world: World, below: Below): Attack {
  const prefixes = ['log/', 'keys/', 'packs/', 'probe/', 'cache/', ''];
  const prefix = prefixes[below(prefixes.length)] as string;
  const hex = (digits: number) => Array.from({ length: digits }, () => below(16).toString(16)).join('');
  const numbers = [...world.objects.keys()].flatMap((key) => parseLogKey(key)?.seq ?? []);
  const newest = Math.max(...numbers);
  const inverted = (seq: number) => entryKey(seq).slice('log/'.length);
  const shapes: readonly (() => string)[] = [
    () => hex(1 + below(60)),
    () => `${hex(13)}/${hex(32)}`,
    () => `${hex(3)}/${hex(3)}/${hex(40)}`,
    () => `x${hex(8)}.tmp`,
    () => hex(16),
    () => `${inverted(1 + below(newest))}-${hex(32)}`,
    () => `${inverted(1 + below(newest))}-${hex(31)}`,
    () => `${inverted(1 + below(newest))}.bak`,
  ];
  const shape = shapes[below(shapes.length)] as (typeof shapes)[number];
  const count = 1 + below(3000);
  const bodies = [...world.objects.values()];
  const edits = Array.from({ length: count }, (): [string, Bytes] => {
    const body = bodies[below(bodies.length)] as Bytes;
    return [prefix + shape(), body.subarray(0, Math.min(body.length, 2000))];
  });
  return attack(
    `${count} strays like ${edits[0]?.[0]}`,
    edits.filter(([key]) => !world.objects.has(key)),
  );
}

/** What is named as an entry or a checkpoint that nobody has written. */
function ahead(world: World, below: Below): Attack {
  const newest = newestOf(world);
  const steps = [1, 2, 100, 2 ** 40, 2 ** 52 - 2 - newest];
  const seq = newest + (steps[below(steps.length)] as number);
  const bodies = [...world.objects].filter(([key]) => key.startsWith('log/'));
  const [from, body] = bodies[below(bodies.length)] as [string, Bytes];
  const suffix = Uint8Array.from({ length: 16 }, () => below(256));
  const keyOf = below(3) === 0 ? checkpointKey : entryKey;
  const key = keyOf(seq, world.flavour.singleWriter ? suffix : undefined);
  const isNoise = below(2) === 0;
  return attack(`${key}: ${isNoise ? 'noise' : `the bytes of ${from}`}`, [[key, isNoise ? new Uint8Array(300) : body]]);
}

/** Well-formed and not what a writer would write, under a checksum that is right. */
function resealed(world: World, below: Below): Attack | undefined {
  const key = someKey(world, below);
  const whole = world.objects.get(key) as Bytes;
  const { encrypted, singleWriter } = world.flavour;
  if (key === 'format') return attack(`${key}: changed`, [[key, formatWith(whole, below)]], { shows: encrypted });
  if (key.startsWith('keys/')) {
    const body = mutatedPlain(whole.subarray(0, -64), below);
    return attack(`${key}: changed`, [[key, signObject('cow1 key slot', undefined, body)]]);
  }
  if (encrypted) return undefined;
  const parsed = parseLogKey(key);
  if (parsed?.kind === 'entry') {
    const raw = rawContent(whole);
    const bytes = sealEntry(below(4) === 0 ? seqBody(raw, below) : mutatedPlain(raw, below));
    const at = singleWriter ? entryKey(parsed.seq, hashOf(bytes)) : key;
    const edits: [string, Bytes | undefined][] = at === key ? [] : [[key, undefined]];
    return attack(`${key}: a changed entry`, [...edits, [at, bytes]], { shows: false });
  }
  if (parsed?.kind === 'checkpoint') {
    const bytes = checkpoint(mutatedPlain(rawContent(whole), below));
    return attack(`${key}: a changed checkpoint`, inPlaceOf(world, key, bytes), { shows: false });
  }
  if (key.startsWith('cache/')) {
    const label = key === 'cache/verified' ? 'cow1 verified' : 'cow1 verified log';
    const body = whole.slice(0, -32);
    for (let n = 0; n <= below(12); n++) body[below(body.length)] = below(2) * 255;
    return attack(`${key}: changed`, [[key, sealPlain(label, body)]]);
  }
  return undefined;
}

/** An entry of the newest number, or another, that says something else about itself. */
function seqBody(raw: Uint8Array, below: Below): Bytes {
  const fields = decodeMsgpack(raw, 'LOG_CORRUPT') as Record<string, unknown>;
  const { seq, prev, id, at, tail, format } = fields;
  const facts: readonly object[] = [
    { type: 'forget', backups: [] },
    { type: 'forget', backups: Array.from({ length: 1000 }, () => new Uint8Array(16)) },
    { type: 'abort', session: 1 },
    { type: 'keys', added: ['__proto__'], removed: ['constructor'] },
    { type: 'keys', added: [], removed: ['0'.repeat(16)] },
    { type: 'open', owner: '%', volumes: [['__proto__', null]], fence: [], adopt: [] },
    { type: 'config', quarantine: [[1, new Uint8Array(16)]], release: [] },
    { type: '__proto__' },
    { type: 'of the future' },
  ];
  return encodeMsgpack({ v: 1, seq, prev, id, at, tail, format, ...facts[below(facts.length)] });
}

/** Cheap to store, dear to read. */
function bombed(world: World, below: Below): Attack | undefined {
  if (world.flavour.encrypted) return undefined;
  const newest = newestOf(world);
  const checkpoints = [...world.objects.keys()].filter((key) => parseLogKey(key)?.kind === 'checkpoint');
  const isCheckpoint = below(2) === 0;
  if (isCheckpoint) {
    const key = checkpoints[below(checkpoints.length)] as string;
    const bomb = messagePackBomb(below, 60 * 2 ** 20);
    const seq = parseLogKey(key)?.seq as number;
    const names = ['backups', 'heads', 'known', 'condemned', 'stranger'];
    const name = names[below(names.length)] as string;
    const raw = below(3) === 0 ? bomb : bombedMap({ v: 1, seq, hash: new Uint8Array(32) }, name, bomb);
    return attack(`${key}: a bomb in ${name}`, inPlaceOf(world, key, checkpoint(raw)), { shows: false });
  }
  const bomb = messagePackBomb(below, below(2) === 0 ? 2 ** 20 - 100 : 7 * 2 ** 20);
  const names = ['tail', 'backups', 'type', 'stranger'];
  const name = names[below(names.length)] as string;
  const raw = bombedMap({ v: 1, seq: newest + 1 }, name, bomb);
  const bytes = below(2) === 0 ? sealEntry(raw) : sealPlain('cow1 log', packed(raw, undefined));
  const key = entryKey(newest + 1, world.flavour.singleWriter ? hashOf(bytes) : undefined);
  return attack(`${key}: an entry with a bomb in ${name}`, [[key, bytes]]);
}

/** Frames of zstd that are not one frame of so many bytes. */
function framed(world: World, below: Below): Attack | undefined {
  if (world.flavour.encrypted) return undefined;
  const kind = below(2) === 0 ? 'entry' : 'checkpoint';
  const keys = [...world.objects.keys()].filter((each) => parseLogKey(each)?.kind === kind);
  const key = keys[below(keys.length)] as string;
  const raw = rawContent(world.objects.get(key) as Bytes);
  const { frame, name } = hostileFrame(raw, below);
  const lengths = [raw.length, raw.length - 1, raw.length + 1, 64 * 2 ** 20, 2 ** 32 - 1, frame.length + 1];
  const length = lengths[below(lengths.length)] as number;
  const what = `${key}: ${name}, ${length} bytes claimed`;
  // Whatever the frame says: it is a cache.
  if (kind === 'checkpoint') return attack(what, inPlaceOf(world, key, checkpoint(raw, frame, length)));
  const bytes = sealEntry(raw, frame, length);
  const at = world.flavour.singleWriter ? entryKey(parseLogKey(key)?.seq as number, hashOf(bytes)) : key;
  return attack(what, replaced(key, at, bytes), { shows: false });
}

/** Another checkpoint in the place of one, under a name that is right. */
function inPlaceOf({ flavour }: World, key: string, bytes: Bytes): [string, Bytes | undefined][] {
  return replaced(
    key,
    checkpointKey(parseLogKey(key)?.seq as number, flavour.singleWriter ? hashOf(bytes) : undefined),
    bytes,
  );
}

function replaced(key: string, at: string, bytes: Bytes): [string, Bytes | undefined][] {
  return at === key
    ? [[key, bytes]]
    : [
        [key, undefined],
        [at, bytes],
      ];
}

export function hostileFrame(raw: Uint8Array, below: Below): { frame: Bytes; name: string } {
  const good = new Uint8Array(zstdCompressSync(raw, { pledgedSrcSize: raw.length }));
  const skippable = Uint8Array.of(0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4);
  const half = raw.length >>> 1;
  const frames: [string, Bytes][] = [
    ['a skippable frame before it', joined(skippable, good)],
    ['a skippable frame after it', joined(good, skippable)],
    ['two frames', joined(zstdCompressSync(raw.subarray(0, half)), zstdCompressSync(raw.subarray(half)))],
    ['an empty frame after it', joined(good, zstdCompressSync(new Uint8Array(0)))],
    ['a dictionary', joined(good.subarray(0, 4), Uint8Array.of((good[4] as number) | 1, 7), good.subarray(5))],
    ['the largest window', Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x01, 0x00, 0x00)],
    ['a window of 2^27', Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x01, 0x00, 0x00)],
    ['1 GiB', new Uint8Array(zstdCompressSync(new Uint8Array(2 ** 20)))],
    ['64 MiB of zeroes', new Uint8Array(zstdCompressSync(new Uint8Array(64 * 2 ** 20)))],
    ['a size of 2^60', Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0)],
    ['no frame', new Uint8Array(100).fill(0x5a)],
    ['a cut frame', good.slice(0, -3)],
  ];
  const [name, frame] = frames[below(frames.length)] as [string, Bytes];
  return { frame, name };
}

/** A changed copy of an entry, as the next one: so that it is folded. */
function appended(world: World, below: Below): Attack | undefined {
  if (world.flavour.encrypted) return undefined;
  const entries = [...world.objects].filter(([key]) => parseLogKey(key)?.kind === 'entry');
  const [from, body] = entries[below(entries.length)] as [string, Bytes];
  const newest = newestOf(world);
  const [, top] = entries.find(([key]) => parseLogKey(key)?.seq === newest) as [string, Bytes];
  const fields = decodeMsgpack(rawContent(body), 'LOG_CORRUPT') as Record<string, unknown>;
  const next = { ...fields, seq: newest + 1, prev: hashOf(top), tail: [] };
  const plain = encodeMsgpack(next);
  const bytes = sealEntry(below(4) === 0 ? plain : mutatedPlain(plain, below));
  const key = entryKey(newest + 1, world.flavour.singleWriter ? hashOf(bytes) : undefined);
  return attack(`${key}: a changed copy of ${from}`, [[key, bytes]], { shows: false });
}

export function newestOf({ objects }: World): number {
  return Math.max(...[...objects.keys()].map((key) => parseLogKey(key)).map((parsed) => parsed?.seq ?? 0));
}

function formatWith(whole: Bytes, below: Below): Bytes {
  const length = new DataView(whole.buffer).getUint32(16, true);
  const body = mutatedPlain(whole.subarray(20, 20 + length), below);
  const content = new Uint8Array(960);
  content.set(whole.subarray(0, 16));
  new DataView(content.buffer).setUint32(16, body.length, true);
  content.set(body.subarray(0, 940), 20);
  return signObject('cow1 format', undefined, content);
}

function checkpoint(raw: Uint8Array, frame: Uint8Array = zstdCompressSync(raw), length = raw.length): Bytes {
  return sealPlain('cow1 checkpoint', packed(raw, frame, length));
}

export function joined(...parts: readonly Uint8Array[]): Bytes {
  return new Uint8Array(Buffer.concat(parts));
}
