import { BackupError, isDamage } from '../../common/errors.ts';
import { ENTRIES_AT_ONCE, runInSteps, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { OutageRetries } from '../backup/outage-retries.ts';
import { dropSession, holdSession, SessionClaim } from '../backup/session-owner.ts';
import { appendInLittleRoom } from '../context/reserve.ts';
import type { Relocation } from '../format/log-entry.ts';
import { type LogState, markedBackups } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { type PackName, RecordKind } from '../format/record.ts';
import { encodingRelocationTable, MAX_RELOCATION_ROWS, type RelocationRow } from '../format/relocation-table.ts';
import { decideRepack, type RepackPlan } from '../log/entries/repack.ts';
import { decideAbort, decideOpen } from '../log/entries/sessions.ts';
import { NodeWriter } from '../packs/node-writer.ts';
import { PackWriter } from '../packs/pack-writer.ts';
import type { Marking } from './collect.ts';
import { CopiedRecords } from './copied-records.ts';
import { LiveLocations } from './live-packs.ts';
import { isLocked } from './pack-listing.ts';
import type { PruneRun } from './prune-run.ts';
import { type Candidate, movable } from './repack-selection.ts';

/** Rule P9, decision 021: what is live in sparse packs is copied into new ones, and a collection condemns the old ones. */

/** A pack that was moved before, and whose table has to be written again. */
interface MovedBefore {
  readonly key: string;
  readonly relocation: Relocation;
}

const MAX_ROUNDS = 16;
/** An entry has 8 MiB, and a relocation takes some 110 bytes. */
const MAX_RELOCATED = 40_000;
/** How long a pack that can't be sent is sent again. */
const PUT_PATIENCE_MS = 60_000;
const PARALLEL_PUTS = 1;
const LEAVINGS_BYTES = 2 ** 20;

/**
 * Moves what is live in some packs. Resolves with the state that condemns them; `undefined` where nothing was moved in the
 * end. A pack that turns out to be damaged, locked, or condemned by others is left alone.
 */
export async function repack(
  run: PruneRun,
  candidates: readonly Candidate[],
  marking: Marking,
): Promise<LogState | undefined> {
  const { context, options } = run;
  const { repositoryId } = context.format;
  run.begin(
    'repacking',
    candidates.reduce((sum, { liveBytes }) => sum + liveBytes, 0),
  );
  const claim = new SessionClaim(context.owner, repositoryId);
  const volumes = new Map<string, string | undefined>();
  let session: number;
  try {
    const opened = await context.log.append((state) => decideOpen(state, { owner: claim.ownerOn(state), volumes }), {
      signal: options.signal,
      lookFirst: false,
      confirm: false,
    });
    if (opened === undefined) return undefined;
    session = opened.entry.seq;
    holdSession(repositoryId, session);
  } finally {
    claim.settle();
  }
  try {
    const state = await new Repacker(run, session, candidates, marking).run();
    if (state === undefined)
      await appendInLittleRoom(context, (now) => decideAbort(now, session), {
        signal: options.signal,
        usesReserve: false,
      });
    return state;
  } catch (error) {
    // An abort waits for no network, and what did not answer before won't now. The next run fences the session.
    const isHopeless = options.signal?.aborted === true || (BackupError.is(error) && error.retryable);
    if (!isHopeless)
      await appendInLittleRoom(context, (now) => decideAbort(now, session), { usesReserve: false }).catch(() => {});
    throw error;
  } finally {
    dropSession(repositoryId, session);
  }
}

class Repacker {
  readonly #run: PruneRun;
  readonly #session: number;
  readonly #marking: Marking;
  readonly #writer: PackWriter;
  /** Tables of packs of which nothing is needed: a pack of their own, which the next collection condemns, and them with it. */
  readonly #leavings: PackWriter;
  readonly #copied: CopiedRecords;
  /** Those that are left. */
  readonly #candidates: Map<string, Candidate>;
  /** By the key of the old pack: the table that was written last, and its rows. */
  readonly #written = new Map<string, { readonly raw: Uint8Array; readonly relocation: Relocation }>();
  readonly #unlocked = new Set<string>();
  #locations: LiveLocations | undefined;

  constructor(run: PruneRun, session: number, candidates: readonly Candidate[], marking: Marking) {
    const { context, options } = run;
    this.#run = run;
    this.#session = session;
    this.#marking = marking;
    this.#candidates = new Map(candidates.map((candidate) => [packKey(candidate.pack), candidate]));
    const { maxObjectBytes = Number.POSITIVE_INFINITY } = context.target.capabilities;
    const { signal = new AbortController().signal } = options;
    // No decorator repeats what is created only where it is absent.
    const retries = new OutageRetries({ outageMs: PUT_PATIENCE_MS, signal, onChange: () => {} });
    const writer = (packBytes: number) =>
      new PackWriter({
        target: context.target,
        session,
        footerKey: context.keys.footerKey,
        createOnly: context.format.mode === 'shared',
        packBytes: Math.min(packBytes, maxObjectBytes),
        parallelPuts: PARALLEL_PUTS,
        insist: (put) => retries.run(put),
        signal: options.signal,
      });
    this.#writer = writer(options.packBytes);
    this.#leavings = writer(LEAVINGS_BYTES);
    this.#copied = new CopiedRecords(context, this.#writer, (bytes) => run.advance(bytes));
  }

  /** A round for every time that the log has gone on meanwhile: what is live is looked at anew before each try (P9). */
  async run(): Promise<LogState | undefined> {
    const { context, options } = this.#run;
    const { signal } = options;
    for (let round = 1; round <= MAX_ROUNDS; round++) {
      const state = await context.log.catchUp({ signal });
      let plan: RepackPlan | undefined;
      try {
        plan = await this.#prepare(state);
      } catch (error) {
        // What was being read may have been forgotten and deleted by others meanwhile. The next run begins anew.
        signal?.throwIfAborted();
        if ((await context.log.catchUp({ signal })).seq === state.seq) throw error;
        return undefined;
      }
      if (plan === undefined) return undefined;
      const ready = plan;
      try {
        const appended = await context.log.append((now) => decideRepack(now, ready), { signal, lookFirst: false });
        if (appended === undefined) return undefined;
        this.#count(plan);
        return appended.state;
      } catch (error) {
        // Another pruner took this one for dead; the log may have forgotten the session since.
        if (BackupError.is(error, 'SESSION_FENCED') || BackupError.is(error, 'SESSION_ENDED')) return undefined;
        // Condemned by others in between: the next round leaves it alone.
        if (!BackupError.is(error, 'OBJECT_CONFLICT') && !BackupError.is(error, 'PACK_CONDEMNED')) throw error;
      }
    }
    return undefined;
  }

  /** Copies what is live in a state and has not been copied yet, and writes the tables of it. */
  async #prepare(state: LogState): Promise<RepackPlan | undefined> {
    const { packs: live } = this.#marking;
    const { context, options } = this.#run;
    await live.mark(markedBackups(state), options);
    for (;;) {
      const mayMove = movable(state);
      for (const [key, { pack }] of this.#candidates) if (!mayMove(pack)) this.#candidates.delete(key);
      if (this.#candidates.size === 0) return undefined;
      const before = await this.#movedBefore(state);
      const wanted = new Set([...this.#candidates.keys(), ...before.map(({ key }) => key)]);
      if (this.#locations?.covers(wanted) !== true) {
        this.#locations = new LiveLocations(context, live.records, wanted);
      }
      await this.#locations.walk(markedBackups(state), options);
      const relocate = await this.#move(this.#locations, before);
      if (relocate === undefined) continue; // Without a candidate that can't be moved.
      if (relocate.length > MAX_RELOCATED) return undefined;
      await this.#writer.flush();
      await this.#leavings.flush();
      const stored = [...this.#writer.stored, ...this.#leavings.stored];
      const newPacks = stored.map((pack) => ({ ...pack, session: this.#session }));
      const packs = [...this.#candidates.values()].map(({ pack }) => pack);
      return { markedAt: state.seq, session: this.#session, newPacks, packs, relocate };
    }
  }

  /**
   * Packs moved earlier whose table lies in a candidate, where it would go with it, or leads to one: they get a table straight
   * to the newest places.
   */
  async #movedBefore(state: LogState): Promise<MovedBefore[]> {
    const { named, records } = this.#marking.packs;
    const found: MovedBefore[] = [];
    for (const [key, relocation] of state.relocations) {
      const isInside = this.#candidates.has(packKey(relocation.location.pack));
      const leads = named.has(key) ? await records.relocations.targets(relocation, this.#run.options) : [];
      if (isInside || leads.some(({ pack }) => this.#candidates.has(packKey(pack)))) found.push({ key, relocation });
    }
    return found;
  }

  /** @returns `undefined` when a candidate had to be given up */
  async #move(locations: LiveLocations, before: readonly MovedBefore[]): Promise<Relocation[] | undefined> {
    const wanted = new Map([...this.#candidates.keys()].map((key) => [key, new Set(locations.in(key))]));
    const rowsBefore = new Map<string, RelocationRow[]>();
    const { relocations } = this.#marking.packs.records;
    for (const { key, relocation } of before) {
      const offsets = Uint32Array.from(locations.in(key)).sort();
      // A table may lie in a candidate and be of no more use.
      const table = offsets.length === 0 ? undefined : await relocations.table(relocation, this.#run.options);
      const rows: RelocationRow[] = [];
      for (const offset of offsets) {
        const to = table?.find(offset);
        if (to === undefined) {
          throw new BackupError('MAP_CORRUPT', `a map names what was left behind when ${key} was repacked`);
        }
        rows.push({ offset, to });
        wanted.get(packKey(to.pack))?.add(to.offset);
        if (rows.length % ENTRIES_AT_ONCE === 0) await yieldToEventLoop();
      }
      rowsBefore.set(key, rows);
    }
    let isWhole = true;
    for (const [key, offsets] of wanted) if (!(await this.#copy(key, offsets))) isWhole = false;
    if (!isWhole) return undefined;
    const relocate: Relocation[] = [];
    for (const [key, { pack }] of this.#candidates) {
      const rows = await this.#rowsOf(pack, locations.in(key));
      if (rows.length > 0) relocate.push(await this.#table(key, { pack, rows }));
    }
    for (const { key, relocation } of before) {
      const { pack } = relocation;
      const rows = (rowsBefore.get(key) ?? []).map(({ offset, to }) => ({
        offset,
        to: this.#copied.location(to.pack, to.offset) ?? to,
      }));
      relocate.push(await this.#table(key, { pack, rows }));
    }
    return relocate;
  }

  /** Where records of a pack that were copied are now. */
  async #rowsOf(pack: PackName, offsets: Iterable<number>): Promise<RelocationRow[]> {
    const rows: RelocationRow[] = [];
    for (const offset of Uint32Array.from(offsets).sort()) {
      rows.push({ offset, to: this.#copied.location(pack, offset) as RelocationRow['to'] });
      if (rows.length % ENTRIES_AT_ONCE === 0) await yieldToEventLoop();
    }
    return rows;
  }

  /** @returns whether the pack can be moved; if not it is no candidate any more */
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
    const { context, options, now } = this.#run;
    if (!options.checkLocks || this.#unlocked.has(key)) return false;
    const info = await context.target.stat(key, { signal: options.signal });
    if (info === undefined || isLocked(info.retainUntil, now)) return true;
    this.#unlocked.add(key);
    return false;
  }

  /** The newest table of a pack; the one that was written before where it says the same. */
  async #table(key: string, { pack, rows }: { pack: Relocation['pack']; rows: RelocationRow[] }): Promise<Relocation> {
    const raw = await runInSteps(encodingRelocationTable(rows.length > 0 ? rows : nothingOf(pack)));
    const written = this.#written.get(key);
    if (written !== undefined && Buffer.compare(written.raw, raw) === 0) return written.relocation;
    const { keys } = this.#run.context;
    await yieldToEventLoop();
    const id = keys.recordId(RecordKind.relocation, raw);
    const nodes = new NodeWriter(keys, rows.length > 0 ? this.#writer : this.#leavings);
    const location = await nodes.write(RecordKind.relocation, id, raw, 0);
    const relocation = { pack, id, location };
    this.#written.set(key, { raw, relocation });
    return relocation;
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

/**
 * The table of a pack of which nothing is needed any more, though the log still has it among those that were moved: a table
 * has a row at least, and no record stands at the start of a pack.
 */
function nothingOf(pack: PackName): RelocationRow[] {
  return [{ offset: 0, to: { pack, offset: 0, storedLength: 1 } }];
}
