import { encodeLocation } from '../map/descriptor-codec.ts';
import { backupOf, backupPlain } from './backup-codec.ts';
import { logCorrupt, madeByNewer } from './corrupt.ts';
import type { CommittedPack, LogFact, PackTable, Relocation } from './log-entry.ts';
import {
  bytesOf,
  idBytes,
  idOf,
  intOf,
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
} from './plain-values.ts';

/** What an entry says, without its head: `docs/FORMAT.md`, section 8, the table of types. */

export function factPlain(fact: LogFact): Record<string, unknown> {
  const { type } = fact;
  switch (type) {
    case 'open': {
      const volumes = volumesPlain(fact.volumes);
      return { type, owner: wellFormed(fact.owner, 'the owner'), volumes, fence: fact.fence, adopt: fact.adopt };
    }
    case 'commit': {
      const packs = fact.packs.map(committedPlain);
      const packTables = fact.packTables.map(tablePlain);
      return { type, session: fact.session, backups: fact.backups.map(backupPlain), packs, packTables };
    }
    case 'abort':
      return { type, session: fact.session };
    case 'forget':
    case 'release':
      return { type, backups: fact.backups.map(idBytes) };
    case 'hold': {
      const reason = fact.reason === undefined ? null : wellFormed(fact.reason, 'the reason of a hold');
      return { type, backups: fact.backups.map(idBytes), reason };
    }
    case 'collect':
      return {
        type,
        session: fact.session ?? null,
        newPacks: fact.newPacks.map(committedPlain),
        packs: fact.packs.map(packPlain),
        sessions: fact.sessions,
        fence: fact.fence,
        relocate: fact.relocate.map(relocationPlain),
        gonePacks: fact.gonePacks.map(packPlain),
        goneSessions: fact.goneSessions,
        ...(fact.redated.length === 0 ? {} : { redated: fact.redated }),
      };
    case 'keys':
      return { type, added: fact.added, removed: fact.removed };
    case 'config':
      return { type, quarantine: fact.quarantine.map(packPlain), release: fact.release.map(packPlain) };
  }
}

export function factOf(fields: PlainMap): LogFact {
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
        backups: listOf(fields.backups, 'backups', backupOf),
        packs: listOf(fields.packs, 'packs', committedOf),
        packTables: listOf(fields.packTables, 'tables of packs', tableOf),
      };
    case 'abort':
      return { type, session: seqOf(fields.session, 'the session') };
    case 'forget':
    case 'release':
      return { type, backups: listOf(fields.backups, 'backups', (id) => idOf(id, "a backup's id")) };
    case 'hold':
      return {
        type,
        backups: listOf(fields.backups, 'backups', (id) => idOf(id, "a backup's id")),
        reason: optional(fields.reason, (reason) => textOf(reason, 'the reason of a hold', 1)),
      };
    case 'collect':
      return {
        type,
        session: optional(fields.session, (session) => seqOf(session, 'the session')),
        newPacks: listOf(fields.newPacks, 'new packs', committedOf),
        packs: listOf(fields.packs, 'packs', packOf),
        sessions: sessionsOf(fields.sessions),
        fence: sessionsOf(fields.fence),
        relocate: listOf(fields.relocate, 'relocations', relocationOf),
        gonePacks: listOf(fields.gonePacks, 'packs that are gone', packOf),
        goneSessions: sessionsOf(fields.goneSessions),
        redated: optional(fields.redated, sessionsOf) ?? [],
      };
    case 'keys':
      return { type, added: slotsOf(fields.added), removed: slotsOf(fields.removed) };
    case 'config':
      return {
        type,
        quarantine: listOf(fields.quarantine, 'packs', packOf),
        release: listOf(fields.release, 'packs', packOf),
      };
  }
  if (typeof type !== 'string') throw logCorrupt('an entry has no type');
  throw madeByNewer(`an entry of type ${JSON.stringify(String(type).slice(0, 40))}`);
}

/** Pairs and not a map: no name of a volume may mean something to a decoder. */
export function volumesPlain(volumes: ReadonlyMap<string, string | undefined>): unknown {
  return [...volumes].map(([name, base]) => [wellFormed(name, "a volume's name"), optionalIdBytes(base)]);
}

export function volumesOf(value: unknown): Map<string, string | undefined> {
  const pairs = listOf(value, 'volumes', (item): [string, string | undefined] => {
    const [name, base] = tupleOf(item, 2, 'a volume');
    return [textOf(name, "a volume's name", 1), optional(base, (id) => idOf(id, "a volume's base"))];
  });
  const volumes = new Map(pairs);
  if (volumes.size !== pairs.length) throw logCorrupt('a volume is named twice');
  return volumes;
}

export function sessionsOf(value: unknown): number[] {
  const sessions = listOf(value, 'sessions', (item) => seqOf(item, 'a session'));
  if (new Set(sessions).size !== sessions.length) throw logCorrupt('a session is named twice');
  return sessions;
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
  return listOf(value, 'key slots', (item) => {
    const name = textOf(item, 'a key slot');
    if (!/^[0-9a-f]{16}$/.test(name)) throw logCorrupt('a key slot has no name');
    return name;
  });
}
