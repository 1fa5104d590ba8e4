import { MsgpackArray, MsgpackBytes, MsgpackMap } from '../../common/msgpack-writer.ts';
import { StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import { anchorBytes } from './anchors.ts';
import { holdPlain, storedPlain } from './backup-codec.ts';
import { pagesPlain } from './catalogue-pages.ts';
import { idBytes } from './decode-values.ts';
import { floorPlain, relocationPlain, tablePlain, volumesPlain } from './fact-codec.ts';
import type { Relocation } from './log-entry.ts';
import type { Condemnation, LogState, PackFacts, Session } from './log-state.ts';
import type { PackName } from './record.ts';

/**
 * Writes the state as a checkpoint has it: `docs/FORMAT.md`, section 9. A state may be large, so it is written in steps,
 * and long arrays are lists whose items are made one after another.
 */

/** The number of names of packs that are written into a byte string in one step. */
const NAMES_AT_ONCE = 256;
const NAME_BYTES = 16;
/** Name, size and SHA-256. */
export const PACK_BYTES = 52;

/** The state in parts, for `encodeMsgpackInSteps`. */
export function* statePlain(state: LogState): Steps<MsgpackMap> {
  return new MsgpackMap({
    v: 1,
    seq: state.seq,
    hash: state.hash,
    floor: state.floor === undefined ? null : floorPlain(state.floor),
    anchors: anchorBytes(state.anchors),
    pages: pagesPlain(state.pages),
    backups: listOfValues(state.backups, storedPlain),
    pinned: listOfValues(state.pinned, storedPlain),
    heads: MsgpackArray.of(state.heads.size, state.heads, ([volume, { id, seq }]) => [volume, idBytes(id), seq]),
    forgotten: MsgpackArray.of(state.forgotten.size, state.forgotten, idBytes),
    holds: MsgpackArray.of(state.holds.size, state.holds, ([id, hold]) => [idBytes(id), hold ? holdPlain(hold) : null]),
    sessions: listOfValues(state.sessions, openPlain),
    fenced: listOfValues(state.fenced, fencedPlain),
    known: MsgpackArray.of(state.known.size, state.known, ([session, { packs, tables, dead }]) =>
      tuple(
        session,
        new MsgpackBytes(packs.size * PACK_BYTES, packPieces(packs)),
        MsgpackArray.of(tables.length, tables, tablePlain),
        namesPlain(dead.size, dead),
      ),
    ),
    condemned: yield* collectionsPlain(state),
    goneThrough: state.goneThrough,
    relocations: listOfValues(state.relocations, relocationPlain),
    quarantined: yield* namesBySession(state.quarantined.values()),
    keySlots: MsgpackArray.of(state.keySlots.size, state.keySlots),
    removedSlots: MsgpackArray.of(state.removedSlots.size, state.removedSlots),
    ...featuresPlain('features', state.features),
    ...featuresPlain('readerFeatures', state.readerFeatures),
  });
}

function featuresPlain(name: string, features: ReadonlySet<string>): Record<string, MsgpackArray> {
  return features.size === 0 ? {} : { [name]: MsgpackArray.of(features.size, features) };
}

function sessionPlain({ seq, hash, at, owner, volumes, adopted }: Session): unknown[] {
  return [seq, hash, at, owner, volumesPlain(volumes), adopted];
}

function openPlain(session: Session): unknown {
  const { dated } = session;
  return dated === undefined ? sessionPlain(session) : [...sessionPlain(session), [dated.seq, dated.at]];
}

/** The age of a session that has a newer date counts from that entry, whatever fenced it. */
function fencedPlain(session: Session): unknown {
  const { dated, fencedBy } = session;
  if (fencedBy === undefined) throw new TypeError('an entry fenced each fenced session');
  const { seq, at, owner } = fencedBy;
  const by = [seq, at, owner ?? null];
  return [...sessionPlain(session), by, ...(dated === undefined ? [] : [[dated.seq, dated.at]])];
}

/** What is condemned, by collection, so that the number and time of each collection occur once. */
function* collectionsPlain(state: LogState): Steps<MsgpackArray> {
  const collections = new Map<number, Collection>();
  const collection = (by: Condemnation) => {
    const found = collections.get(by.seq) ?? { by, packs: [], sessions: [], tables: [] };
    collections.set(by.seq, found);
    return found;
  };
  const steps = new StepCounter();
  for (const entry of state.condemned.values()) {
    collection(entry).packs.push(entry.pack);
    if (steps.isDue()) yield;
  }
  for (const [session, by] of state.condemnedSessions) {
    collection(by).sessions.push(session);
    if (steps.isDue()) yield;
  }
  for (const tables of state.formerRelocations.values()) {
    for (const each of tables) collection(each.by).tables.push(each);
    if (steps.isDue()) yield;
  }
  const plain: MsgpackArray[] = [];
  for (const { by, packs, sessions, tables } of collections.values()) {
    const parts = [by.seq, by.at, yield* namesBySession(packs), MsgpackArray.of(sessions.length, sessions)];
    if (tables.length > 0) parts.push(MsgpackArray.of(tables.length, tables, relocationPlain));
    plain.push(tuple(...parts));
  }
  return MsgpackArray.of(plain.length, plain);
}

interface Collection {
  readonly by: Condemnation;
  readonly packs: PackName[];
  readonly sessions: number[];
  readonly tables: Relocation[];
}

/** `[session, names]` for each session; names are 16 bytes each, one after another. */
function* namesBySession(packs: Iterable<PackName>): Steps<MsgpackArray> {
  const bySession = new Map<number, string[]>();
  const steps = new StepCounter();
  for (const { session, random } of packs) {
    const names = bySession.get(session);
    if (names === undefined) bySession.set(session, [random]);
    else names.push(random);
    if (steps.isDue()) yield;
  }
  return MsgpackArray.of(bySession.size, bySession, ([session, names]) =>
    tuple(session, namesPlain(names.length, names)),
  );
}

function namesPlain(count: number, names: Iterable<string>): MsgpackBytes {
  return new MsgpackBytes(count * NAME_BYTES, namePieces(count, names));
}

function* namePieces(count: number, names: Iterable<string>): Iterable<Uint8Array> {
  if (count === 0) return;
  const piece = Buffer.alloc(Math.min(count, NAMES_AT_ONCE) * NAME_BYTES);
  let at = 0;
  for (const name of names) {
    piece.set(idBytes(name), at);
    at += NAME_BYTES;
    if (at < piece.length) continue;
    yield piece;
    at = 0;
  }
  yield piece.subarray(0, at);
}

function* packPieces(packs: ReadonlyMap<string, PackFacts>): Iterable<Uint8Array> {
  for (const [random, { size, sha256 }] of packs) {
    const piece = Buffer.alloc(PACK_BYTES);
    piece.set(idBytes(random));
    piece.writeUInt32LE(size, NAME_BYTES);
    piece.set(sha256, NAME_BYTES + 4);
    yield piece;
  }
}

/** An array of a few values, of which some are parts. */
function tuple(...parts: readonly unknown[]): MsgpackArray {
  return MsgpackArray.of(parts.length, parts);
}

function listOfValues<T>(items: ReadonlyMap<unknown, T>, plainOf: (item: T) => unknown): MsgpackArray {
  return MsgpackArray.of(items.size, items.values(), plainOf);
}
