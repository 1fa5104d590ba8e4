import { sorting } from '../../../common/sort-in-steps.ts';
import { StepCounter, type Steps } from '../../../common/yield-to-event-loop.ts';
import {
  backupKey,
  type CatalogueTable,
  mayHold,
  type PageRef,
  packRange,
  pageKeyOf,
  sortedByKey,
  volumeRange,
} from '../../format/catalogue-pages.ts';
import {
  type BackupHold,
  type Head,
  type KnownPacks,
  type LogState,
  NOTHING_KNOWN,
  type PackFacts,
  pinnedIds,
  type StoredBackup,
} from '../../format/log-state.ts';
import type { BackupRow, PageRows } from '../../format/page-codec.ts';

/** A page that was read. */
export interface ReadPage<Table extends CatalogueTable = CatalogueTable> {
  readonly table: Table;
  readonly ref: PageRef;
  readonly rows: PageRows[Table];
}

/**
 * Takes pages into a state: their rows are in it then like those that no page has, and it says the same as before. In steps,
 * because a state may have a hundred thousand rows.
 */
export function* takingIn(state: LogState, pages: readonly ReadPage[]): Steps<LogState> {
  if (pages.length === 0) return state;
  const taken = new Set(pages.map(({ ref }) => pageKeyOf(ref)));
  const left = (refs: readonly PageRef[]) => refs.filter((ref) => !taken.has(pageKeyOf(ref)));
  const after = { ...state, pages: { backups: left(state.pages.backups), packs: left(state.pages.packs) } };
  const backups = pages.filter((page) => page.table === 'backups').map(({ rows }) => rows as PageRows['backups']);
  const packs = pages.filter((page) => page.table === 'packs').map(({ rows }) => rows as PageRows['packs']);
  return { ...after, ...(yield* withBackups(after, backups)), known: yield* withPacks(after, packs) };
}

function* rowsOf<Row>(pages: readonly (readonly Row[])[]): Iterable<Row> {
  for (const rows of pages) yield* rows;
}

type BackupParts = Pick<LogState, 'backups' | 'pinned' | 'heads' | 'forgotten' | 'holds'>;

function* withBackups(state: LogState, pages: readonly PageRows['backups'][]): Steps<BackupParts> {
  const steps = new StepCounter();
  const pinned = new Map(state.pinned);
  const heads = new Map<string, Head>();
  const forgotten = new Set<string>();
  for (const id of state.forgotten) {
    if (steps.isDue()) yield;
    forgotten.add(id);
  }
  const holds = new Map<string, BackupHold | undefined>();
  for (const [id, hold] of state.holds) {
    if (steps.isDue()) yield;
    holds.set(id, hold);
  }
  const pins = pinnedIds(state.sessions.values());
  const backups: StoredBackup[] = [];
  for (const backup of state.backups.values()) {
    if (steps.isDue()) yield;
    backups.push(backup);
  }
  for (const row of rowsOf(pages)) {
    if (steps.isDue()) yield;
    const { volume, id, seq } = row;
    if ((heads.get(volume)?.seq ?? 0) < seq) heads.set(volume, { id, seq });
    const held = withHold(row, holds);
    if (!forgotten.delete(id)) {
      if (held !== undefined) backups.push(held);
    } else if (held !== undefined && pins.has(id)) pinned.set(id, withoutHold(held));
  }
  const isLast = state.pages.backups.length === 0;
  return {
    backups: pages.length === 0 ? state.backups : yield* inOrder(backups),
    ...{ pinned, heads: yield* withHeads(state, heads) },
    forgotten: isLast ? new Set() : forgotten,
    holds: isLast ? new Map() : holds,
  };
}

/** @param found - the newest backup of each volume that has rows in the pages that were taken in */
function* withHeads(state: LogState, found: ReadonlyMap<string, Head>): Steps<Map<string, Head>> {
  const steps = new StepCounter();
  const heads = new Map(state.heads);
  for (const [volume, head] of found) {
    if (steps.isDue()) yield;
    // A page that is left may have a newer one.
    // @mutation heads-are-the-newest
    if (mayHold(state.pages.backups, { first: backupKey(volume, head.seq), last: volumeRange(volume).last })) continue;
    if ((heads.get(volume)?.seq ?? 0) < head.seq) heads.set(volume, head);
  }
  return heads;
}

/** The backup of a row as it is held now; `undefined` for one that was forgotten. */
export function withHold(row: BackupRow, holds: Map<string, BackupHold | undefined>): StoredBackup | undefined {
  if ('isForgotten' in row) return undefined;
  if (!holds.has(row.id)) return row;
  const hold = holds.get(row.id);
  holds.delete(row.id);
  const released = withoutHold(row);
  return hold === undefined ? released : { ...released, hold };
}

/** A backup that was forgotten was released before, whatever its row says. */
export function withoutHold({ hold: _, ...released }: StoredBackup): StoredBackup {
  return released;
}

/** By id, the oldest first; those of one commit in the order of their keys, as folding has them. */
function* inOrder(backups: StoredBackup[]): Steps<Map<string, StoredBackup>> {
  const steps = new StepCounter();
  const bySeq = yield* sorting(backups, (one, other) => one.seq - other.seq);
  const ordered = new Map<string, StoredBackup>();
  for (let at = 0; at < bySeq.length; ) {
    if (steps.isDue()) yield;
    const { seq } = bySeq[at] as StoredBackup;
    let end = at + 1;
    while (bySeq[end]?.seq === seq) end++;
    for (const backup of sortedByKey(bySeq.slice(at, end))) ordered.set(backup.id, backup);
    at = end;
  }
  return ordered;
}

function* withPacks(state: LogState, pages: readonly PageRows['packs'][]): Steps<LogState['known']> {
  if (pages.length === 0) return state.known;
  const steps = new StepCounter();
  const known = new Map<number, KnownPacks>();
  for (const [session, packs] of state.known) {
    if (steps.isDue()) yield;
    known.set(session, packs);
  }
  const own = new Map<number, KnownPacks & { readonly packs: Map<string, PackFacts> }>();
  for (const { session, random, size, sha256 } of rowsOf(pages)) {
    if (steps.isDue()) yield;
    let ofSession = own.get(session);
    if (ofSession === undefined) {
      const { packs, tables, dead } = known.get(session) ?? NOTHING_KNOWN;
      ofSession = { packs: new Map(packs), tables, dead };
      own.set(session, ofSession);
      known.set(session, ofSession);
    }
    if (!ofSession.dead.has(random)) ofSession.packs.set(random, { size, sha256 });
  }
  for (const [session, { packs, tables, dead }] of known) {
    if (steps.isDue()) yield;
    if (dead.size === 0 || tables.length > 0) continue;
    // A dead one stays named where a table, or a page that is left, may list it: a pack may have rows in two pages.
    const left = [...dead].filter((random) => mayHold(state.pages.packs, packRange(session, random)));
    if (packs.size + left.length === 0) known.delete(session);
    else known.set(session, { packs, tables, dead: left.length === 0 ? NOTHING_KNOWN.dead : new Set(left) });
  }
  return known;
}
