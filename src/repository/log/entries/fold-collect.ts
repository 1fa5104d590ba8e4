import type { Steps } from '../../../common/yield-to-event-loop.ts';
import { logCorrupt } from '../../format/corrupt.ts';
import type { LogEntry } from '../../format/log-entry.ts';
import { type Condemnation, isKnown, sparedSessions } from '../../format/log-state.ts';
import { packKey } from '../../format/object-keys.ts';
import type { PackName } from '../../format/record.ts';
import { descriptorPacks } from './descriptor-packs.ts';
import { addPacks } from './fold-commit.ts';
import type { FoldDraft } from './fold-draft.ts';
import { fence, openSession } from './fold-sessions.ts';

type Collect = Extract<LogEntry, { readonly type: 'collect' }>;

/** A collection, also a repacker's: P6, P7, P9. */
export function* foldCollect(draft: FoldDraft, entry: Collect): Steps<void> {
  // As of before this entry: fencing and condemning a session are two collections (P6).
  const spared = sparedSessions(draft);
  yield* redate(draft, entry);
  yield* foldGone(draft, entry);
  yield* foldRepack(draft, entry);
  fence(draft, entry.fence, { seq: entry.seq, at: entry.at, owner: undefined });
  const condemned = new Set<string>();
  for (const pack of entry.packs) {
    if (draft.steps.isDue()) yield;
    condemned.add(packKey(pack));
    if (spared.has(pack.session)) throw logCorrupt(`collection ${entry.seq} condemns a pack of an open session`);
    if (!isKnown(draft, pack)) throw logCorrupt(`collection ${entry.seq} condemns a pack that is not known`);
  }
  if (condemned.size !== entry.packs.length) throw logCorrupt(`collection ${entry.seq} condemns a pack twice`);
  const moved = entry.relocate.map(({ pack }) => packKey(pack)).filter((key) => draft.relocations.has(key));
  const by: Condemnation = { seq: entry.seq, at: entry.at };
  const lost = yield* draft.condemn(entry.packs, by);
  for (const session of entry.sessions) {
    if (draft.steps.isDue()) yield;
    // Sessions that were opened after the collector read the log have larger numbers (P7).
    if (session >= entry.seq || spared.has(session))
      throw logCorrupt(`collection ${entry.seq} condemns an open session`);
    draft.fenced.delete(session);
    if (!draft.condemnedSessions.has(session)) draft.condemnedSessions.set(session, by);
  }
  for (const key of moved) condemned.add(key);
  yield* relocate(draft, entry, { movable: condemned, by });
  yield* checkStillThere(draft, entry, lost);
}

/** P8: what is named counts from this entry on. */
function* redate(draft: FoldDraft, { seq, at, redated }: Collect): Steps<void> {
  if (redated.length === 0) return;
  const dated = { seq, at };
  const left = new Set(redated);
  for (const sessions of [draft.sessions, draft.fenced]) {
    for (const [session, each] of sessions) if (left.delete(session)) sessions.set(session, { ...each, dated });
  }
  const found = new Set<number>();
  for (const [key, condemned] of draft.condemned) {
    if (draft.steps.isDue()) yield;
    if (!left.has(condemned.seq)) continue;
    found.add(condemned.seq);
    draft.condemned.set(key, { ...condemned, ...dated });
  }
  for (const [session, by] of draft.condemnedSessions) {
    if (!left.has(by.seq)) continue;
    found.add(by.seq);
    draft.condemnedSessions.set(session, dated);
  }
  for (const [key, tables] of draft.formerRelocations) {
    if (draft.steps.isDue()) yield;
    if (!tables.some(({ by }) => left.has(by.seq))) continue;
    draft.formerRelocations.set(
      key,
      tables.map((table) => (left.has(table.by.seq) ? { ...table, by: dated } : table)),
    );
  }
  if (found.size !== left.size) throw logCorrupt(`collection ${seq} dates what is neither a session nor condemned`);
}

function* foldGone(draft: FoldDraft, entry: Collect): Steps<void> {
  for (const pack of entry.gonePacks) {
    if (draft.steps.isDue()) yield;
    if (!draft.condemned.delete(packKey(pack)))
      throw logCorrupt(`collection ${entry.seq} misses what nobody condemned`);
  }
  for (const session of entry.goneSessions) {
    if (draft.steps.isDue()) yield;
    if (!draft.condemnedSessions.delete(session)) {
      throw logCorrupt(`collection ${entry.seq} misses what nobody condemned`);
    }
  }
  if (entry.gonePacks.length > 0) yield* dropFormer(draft);
}

/** Tables that are out of date go with what they lead to, which their collection condemned, or with the pack they stand in. */
function* dropFormer(draft: FoldDraft): Steps<void> {
  if (draft.formerRelocations.size === 0) return;
  const left = new Set<number>();
  for (const { seq } of draft.condemned.values()) {
    if (draft.steps.isDue()) yield;
    left.add(seq);
  }
  for (const [key, tables] of draft.formerRelocations) {
    if (draft.steps.isDue()) yield;
    const isThere = (pack: PackName) => isKnown(draft, pack) || draft.condemned.has(packKey(pack));
    const kept = tables.filter(({ by, location }) => left.has(by.seq) && isThere(location.pack));
    if (kept.length === 0) draft.formerRelocations.delete(key);
    else if (kept.length < tables.length) draft.formerRelocations.set(key, kept);
  }
}

/** P9: a repacker's collection ends its session, which is open until then, and makes its packs known. */
function* foldRepack(draft: FoldDraft, entry: Collect): Steps<void> {
  if (entry.session === undefined) {
    if (entry.newPacks.length + entry.relocate.length > 0) throw logCorrupt(`collection ${entry.seq} has no session`);
    return;
  }
  const session = openSession(draft, entry.session);
  if (session.volumes.size > 0) throw logCorrupt(`collection ${entry.seq} ends a session that holds volumes`);
  yield* addPacks(draft, session, entry.newPacks, []);
  draft.endSession(entry.session);
}

interface Relocating {
  /** What this entry condemns, and what was moved before: that gets a table straight to its newest place. */
  readonly movable: ReadonlySet<string>;
  readonly by: Condemnation;
}

function* relocate(draft: FoldDraft, entry: Collect, { movable, by }: Relocating): Steps<void> {
  for (const relocation of entry.relocate) {
    if (draft.steps.isDue()) yield;
    const key = packKey(relocation.pack);
    if (!movable.has(key)) throw logCorrupt(`collection ${entry.seq} relocates a pack that is not condemned`);
    if (!isKnown(draft, relocation.location.pack)) throw logCorrupt(`collection ${entry.seq} names a table nowhere`);
    yield* draft.relocate(key, relocation, by);
  }
}

/**
 * What maps begin with stays known, or was moved. The rest of a map only its reader sees.
 *
 * @param lost - keys of packs that this entry made unreachable, `undefined` where it may be any
 */
function* checkStillThere(draft: FoldDraft, entry: Collect, lost: readonly string[] | undefined): Steps<void> {
  if (lost !== undefined) {
    const unmoved = lost.filter((key) => !draft.relocations.has(key));
    if (unmoved.length === 0) return;
    const beginnings = yield* draft.beginnings();
    if (!unmoved.some((key) => beginnings.has(key))) return;
  }
  for (const marked of [draft.backups, draft.pinned]) {
    for (const backup of marked.values()) {
      if (draft.steps.isDue()) yield;
      for (const pack of descriptorPacks(backup)) {
        if (!isKnown(draft, pack) && !draft.relocations.has(packKey(pack))) {
          throw logCorrupt(`collection ${entry.seq} condemns what live backup ${backup.id} begins with`);
        }
      }
    }
  }
}
