import { type Anchor, anchorNumbers } from '../../../../src/repository/format/anchors.ts';
import { volumeSuffix } from '../../../../src/repository/format/catalogue-pages.ts';
import type {
  BackupRecord,
  CommittedPack,
  LogEntry,
  LogFact,
  LogFactOf,
  PackTable,
  Relocation,
} from '../../../../src/repository/format/log-entry.ts';
import { EMPTY_STATE, type LogState } from '../../../../src/repository/format/log-state.ts';
import type { Location, PackName } from '../../../../src/repository/format/record.ts';
import { randomBytes } from '../../../support/randomness.ts';
import { applyEntry } from './fold-at-once.ts';

/** Short ways to write entries down. */

export const hexId = (): string => randomBytes(16).toString('hex');
export const id32 = (): Uint8Array => Uint8Array.from(randomBytes(32));

/** Anchors of a state that no entries have made. */
export function zeroAnchors(seq: number, hash: Uint8Array = new Uint8Array(32)): Anchor[] {
  return anchorNumbers(seq).map((each) => ({ seq: each, hash: each === seq ? hash.slice(0, 16) : new Uint8Array(16) }));
}

/** A name that says where it comes from: packs of a session are a, b, c ... */
export function pack(session: number, letter: string): CommittedPack {
  const random = Buffer.from(letter.padEnd(16, '.')).toString('hex').slice(0, 32);
  return { session, random, size: 100_000, sha256: new Uint8Array(32).fill(session) };
}

export const nameOf = ({ session, random }: PackName): PackName => ({ session, random });

export function location(name: PackName, offset = 8): Location {
  return { pack: nameOf(name), offset, storedLength: 1000, codec: 1, rawLength: 4000 };
}

export interface BackupOptions {
  id?: string;
  volume?: string;
  parent?: string | undefined;
  base?: string | undefined;
  /** Packs of the runs, newest first. */
  runs?: readonly PackName[];
  metadata?: Record<string, string>;
}

export const backupId = (volume: string): string => randomBytes(12).toString('hex') + volumeSuffix(volume);

/** A backup whose root lies in a pack. */
export function backup(root: PackName, options: BackupOptions = {}): BackupRecord {
  const { volume = 'disk', parent, base, runs = [], metadata = {} } = options;
  const { id = backupId(volume) } = options;
  return {
    id,
    volume,
    parent,
    base,
    frozenAt: 1_700_000_000_000,
    trackingId: '5f0c7f6e-4f5b-4f0e-9f0e-0123456789ab',
    point: 7,
    intact: true,
    descriptor: {
      size: 2 ** 30,
      blockSize: 65_536,
      root: { level: 1, id: id32(), location: location(root) },
      runs: runs.map((name) => [
        { id: id32(), location: location(name, 2000), firstBlock: 5, lastBlock: 90, entries: 60 },
      ]),
      lost: [],
    },
    metadata,
    stats: { storedBytes: 12_345, changedBlocks: 61 },
  };
}

export function open(
  volumes: Record<string, string | undefined> = { disk: undefined },
  rest: Partial<LogFactOf<'open'>> = {},
): LogFactOf<'open'> {
  return { type: 'open', owner: 'host', volumes: new Map(Object.entries(volumes)), fence: [], adopt: [], ...rest };
}

export function commit(
  session: number,
  backups: readonly BackupRecord[],
  packs: readonly CommittedPack[],
  packTables: readonly PackTable[] = [],
): LogFactOf<'commit'> {
  return { type: 'commit', session, backups, packs, packTables };
}

export function collect(rest: Partial<LogFactOf<'collect'>>): LogFactOf<'collect'> {
  const nothing = { packs: [], sessions: [], fence: [], relocate: [], gonePacks: [], goneSessions: [], redated: [] };
  return { type: 'collect', session: undefined, newPacks: [], ...nothing, ...rest };
}

export function relocation(from: PackName, to: PackName): Relocation {
  return { pack: nameOf(from), id: id32(), location: location(to, 5000) };
}

/** The entry that says `fact` after `state`. */
export function entryAfter(state: LogState, fact: LogFact): LogEntry {
  return { seq: state.seq + 1, prev: state.hash, commitId: hexId(), at: 1_700_000_000_000 + state.seq, ...fact };
}

/** Folds facts, with hashes that are as good as any. */
export function after(...facts: readonly LogFact[]): LogState {
  return from(EMPTY_STATE, ...facts);
}

export function from(state: LogState, ...facts: readonly LogFact[]): LogState {
  return facts.reduce((now, fact) => applyEntry(now, entryAfter(now, fact), id32()), state);
}

/** One of each type, in an order that can be folded. */
export function everyFact(): LogFact[] {
  const first = backup(pack(1, 'a'), { runs: [pack(1, 'b')], metadata: { note: 'grün' } });
  const second = backup(pack(3, 'a'), { parent: first.id, base: first.id });
  const table: PackTable = { id: id32(), location: location(pack(3, 'a'), 90_000), packs: 3 };
  const moved = pack(8, 'm');
  return [
    open(),
    commit(1, [first], [pack(1, 'a'), pack(1, 'b'), pack(1, 'c')]),
    open({ disk: first.id }),
    commit(3, [second], [pack(3, 'a')], [table]),
    open({ disk: second.id, other: undefined }),
    { type: 'config', quarantine: [nameOf(pack(1, 'a'))], release: [] },
    { type: 'abort', session: 5 },
    open({}),
    collect({
      session: 8,
      newPacks: [moved],
      packs: [nameOf(pack(1, 'c')), nameOf(pack(1, 'b'))],
      relocate: [relocation(pack(1, 'b'), moved)],
    }),
    { type: 'forget', backups: [first.id] },
    { type: 'keys', added: ['0123456789abcdef'], removed: [] },
    open({ disk: second.id }),
    open({ third: undefined }),
    collect({ fence: [13], sessions: [5], gonePacks: [nameOf(pack(1, 'c'))] }),
    { type: 'config', quarantine: [nameOf(pack(8, 'm'))], release: [nameOf(pack(1, 'a'))] },
    { type: 'hold', backups: [second.id], reason: 'until the audit' },
    { type: 'hold', backups: [second.id], reason: undefined },
    { type: 'release', backups: [second.id] },
    { type: 'forget', backups: [second.id] },
  ];
}
