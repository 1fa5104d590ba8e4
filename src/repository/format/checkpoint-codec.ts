import { MsgpackReader } from '../../common/msgpack-reader.ts';
import { encodeMsgpackInSteps, MsgpackArray, MsgpackMap } from '../../common/msgpack-writer.ts';
import { runInSteps, StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import { anchorBytes } from './anchors.ts';
import { headPlain, holdPlain, storedPlain } from './backup-codec.ts';
import { pagesPlain } from './catalogue-pages.ts';
import { idBytes, logCorrupt } from './decode-values.ts';
import { floorPlain, relocationPlain, tablePlain } from './fact-codec.ts';
import type { Relocation } from './log-entry.ts';
import { openingObject, sealingObject } from './log-object.ts';
import type { Condemnation, LogState } from './log-state.ts';
import { CONTENT_HEAD_BYTES, compressedContent, contentOf } from './packed-content.ts';
import { namesPlain, packsPlain } from './packed-names.ts';
import type { PackName } from './record.ts';
import { fencedPlain, openPlain } from './session-codec.ts';
import { stateFrom } from './state-decoding.ts';
import { mostWeight, stateWeight } from './state-weight.ts';

/**
 * Checkpoints: `docs/FORMAT.md`, section 9. They are caches: where one is missing or not valid, the log is read instead.
 *
 * A state may be large, so it is written in steps, and long arrays are lists whose items are made one after another. Reading
 * it, which believes nothing, is in `state-decoding.ts`.
 */

/** Most bytes of a checkpoint's object. */
export const MAX_CHECKPOINT_BYTES = 16 * 1024 * 1024;
/** Most bytes of what it holds, decompressed. */
const MAX_CHECKPOINT_RAW_BYTES = 64 * 1024 * 1024;

/**
 * Makes a checkpoint's object, in steps. Resolves with `undefined` if the state is too large for one.
 *
 * @param logKey - of an encrypted repository
 */
export async function encodeCheckpoint(
  logKey: Uint8Array | undefined,
  state: LogState,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const weight = await runInSteps(stateWeight(state));
  const isLight = ({ length }: Uint8Array) => weight <= mostWeight(length);
  const raw = await runInSteps(encodingState(state));
  if (raw.length > MAX_CHECKPOINT_RAW_BYTES || !isLight(raw)) return undefined;
  const body = await compressedContent(raw, isLight);
  if (body.length > MAX_CHECKPOINT_BYTES) return undefined;
  const bytes = await runInSteps(sealingObject(logKey, 'cow1 checkpoint', state.seq, body));
  return bytes.length > MAX_CHECKPOINT_BYTES ? undefined : bytes;
}

/**
 * Reads a checkpoint, in steps.
 *
 * @throws `LOG_CORRUPT` unless this is the checkpoint of entry `seq`, whole and valid in every field; `REPOSITORY_UNSUPPORTED`
 */
export async function decodeCheckpoint(
  logKey: Uint8Array | undefined,
  seq: number,
  bytes: Uint8Array,
): Promise<LogState> {
  if (bytes.length > MAX_CHECKPOINT_BYTES) throw logCorrupt(`checkpoint ${seq} is larger than it may be`);
  const body = await runInSteps(openingObject(logKey, 'cow1 checkpoint', seq, bytes));
  const raw = await contentOf(body, 'a checkpoint', MAX_CHECKPOINT_RAW_BYTES);
  const most = mostWeight(body.length - CONTENT_HEAD_BYTES);
  const state = await runInSteps(stateFrom(new MsgpackReader(raw, 'LOG_CORRUPT'), most));
  if (state.seq !== seq) throw logCorrupt(`checkpoint ${seq} says that it is of ${state.seq}`);
  return state;
}

function* encodingState(state: LogState): Steps<Uint8Array> {
  return yield* encodeMsgpackInSteps(yield* statePlain(state));
}

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
    heads: MsgpackArray.of(state.heads.size, state.heads, headPlain),
    forgotten: MsgpackArray.of(state.forgotten.size, state.forgotten, idBytes),
    holds: MsgpackArray.of(state.holds.size, state.holds, ([id, hold]) => [idBytes(id), hold ? holdPlain(hold) : null]),
    sessions: listOfValues(state.sessions, openPlain),
    fenced: listOfValues(state.fenced, fencedPlain),
    known: MsgpackArray.of(state.known.size, state.known, ([session, { packs, tables, dead }]) =>
      tuple(
        session,
        packsPlain(packs),
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

/** An array of a few values, of which some are parts. */
function tuple(...parts: readonly unknown[]): MsgpackArray {
  return MsgpackArray.of(parts.length, parts);
}

function listOfValues<T>(items: ReadonlyMap<unknown, T>, plainOf: (item: T) => unknown): MsgpackArray {
  return MsgpackArray.of(items.size, items.values(), plainOf);
}
