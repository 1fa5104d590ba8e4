import { createDecipheriv, createHash, createHmac, hkdfSync, scryptSync } from 'node:crypto';
import { crc32, zstdDecompressSync } from 'node:zlib';
import { Unpackr } from 'msgpackr';

/*
 * A reader of repositories that was written from `docs/FORMAT.md` alone, and imports nothing of `src/`: what it had to be
 * told in another way is a gap in that page. Strict where the page is, and slow; it reads all there is, in one go.
 */

/** A repository's objects, by key. */
export type Objects = ReadonlyMap<string, Uint8Array>;

export interface ReadBackup {
  readonly id: string;
  readonly volume: string;
  readonly size: number;
  readonly blockSize: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly lost: readonly (readonly [number, number])[];
  readonly intact: boolean;
  /** SHA-256 of the content, zeroes where it is lost; hex. */
  readonly sha256: string;
}

export interface ReadRepository {
  readonly backups: readonly ReadBackup[];
  /** Everything that was come upon, by name: so that a test can tell what it has not tested. */
  readonly seen: ReadonlyMap<string, number>;
  /** Keys of the packs that are known. */
  readonly packs: readonly string[];
  /** The key of the newest entry. */
  readonly newestEntry: string;
}

type Fields = Record<string, unknown>;
type Tuple = readonly unknown[];

const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });
const MAX_SEQ = 2 ** 52 - 2;
const BLOCK = 1;
const LEAF = 2;
const INNER = 3;
const RUN = 4;
const TABLE = 5;
const RELOCATION = 6;
const MOST_RAW = [0, 2 ** 22, 2 ** 22, 2 ** 24 - 1, 2 ** 22, 2 ** 22, 2 ** 22];

interface Location {
  readonly pack: string;
  readonly offset: number;
  readonly storedLength: number;
  readonly codec: number;
  readonly rawLength: number;
}

function insist(isSo: boolean, what: string): asserts isSo {
  if (!isSo) throw new Error(what);
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
/** The same text for the same value, bytes as hex. */
function canonical(value: unknown): string {
  if (value instanceof Uint8Array) return hex(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const fields = Object.entries(value).map(([name, field]) => `${JSON.stringify(name)}:${canonical(field)}`);
  return `{${fields.toSorted().join()}}`;
}
const joined = (...parts: (Uint8Array | string)[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'utf8') : part)));
const sha256 = (...parts: (Uint8Array | string)[]): Buffer =>
  createHash('sha256')
    .update(joined(...parts))
    .digest();
const hmac = (key: Uint8Array, ...parts: (Uint8Array | string)[]): Buffer =>
  createHmac('sha256', key)
    .update(joined(...parts))
    .digest();

const fieldsOf = (value: unknown): Fields => {
  insist(typeof value === 'object' && value !== null && !Array.isArray(value), 'a map');
  return value as Fields;
};
const listOf = (value: unknown): unknown[] => {
  insist(Array.isArray(value), 'an array');
  return value;
};
const tupleOf = (value: unknown, length: number): Tuple => {
  insist(Array.isArray(value) && value.length === length, `${length} parts`);
  return value;
};
const intOf = (value: unknown): number => {
  insist(Number.isSafeInteger(value) && (value as number) >= 0, 'an integer');
  return value as number;
};
const bytesOf = (value: unknown, length?: number): Uint8Array => {
  insist(value instanceof Uint8Array && (length === undefined || value.length === length), 'bytes');
  return value;
};
const idOf = (value: unknown): string => hex(bytesOf(value, 16));
/** Section 9: what stands for a volume in the keys of the catalogue. */
const volumeDigest = (volume: string): string => hex(sha256('cow1 volume', volume)).slice(0, 32);
const digestOf = ({ volume }: Fields): string => volumeDigest(String(volume));
const sevenBytes = (seq: number): string => seq.toString(16).padStart(14, '0');

function unGcm(key: Uint8Array, nonce: Uint8Array, sealed: Uint8Array, aad: Uint8Array): Buffer {
  const end = sealed.length - 16;
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 });
  decipher.setAAD(aad).setAuthTag(sealed.subarray(end));
  return Buffer.concat([decipher.update(sealed.subarray(0, end)), decipher.final()]);
}

function decompressed(codec: number, bytes: Uint8Array, rawLength: number): Buffer {
  insist(codec === 0 || codec === 1, 'a codec');
  const raw = codec === 0 ? Buffer.from(bytes) : zstdDecompressSync(bytes, { maxOutputLength: Math.max(1, rawLength) });
  insist(raw.length === rawLength, 'the raw length');
  return raw;
}

/** The fields of an entry, from the body of its object. */
function entryFields(given: Uint8Array): Fields {
  const body = Buffer.from(given);
  insist(body[0] === 0 || body.readUInt32LE(1) <= 2 ** 20, 'a long entry is not compressed');
  return fieldsOf(unpackr.unpack(decompressed(body[0] as number, body.subarray(5), body.readUInt32LE(1))));
}

const packKey = (session: number, random: string): string =>
  `packs/${session.toString(16).padStart(13, '0')}/${random}`;

function locationOf(value: unknown): Location {
  const [session, random, offset, storedLength, codec, rawLength] = tupleOf(value, 6);
  return {
    pack: packKey(intOf(session), idOf(random)),
    offset: intOf(offset),
    storedLength: intOf(storedLength),
    codec: intOf(codec),
    rawLength: intOf(rawLength),
  };
}

/** Section 6, "Location part": a record's packs, then whatever is read with places, then the check. */
class LocationPart {
  readonly #bytes: Buffer;
  readonly #packs: string[] = [];
  #at: number;
  #used = 0;

  constructor(raw: Uint8Array, start: number) {
    this.#bytes = Buffer.from(raw.subarray(start));
    this.#at = 2;
    for (let n = this.#bytes.readUInt16LE(0); n > 0; n--) {
      const session = Number(this.#bytes.readBigUInt64LE(this.#at));
      this.#packs.push(packKey(session, this.#bytes.toString('hex', this.#at + 8, this.#at + 24)));
      this.#at += 24;
    }
    insist(new Set(this.#packs).size === this.#packs.length, 'each pack is named once');
  }

  u16(): number {
    this.#at += 2;
    return this.#bytes.readUInt16LE(this.#at - 2);
  }

  u32(): number {
    this.#at += 4;
    return this.#bytes.readUInt32LE(this.#at - 4);
  }

  pack(): string {
    const index = this.u16();
    insist(index <= this.#used && index < this.#packs.length, 'packs stand in the order of their first use');
    if (index === this.#used) this.#used++;
    return this.#packs[index] as string;
  }

  place(): Omit<Location, 'rawLength'> {
    const pack = this.pack();
    const offset = this.u32();
    const word = this.u32();
    const [storedLength, codec] = [word % 2 ** 24, Math.floor(word / 2 ** 24)];
    insist(codec <= 1 && offset >= 8 && storedLength >= 1 && offset + storedLength < 2 ** 32, 'a place');
    return { pack, offset, storedLength, codec };
  }

  end(): void {
    const check = crc32(this.#bytes.subarray(0, this.#at));
    insist(this.u32() === check, 'the check of a location part');
    insist(this.#at === this.#bytes.length && this.#used === this.#packs.length, 'a location part has no more');
  }
}

/** A bitmap and the ids of what it says is present. */
function presence(raw: Uint8Array, at: number, count: number): { present: number[]; ids: Uint8Array[]; end: number } {
  const bytes = Math.ceil(count / 8);
  const present: number[] = [];
  for (let index = 0; index < bytes * 8; index++) {
    if (((raw[at + (index >> 3)] as number) >> (index & 7)) % 2 === 0) continue;
    insist(index < count, 'padding bits are clear');
    present.push(index);
  }
  const ids = present.map((_, index) => raw.subarray(at + bytes + index * 32, at + bytes + index * 32 + 32));
  return { present, ids, end: at + bytes + 32 * present.length };
}

/** An open or fenced session, and what it counts from. */
interface Session {
  readonly hash: Uint8Array;
  readonly at: unknown;
  readonly owner: unknown;
  readonly volumes: unknown;
  readonly adopted: unknown;
  readonly fencedBy?: Tuple | undefined;
  readonly dated?: Tuple | undefined;
}

interface Former {
  readonly by: { readonly seq: number; readonly at: unknown };
  readonly row: Tuple;
  /** Of the table. */
  readonly pack: string;
}

interface Entry {
  readonly seq: number;
  readonly hash: Uint8Array;
  readonly body: Fields;
}

interface Backup {
  readonly fields: Fields;
  readonly seq: unknown;
  readonly committedAt: unknown;
  readonly session: number;
  readonly hold?: readonly unknown[] | undefined;
}

/** What folding the log gives, section 8. */
class State {
  readonly backups = new Map<string, Backup>();
  readonly heads = new Map<string, { readonly id: string; readonly seq: number }>();
  readonly pinned = new Map<string, Backup>();
  readonly sessions = new Map<number, Session>();
  readonly fenced = new Map<number, Session>();
  /** Pack rows and tables, as entries list them. */
  readonly known = new Map<string, Tuple>();
  readonly tables = new Map<string, { sessions: number[]; row: Tuple }>();
  /** Of sessions that have tables: which of their packs were condemned. The others that a table lists are known. */
  readonly dead = new Map<number, Set<string>>();
  readonly condemned = new Map<string, { seq: number; at: unknown }>();
  readonly condemnedSessions = new Map<number, { seq: number; at: unknown }>();
  goneThrough = 0;
  readonly relocations = new Map<string, { id: Uint8Array; location: Location; row: Tuple }>();
  readonly former: Former[] = [];
  readonly quarantined = new Set<string>();
  readonly keySlots = new Set<string>();
  readonly removedSlots = new Set<string>();
  floor: Tuple | undefined;
  /** Of every entry, by its number. */
  readonly hashes = new Map<number, Uint8Array>();
  readonly features = new Set<string>();
  readonly readerFeatures = new Set<string>();
}

/** Of the entries k * 2^j the newest eight for each j, newest first. */
function anchorNumbers(newest: number): number[] {
  const isAnchor = (seq: number) => {
    for (let step = 1; step <= newest; step *= 2) {
      if (seq % step === 0 && Math.floor(newest / step) - seq / step < 8) return true;
    }
    return false;
  };
  return Array.from({ length: newest }, (_, below) => newest - below).filter(isAnchor);
}

/** The body of the object `format`, whose frame is whole. */
function bodyOfFormat(object: Uint8Array): Uint8Array {
  insist(
    object.length === 1024 && equal(object.subarray(0, 16), Buffer.from('cow-cloud-backup')),
    'the frame of format',
  );
  insist(equal(sha256('cow1 format', object.subarray(0, -32)), object.subarray(-32)), 'the checksum of format');
  const end = 20 + Buffer.from(object).readUInt32LE(16);
  insist(end <= 960, 'the length of format');
  const body = object.subarray(20, end);
  insist(equal(objectOfFormat(body), object.subarray(0, 960)), 'zeroes up to the MAC of format');
  return body;
}

/** What the MAC of `format` covers. */
function objectOfFormat(body: Uint8Array): Buffer {
  const object = Buffer.alloc(960);
  object.write('cow-cloud-backup');
  object.writeUInt32LE(body.length, 16);
  object.set(body, 20);
  return object;
}

function backupKey(row: unknown): string {
  const [volume, seq] = Array.isArray(row) ? tupleOf(row, 3) : [fieldsOf(row).volume, fieldsOf(row).seq];
  return volumeDigest(String(volume)) + sevenBytes(intOf(seq));
}

function packRowKey(row: unknown): string {
  const [session, random] = tupleOf(row, 4);
  return sevenBytes(intOf(session)) + idOf(random);
}

/** Pack rows of one session, 52 bytes each. */
function sortedPacks(rows: readonly Tuple[]): Buffer {
  const each = rows.map(([, random, size, digest]) => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(intOf(size));
    return joined(bytesOf(random, 16), length, bytesOf(digest, 32));
  });
  return Buffer.concat(each.toSorted(Buffer.compare));
}

/** A passphrase, a raw key, or what the provider of a slot unwraps. */
export interface ReaderSecret {
  readonly passphrase?: string;
  readonly key?: Uint8Array;
  readonly provider?: string;
  readonly unwrap?: (wrapped: Uint8Array) => Uint8Array;
}

/** Reads everything. @param unlock - of an encrypted repository */
export function readRepository(objects: Objects, unlock?: ReaderSecret): ReadRepository {
  return new Reader(objects, unlock).read();
}

/** Hashes of contents by those of the ids of their blocks, which were held against the blocks. */
const HASHES = new Map<string, string>();

function hashOf(ids: string, pieces: readonly Uint8Array[]): string {
  let hash = HASHES.get(ids);
  if (hash === undefined) {
    const hashing = createHash('sha256');
    for (const piece of pieces) hashing.update(piece);
    hash = hashing.digest('hex');
    HASHES.set(ids, hash);
  }
  return hash;
}

class Reader {
  readonly #objects: Objects;
  readonly #seen = new Map<string, number>();
  readonly #repositoryId: Uint8Array;
  readonly #fanOut: number;
  readonly #isShared: boolean;
  /** Of a plain repository: entries have copies. */
  readonly #formatBody: Uint8Array | undefined;
  readonly #key: Uint8Array | undefined;
  readonly #derived = new Map<string, Uint8Array>();
  readonly #state = new State();
  #newestEntry = '';
  readonly #tablesRead = new Map<string, Map<number, Location>>();
  readonly #pagesRead = new Set<string>();

  constructor(objects: Objects, unlock: ReaderSecret = {}) {
    this.#objects = objects;
    const object = objects.get('format');
    const body = object === undefined ? this.#copyOfFormat() : bodyOfFormat(object);
    const format = fieldsOf(unpackr.unpack(body));
    insist(format.minReader === 1 && intOf(format.version) >= 1, 'a version that is known here');
    insist(listOf(format.readerFeatures).length === 0, 'no feature of readers is known here');
    insist(format.mode === 'shared' || format.mode === 'single-writer', 'a mode');
    this.#isShared = format.mode === 'shared';
    this.#repositoryId = bytesOf(format.repositoryId, 16);
    this.#fanOut = intOf(format.fanOut);
    insist(this.#fanOut >= 8 && this.#fanOut <= 248 && this.#fanOut % 8 === 0, 'a fan-out');
    const isPlain = format.cipher === 'none' && format.hash === 'sha256';
    insist(isPlain || (format.cipher === 'aes-256-gcm' && format.hash === 'hmac-sha256'), 'hash and cipher');
    if (!isPlain) this.#key = this.#unlock(unlock, body);
    const mac = isPlain ? Buffer.alloc(32) : hmac(this.#derive('cow1 format mac'), objectOfFormat(body));
    insist(object === undefined || equal(mac, object.subarray(960, 992)), 'the MAC of format');
    this.#formatBody = isPlain ? body : undefined;
  }

  /** Section 2: each slot has the body, and in a plain repository each entry. What a slot says is proven when it opens. */
  #copyOfFormat(): Uint8Array {
    for (const [key, bytes] of this.#objects) {
      if (/^keys\/[0-9a-f]{16}$/.test(key)) {
        this.#note('copy of format in a slot');
        return bytesOf(fieldsOf(unpackr.unpack(bytes.subarray(0, -64))).format);
      }
      const body = bytes.subarray(0, -32);
      if (!/^log\/[0-9a-f]{13}(-[0-9a-f]{32})?$/.test(key) || !equal(sha256('cow1 log', body), bytes.subarray(-32)))
        continue;
      this.#note('copy of format in an entry');
      return bytesOf(entryFields(body).format);
    }
    throw new Error('nothing has a copy of format');
  }

  read(): ReadRepository {
    this.#readLog();
    this.#readPacks();
    const backups = [...this.#state.backups.values()].map((backup) => this.#readBackup(backup.fields));
    return { backups, seen: this.#seen, packs: [...this.#state.known.keys()], newestEntry: this.#newestEntry };
  }

  #note(what: string): void {
    this.#seen.set(what, (this.#seen.get(what) ?? 0) + 1);
  }

  #object(key: string): Uint8Array {
    const bytes = this.#objects.get(key);
    insist(bytes !== undefined, `there is no object ${key}`);
    return bytes;
  }

  // Sections 3 and 4

  #unlock(unlock: ReaderSecret, formatBody: Uint8Array): Uint8Array {
    for (const [key, bytes] of this.#objects) {
      const name = /^keys\/([0-9a-f]{16})$/.exec(key)?.[1];
      if (name === undefined) continue;
      insist(equal(sha256('cow1 key slot', bytes.subarray(0, -32)), bytes.subarray(-32)), 'the checksum of a slot');
      const slot = fieldsOf(unpackr.unpack(bytes.subarray(0, -64)));
      insist(slot.version === 1 && equal(slot.format as Uint8Array, formatBody), 'a slot');
      let kek: Uint8Array | undefined;
      let opened: Uint8Array | undefined;
      if (slot.kind === 'passphrase' && unlock.passphrase !== undefined) {
        const cost = { N: intOf(slot.n), r: intOf(slot.r), p: intOf(slot.p) };
        kek = scryptSync(unlock.passphrase.normalize('NFC'), bytesOf(slot.salt, 32), 32, cost);
      } else if (slot.kind === 'key' && unlock.key !== undefined) {
        kek = new Uint8Array(hkdfSync('sha256', unlock.key, bytesOf(slot.salt, 32), 'cow1 raw key', 32));
      } else if (slot.kind === 'provider' && slot.provider === unlock.provider) {
        opened = unlock.unwrap?.(bytesOf(slot.wrapped));
      }
      if (kek !== undefined) {
        try {
          const aad = joined('cow1 slot', this.#repositoryId, name);
          opened = unGcm(kek, bytesOf(slot.nonce, 12), bytesOf(slot.wrapped, 48), aad);
        } catch {
          continue; // Another's.
        }
      }
      if (opened === undefined) continue;
      const mac = hmac(this.#derive('cow1 slot mac', opened), Buffer.from(name), bytes.subarray(0, -64));
      insist(equal(mac, bytes.subarray(-64, -32)), 'the MAC of a slot');
      this.#note(`slot of kind ${slot.kind}`);
      return opened;
    }
    throw new Error('no slot opens');
  }

  #derive(label: string, from = this.#key as Uint8Array): Uint8Array {
    const key = this.#derived.get(label) ?? new Uint8Array(hkdfSync('sha256', from, this.#repositoryId, label, 32));
    if (from === this.#key) this.#derived.set(label, key);
    return key;
  }

  #idOf(kind: number, raw: Uint8Array): Buffer {
    if (kind === BLOCK) return this.#key === undefined ? sha256(raw) : hmac(this.#derive('cow1 content id'), raw);
    const part = joined(Uint8Array.of(kind), raw.subarray(0, this.#identityLength(kind, raw)));
    return this.#key === undefined ? sha256('cow1 record id', part) : hmac(this.#derive('cow1 record id'), part);
  }

  #identityLength(kind: number, raw: Uint8Array): number {
    if (kind === LEAF) return presence(raw, 0, this.#fanOut).end;
    if (kind === INNER) return presence(raw, 1, this.#fanOut).end;
    if (kind !== RUN) return raw.length;
    const entries = Buffer.from(raw).readUInt32LE(0);
    return presence(raw, 4 + 4 * entries, entries).end;
  }

  #openRecord(kind: number, id: Uint8Array, codec: number, rawLength: number, stored: Uint8Array): Buffer {
    insist(rawLength >= 1 && rawLength <= (MOST_RAW[kind] as number), 'a raw length');
    let content = stored;
    if (this.#key !== undefined) {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(rawLength);
      const aad = joined('cow1 record', Uint8Array.of(kind, codec), length, id);
      const key = hmac(this.#derive('cow1 record key'), aad);
      content = unGcm(key, stored.subarray(0, 12), stored.subarray(12), aad);
    }
    const raw = decompressed(codec, content, rawLength);
    insist(equal(this.#idOf(kind, raw), id), 'the id of a record');
    this.#note(`record of kind ${kind}`);
    this.#note(`record of kind ${kind}, codec ${codec}`);
    return raw;
  }

  #readRecord(kind: number, id: Uint8Array, named: Location): Buffer {
    const location = this.#whereNow(named);
    const { pack, offset, storedLength, codec, rawLength } = location;
    const overhead = this.#key === undefined ? 0 : 28;
    insist(storedLength <= rawLength + 28 && (codec === 1 || storedLength === rawLength + overhead), 'a stored length');
    const stored = this.#object(pack).subarray(offset, offset + storedLength);
    insist(stored.length === storedLength, 'a record within its pack');
    return this.#openRecord(kind, id, codec, rawLength, stored);
  }

  /** Section 8: one step through a relocation table, never two. */
  #whereNow(location: Location): Location {
    const relocation = this.#state.relocations.get(location.pack);
    if (relocation === undefined) return location;
    let rows = this.#tablesRead.get(location.pack);
    if (rows === undefined) {
      insist(!this.#state.relocations.has(relocation.location.pack), 'a table is where its entry says');
      const raw = this.#readRecord(RELOCATION, relocation.id, relocation.location);
      rows = new Map();
      let last = -1;
      insist(raw.length > 0 && raw.length % 36 === 0, 'rows of a relocation table');
      for (let at = 0; at < raw.length; at += 36) {
        const from = raw.readUInt32LE(at);
        insist(from > last, 'rows ascend');
        last = from;
        const pack = packKey(Number(raw.readBigUInt64LE(at + 4)), raw.toString('hex', at + 12, at + 28));
        const [offset, storedLength] = [raw.readUInt32LE(at + 28), raw.readUInt32LE(at + 32)];
        insist(offset >= 8 ? from >= 8 : from === 0 && raw.length === 36, 'a row leads somewhere, or is the only one');
        rows.set(from, { pack, offset, storedLength, codec: 0, rawLength: 0 });
      }
      this.#tablesRead.set(location.pack, rows);
    }
    const row = rows.get(location.offset);
    insist(row !== undefined && row.storedLength === location.storedLength, 'what is needed has a row');
    insist(!this.#state.relocations.has(row.pack), 'there is never a second step');
    this.#note('relocated record');
    return { ...location, pack: row.pack, offset: row.offset };
  }

  // Sections 8 and 9

  #openObject(label: string, seq: number, bytes: Uint8Array): Uint8Array {
    if (this.#key === undefined) {
      const body = bytes.subarray(0, bytes.length - 32);
      insist(equal(sha256(label, body), bytes.subarray(body.length)), `the checksum of ${label} ${seq}`);
      return body;
    }
    const aad = Buffer.alloc(label.length + 8);
    aad.write(label, 'ascii');
    aad.writeBigUInt64LE(BigInt(seq), label.length);
    return unGcm(this.#derive('cow1 log key'), bytes.subarray(0, 12), bytes.subarray(12), aad);
  }

  /** In single-writer mode: what does not authenticate is no entry. In the other mode it is damage, which shows later. */
  #authenticates(seq: number, key: string): boolean {
    if (this.#isShared) return true;
    const bytes = this.#object(key);
    if (key.slice(18) !== hex(sha256(bytes)).slice(0, 32)) return false;
    try {
      this.#openObject('cow1 log', seq, bytes);
      return true;
    } catch {
      return false;
    }
  }

  #readLog(): void {
    const keys = [...this.#objects.keys()].filter((key) => key.startsWith('log/')).toSorted();
    const seqOf = (key: string) => 2 ** 52 - 1 - Number.parseInt(key.slice(4, 17), 16);
    const name = this.#isShared ? /^log\/[0-9a-f]{13}$/ : /^log\/[0-9a-f]{13}-[0-9a-f]{32}$/;
    const named = keys.filter((key) => name.test(key) && seqOf(key) >= 1 && seqOf(key) <= MAX_SEQ).toReversed(); // The newest sorts first.
    const entryKeys = named.filter((key) => this.#authenticates(seqOf(key), key));
    insist(new Set(entryKeys.map(seqOf)).size === new Set(named.map(seqOf)).size, 'a number has an entry');
    const bodies: Fields[] = [];
    const unsealed = (key: string) => entryFields(this.#openObject('cow1 log', seqOf(key), this.#object(key)));
    // Whoever has all entries need not begin with the floor, and compares its checkpoint too.
    const floors = entryKeys.map((key) => unsealed(key).floor).filter((floor) => Array.isArray(floor));
    const isWhole = floors.length === 0 || entryKeys.every((key, index) => seqOf(key) === index + 1);
    const below = isWhole ? 0 : intOf((floors.at(-1) as Tuple)[0]);
    let hash: Uint8Array = isWhole ? new Uint8Array(32) : this.#beginAtFloor(floors.at(-1) as Tuple);
    for (const [index, key] of entryKeys.filter((each) => seqOf(each) > below).entries()) {
      const [seq, bytes] = [seqOf(key), this.#object(key)];
      insist(seq === below + index + 1, 'the log has no gap');
      const { tail, format, ...body } = unsealed(key);
      if (this.#formatBody === undefined) insist(format === undefined, 'no copy of format in an encrypted log');
      else {
        // The copy is of the time of the entry: a program that changes `format` later leaves it as it is.
        const copy = fieldsOf(unpackr.unpack(bytesOf(format)));
        insist(equal(bytesOf(copy.repositoryId, 16), this.#repositoryId), 'the copy of format in an entry');
      }
      insist(body.v === 1 && body.seq === seq && equal(bytesOf(body.prev, 32), hash), 'the chain');
      const repeated = bodies.toReversed().slice(0, listOf(tail).length);
      insist(isWhole ? repeated.length === listOf(tail).length : true, 'a tail is of entries');
      insist(
        canonical(listOf(tail).slice(0, repeated.length)) === canonical(repeated),
        'a tail repeats the entries below',
      );
      bodies.push(body);
      hash = sha256(bytes);
      this.#newestEntry = key;
      this.#note(`entry of type ${body.type}`);
      this.#fold({ seq, hash, body });
      for (const checkpoint of keys.filter((each) => each.startsWith(`${key.slice(0, 17)}-c`) && !name.test(each))) {
        const body = this.#object(checkpoint);
        const isOne = checkpoint === this.#checkpointKey(seq, sha256(body));
        if (isOne) this.#checkCheckpoint(seq, hash, body);
        else this.#note('checkpoint that is not what its name says');
      }
    }
  }

  #fold({ seq, hash, body }: Entry): void {
    const state = this.#state;
    state.hashes.set(seq, hash);
    const end = (session: unknown) => this.#end(intOf(session));
    switch (body.type) {
      case 'open':
        for (const session of listOf(body.fence)) this.#fence(intOf(session), [seq, body.at, body.owner]);
        for (const session of listOf(body.adopt)) insist(state.fenced.has(intOf(session)), 'what is adopted is fenced');
        state.sessions.set(seq, { hash, at: body.at, owner: body.owner, volumes: body.volumes, adopted: body.adopt });
        break;
      case 'commit': {
        const session = intOf(body.session);
        const { volumes, adopted } = state.sessions.get(session) ?? {};
        end(body.session);
        for (const other of listOf(adopted)) this.#endAdopted(intOf(other), listOf(volumes));
        const byVolume = listOf(body.backups).map(fieldsOf);
        byVolume.sort((one, other) => (digestOf(one) < digestOf(other) ? -1 : 1));
        for (const backup of byVolume) {
          const [id, volume] = [idOf(backup.id), String(backup.volume)];
          const parent = backup.parent === null ? undefined : idOf(backup.parent);
          insist(parent === state.heads.get(volume)?.id, 'a parent');
          insist(id.endsWith(volumeDigest(volume).slice(0, 8)), 'an id ends in digits of its volume');
          state.backups.set(id, { fields: backup, seq: body.seq, committedAt: body.at, session });
          state.heads.set(volume, { id, seq });
        }
        this.#addPacks(body.packs);
        for (const row of listOf(body.packTables)) this.#addTable(session, tupleOf(row, 3));
        break;
      }
      case 'abort':
        end(body.session);
        break;
      case 'forget':
        for (const id of listOf(body.backups).map(idOf)) {
          const backup = state.backups.get(id);
          insist(backup !== undefined && backup.hold === undefined, 'a forgotten backup was there, and not held');
          state.backups.delete(id);
          if (this.#pins().has(id)) state.pinned.set(id, backup);
        }
        break;
      case 'hold':
        for (const id of listOf(body.backups).map(idOf)) this.#hold(id, [body.at, body.reason]);
        break;
      case 'release':
        for (const id of listOf(body.backups).map(idOf)) this.#hold(id, undefined);
        break;
      case 'collect':
        if (body.floor !== undefined) {
          state.floor = tupleOf(body.floor, 2);
          insist(intOf(state.floor[0]) < seq && bytesOf(state.floor[1], 32).length === 32, 'a floor');
        }
        this.#foldCollect(seq, body);
        break;
      case 'keys':
        for (const slot of listOf(body.added)) state.keySlots.add(String(slot));
        for (const slot of listOf(body.removed)) state.removedSlots.add(String(slot));
        for (const slot of state.removedSlots) state.keySlots.delete(slot);
        break;
      case 'config':
        for (const pack of listOf(body.quarantine)) state.quarantined.add(this.#nameOf(pack));
        for (const pack of listOf(body.release)) state.quarantined.delete(this.#nameOf(pack));
        for (const name of listOf(body.features ?? [])) state.features.add(String(name));
        for (const name of listOf(body.readerFeatures ?? [])) state.readerFeatures.add(String(name));
        insist(state.readerFeatures.size === 0, 'no feature of readers is known here');
        break;
      default:
        throw new Error(`an entry of type ${String(body.type)}`);
    }
  }

  #hold(id: string, hold: readonly unknown[] | undefined): void {
    const backup = this.#state.backups.get(id);
    insist(backup !== undefined && (hold !== undefined || backup.hold !== undefined), 'a held backup is there');
    if (backup !== undefined) this.#state.backups.set(id, { ...backup, hold });
  }

  #end(session: number): void {
    insist(this.#state.sessions.delete(session), 'an open session');
    const pins = this.#pins();
    for (const id of this.#state.pinned.keys()) if (!pins.has(id)) this.#state.pinned.delete(id);
  }

  /** Bases of the open sessions. */
  #pins(): Set<string> {
    const volumes = [...this.#state.sessions.values()].flatMap((session) => listOf(session.volumes));
    const bases = volumes.map((volume) => tupleOf(volume, 2)[1]).filter((base) => base !== null);
    return new Set(bases.map(idOf));
  }

  #endAdopted(number: number, volumes: readonly unknown[]): void {
    const { fenced } = this.#state;
    const session = fenced.get(number);
    if (session === undefined) return;
    const nameOf = (volume: unknown) => String(tupleOf(volume, 2)[0]);
    const committed = new Set(volumes.map(nameOf));
    const left = listOf(session.volumes).filter((volume) => !committed.has(nameOf(volume)));
    fenced.set(number, { ...session, volumes: left });
    this.#note('adoption');
  }

  #fence(number: number, fencedBy: Tuple): void {
    const session = this.#state.sessions.get(number);
    insist(session !== undefined, 'what is fenced is open');
    this.#end(number);
    this.#state.fenced.set(number, { ...session, fencedBy, dated: undefined });
    this.#note('fence');
  }

  /** In the order that section 8 gives. */
  #foldCollect(seq: number, body: Fields): void {
    const state = this.#state;
    const by = { seq, at: body.at };
    for (const number of body.redated === null || body.redated === undefined ? [] : listOf(body.redated)) {
      this.#redate(intOf(number), by);
    }
    for (const name of listOf(body.gonePacks).map((pack) => this.#nameOf(pack))) {
      this.#isGone(state.condemned.get(name));
      state.condemned.delete(name);
    }
    for (const session of listOf(body.goneSessions)) {
      this.#isGone(state.condemnedSessions.get(intOf(session)));
      state.condemnedSessions.delete(intOf(session));
      this.#note('session that is gone');
    }
    const left = new Set([...state.condemned.values()].map((each) => each.seq));
    const kept = state.former.filter(
      (each) => left.has(each.by.seq) && (state.known.has(each.pack) || state.condemned.has(each.pack)),
    );
    state.former.splice(0, state.former.length, ...kept);
    this.#addPacks(body.newPacks);
    if (body.session !== null) this.#end(intOf(body.session));
    for (const session of listOf(body.fence)) this.#fence(intOf(session), [seq, body.at, null]);
    for (const name of listOf(body.packs).map((pack) => this.#nameOf(pack))) {
      const session = Number.parseInt(name.slice(6, 19), 16);
      const dead = state.dead.get(session) ?? new Set();
      const hasTable = [...state.tables.values()].some(({ sessions }) => sessions.includes(session));
      const mayBeInTable = hasTable && !dead.has(name.slice(20));
      insist(state.known.delete(name) || mayBeInTable, 'what is condemned was known');
      if (hasTable) state.dead.set(session, dead.add(name.slice(20)));
      state.condemned.set(name, by);
      state.quarantined.delete(name);
      state.fenced.delete(session);
    }
    for (const session of listOf(body.sessions).map(intOf)) {
      state.fenced.delete(session);
      if (!state.condemnedSessions.has(session)) state.condemnedSessions.set(session, by);
    }
    for (const [pack, { location }] of state.relocations) if (!state.known.has(location.pack)) this.#retire(pack, by);
    for (const row of listOf(body.relocate).map((each) => tupleOf(each, 4))) {
      const [session, random, id, location] = row;
      const pack = packKey(intOf(session), idOf(random));
      if (state.relocations.has(pack)) this.#retire(pack, by);
      state.relocations.set(pack, { id: bytesOf(id, 32), location: locationOf(location), row });
    }
  }

  #isGone(by: { readonly seq: number } | undefined): void {
    insist(by !== undefined, 'what is gone was condemned');
    this.#state.goneThrough = Math.max(this.#state.goneThrough, by.seq);
  }

  #retire(pack: string, by: { readonly seq: number; readonly at: unknown }): void {
    const { relocations, former } = this.#state;
    const { row, location } = relocations.get(pack) as { row: Tuple; location: Location };
    relocations.delete(pack);
    former.push({ by, row, pack: location.pack });
  }

  #redate(number: number, by: { readonly seq: number; readonly at: unknown }): void {
    const { sessions, fenced, condemned, condemnedSessions, former } = this.#state;
    let found = false;
    const dated = [by.seq, by.at];
    for (const each of [sessions, fenced]) {
      const session = each.get(number);
      if (session === undefined) continue;
      each.set(number, { ...session, dated });
      found = true;
      this.#note(each === sessions ? 'open session dated anew' : 'fenced session dated anew');
    }
    for (const each of [condemned, condemnedSessions] as Map<unknown, { seq: number }>[]) {
      for (const [key, { seq }] of each) {
        if (seq !== number) continue;
        each.set(key, by);
        found = true;
        this.#note('collection dated anew');
      }
    }
    for (const [index, each] of former.entries()) if (each.by.seq === number) former[index] = { ...each, by };
    insist(found, 'what is dated anew is there');
  }

  #nameOf(value: unknown): string {
    const [session, random] = tupleOf(value, 2);
    return packKey(intOf(session), idOf(random));
  }

  #addPacks(rows: unknown): void {
    for (const row of listOf(rows).map((each) => tupleOf(each, 4))) {
      this.#state.known.set(packKey(intOf(row[0]), idOf(row[1])), row);
    }
  }

  #addTable(session: number, row: Tuple): void {
    this.#note('pack table');
    this.#state.tables.set(hex(bytesOf(row[0], 32)), { sessions: [session], row });
  }

  #checkpointKey(seq: number, digest: Uint8Array): string {
    const suffix = this.#isShared ? '' : `-${hex(digest).slice(0, 32)}`;
    return `log/${(2 ** 52 - 1 - seq).toString(16).padStart(13, '0')}-c${suffix}`;
  }

  /** The state of the checkpoint that is the floor. @returns the hash of its entry */
  #beginAtFloor([number, digest]: Tuple): Uint8Array {
    this.#note('log that begins at a floor');
    const seq = intOf(number);
    const bytes = this.#object(this.#checkpointKey(seq, bytesOf(digest, 32)));
    insist(equal(sha256(bytes), bytesOf(digest, 32)), 'the digest of the checkpoint of the floor');
    const state = this.#state;
    const plain = this.#checkpointFields(seq, bytes);
    for (const [name, sessions] of [
      ['sessions', state.sessions],
      ['fenced', state.fenced],
    ] as const) {
      for (const row of listOf(plain[name]).map(listOf)) {
        const [session, hash, at, owner, volumes, adopted, ...rest] = row;
        const [fencedBy, dated] = (name === 'sessions' ? [undefined, ...rest] : rest) as (Tuple | undefined)[];
        sessions.set(intOf(session), { hash: bytesOf(hash, 32), at, owner, volumes, adopted, fencedBy, dated });
      }
    }
    const fields = this.#wholeState(plain);
    for (const [name, backups] of [
      ['backups', state.backups],
      ['pinned', state.pinned],
    ] as const) {
      for (const stored of listOf(fields[name]).map(fieldsOf)) {
        const { seq: of, committedAt, session, hold, ...backup } = stored;
        const kept = { fields: backup, seq: of, committedAt, session: intOf(session) };
        backups.set(idOf(backup.id), hold === undefined ? kept : { ...kept, hold: listOf(hold) });
      }
    }
    for (const row of listOf(fields.heads).map((each) => tupleOf(each, 3))) {
      state.heads.set(String(row[0]), { id: idOf(row[1]), seq: intOf(row[2]) });
    }
    const namesIn = (session: unknown, names: unknown, size: number) => {
      const each = Buffer.from(bytesOf(names));
      return Array.from({ length: each.length / size }, (_, index) => {
        const row = each.subarray(size * index, size * (index + 1));
        return { key: packKey(intOf(session), hex(row.subarray(0, 16))), row };
      });
    };
    for (const [session, packs, tables, dead] of listOf(fields.known).map((each) => tupleOf(each, 4))) {
      const names = namesIn(session, dead, 16).map(({ row }) => hex(row));
      if (names.length > 0) state.dead.set(intOf(session), new Set(names));
      for (const { key, row } of namesIn(session, packs, 52)) {
        state.known.set(key, [session, row.subarray(0, 16), row.readUInt32LE(16), row.subarray(20)]);
      }
      for (const row of listOf(tables).map((each) => tupleOf(each, 3))) {
        const name = hex(bytesOf(row[0], 32));
        const sessions = state.tables.get(name)?.sessions ?? [];
        state.tables.set(name, { sessions: [...sessions, intOf(session)], row });
      }
    }
    const relocated = (row: Tuple) => ({ id: bytesOf(row[2], 32), location: locationOf(row[3]), row });
    for (const [number, at, packs, sessions, tables] of listOf(fields.condemned).map(listOf)) {
      const by = { seq: intOf(number), at };
      for (const [session, names] of listOf(packs).map((each) => tupleOf(each, 2))) {
        for (const { key } of namesIn(session, names, 16)) state.condemned.set(key, by);
      }
      for (const session of listOf(sessions)) state.condemnedSessions.set(intOf(session), by);
      for (const row of listOf(tables ?? []).map((each) => tupleOf(each, 4))) {
        state.former.push({ by, row, pack: relocated(row).location.pack });
      }
    }
    for (const row of listOf(fields.relocations).map((each) => tupleOf(each, 4))) {
      state.relocations.set(packKey(intOf(row[0]), idOf(row[1])), relocated(row));
    }
    for (const [session, names] of listOf(fields.quarantined).map((each) => tupleOf(each, 2))) {
      for (const { key } of namesIn(session, names, 16)) state.quarantined.add(key);
    }
    for (const name of ['keySlots', 'removedSlots', 'features', 'readerFeatures'] as const) {
      for (const each of listOf(fields[name] ?? [])) state[name].add(String(each));
    }
    state.goneThrough = intOf(fields.goneThrough);
    state.floor = fields.floor === null ? undefined : tupleOf(fields.floor, 2);
    const anchors = bytesOf(fields.anchors);
    for (const [index, each] of anchorNumbers(seq).entries()) {
      state.hashes.set(each, anchors.subarray(16 * index, 16 * index + 16));
    }
    const hash = bytesOf(fields.hash, 32);
    this.#checkCheckpoint(seq, hash, bytes);
    return hash;
  }

  #checkpointFields(seq: number, bytes: Uint8Array): Fields {
    const body = Buffer.from(this.#openObject('cow1 checkpoint', seq, bytes));
    return fieldsOf(unpackr.unpack(decompressed(body[0] as number, body.subarray(5), body.readUInt32LE(1))));
  }

  #checkCheckpoint(seq: number, hash: Uint8Array, bytes: Uint8Array): void {
    this.#note('checkpoint');
    const fields = this.#wholeState(this.#checkpointFields(seq, bytes));
    const { sessions, fenced, backups, pinned, heads, relocations, quarantined, keySlots, removedSlots } = this.#state;
    const { condemned, condemnedSessions, former, known, tables } = this.#state;
    insist(fields.v === 1 && fields.seq === seq && equal(bytesOf(fields.hash, 32), hash), 'a checkpoint of its entry');
    const same = (name: string, mine: unknown[]) => {
      const sorted = (list: unknown[]) => canonical(list.map(canonical).toSorted());
      insist(sorted(listOf(fields[name])) === sorted(mine), `${name} of checkpoint ${seq}`);
      if (mine.length > 0) this.#note(`checkpoint with ${name}`);
    };
    const stored = ({ fields: each, seq, committedAt, session, hold }: Backup) => ({
      ...each,
      seq,
      committedAt,
      session,
      ...(hold === undefined ? {} : { hold }),
    });
    same('backups', [...backups.values()].map(stored));
    same('pinned', [...pinned.values()].map(stored));
    if ([...backups.values()].some(({ hold }) => hold !== undefined)) this.#note('checkpoint with a hold');
    // The order of backups has a meaning.
    const idsOf = (list: unknown[]) => list.map((each) => idOf(fieldsOf(each).id));
    insist(canonical(idsOf(listOf(fields.backups))) === canonical([...backups.keys()]), 'the order of backups');
    same(
      'heads',
      [...heads].map(([volume, head]) => [volume, Buffer.from(head.id, 'hex'), head.seq]),
    );
    insist(fields.goneThrough === this.#state.goneThrough, `goneThrough of checkpoint ${seq}`);
    if (this.#state.goneThrough > 0) this.#note('checkpoint with goneThrough');
    const told = ([number, { hash: opened, at, owner, volumes, adopted, fencedBy, dated }]: [number, Session]) => {
      const parts: unknown[] = [number, opened, at, owner, volumes, adopted];
      if (fencedBy !== undefined) parts.push(fencedBy);
      if (dated !== undefined) parts.push(dated);
      return parts;
    };
    same('sessions', [...sessions].map(told));
    same('fenced', [...fenced].map(told));
    for (const [of, each] of [
      ['sessions', sessions],
      ['fenced', fenced],
    ] as const) {
      if ([...each.values()].some(({ dated }) => dated !== undefined)) this.#note(`checkpoint with ${of} dated anew`);
    }
    const bySession = (packs: Iterable<string>) => {
      const grouped = Map.groupBy(packs, (pack) => Number.parseInt(pack.slice(6, 19), 16));
      return [...grouped].map(([session, each]) => [
        session,
        Buffer.from(each.map((pack) => pack.slice(20)).join(''), 'hex'),
      ]);
    };
    const rowsOf = (session: number) =>
      [...tables.values()].filter((table) => table.sessions.includes(session)).map((table) => table.row);
    const known52 = Map.groupBy(known.values(), (row) => intOf(row[0]));
    const all = new Set([...known52.keys(), ...[...tables.values()].flatMap((table) => table.sessions)]);
    same(
      'known',
      [...all].map((session) => {
        const names = rowsOf(session).length === 0 ? [] : [...(this.#state.dead.get(session) ?? [])].toSorted();
        const dead = Buffer.from(names.join(''), 'hex');
        return [session, sortedPacks(known52.get(session) ?? []), rowsOf(session), dead];
      }),
    );
    const collections = new Map<number, { at: unknown; packs: string[]; sessions: number[]; tables: Tuple[] }>();
    const collection = ({ seq: number, at }: { readonly seq: number; readonly at: unknown }) => {
      const found = collections.get(number) ?? { at, packs: [], sessions: [], tables: [] };
      collections.set(number, found);
      return found;
    };
    for (const [pack, by] of condemned) collection(by).packs.push(pack);
    for (const [session, by] of condemnedSessions) collection(by).sessions.push(session);
    for (const { by, row } of former) collection(by).tables.push(row);
    // Tables of one collection come in any order.
    const inOrder = (rows: readonly unknown[]) => rows.map(canonical).toSorted();
    const sorted = listOf(fields.condemned).map((row) => {
      insist(Array.isArray(row) && (row.length === 4 || row.length === 5), 'parts of a collection');
      return [...row.slice(0, 4), ...(row.length === 5 ? [inOrder(listOf(row[4]))] : [])];
    });
    const mine = [...collections].map(([number, each]) => {
      const rows = each.tables.length === 0 ? [] : [inOrder(each.tables)];
      return [number, each.at, bySession(each.packs), each.sessions, ...rows];
    });
    insist(canonical(inOrder(sorted)) === canonical(inOrder(mine)), `collections of checkpoint ${seq}`);
    if (condemned.size > 0) this.#note('checkpoint with condemned');
    if (condemnedSessions.size > 0) this.#note('checkpoint with condemned sessions');
    if (former.length > 0) this.#note('checkpoint with former relocations');
    insist(listOf(fields.relocations).length === relocations.size, `relocations of checkpoint ${seq}`);
    for (const [session, random, id, location] of listOf(fields.relocations).map((row) => tupleOf(row, 4))) {
      const mine = relocations.get(packKey(intOf(session), idOf(random)));
      insist(mine !== undefined && equal(mine.id, bytesOf(id)), 'a relocation');
      insist(canonical(locationOf(location)) === canonical(mine.location), 'where a table is');
    }
    insist(canonical(fields.floor) === canonical(this.#state.floor ?? null), `the floor of checkpoint ${seq}`);
    if (fields.floor !== null) this.#note('checkpoint with a floor');
    const anchors = anchorNumbers(seq).map((each) => (this.#state.hashes.get(each) as Uint8Array).subarray(0, 16));
    insist(equal(bytesOf(fields.anchors), Buffer.concat(anchors)), `the anchors of checkpoint ${seq}`);
    same('quarantined', bySession(quarantined));
    same('keySlots', [...keySlots]);
    same('removedSlots', [...removedSlots]);
    for (const name of ['features', 'readerFeatures'] as const) {
      insist(fields[name] === undefined || listOf(fields[name]).length > 0, 'no field for no features');
      if (fields[name] !== undefined || this.#state[name].size > 0) same(name, [...this.#state[name]]);
    }
  }

  /** The fields of a checkpoint as they would be if no row of it were in a page. */
  #wholeState(fields: Fields): Fields {
    const [backupRefs, packRefs] = tupleOf(fields.pages, 2).map(listOf) as [unknown[], unknown[]];
    if (backupRefs.length + packRefs.length > 0) this.#note('checkpoint with pages');
    const backupRows = this.#readPages('backups', backupRefs);
    const packRows = this.#readPages('packs', packRefs);

    const forgotten = new Set(listOf(fields.forgotten).map(idOf));
    const holds = new Map(listOf(fields.holds).map((row) => [idOf(tupleOf(row, 2)[0]), tupleOf(row, 2)[1]] as const));
    insist(forgotten.size === listOf(fields.forgotten).length && holds.size === listOf(fields.holds).length, 'once');
    if (forgotten.size > 0) this.#note('checkpoint with forgotten');
    if (holds.size > 0) this.#note('checkpoint with holds');
    const [found, changed] = [new Set<string>(), new Set<string>()];
    const backups = listOf(fields.backups).map(fieldsOf);
    const pinned = listOf(fields.pinned).map(fieldsOf);
    const heads = new Map(listOf(fields.heads).map((row) => [String(tupleOf(row, 3)[0]), row as Tuple]));
    const pins = this.#pins();
    if (pinned.length > 0 && backupRefs.length > 0) this.#note('pinned row that left its page');
    for (const row of backupRows) {
      const [volume, number, id] = Array.isArray(row)
        ? row
        : [fieldsOf(row).volume, fieldsOf(row).seq, fieldsOf(row).id];
      const head = heads.get(String(volume));
      if (head === undefined || intOf(head[2]) < intOf(number)) heads.set(String(volume), [volume, id, number]);
      if (Array.isArray(row)) {
        this.#note('forgotten head in a page');
        continue;
      }
      const { hold, ...released } = fieldsOf(row);
      const name = idOf(id);
      found.add(name);
      if (forgotten.has(name)) {
        if (!pins.has(name)) continue;
        this.#note('pinned row of a page');
        pinned.push(fieldsOf(row));
      } else if (holds.has(name)) {
        changed.add(name);
        const newer = holds.get(name);
        this.#note(newer === null ? 'release of a row of a page' : 'hold on a row of a page');
        backups.push(newer === null ? released : { ...released, hold: newer });
      } else backups.push(fieldsOf(row));
    }
    insist([...forgotten].every((id) => found.has(id)) && [...holds.keys()].every((id) => changed.has(id)), 'a row');
    backups.sort((one, other) => intOf(one.seq) - intOf(other.seq) || (digestOf(one) < digestOf(other) ? -1 : 1));

    const known = new Map<number, { packs: Tuple[]; tables: unknown[]; dead: Set<string> }>();
    for (const row of listOf(fields.known).map((each) => tupleOf(each, 4))) {
      const [session, packs, dead] = [intOf(row[0]), Buffer.from(bytesOf(row[1])), Buffer.from(bytesOf(row[3]))];
      insist(packs.length % 52 === 0 && dead.length % 16 === 0 && !known.has(session), 'known packs');
      const rows = Array.from({ length: packs.length / 52 }, (_, index): Tuple => {
        const at = 52 * index;
        return [session, packs.subarray(at, at + 16), packs.readUInt32LE(at + 16), packs.subarray(at + 20, at + 52)];
      });
      const names = Array.from({ length: dead.length / 16 }, (_, index) =>
        dead.toString('hex', 16 * index, 16 * index + 16),
      );
      known.set(session, { packs: rows, tables: listOf(row[2]), dead: new Set(names) });
    }
    for (const row of packRows.map((each) => tupleOf(each, 4))) {
      const session = intOf(row[0]);
      const own = known.get(session) ?? { packs: [], tables: [], dead: new Set() };
      known.set(session, own);
      const other = own.packs.find((each) => idOf(each[1]) === idOf(row[1]));
      insist(other === undefined || canonical(other) === canonical(row), 'rows of one pack say the same');
      if (own.tables.length > 0) this.#note('session with a pack table and rows in pages');
      if (own.dead.has(idOf(row[1]))) this.#note('checkpoint with dead packs');
      else if (other === undefined) own.packs.push(row);
      else this.#note('pack with two rows');
    }
    const paged = new Set(packRows.map((each) => idOf(tupleOf(each, 4)[1])));
    for (const { tables, dead } of known.values()) {
      if (tables.length > 0 && [...dead].some((each) => !paged.has(each))) this.#note('dead pack of a pack table');
    }
    // Where no page is left, only tables may list the dead.
    const whole = [...known].map(([session, { packs, tables, dead }]) => [
      ...[session, sortedPacks(packs), tables],
      Buffer.from(tables.length === 0 ? '' : [...dead].toSorted().join(''), 'hex'),
    ]);
    const kept = whole.filter(([, packs, tables]) => (packs as Buffer).length + (tables as unknown[]).length > 0);
    return { ...fields, backups, pinned, heads: [...heads.values()], known: kept };
  }

  /** The rows of pages of one table. */
  #readPages(table: 'backups' | 'packs', refs: readonly unknown[]): unknown[] {
    let [before, newer] = ['', 0];
    return refs.flatMap((ref) => {
      const [number, digest, size, count, level, first, last] = tupleOf(ref, 7);
      const [from, to] = [hex(bytesOf(first, 23)), hex(bytesOf(last, 23))];
      insist(level === 0 || level === 1, 'the level of a page');
      insist(level === 0 ? ++newer === 1 : from > before, 'pages in their order');
      if (level === 1) before = to;
      const key = `catalogue/${intOf(number).toString(16).padStart(13, '0')}/${hex(bytesOf(digest, 32)).slice(0, 32)}`;
      const bytes = this.#object(key);
      insist(bytes.length === size && equal(sha256(bytes), bytesOf(digest, 32)), `page ${key}`);
      insist(equal(this.#object(`${key}-2`), bytes), `the second copy of page ${key}`);
      if (this.#pagesRead.has(key)) this.#note('page that two checkpoints name');
      this.#pagesRead.add(key);
      const body = Buffer.from(this.#openObject('cow1 page', intOf(number), bytes));
      const page = fieldsOf(unpackr.unpack(decompressed(body[0] as number, body.subarray(5), body.readUInt32LE(1))));
      const rows = listOf(page.rows);
      insist(page.v === 1 && page.table === table && rows.length === count && rows.length <= 1024, 'a page');
      const own = rows.map((row) => (table === 'backups' ? backupKey(row) : packRowKey(row)));
      insist(own[0] === from && own.at(-1) === to, 'the first row and the last one');
      insist(
        own.every((each, index) => index === 0 || each > (own[index - 1] as string)),
        'rows in their order',
      );
      this.#note(`page of ${table}, level ${level}`);
      return rows;
    });
  }

  // Section 5

  #readPacks(): void {
    for (const { row } of this.#state.tables.values()) {
      const [id, location, packs] = row;
      const raw = this.#readRecord(TABLE, bytesOf(id, 32), locationOf(location));
      insist(raw.length === intOf(packs) * 60, 'rows of a table of packs');
      for (let at = 0; at < raw.length; at += 60) {
        const [session, random] = [Number(raw.readBigUInt64LE(at)), raw.subarray(at + 8, at + 24)];
        this.#addPacks([[session, random, raw.readUInt32LE(at + 24), raw.subarray(at + 28, at + 60)]]);
      }
    }
    for (const [key, [, , size, hash]] of this.#state.known) {
      const bytes = Buffer.from(this.#object(key));
      insist(bytes.length === size && equal(sha256(bytes), bytesOf(hash, 32)), `size and checksum of ${key}`);
      this.#readPack(key, bytes);
    }
  }

  #readPack(key: string, bytes: Buffer): void {
    this.#note('pack');
    insist(
      bytes.toString('ascii', 0, 8) === 'CWPACK01' && bytes.toString('ascii', bytes.length - 8) === 'CWFOOT01',
      'a pack',
    );
    const footerEnd = bytes.length - 12;
    const footerStart = footerEnd - bytes.readUInt32LE(footerEnd);
    const sealed = bytes.subarray(footerStart, footerEnd);
    let footer: Buffer;
    if (this.#key === undefined) {
      footer = sealed.subarray(0, sealed.length - 32);
      insist(equal(sha256(footer), sealed.subarray(footer.length)), 'the checksum of a footer');
    } else {
      const aad = joined('cow1 footer', key);
      footer = unGcm(this.#derive('cow1 footer key'), sealed.subarray(0, 12), sealed.subarray(12), aad);
    }
    insist(footer.length === 36 + 48 * footer.readUInt32LE(0), 'rows of a footer');
    let offset = 8;
    for (let at = 36; at < footer.length; at += 48) {
      const word = footer.readUInt32LE(at + 36);
      const [rawLength, codec, kind] = [word % 2 ** 24, (word >>> 24) & 15, word >>> 28];
      const stored = bytes.subarray(offset, offset + footer.readUInt32LE(at + 32));
      this.#openRecord(kind, footer.subarray(at, at + 32), codec, rawLength, stored);
      offset += stored.length;
    }
    insist(equal(sha256(bytes.subarray(0, offset)), footer.subarray(4, 36)), 'the digest of the records of a pack');
    insist(footerStart === Math.ceil((offset + 9) / 64) * 64, 'records fill the pack');
    const padding = Buffer.alloc(footerStart - offset);
    padding[0] = 0x80;
    padding.writeUIntBE(offset * 8, padding.length - 6, 6);
    insist(equal(bytes.subarray(offset, footerStart), padding), 'the padding of a pack');
  }

  // Section 7

  #readBackup(fields: Fields): ReadBackup {
    const descriptor = fieldsOf(fields.descriptor);
    const [size, blockSize] = [intOf(descriptor.size), intOf(descriptor.blockSize)];
    const blocks = new Map<number, { id: Uint8Array; location: Location } | undefined>();
    const blockCount = Math.ceil(size / blockSize);
    const lengthOf = (block: number) => Math.min(blockSize, size - block * blockSize);
    if (descriptor.root !== null) {
      const [level, id, location] = tupleOf(descriptor.root, 3);
      let least = 0;
      while (this.#fanOut ** (least + 1) < blockCount) least++;
      insist(level === least, 'the level of the root');
      this.#readNode(least, 0, bytesOf(id, 32), locationOf(location), (block, entry) => {
        blocks.set(block, { id: entry.id, location: { ...entry.location, rawLength: lengthOf(block) } });
      });
      this.#note(`tree of level ${least}`);
    } else this.#note('no tree');
    for (const run of listOf(descriptor.runs).toReversed()) {
      let after = -1;
      for (const [id, location, first, last, entries] of listOf(run).map((chunk) => tupleOf(chunk, 5))) {
        const raw = this.#readRecord(RUN, bytesOf(id, 32), locationOf(location));
        const numbers = Array.from({ length: raw.readUInt32LE(0) }, (_, index) => raw.readUInt32LE(4 + 4 * index));
        insist(numbers.length === entries && numbers[0] === first && numbers.at(-1) === last, 'what a chunk covers');
        for (const block of numbers) {
          insist(block > after && block < blockCount, 'entries of a run ascend');
          after = block;
          blocks.set(block, undefined);
        }
        const { present, ids, end } = presence(raw, 4 + 4 * numbers.length, numbers.length);
        const part = new LocationPart(raw, end);
        for (const [index, at] of present.entries()) {
          const block = numbers[at] as number;
          const place = part.place();
          blocks.set(block, { id: ids[index] as Uint8Array, location: { ...place, rawLength: lengthOf(block) } });
        }
        part.end();
        if (present.length < numbers.length) this.#note('run entry of zeroes');
      }
      this.#note('run');
    }
    const lost = listOf(descriptor.lost).map((range): [number, number] => {
      const [first, count] = tupleOf(range, 2);
      this.#note('lost range');
      return [intOf(first), intOf(count)];
    });
    const pieces: Uint8Array[] = [];
    const ids = createHash('sha256');
    const zeroes = new Uint8Array(blockSize);
    for (let block = 0; block < blockCount; block++) {
      const entry = blocks.get(block);
      const isLost = lost.some(([first, count]) => block >= first && block < first + count);
      insist(!(isLost && entry !== undefined), 'a lost block has no entry');
      const piece = zeroes.subarray(0, lengthOf(block));
      pieces.push(entry === undefined ? piece : this.#readRecord(BLOCK, entry.id, entry.location));
      ids.update(`${entry === undefined ? 'zeroes' : Buffer.from(entry.id).toString('hex')} ${piece.length}\n`);
    }
    const metadata = fieldsOf(fields.metadata) as Record<string, string>;
    const { intact } = fields;
    insist(intact === (lost.length === 0), 'intact');
    return {
      id: idOf(fields.id),
      volume: String(fields.volume),
      size,
      blockSize,
      metadata,
      lost,
      intact,
      sha256: hashOf(ids.digest('hex'), pieces),
    };
  }

  #readNode(
    level: number,
    number: number,
    id: Uint8Array,
    location: Location,
    deliver: (block: number, entry: { id: Uint8Array; location: Omit<Location, 'rawLength'> }) => void,
  ): void {
    const raw = this.#readRecord(level === 0 ? LEAF : INNER, id, location);
    const fanOut = this.#fanOut;
    insist(level === 0 || raw[0] === level, 'the level of a node');
    const { present, ids, end } = presence(raw, level === 0 ? 0 : 1, fanOut);
    insist(present.length > 0, 'a node without children is not stored');
    const part = new LocationPart(raw, end);
    if (level === 0) {
      for (const [index, at] of present.entries()) {
        deliver(number * fanOut + at, { id: ids[index] as Uint8Array, location: part.place() });
      }
      part.end();
      return;
    }
    const children = present.map((at, index) => {
      const place = part.place();
      return {
        number: number * fanOut + at,
        id: ids[index] as Uint8Array,
        location: { ...place, rawLength: part.u32() },
      };
    });
    const usage = children.map(() => {
      const packs = new Map<string, number>();
      if (level === 1) for (let count = part.u16(); count > 0; count--) packs.set(part.pack(), part.u32());
      return packs;
    });
    part.end();
    for (const [index, child] of children.entries()) {
      const used = new Map<string, number>();
      this.#readNode(level - 1, child.number, child.id, child.location, (block, entry) => {
        const { pack, storedLength } = entry.location;
        used.set(pack, (used.get(pack) ?? 0) + storedLength);
        deliver(block, entry);
      });
      if (level > 1) continue;
      insist(
        JSON.stringify([...used]) === JSON.stringify([...(usage[index] as Map<string, number>)]),
        'the usage of a leaf',
      );
    }
  }
}
