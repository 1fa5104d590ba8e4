import { decodePlain, encodePlain } from '../../common/bounded-msgpack.ts';
import { isBytes } from '../../common/realms.ts';
import { compress, decompress } from '../records/compression.ts';
import { Codec, type PackName, packKey } from '../records/record.ts';
import { backupOf, backupPlain } from './backup-codec.ts';
import { logCorrupt } from './corrupt.ts';
import {
  relocationOf,
  relocationPlain,
  sessionsOf,
  slotsOf,
  tableOf,
  tablePlain,
  volumesOf,
  volumesPlain,
} from './fact-codec.ts';
import type { Relocation } from './log-entry.ts';
import type {
  BackupHold,
  Condemnation,
  EntryTime,
  FormerRelocation,
  KnownPacks,
  LogState,
  Session,
  StoredBackup,
} from './log-state.ts';
import {
  bytesOf,
  checkVersion,
  idBytes,
  idOf,
  listOf,
  mapOf,
  optional,
  type PlainMap,
  seqOf,
  textOf,
  timeOf,
  tupleOf,
} from './plain-values.ts';
import { openObject, sealObject } from './sealed-object.ts';

/** Checkpoints: `docs/FORMAT.md`, section 9. One is a cache: where it can't be written or believed, the log is walked. */

/** Most bytes of a checkpoint's object. */
export const MAX_CHECKPOINT_BYTES = 16 * 1024 * 1024;
/** Most bytes of what it holds, decompressed. */
export const MAX_CHECKPOINT_RAW_BYTES = 64 * 1024 * 1024;
/** A few KB must not become 64 MiB: so many bytes come of each compressed one at most, beyond the first 64 KiB. */
const MAX_RATIO = 128;
const HEAD_BYTES = 5;
/** Backups of one volume have most runs in common, and names of fields repeat: it pays to look a bit further. */
const LEVEL = 3;

/** The checkpoint's object, `undefined` where it would be too large to be one. @param logKey - of an encrypted repository */
export function encodeCheckpoint(logKey: Uint8Array | undefined, state: LogState): Uint8Array<ArrayBuffer> | undefined {
  const raw = encodePlain(statePlain(state));
  if (raw.length > MAX_CHECKPOINT_RAW_BYTES) return undefined;
  const compressed = compress(raw, LEVEL);
  const frame = compressed !== undefined && raw.length <= longestOf(compressed) ? compressed : undefined;
  const content = frame ?? raw;
  const body = new Uint8Array(HEAD_BYTES + content.length);
  body[0] = frame === undefined ? Codec.raw : Codec.zstd;
  new DataView(body.buffer).setUint32(1, raw.length, true);
  body.set(content, HEAD_BYTES);
  const bytes = sealObject(logKey, 'cow1 checkpoint', state.seq, body);
  return bytes.length > MAX_CHECKPOINT_BYTES ? undefined : bytes;
}

/** @throws `LOG_CORRUPT` unless this is the checkpoint of entry `seq`, whole and valid in every field */
export function decodeCheckpoint(logKey: Uint8Array | undefined, seq: number, bytes: Uint8Array): LogState {
  if (bytes.length > MAX_CHECKPOINT_BYTES) throw logCorrupt(`checkpoint ${seq} is larger than it may be`);
  const state = stateOf(
    mapOf(decodePlain(rawOf(openObject(logKey, 'cow1 checkpoint', seq, bytes)), 'LOG_CORRUPT'), 'it'),
  );
  if (state.seq !== seq) throw logCorrupt(`checkpoint ${seq} says that it is of ${state.seq}`);
  return state;
}

function rawOf(body: Uint8Array): Uint8Array {
  if (body.length < HEAD_BYTES) throw logCorrupt('a checkpoint is cut short');
  const length = new DataView(body.buffer, body.byteOffset).getUint32(1, true);
  const content = body.subarray(HEAD_BYTES);
  if (length > MAX_CHECKPOINT_RAW_BYTES) throw logCorrupt('a checkpoint is larger than it may be');
  if (body[0] === Codec.raw && content.length === length) return content;
  if (body[0] !== Codec.zstd || content.length >= length || length > longestOf(content))
    throw logCorrupt("a checkpoint's head is wrong");
  try {
    return decompress(content, length);
  } catch (cause) {
    throw logCorrupt('a checkpoint does not decompress', cause);
  }
}

/** The longest content that a frame may stand for. */
function longestOf(frame: Uint8Array): number {
  return 65_536 + MAX_RATIO * frame.length;
}

function statePlain(state: LogState): Record<string, unknown> {
  return {
    v: 1,
    seq: state.seq,
    hash: state.hash,
    backups: [...state.backups.values()].map(storedPlain),
    pinned: [...state.pinned.values()].map(storedPlain),
    heads: [...state.heads].map(([volume, id]) => [volume, idBytes(id)]),
    sessions: [...state.sessions.values()].map(openPlain),
    fenced: [...state.fenced.values()].map(fencedPlain),
    known: [...state.known].map(([session, known]) => [
      session,
      namesPlain(known.packs),
      known.tables.map(tablePlain),
      namesPlain(known.dead),
    ]),
    condemned: collectionsPlain(state),
    relocations: [...state.relocations.values()].map(relocationPlain),
    quarantined: namesBySession(state.quarantined.values()),
    removedSlots: [...state.removedSlots],
  };
}

function stateOf(fields: PlainMap): LogState {
  checkVersion(fields.v, 'a checkpoint');
  const packs = packsOf(fields.quarantined);
  return {
    seq: seqOf(fields.seq, "a checkpoint's number"),
    hash: bytesOf(fields.hash, 32, "a checkpoint's hash"),
    backups: byKey(listOf(fields.backups, 'backups', storedOf), ({ id }) => id),
    pinned: byKey(listOf(fields.pinned, 'pinned backups', storedOf), ({ id }) => id),
    heads: new Map(listOf(fields.heads, 'heads', headOf)),
    sessions: byKey(listOf(fields.sessions, 'sessions', openOf), ({ seq }) => seq),
    fenced: byKey(listOf(fields.fenced, 'fenced sessions', fencedOf), ({ seq }) => seq),
    known: new Map(listOf(fields.known, 'known packs', knownOf)),
    ...condemnedOf(fields.condemned),
    relocations: byKey(listOf(fields.relocations, 'relocations', relocationOf), ({ pack }) => packKey(pack)),
    quarantined: byKey(packs, packKey),
    removedSlots: new Set(slotsOf(fields.removedSlots)),
  };
}

function storedPlain(backup: StoredBackup): unknown {
  const { seq, committedAt, session, hold } = backup;
  const plain = { ...backupPlain(backup), seq, committedAt, session };
  return hold === undefined ? plain : { ...plain, hold: [hold.at, hold.reason ?? null] };
}

function storedOf(value: unknown): StoredBackup {
  const { seq, committedAt, session, hold } = mapOf(value, 'a backup');
  const backup = {
    ...backupOf(value),
    seq: seqOf(seq, "a backup's entry"),
    committedAt: timeOf(committedAt, 'its time'),
    session: seqOf(session, 'its session'),
  };
  return hold === undefined ? backup : { ...backup, hold: holdOf(hold) };
}

function holdOf(value: unknown): BackupHold {
  const [at, reason] = tupleOf(value, 2, 'a hold');
  return {
    at: timeOf(at, "a hold's time"),
    reason: optional(reason, (text) => textOf(text, 'the reason of a hold', 1)),
  };
}

function headOf(value: unknown): [string, string] {
  const [volume, id] = tupleOf(value, 2, 'a head');
  return [textOf(volume, "a volume's name", 1), idOf(id, 'a head')];
}

function openPlain(session: Session): unknown {
  const { dated } = session;
  return dated === undefined ? sessionPlain(session) : [...sessionPlain(session), [dated.seq, dated.at]];
}

function openOf(value: unknown): Session {
  if (!Array.isArray(value) || value.length !== 6) return sessionOf(value);
  return { ...sessionOf(value.slice(0, 5)), dated: timeOfEntry(value[5]) };
}

/** Where it was dated anew it counts from that entry, whatever fenced it. */
function fencedPlain(session: Session): unknown {
  const { dated, fencedBy } = session;
  if (fencedBy === undefined) return sessionPlain(session);
  const { seq, at, owner } = fencedBy;
  const by = [seq, at, owner ?? null];
  return [...sessionPlain(session), by, ...(dated === undefined ? [] : [[dated.seq, dated.at]])];
}

function fencedOf(value: unknown): Session {
  if (!Array.isArray(value) || value.length < 6 || value.length > 7) return sessionOf(value);
  const [seq, at, owner] = tupleOf(value[5], 3, 'a fence');
  const fencedBy = { ...timeOfEntry([seq, at]), owner: optional(owner, (name) => textOf(name, 'an owner')) };
  const session = { ...sessionOf(value.slice(0, 5)), fencedBy };
  return value.length === 6 ? session : { ...session, dated: timeOfEntry(value[6]) };
}

function timeOfEntry(value: unknown): EntryTime {
  const [seq, at] = tupleOf(value, 2, 'the time of an entry');
  return { seq: seqOf(seq, 'an entry'), at: timeOf(at, "an entry's time") };
}

function sessionPlain({ seq, at, owner, volumes, adopted }: Session): unknown[] {
  return [seq, at, owner, volumesPlain(volumes), adopted];
}

function sessionOf(value: unknown): Session {
  const [seq, at, owner, volumes, adopted] = tupleOf(value, 5, 'a session');
  return {
    seq: seqOf(seq, "a session's number"),
    at: timeOf(at, "a session's time"),
    owner: textOf(owner, 'an owner'),
    volumes: volumesOf(volumes),
    adopted: sessionsOf(adopted),
  };
}

function knownOf(value: unknown): [number, KnownPacks] {
  const [session, packs, tables, dead] = tupleOf(value, 4, 'known packs');
  return [
    seqOf(session, "a pack's session"),
    { packs: new Set(namesOf(packs)), tables: listOf(tables, 'tables', tableOf), dead: new Set(namesOf(dead)) },
  ];
}

/** By collection, so that its number and time stand once. */
function collectionsPlain({ condemned, condemnedSessions, formerRelocations }: LogState): unknown {
  const collections = new Map<number, Collection>();
  const collection = (by: Condemnation) => {
    const found = collections.get(by.seq) ?? { by, packs: [], sessions: [], tables: [] };
    collections.set(by.seq, found);
    return found;
  };
  for (const entry of condemned.values()) collection(entry).packs.push(entry.pack);
  for (const [session, by] of condemnedSessions) collection(by).sessions.push(session);
  for (const tables of formerRelocations.values()) for (const each of tables) collection(each.by).tables.push(each);
  return [...collections.values()].map(({ by, packs, sessions, tables }) => {
    const plain = [by.seq, by.at, namesBySession(packs), sessions];
    return tables.length === 0 ? plain : [...plain, tables.map(relocationPlain)];
  });
}

interface Collection {
  readonly by: Condemnation;
  readonly packs: PackName[];
  readonly sessions: number[];
  readonly tables: Relocation[];
}

function condemnedOf(value: unknown): Pick<LogState, 'condemned' | 'condemnedSessions' | 'formerRelocations'> {
  const condemned = new Map<string, Condemnation & { pack: PackName }>();
  const condemnedSessions = new Map<number, Condemnation>();
  const formerRelocations = new Map<string, FormerRelocation[]>();
  listOf(value, 'collections', (item) => {
    const hasTables = Array.isArray(item) && item.length === 5;
    const [number, time, packs, sessions, tables] = tupleOf(item, hasTables ? 5 : 4, 'a collection');
    const by = { seq: seqOf(number, 'a collection'), at: timeOf(time, "a collection's time") };
    for (const pack of packsOf(packs)) condemned.set(packKey(pack), { pack, ...by });
    for (const session of sessionsOf(sessions)) condemnedSessions.set(session, by);
    for (const table of hasTables ? listOf(tables, 'former relocations', relocationOf) : []) {
      const key = packKey(table.pack);
      const former = formerRelocations.get(key);
      if (former === undefined) formerRelocations.set(key, [{ ...table, by }]);
      else former.push({ ...table, by });
    }
  });
  // A pack is moved again by a later session: that table is the newer one.
  for (const tables of formerRelocations.values()) {
    tables.sort((a, b) => b.location.pack.session - a.location.pack.session);
  }
  return { condemned, condemnedSessions, formerRelocations };
}

/** `[session, names]` for each session; names are 16 bytes each, one after another. */
function namesBySession(packs: Iterable<PackName>): unknown {
  const bySession = Map.groupBy(packs, ({ session }) => session);
  return [...bySession].map(([session, names]) => [session, namesPlain(names.map(({ random }) => random))]);
}

function packsOf(value: unknown): PackName[] {
  return listOf(value, 'packs', (item) => {
    const [number, names] = tupleOf(item, 2, 'packs of a session');
    const session = seqOf(number, "a pack's session");
    return namesOf(names).map((random) => ({ session, random }));
  }).flat();
}

function namesPlain(names: Iterable<string>): Uint8Array {
  return new Uint8Array(Buffer.concat([...names].map(idBytes)));
}

function namesOf(value: unknown): string[] {
  if (!isBytes(value) || value.length % 16 !== 0) throw logCorrupt('names of packs are cut');
  const hex = Buffer.from(value.buffer, value.byteOffset, value.length).toString('hex');
  return Array.from({ length: value.length / 16 }, (_, index) => hex.slice(index * 32, index * 32 + 32));
}

function byKey<K, V>(items: readonly V[], key: (item: V) => K): Map<K, V> {
  return new Map(items.map((item) => [key(item), item]));
}
