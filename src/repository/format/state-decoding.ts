import type { MsgpackReader } from '../../common/msgpack-reader.ts';
import { isBytes } from '../../common/realms.ts';
import { StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import { ANCHOR_BYTES, anchorsIn } from './anchors.ts';
import { backupIdOf, headOf, holdOf, storedOf } from './backup-codec.ts';
import { pagesOf } from './catalogue-pages.ts';
import { checkVersion, logCorrupt, logValue } from './decode-values.ts';
import { featureOf, floorOf, relocationOf, sessionsIn, slotOf, tableOf } from './fact-codec.ts';
import type { BackupHold, Condemnation, FormerRelocation, Head, KnownPacks, LogState, PackFacts } from './log-state.ts';
import { packKey } from './object-keys.ts';
import { eachName, eachPack, NAME_BYTES, nameBytes, PACK_BYTES, packBytes } from './packed-names.ts';
import type { PackName } from './record.ts';
import { fencedOf, openOf } from './session-codec.ts';
import { backupWeight, sessionWeight, textWeight, WEIGHT } from './state-weight.ts';

/**
 * Reads the state that a checkpoint has: `docs/FORMAT.md`, section 9. A state may be large, so it is read in steps, and each
 * part is checked as it is read: parts that are not valid take no memory.
 */

/** The fields that a state must have, without the version. */
const FIELD_COUNT = 21;

/**
 * Reads a state.
 *
 * @param mostWeight - that it may have: `state-weight.ts`
 * @throws `LOG_CORRUPT` unless it is valid in every field, and no heavier; `REPOSITORY_UNSUPPORTED`
 */
export function* stateFrom(reader: MsgpackReader, mostWeight: number): Steps<LogState> {
  const draft = new StateDraft(reader, mostWeight);
  yield* reader.map((name) => draft.read(name));
  reader.end();
  return draft.done();
}

type Fields = { -readonly [Name in keyof LogState]: LogState[Name] };

/** A state, of which fields come in any order. */
class StateDraft {
  readonly #reader: MsgpackReader;
  readonly #fields: Partial<Fields & { v: true }> = {};
  #weightLeft: number;
  #anchors: Uint8Array | undefined;

  constructor(reader: MsgpackReader, mostWeight: number) {
    this.#reader = reader;
    this.#weightLeft = mostWeight;
  }

  *read(name: string): Steps<void> {
    const fields = this.#fields;
    const reader = this.#reader;
    switch (name) {
      case 'v':
        checkVersion(reader.short(), 'a checkpoint');
        fields.v = true;
        return;
      case 'seq':
        fields.seq = logValue.seq(reader.short(), "a checkpoint's number");
        return;
      case 'hash':
        fields.hash = logValue.bytes(reader.short(), "a checkpoint's hash", 32);
        return;
      case 'floor':
        fields.floor = logValue.optional(reader.short(), floorOf);
        return;
      case 'anchors':
        fields.anchors = [];
        this.#anchors = anchorsOf(reader.short());
        this.#weigh((WEIGHT.anchor * this.#anchors.length) / ANCHOR_BYTES);
        return;
      case 'pages':
        return yield* this.#pages();
      case 'forgotten':
        fields.forgotten = yield* this.#set(backupIdOf, () => WEIGHT.name);
        return;
      case 'holds':
        return yield* this.#holds();
      case 'backups':
      case 'pinned':
        fields[name] = yield* this.#byKey(storedOf, ({ id }) => id, backupWeight);
        return;
      case 'heads':
        return yield* this.#heads();
      case 'sessions':
        fields.sessions = yield* this.#byKey(openOf, ({ seq }) => seq, sessionWeight);
        return;
      case 'fenced':
        fields.fenced = yield* this.#byKey(fencedOf, ({ seq }) => seq, sessionWeight);
        return;
      case 'known':
        fields.known = yield* this.#known();
        return;
      case 'condemned':
        return yield* this.#condemned();
      case 'goneThrough':
        fields.goneThrough = logValue.int(reader.short(), 'goneThrough');
        return;
      case 'relocations':
        fields.relocations = yield* this.#byKey(
          relocationOf,
          ({ pack }) => packKey(pack),
          () => WEIGHT.relocation,
        );
        return;
      case 'quarantined':
        fields.quarantined = yield* this.#quarantined();
        return;
      case 'keySlots':
      case 'removedSlots':
        fields[name] = yield* this.#set(slotOf, () => WEIGHT.slot);
        return;
      case 'features':
      case 'readerFeatures':
        fields[name] = yield* this.#set(featureOf, (feature) => WEIGHT.feature + textWeight(feature));
        return;
      default: // What a later version adds and this one need not know.
        yield* reader.skip();
    }
  }

  done(): LogState {
    const { v, features = new Set(), readerFeatures = new Set(), ...fields } = this.#fields;
    if (v === undefined || Object.keys(fields).length !== FIELD_COUNT) throw logCorrupt('a checkpoint lacks a field');
    const state = { ...fields, features, readerFeatures } as LogState;
    const anchors = anchorsIn(this.#anchors as Uint8Array, state.seq, state.hash);
    if (anchors === undefined) throw logCorrupt('the anchors of a checkpoint are those of another entry');
    if (state.floor !== undefined && state.floor.seq >= state.seq)
      throw logCorrupt('the floor of a checkpoint is not below it');
    return { ...state, anchors };
  }

  /** Before anything is kept: what there is no room for is refused. */
  #weigh(weight: number): void {
    this.#weightLeft -= weight;
    // @mutation checkpoint-is-weighed
    if (this.#weightLeft < 0) throw logCorrupt('a checkpoint would take more memory than its length allows');
  }

  *#byKey<K, V>(read: (item: unknown) => V, key: (item: V) => K, weightOf: (item: V) => number): Steps<Map<K, V>> {
    const items = new Map<K, V>();
    yield* this.#reader.list((item) => {
      const value = read(item);
      this.#weigh(weightOf(value));
      putOnce(items, key(value), value);
    });
    return items;
  }

  *#set(read: (item: unknown) => string, weightOf: (item: string) => number): Steps<Set<string>> {
    const items = new Set<string>();
    yield* this.#reader.list((item) => {
      const value = read(item);
      this.#weigh(weightOf(value));
      addOnce(items, value);
    });
    return items;
  }

  *#heads(): Steps<void> {
    const heads = new Map<string, Head>();
    yield* this.#reader.list((item) => {
      const [volume, head] = headOf(item);
      this.#weigh(WEIGHT.head + textWeight(volume));
      putOnce(heads, volume, head);
    });
    this.#fields.heads = heads;
  }

  *#pages(): Steps<void> {
    const plain: unknown[] = [];
    yield* this.#reader.list((table) => {
      this.#weigh(WEIGHT.page * countOf(table));
      plain.push(table);
    });
    this.#fields.pages = pagesOf(plain);
  }

  *#holds(): Steps<void> {
    const holds = new Map<string, BackupHold | undefined>();
    yield* this.#reader.list((item) => {
      const [id, hold] = logValue.tuple(item, 2, 'a hold');
      const value = logValue.optional(hold, holdOf);
      this.#weigh(WEIGHT.head + textWeight(value?.reason ?? ''));
      putOnce(holds, backupIdOf(id), value);
    });
    this.#fields.holds = holds;
  }

  *#known(): Steps<Map<number, KnownPacks>> {
    const known = new Map<number, KnownPacks>();
    const namesIn = (value: unknown) => this.#namesIn(value);
    const packsIn = (value: unknown) => this.#packsIn(value);
    const weigh = (weight: number) => this.#weigh(weight);
    yield* this.#reader.list(function* (item) {
      const [session, packs, tables, dead] = logValue.tuple(item, 4, 'known packs');
      weigh(WEIGHT.known);
      weigh(WEIGHT.table * countOf(tables));
      putOnce(known, logValue.seq(session, "a pack's session"), {
        packs: yield* packsIn(packs),
        tables: yield* logValue.longList(tables, 'tables', tableOf),
        dead: yield* namesIn(dead),
      });
    });
    return known;
  }

  *#condemned(): Steps<void> {
    const condemned = new Map<string, Condemnation & { pack: PackName }>();
    const condemnedSessions = new Map<number, Condemnation>();
    const steps = new StepCounter();
    const former = new Map<string, FormerRelocation[]>();
    const eachPack = (value: unknown, take: (pack: PackName) => void) => this.#eachCondemned(value, take);
    const weigh = (weight: number) => this.#weigh(weight);
    yield* this.#reader.list(function* (item) {
      const hasTables = Array.isArray(item) && item.length === 5;
      const [number, time, packs, sessions, tables] = logValue.tuple(item, hasTables ? 5 : 4, 'a collection');
      const by = { seq: logValue.seq(number, 'a collection'), at: logValue.time(time, "a collection's time") };
      yield* eachPack(packs, (pack) => putOnce(condemned, packKey(pack), { pack, ...by }));
      weigh(WEIGHT.condemnedSession * countOf(sessions));
      weigh(WEIGHT.relocation * countOf(tables));
      for (const session of yield* sessionsIn(sessions)) putOnce(condemnedSessions, session, by);
      for (const table of hasTables ? yield* logValue.longList(tables, 'former relocations', relocationOf) : []) {
        const key = packKey(table.pack);
        const ofPack = former.get(key);
        if (ofPack === undefined) former.set(key, [{ ...table, by }]);
        else ofPack.push({ ...table, by });
      }
    });
    // A pack is moved again by a later session: that table is the newer one.
    for (const tables of former.values()) {
      tables.sort((one, other) => other.location.pack.session - one.location.pack.session);
      if (steps.isDue()) yield;
    }
    Object.assign(this.#fields, { condemned, condemnedSessions, formerRelocations: former });
  }

  *#quarantined(): Steps<Map<string, PackName>> {
    const packs = new Map<string, PackName>();
    yield* this.#reader.list((item) =>
      this.#eachPackOf(item, WEIGHT.quarantined, (pack) => putOnce(packs, packKey(pack), pack)),
    );
    return packs;
  }

  *#namesIn(value: unknown): Steps<Set<string>> {
    const names = new Set<string>();
    yield* this.#eachName(value, WEIGHT.name, (name) => addOnce(names, name));
    return names;
  }

  *#packsIn(value: unknown): Steps<Map<string, PackFacts>> {
    const packs = new Map<string, PackFacts>();
    const bytes = packBytes(value);
    this.#weigh((WEIGHT.pack * bytes.length) / PACK_BYTES);
    yield* eachPack(bytes, (name, facts) => putOnce(packs, name, facts));
    return packs;
  }

  *#eachCondemned(value: unknown, take: (pack: PackName) => void): Steps<void> {
    if (!Array.isArray(value)) throw logCorrupt('packs are not an array');
    for (const item of value as readonly unknown[]) yield* this.#eachPackOf(item, WEIGHT.condemnedPack, take);
  }

  *#eachPackOf(item: unknown, weight: number, take: (pack: PackName) => void): Steps<void> {
    const [number, names] = logValue.tuple(item, 2, 'packs of a session');
    const session = logValue.seq(number, "a pack's session");
    yield* this.#eachName(names, weight, (random) => take({ session, random }));
  }

  *#eachName(value: unknown, weight: number, take: (name: string) => void): Steps<void> {
    const names = nameBytes(value);
    this.#weigh((weight * names.length) / NAME_BYTES);
    yield* eachName(names, take);
  }
}

function anchorsOf(value: unknown): Uint8Array {
  if (!isBytes(value)) throw logCorrupt("a checkpoint's anchors are no bytes");
  return value;
}

/** Of two elements for one thing, readers might believe one or the other. */
function putOnce<K, V>(items: Map<K, V>, key: K, value: V): void {
  if (items.size === items.set(key, value).size) throw logCorrupt('a checkpoint has two elements for one thing');
}

function addOnce<T>(items: Set<T>, item: T): void {
  if (items.size === items.add(item).size) throw logCorrupt('a checkpoint names one thing twice');
}

/** Elements of what is read as an array next. */
function countOf(value: unknown): number {
  return Array.isArray(value) ? value.length : 0;
}
