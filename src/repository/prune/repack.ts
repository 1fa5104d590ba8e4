import { BackupError, isDamage } from '../../common/errors.ts';
import { ENTRIES_AT_ONCE, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { OutageRetries } from '../backup/outage-retries.ts';
import { dropSession, holdSession, SessionClaim } from '../backup/session-owner.ts';
import { appendInLittleRoom } from '../context/reserve.ts';
import type { Relocation } from '../format/log-entry.ts';
import { type LogState, markedBackups, type SessionName } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import type { PackName } from '../format/record.ts';
import { MAX_RELOCATION_ROWS, type RelocationRow } from '../format/relocation-table.ts';
import { decideRepack, type RepackPlan } from '../log/entries/repack.ts';
import { decideAbort, decideOpen } from '../log/entries/sessions.ts';
import { PackWriter } from '../packs/pack-writer.ts';
import type { Marking } from './collect.ts';
import { LiveLocations } from './live-packs.ts';
import { isLocked } from './pack-listing.ts';
import type { PruneRun } from './prune-run.ts';
import { type Candidate, liveBytesOf, movable } from './repack-selection.ts';
import { CopiedRecords, RelocationTableWriter } from './repack-writer.ts';

/**
 * Repacking (P9, decision 021): live records of sparse packs are copied into new packs, a table for each old pack says where they
 * are now, and one log entry relocates to the tables and condemns the old packs.
 */

const MAX_ROUNDS = 16;
/** An entry has at most 8 MiB, and a relocation needs about 110 bytes. */
const MAX_RELOCATED = 40_000;
/** How long the put of a pack is retried. */
const PUT_RETRY_MS = 60_000;
const PARALLEL_PUTS = 1;
const EMPTY_TABLES_BYTES = 2 ** 20;

/**
 * Repacks some packs. Resolves with the state in which they are condemned, or with `undefined` if none was repacked in the end. A
 * pack that turns out to be damaged, locked, or condemned by others is left alone.
 */
export async function repack(
  run: PruneRun,
  candidates: readonly Candidate[],
  marking: Marking,
): Promise<LogState | undefined> {
  const { context, options } = run;
  const { repositoryId } = context.format;
  run.begin('repacking', liveBytesOf(candidates));
  const claim = new SessionClaim(context.owner, repositoryId);
  const volumes = new Map<string, string | undefined>();
  let session: SessionName;
  try {
    const opened = await context.log.append((state) => decideOpen(state, { owner: claim.ownerOn(state), volumes }), {
      signal: options.signal,
      lookFirst: false,
      confirm: false,
    });
    if (opened === undefined) return undefined;
    session = { seq: opened.entry.seq, hash: opened.state.hash };
    holdSession(repositoryId, session.seq);
  } finally {
    claim.settle();
  }
  const abort = (signal: AbortSignal | undefined) =>
    appendInLittleRoom(context, (now) => decideAbort(now, session.seq, session.hash), { signal, usesReserve: false });
  try {
    const state = await new Repacker(run, session, candidates, marking).run();
    if (state === undefined) await abort(options.signal);
    return state;
  } catch (error) {
    // Aborting the run must not wait for the network, and a store that did not answer is not asked again. Then the next run
    // fences the session.
    const isHopeless = options.signal?.aborted === true || (BackupError.is(error) && error.retryable);
    if (!isHopeless) await abort(undefined).catch(() => {});
    throw error;
  } finally {
    dropSession(repositoryId, session.seq);
  }
}

class Repacker {
  readonly #run: PruneRun;
  readonly #session: SessionName;
  readonly #marking: Marking;
  readonly #writer: PackWriter;
  /** Writes tables of packs of which no record is live, into a pack of their own that the next collection condemns. */
  readonly #emptyTables: PackWriter;
  readonly #copied: CopiedRecords;
  readonly #tables: RelocationTableWriter;
  /** The remaining candidates, by key. */
  readonly #candidates: Map<string, Candidate>;
  readonly #unlocked = new Set<string>();
  #locations: LiveLocations | undefined;

  constructor(run: PruneRun, session: SessionName, candidates: readonly Candidate[], marking: Marking) {
    const { context, options } = run;
    this.#run = run;
    this.#session = session;
    this.#marking = marking;
    this.#candidates = new Map(candidates.map((candidate) => [packKey(candidate.pack), candidate]));
    const { maxObjectBytes = Number.POSITIVE_INFINITY } = context.target.capabilities;
    const { signal = new AbortController().signal } = options;
    // No decorator retries a create-only put.
    const retries = new OutageRetries({ outageMs: PUT_RETRY_MS, signal, onChange: () => {} });
    const writer = (packBytes: number) =>
      new PackWriter({
        target: context.target,
        session: session.seq,
        footerKey: context.keys.footerKey,
        createOnly: context.format.mode === 'shared',
        packBytes: Math.min(packBytes, maxObjectBytes),
        parallelPuts: PARALLEL_PUTS,
        insist: (put) => retries.run(put),
        signal: options.signal,
      });
    this.#writer = writer(options.packBytes);
    this.#emptyTables = writer(EMPTY_TABLES_BYTES);
    this.#copied = new CopiedRecords(context, this.#writer, (bytes) => run.progress.advance(bytes));
    this.#tables = new RelocationTableWriter(context.keys, this.#writer, this.#emptyTables);
  }

  /** If the log has new entries when the plan is ready, another round looks up what is live again (P9). */
  async run(): Promise<LogState | undefined> {
    const { context, options } = this.#run;
    const { signal } = options;
    for (let round = 1; round <= MAX_ROUNDS; round++) {
      const state = await context.log.catchUp({ needs: 'all', signal });
      let plan: RepackPlan | undefined;
      try {
        plan = await this.#prepare(state);
      } catch (error) {
        // Another host may have forgotten a backup and deleted its packs in the meantime. Then the next run tries again.
        signal?.throwIfAborted();
        if ((await context.log.catchUp({ signal })).seq === state.seq) throw error;
        return undefined;
      }
      if (plan === undefined) return undefined;
      const ready = plan;
      try {
        const appended = await context.log.append((now) => decideRepack(now, ready), {
          ...{ needs: 'all', signal },
          lookFirst: false,
        });
        if (appended === undefined) return undefined;
        this.#count(plan);
        return appended.state;
      } catch (error) {
        // Another pruner believed this one dead and fenced its session, which the log may have dropped since.
        if (BackupError.is(error, 'SESSION_FENCED') || BackupError.is(error, 'SESSION_ENDED')) return undefined;
        // Others condemned a candidate in between, which the next round leaves alone.
        if (!BackupError.is(error, 'OBJECT_CONFLICT') && !BackupError.is(error, 'PACK_CONDEMNED')) throw error;
      }
    }
    return undefined;
  }

  /** Copies records that are live in a state and were not copied yet, and writes the tables of their packs. */
  async #prepare(state: LogState): Promise<RepackPlan | undefined> {
    const { packs: live } = this.#marking;
    const { context, options } = this.#run;
    await live.mark(markedBackups(state), options);
    for (;;) {
      const mayMove = movable(state);
      for (const [key, { pack }] of this.#candidates) if (!mayMove(pack)) this.#candidates.delete(key);
      if (this.#candidates.size === 0) return undefined;
      const before = await this.#movedBefore(state);
      const wanted = new Set([...this.#candidates.keys(), ...before.keys()]);
      if (this.#locations?.covers(wanted) !== true) {
        this.#locations = new LiveLocations(context, live.records, wanted);
      }
      await this.#locations.walk(markedBackups(state), options);
      const relocate = await this.#move(this.#locations, before);
      if (relocate === undefined) continue; // Again, without a candidate that could not be repacked.
      if (relocate.length > MAX_RELOCATED) return undefined;
      await this.#writer.flush();
      await this.#emptyTables.flush();
      const stored = [...this.#writer.stored, ...this.#emptyTables.stored];
      const newPacks = stored.map((pack) => ({ ...pack, session: this.#session.seq }));
      const packs = [...this.#candidates.values()].map(({ pack }) => pack);
      const { seq: session, hash: openHash } = this.#session;
      return { markedAt: state.seq, session, openHash, newPacks, packs, relocate };
    }
  }

  /**
   * Finds packs repacked earlier whose table is stored in a candidate, or leads to one. They get a new table that leads directly
   * to the newest locations.
   */
  async #movedBefore(state: LogState): Promise<Map<string, Relocation>> {
    const { named, records } = this.#marking.packs;
    const found = new Map<string, Relocation>();
    for (const [key, relocation] of state.relocations) {
      const isInside = this.#candidates.has(packKey(relocation.location.pack));
      const leads = named.has(key) ? await records.relocations.targets(relocation, this.#run.options) : [];
      if (isInside || leads.some(({ pack }) => this.#candidates.has(packKey(pack)))) found.set(key, relocation);
    }
    return found;
  }

  /** @returns `undefined` if a candidate had to be given up */
  async #move(locations: LiveLocations, before: ReadonlyMap<string, Relocation>): Promise<Relocation[] | undefined> {
    const wanted = new Map([...this.#candidates.keys()].map((key) => [key, new Set(locations.in(key))]));
    const rowsBefore = new Map<string, RelocationRow[]>();
    const { relocations } = this.#marking.packs.records;
    for (const [key, relocation] of before) {
      const offsets = locations.in(key);
      // A table in a candidate may lead to records that are not live any more.
      const table = offsets.size === 0 ? undefined : await relocations.table(relocation, this.#run.options);
      const rows = table === undefined ? [] : await table.rowsOf(offsets);
      for (const { to } of rows) wanted.get(packKey(to.pack))?.add(to.offset);
      rowsBefore.set(key, rows);
    }
    let isWhole = true;
    for (const [key, offsets] of wanted) if (!(await this.#copy(key, offsets))) isWhole = false;
    if (!isWhole) return undefined;
    const relocate: Relocation[] = [];
    for (const [key, { pack }] of this.#candidates) {
      const rows = await this.#rowsOf(pack, locations.in(key));
      if (rows.length > 0) relocate.push(await this.#tables.write(pack, rows));
    }
    for (const [key, relocation] of before) {
      const rows = (rowsBefore.get(key) ?? []).map(({ offset, to }) => ({
        offset,
        to: this.#copied.location(to.pack, to.offset) ?? to,
      }));
      relocate.push(await this.#tables.write(relocation.pack, rows));
    }
    return relocate;
  }

  /** The rows of the table of a pack: where its live records were copied to. */
  async #rowsOf(pack: PackName, offsets: Iterable<number>): Promise<RelocationRow[]> {
    const rows: RelocationRow[] = [];
    for (const offset of Uint32Array.from(offsets).sort()) {
      rows.push({ offset, to: this.#copied.location(pack, offset) as RelocationRow['to'] });
      if (rows.length % ENTRIES_AT_ONCE === 0) await yieldToEventLoop();
    }
    return rows;
  }

  /** @returns whether the pack can be repacked; otherwise it is no candidate any more */
  async #copy(key: string, offsets: ReadonlySet<number>): Promise<boolean> {
    const candidate = this.#candidates.get(key) as Candidate;
    const isMovable = offsets.size <= MAX_RELOCATION_ROWS && !(await this.#isLocked(key));
    try {
      if (isMovable && (await this.#copied.copy(candidate, offsets, this.#run.options))) return true;
    } catch (error) {
      if (!isDamage(error)) throw error;
    }
    this.#candidates.delete(key);
    return false;
  }

  async #isLocked(key: string): Promise<boolean> {
    const { context, options, ages } = this.#run;
    if (!options.checkLocks || this.#unlocked.has(key)) return false;
    const info = await context.target.stat(key, { signal: options.signal });
    if (info === undefined || isLocked(info.retainUntil, ages.now)) return true;
    this.#unlocked.add(key);
    return false;
  }

  #count({ packs }: RepackPlan): void {
    const { result } = this.#run;
    const bytes = packs.reduce((sum, pack) => sum + this.#marking.listing.sizeOf(packKey(pack)), 0);
    result.repackedBytes += this.#copied.copiedBytes;
    result.repackedPacks += packs.length;
    result.condemnedPacks += packs.length;
    result.condemnedBytes += bytes;
    for (const pack of packs) this.#marking.live.delete(packKey(pack));
  }
}
