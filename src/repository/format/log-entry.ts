import type { MapDescriptor } from './map-descriptor.ts';
import type { Location, PackName } from './record.ts';

/** Entries of the commit log, as `docs/FORMAT.md`, section 8, has them. Ids of backups and commits are 32 hex digits here. */

interface EntryHead {
  readonly seq: number;
  /** SHA-256 of the object bytes of the entry before; zeroes for the first. */
  readonly prev: Uint8Array;
  readonly commitId: string;
  /** Milliseconds since 1970 by the writer's clock; informational. */
  readonly at: number;
}

/** What became true. */
export type LogFact =
  | {
      readonly type: 'open';
      readonly owner: string;
      /** By volume: the pinned base. None in a repacker's session. */
      readonly volumes: ReadonlyMap<string, string | undefined>;
      readonly fence: readonly number[];
      readonly adopt: readonly number[];
    }
  | {
      readonly type: 'commit';
      readonly session: number;
      readonly backups: readonly BackupRecord[];
      /** The session's packs and those that it took over from adopted ones, here or in tables. */
      readonly packs: readonly CommittedPack[];
      readonly packTables: readonly PackTable[];
    }
  | { readonly type: 'abort'; readonly session: number }
  | { readonly type: 'forget'; readonly backups: readonly string[] }
  /** Backups that can't be forgotten before they are released. A second hold of a backup replaces the reason of the first. */
  | { readonly type: 'hold'; readonly backups: readonly string[]; readonly reason: string | undefined }
  | { readonly type: 'release'; readonly backups: readonly string[] }
  | {
      readonly type: 'collect';
      /** The session of a repacker, which ends with this entry. */
      readonly session: number | undefined;
      /** The packs of a repacker, which become known. */
      readonly newPacks: readonly CommittedPack[];
      /** Packs that this entry condemns. */
      readonly packs: readonly PackName[];
      /** Sessions of which every pack is condemned that is not known. */
      readonly sessions: readonly number[];
      readonly fence: readonly number[];
      readonly relocate: readonly Relocation[];
      /** Packs that were condemned earlier and are gone: the state no longer carries them. */
      readonly gonePacks: readonly PackName[];
      readonly goneSessions: readonly number[];
      /**
       * Sessions that are open or fenced, and collections that condemned what is not gone yet, whose age counts from this entry
       * on: their own times were ahead of the collector's clock, or came from another host's.
       */
      readonly redated: readonly number[];
      /** Where this entry sets a new floor. */
      readonly floor?: Floor | undefined;
    }
  | { readonly type: 'keys'; readonly added: readonly string[]; readonly removed: readonly string[] }
  | {
      readonly type: 'config';
      readonly quarantine: readonly PackName[];
      readonly release: readonly PackName[];
      /** What a program must know from here on to write; there where a newer program says so. */
      readonly features?: readonly string[] | undefined;
      /** The same to read. */
      readonly readerFeatures?: readonly string[] | undefined;
    };

export type LogFactOf<Type extends LogFact['type']> = Extract<LogFact, { readonly type: Type }>;

/** A checkpoint that replaces its own entry and everything below. Code that relies on it compares the digest (L1). */
export interface Floor {
  readonly seq: number;
  /** SHA-256 of the bytes of the checkpoint's object. */
  readonly sha256: Uint8Array;
}

/** One entry without its tail. */
export type LogEntry = EntryHead & LogFact;

/** A pack as it was uploaded. */
export interface PackRecord {
  readonly random: string;
  /** Bytes. */
  readonly size: number;
  readonly sha256: Uint8Array;
}

/** A pack that an entry makes known. An adopted session's packs keep their keys. */
export interface CommittedPack extends PackRecord {
  readonly session: number;
}

/** A record of kind 5, which lists the packs of a commit where they are too many for its entry. */
export interface PackTable {
  readonly id: Uint8Array;
  readonly location: Location;
  /** How many it lists. */
  readonly packs: number;
}

/** A record of kind 6: where all records of a condemned pack are now that are still needed. */
export interface Relocation {
  /** The condemned pack. */
  readonly pack: PackName;
  readonly id: Uint8Array;
  readonly location: Location;
}

/** A backup as its commit entry has it. */
export interface BackupRecord {
  readonly id: string;
  readonly volume: string;
  readonly parent: string | undefined;
  readonly base: string | undefined;
  /** Milliseconds since 1970. */
  readonly frozenAt: number;
  readonly trackingId: string;
  readonly point: number;
  readonly intact: boolean;
  readonly descriptor: MapDescriptor;
  readonly metadata: Readonly<Record<string, string>>;
  readonly stats: { readonly storedBytes: number; readonly changedBlocks: number };
}
