import { MsgpackArray } from '../../common/msgpack-writer.ts';
import type { Steps } from '../../common/yield-to-event-loop.ts';
import { backupOf, backupPlain } from './backup-codec.ts';
import { logCorrupt, madeByNewer } from './corrupt.ts';
import {
  bytesOf,
  idBytes,
  idOf,
  intOf,
  listIn,
  listOf,
  locationOf,
  optional,
  optionalIdBytes,
  type PlainMap,
  packOf,
  packPlain,
  seqOf,
  textOf,
  tupleOf,
  wellFormed,
} from './decode-values.ts';
import type { CommittedPack, LogFact, PackTable, Relocation } from './log-entry.ts';
import { encodeLocation } from './map-descriptor-codec.ts';

/** What an entry says, without its head: `docs/FORMAT.md`, section 8, the table of types. */

/** Most volumes and sessions that an `open` entry names: they are read in one step. */
const MAX_NAMED = 16_384;

/** Long arrays are parts, for `encodeMsgpackInSteps`. */

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
      };
    case 'keys':
      return { type, added: fact.added, removed: fact.removed };
    case 'config':
      return { type, quarantine: list(fact.quarantine, packPlain), release: list(fact.release, packPlain) };
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
        owner: textOf(fields.owner, 'the owner'),
        volumes: volumesOf(fields.volumes),
        fence: sessionsOf(fields.fence),
        adopt: sessionsOf(fields.adopt),
      };
    case 'commit':
      return {
        type,
        session: seqOf(fields.session, 'the session'),
        backups: yield* listIn(fields.backups, 'backups', backupOf, 1),
        packs: yield* listIn(fields.packs, 'packs', committedOf),
        packTables: yield* listIn(fields.packTables, 'tables of packs', tableOf),
      };
    case 'abort':
      return { type, session: seqOf(fields.session, 'the session') };
    case 'forget':
    case 'release':
      return { type, backups: yield* listIn(fields.backups, 'backups', (id) => idOf(id, "a backup's id")) };
    case 'hold':
      return {
        type,
        backups: yield* listIn(fields.backups, 'backups', (id) => idOf(id, "a backup's id")),
        reason: optional(fields.reason, (reason) => textOf(reason, 'the reason of a hold', 1)),
      };
    case 'collect':
      return {
        type,
        session: optional(fields.session, (session) => seqOf(session, 'the session')),
        newPacks: yield* listIn(fields.newPacks, 'new packs', committedOf),
        packs: yield* listIn(fields.packs, 'packs', packOf),
        sessions: yield* sessionsIn(fields.sessions),
        fence: yield* sessionsIn(fields.fence),
        relocate: yield* listIn(fields.relocate, 'relocations', relocationOf),
        gonePacks: yield* listIn(fields.gonePacks, 'packs that are gone', packOf),
        goneSessions: yield* sessionsIn(fields.goneSessions),
        redated: yield* sessionsIn(fields.redated ?? []),
      };
    case 'keys':
      return { type, added: slotsOf(fields.added), removed: slotsOf(fields.removed) };
    case 'config':
      return {
        type,
        quarantine: yield* listIn(fields.quarantine, 'packs', packOf),
        release: yield* listIn(fields.release, 'packs', packOf),
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
  const pairs = listOf(
    value,
    'volumes',
    (item): [string, string | undefined] => {
      const [name, base] = tupleOf(item, 2, 'a volume');
      return [textOf(name, "a volume's name", 1), optional(base, (id) => idOf(id, "a volume's base"))];
    },
    MAX_NAMED,
  );
  const volumes = new Map(pairs);
  if (volumes.size !== pairs.length) throw logCorrupt('a volume is named twice');
  return volumes;
}

export function sessionsOf(value: unknown): number[] {
  const sessions = listOf(value, 'sessions', sessionOf, MAX_NAMED);
  if (new Set(sessions).size !== sessions.length) throw logCorrupt('a session is named twice');
  return sessions;
}

/** As {@link sessionsOf}, of a collection: any number of them. */
export function* sessionsIn(value: unknown): Steps<number[]> {
  const named = new Set<number>();
  return yield* listIn(value, 'sessions', (item) => {
    const session = sessionOf(item);
    if (named.has(session)) throw logCorrupt('a session is named twice');
    named.add(session);
    return session;
  });
}

function sessionOf(value: unknown): number {
  return seqOf(value, 'a session');
}

export function tablePlain({ id, location, packs }: PackTable): unknown {
  return [id, encodeLocation(location), packs];
}

export function tableOf(value: unknown): PackTable {
  const [id, location, packs] = tupleOf(value, 3, 'a table of packs');
  return {
    id: bytesOf(id, 32, "a table's id"),
    location: locationOf(location, 'a table of packs'),
    packs: intOf(packs, 'packs of a table', 1),
  };
}

export function relocationPlain({ pack, id, location }: Relocation): unknown {
  return [pack.session, idBytes(pack.random), id, encodeLocation(location)];
}

export function relocationOf(value: unknown): Relocation {
  const [session, random, id, location] = tupleOf(value, 4, 'a relocation');
  return {
    pack: packOf([session, random]),
    id: bytesOf(id, 32, "a relocation table's id"),
    location: locationOf(location, 'a relocation table'),
  };
}

function committedPlain({ session, random, size, sha256 }: CommittedPack): unknown {
  return [session, idBytes(random), size, sha256];
}

function committedOf(value: unknown): CommittedPack {
  const [session, random, size, sha256] = tupleOf(value, 4, 'a pack');
  return {
    ...packOf([session, random]),
    size: intOf(size, 'size of a pack', 1, 2 ** 32 - 1),
    sha256: bytesOf(sha256, 32, 'checksum of a pack'),
  };
}

export function slotsOf(value: unknown): string[] {
  return listOf(value, 'key slots', slotOf, MAX_NAMED);
}

export function slotOf(value: unknown): string {
  const name = textOf(value, 'a key slot');
  if (!/^[0-9a-f]{16}$/.test(name)) throw logCorrupt('a key slot has no name');
  return name;
}
