import type { MapDescriptor } from '../map/descriptor.ts';
import type { Location, PackName } from '../records/record.ts';

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
      /** By volume: the pinned base. */
      readonly volumes: ReadonlyMap<string, string | undefined>;
      readonly fence: readonly number[];
      readonly adopt: readonly number[];
    }
  | {
      readonly type: 'commit';
      readonly session: number;
      readonly backups: readonly BackupRecord[];
      /** The session's packs, here or in tables. */
      readonly packs: readonly PackRecord[];
      readonly packTables: readonly { readonly id: Uint8Array; readonly location: Location; readonly packs: number }[];
    }
  | { readonly type: 'abort'; readonly session: number }
  | { readonly type: 'forget'; readonly backups: readonly string[] }
  | {
      readonly type: 'collect';
      readonly packs: readonly PackName[];
      readonly sessions: readonly number[];
      readonly fence: readonly number[];
      readonly relocate: readonly { readonly id: Uint8Array; readonly location: Location }[];
    }
  | { readonly type: 'keys'; readonly added: readonly string[]; readonly removed: readonly string[] }
  | { readonly type: 'config'; readonly quarantine: readonly PackName[]; readonly release: readonly PackName[] };

/** One entry without its tail. */
export type LogEntry = EntryHead & LogFact;

/** A pack as it was uploaded. */
export interface PackRecord {
  readonly random: string;
  /** Bytes. */
  readonly size: number;
  readonly sha256: Uint8Array;
}

/** A backup as its commit entry tells of it. */
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
