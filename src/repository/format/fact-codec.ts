import { MsgpackArray } from '../../common/msgpack-writer.ts';
import type { Steps } from '../../common/yield-to-event-loop.ts';
import { backupOf, backupPlain } from './backup-codec.ts';
import {
  idBytes,
  locationPlain,
  logCorrupt,
  logValue,
  madeByNewer,
  optionalIdBytes,
  type PlainMap,
  packPlain,
  wellFormed,
} from './decode-values.ts';
import type { CommittedPack, Floor, LogFact, PackTable, Relocation } from './log-entry.ts';
import { isSlotName, packKey } from './object-keys.ts';
import type { PackName } from './record.ts';

/** What an entry says, without its head: `docs/FORMAT.md`, section 8, the table of types. */

/** Most volumes and sessions that an `open` entry names: they are read in one step. */
const MAX_NAMED = 16_384;

export function factPlain(fact: LogFact): Record<string, unknown> {
  const { type } = fact;
  switch (type) {
    case 'open': {
      const volumes = MsgpackArray.of(fact.volumes.size, fact.volumes, volumePlain);
      return { type, owner: wellFormed(fact.owner, 'the owner'), volumes, fence: fact.fence, adopt: fact.adopt };
    }
    case 'commit': {
      const packs = list(fact.packs, committedPlain);
      const packTables = list(fact.packTables, tablePlain);
      return { type, session: fact.session, backups: list(fact.backups, backupPlain), packs, packTables };
    }
    case 'abort':
      return { type, session: fact.session };
    case 'forget':
    case 'release':
      return { type, backups: list(fact.backups, idBytes) };
    case 'hold': {
      const reason = fact.reason === undefined ? null : wellFormed(fact.reason, 'the reason of a hold');
      return { type, backups: list(fact.backups, idBytes), reason };
    }
    case 'collect':
      return {
        type,
        session: fact.session ?? null,
        newPacks: list(fact.newPacks, committedPlain),
        packs: list(fact.packs, packPlain),
        sessions: fact.sessions,
        fence: fact.fence,
        relocate: list(fact.relocate, relocationPlain),
        gonePacks: list(fact.gonePacks, packPlain),
        goneSessions: fact.goneSessions,
        ...(fact.redated.length === 0 ? {} : { redated: fact.redated }),
        ...(fact.floor === undefined ? {} : { floor: floorPlain(fact.floor) }),
      };
    case 'keys':
      return { type, added: fact.added, removed: fact.removed };
    case 'config':
      return {
        type,
        quarantine: list(fact.quarantine, packPlain),
        release: list(fact.release, packPlain),
        ...(fact.features === undefined ? {} : { features: fact.features }),
        ...(fact.readerFeatures === undefined ? {} : { readerFeatures: fact.readerFeatures }),
      };
  }
}

function list<T>(items: readonly T[], plainOf: (item: T) => unknown): MsgpackArray {
  return MsgpackArray.of(items.length, items, plainOf);
}

export function* factIn(fields: PlainMap): Steps<LogFact> {
  const type = fields.type as LogFact['type'];
  switch (type) {
    case 'open':
      return {
        type,
        owner: logValue.text(fields.owner, 'the owner'),
        volumes: volumesOf(fields.volumes),
        fence: sessionsOf(fields.fence),
        adopt: sessionsOf(fields.adopt),
      };
    case 'commit':
      return {
        type,
        session: logValue.seq(fields.session, 'the session'),
        backups: yield* logValue.longList(fields.backups, 'backups', backupOf, 1),
        packs: yield* logValue.longList(fields.packs, 'packs', committedOf),
        packTables: yield* eachOnce(fields.packTables, 'tables of packs', tableOf, ({ id }) => hexOf(id)),
      };
    case 'abort':
      return { type, session: logValue.seq(fields.session, 'the session') };
    case 'forget':
    case 'release':
      return { type, backups: yield* idsIn(fields.backups) };
    case 'hold':
      return {
        type,
        backups: yield* idsIn(fields.backups),
        reason: logValue.optional(fields.reason, (reason) => logValue.text(reason, 'the reason of a hold', 1)),
      };
    case 'collect':
      return {
        type,
        session: logValue.optional(fields.session, (session) => logValue.seq(session, 'the session')),
        newPacks: yield* logValue.longList(fields.newPacks, 'new packs', committedOf),
        packs: yield* packsIn(fields.packs),
        sessions: yield* sessionsIn(fields.sessions),
        fence: yield* sessionsIn(fields.fence),
        relocate: yield* eachOnce(fields.relocate, 'relocations', relocationOf, ({ pack }) => packKey(pack)),
        gonePacks: yield* packsIn(fields.gonePacks),
        goneSessions: yield* sessionsIn(fields.goneSessions),
        redated: yield* sessionsIn(fields.redated ?? []),
        floor: logValue.optional(fields.floor ?? null, floorOf),
      };
    case 'keys':
      return { type, added: slotsOf(fields.added), removed: slotsOf(fields.removed) };
    case 'config':
      return {
        type,
        quarantine: yield* packsIn(fields.quarantine),
        release: yield* packsIn(fields.release),
        features: logValue.optional(fields.features, featuresOf),
        readerFeatures: logValue.optional(fields.readerFeatures, featuresOf),
      };
  }
  if (typeof type !== 'string') throw logCorrupt('an entry has no type');
  throw madeByNewer(`an entry of type ${JSON.stringify(String(type).slice(0, 40))}`);
}

/** Pairs and not a map: no name of a volume may mean something to a decoder. */
export function volumesPlain(volumes: ReadonlyMap<string, string | undefined>): unknown {
  return [...volumes].map(volumePlain);
}

function volumePlain([name, base]: readonly [string, string | undefined]): unknown {
  return [wellFormed(name, "a volume's name"), optionalIdBytes(base)];
}

export function volumesOf(value: unknown): Map<string, string | undefined> {
  const pairs = logValue.list(
    value,
    'volumes',
    (item): [string, string | undefined] => {
      const [name, base] = logValue.tuple(item, 2, 'a volume');
      return [
        logValue.text(name, "a volume's name", 1),
        logValue.optional(base, (id) => logValue.hexId(id, "a volume's base")),
      ];
    },
    MAX_NAMED,
  );
  const volumes = new Map(pairs);
  if (volumes.size !== pairs.length) throw logCorrupt('a volume is named twice');
  return volumes;
}

export function sessionsOf(value: unknown): number[] {
  const sessions = logValue.list(value, 'sessions', sessionOf, MAX_NAMED);
  if (new Set(sessions).size !== sessions.length) throw logCorrupt('a session is named twice');
  return sessions;
}

/** As {@link sessionsOf}, of a collection: any number of them. */
export function* sessionsIn(value: unknown): Steps<number[]> {
  return yield* eachOnce(value, 'sessions', sessionOf, (session) => session);
}

function* idsIn(value: unknown): Steps<string[]> {
  const idOf = (id: unknown) => logValue.hexId(id, "a backup's id");
  return yield* eachOnce(value, 'backups', idOf, (id) => id);
}

function* packsIn(value: unknown): Steps<PackName[]> {
  return yield* eachOnce(value, 'packs', (pack) => logValue.pack(pack), packKey);
}

/** Items of an array that names each of them once. */
function* eachOnce<T>(
  value: unknown,
  what: string,
  read: (item: unknown) => T,
  keyOf: (item: T) => string | number,
): Steps<T[]> {
  const named = new Set<string | number>();
  return yield* logValue.longList(value, what, (item) => {
    const found = read(item);
    // @mutation each-is-named-once
    if (named.size === named.add(keyOf(found)).size) throw logCorrupt(`one of its ${what} is named twice`);
    return found;
  });
}

function hexOf(id: Uint8Array): string {
  return Buffer.from(id).toString('hex');
}

function sessionOf(value: unknown): number {
  return logValue.seq(value, 'a session');
}

export function floorPlain({ seq, sha256 }: Floor): unknown {
  return [seq, sha256];
}

export function floorOf(value: unknown): Floor {
  const [seq, sha256] = logValue.tuple(value, 2, 'a floor');
  return {
    seq: logValue.seq(seq, "a floor's number"),
    sha256: logValue.bytes(sha256, "the digest of a floor's checkpoint", 32),
  };
}

export function tablePlain({ id, location, packs }: PackTable): unknown {
  return [id, locationPlain(location), packs];
}

export function tableOf(value: unknown): PackTable {
  const [id, location, packs] = logValue.tuple(value, 3, 'a table of packs');
  return {
    id: logValue.bytes(id, "a table's id", 32),
    location: logValue.location(location, 'a table of packs'),
    packs: logValue.int(packs, 'packs of a table', 1),
  };
}

export function relocationPlain({ pack, id, location }: Relocation): unknown {
  return [pack.session, idBytes(pack.random), id, locationPlain(location)];
}

export function relocationOf(value: unknown): Relocation {
  const [session, random, id, location] = logValue.tuple(value, 4, 'a relocation');
  return {
    pack: logValue.pack([session, random]),
    id: logValue.bytes(id, "a relocation table's id", 32),
    location: logValue.location(location, 'a relocation table'),
  };
}

export function committedPlain({ session, random, size, sha256 }: CommittedPack): unknown {
  return [session, idBytes(random), size, sha256];
}

/** @throws `LOG_CORRUPT` */
export function committedOf(value: unknown): CommittedPack {
  const [session, random, size, sha256] = logValue.tuple(value, 4, 'a pack');
  return {
    ...logValue.pack([session, random]),
    size: logValue.int(size, 'size of a pack', 1, 2 ** 32 - 1),
    sha256: logValue.bytes(sha256, 'checksum of a pack', 32),
  };
}

function featuresOf(value: unknown): string[] {
  const features = logValue.list(value, 'features', featureOf, MAX_NAMED);
  if (new Set(features).size !== features.length) throw logCorrupt('a feature is named twice');
  return features;
}

export function featureOf(value: unknown): string {
  return logValue.text(value, 'a feature', 1);
}

function slotsOf(value: unknown): string[] {
  const slots = logValue.list(value, 'key slots', slotOf, MAX_NAMED);
  if (new Set(slots).size !== slots.length) throw logCorrupt('a key slot is named twice');
  return slots;
}

export function slotOf(value: unknown): string {
  const name = logValue.text(value, 'a key slot');
  if (!isSlotName(name)) throw logCorrupt('the name of a key slot is not 16 hex digits');
  return name;
}
