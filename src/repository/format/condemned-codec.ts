import { MsgpackArray, MsgpackBytes } from '../../common/msgpack-writer.ts';
import { StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import { idBytes } from './decode-values.ts';
import { relocationPlain } from './fact-codec.ts';
import type { Relocation } from './log-entry.ts';
import type { Condemnation, LogState } from './log-state.ts';
import type { PackName } from './record.ts';

/** Condemned packs, and names of packs, as a checkpoint has them: `docs/FORMAT.md`, section 9. */

/** Names that stand one after another in a byte string are written so many at a time. */
const NAMES_AT_ONCE = 256;
const NAME_BYTES = 16;

/** By collection, so that its number and time stand once. */
export function* collectionsPlain(state: LogState): Steps<MsgpackArray> {
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
export function* namesBySession(packs: Iterable<PackName>): Steps<MsgpackArray> {
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

export function namesPlain(count: number, names: Iterable<string>): MsgpackBytes {
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

/** An array of a few values, of which some are parts. */
export function tuple(...parts: readonly unknown[]): MsgpackArray {
  return MsgpackArray.of(parts.length, parts);
}
