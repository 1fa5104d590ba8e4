// This folder compares what the log and the maps say with what the store has, and names what is damaged.

import type { TargetClock } from '../../common/clock.ts';
import { BackupError } from '../../common/errors.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { freshRecords } from '../context/fresh-records.ts';
import { ProgressReporter, withProgress } from '../context/progress.ts';
import { mapOver, type RepositoryContext } from '../context/repository-context.ts';
import { isKnown, type LogState, type StoredBackup } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import type { PackName } from '../format/record.ts';
import { missingBackup } from '../log/entries/backups.ts';
import { decideQuarantine } from '../log/entries/config.ts';
import { type CheckedCopies, checkCopies } from '../log/pages/page-copies.ts';
import { visitMap } from '../map/visit.ts';
import { LocationSet } from '../packs/location-set.ts';
import type { RecordStore } from '../packs/record-store.ts';
import { listPacks, type PackListing } from '../prune/pack-listing.ts';
import { type Unreferenced, unreferenced } from '../prune/unreferenced.ts';
import { AffectedBackups, DamageReport } from './damage-report.ts';
import { leastRecentlyVerified, VerifiedTimes } from './earlier-verifications.ts';
import { readLoggedPacks, readLogWhile } from './log-audit.ts';
import { checkMembers } from './member-checks.ts';
import { NeededPacks } from './needed-packs.ts';
import { type ExpectedPack, expectedPacks, PackChecks } from './pack-check.ts';
import { checkSmallObjects, type SmallObjects } from './small-objects.ts';
import {
  type CheckedVerifyOptions,
  checkVerifyOptions,
  type ReplicaDamage,
  type VerifyOptions,
  type VerifyResult,
} from './verify-options.ts';
import { VerifyRetries } from './verify-retries.ts';

/**
 * Verification: whether a repository is as it should be. Each phase has a file of its own: `format` and key slots
 * (small-objects), the log (log-audit), which packs the maps need (needed-packs), the packs themselves (pack-check), replicas
 * (member-checks), and what is damaged and which backups need it (damage-report).
 */

/** How often damage is looked at if the log goes on meanwhile. */
const MAX_LOOKS = 4;

/**
 * Verifies a repository: see `VerifyOptions`. Damage is reported in the result, and does not end the verification.
 *
 * Nothing is believed to be damaged before it was read twice, and after the newest entries of the log were read: what other
 * hosts forgot, repacked or deleted meanwhile is no damage. A request that fails is tried again, and then rejects: it says
 * nothing about what is stored.
 *
 * @throws TypeError; `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`; `LOG_CORRUPT`, `LOG_TRUNCATED`, `LOG_FORKED`,
 * `REPOSITORY_ROLLED_BACK` when the log itself is not as it should be; `BUDGET_EXCEEDED`, and what the target throws. An
 * aborted or failed verification of data goes on, the next time, about where this one ended.
 */
export async function verifyRepository(
  context: RepositoryContext,
  options: VerifyOptions,
  tuning: VerifyTuning = {},
): Promise<VerifyResult> {
  const checked = checkVerifyOptions(options);
  return withProgress(checked, (heard) => verified(context, heard, tuning));
}

/** Settings that only tests change. */
export interface VerifyTuning {
  readonly clock?: Pick<TargetClock, 'sleep'> | undefined;
  /** After how many verified packs it is noted which they are. */
  readonly saveEveryPacks?: number | undefined;
}

async function verified(
  context: RepositoryContext,
  checked: CheckedVerifyOptions,
  tuning: VerifyTuning,
): Promise<VerifyResult> {
  const end = new AbortController();
  const signals = [end.signal, ...(checked.signal === undefined ? [] : [checked.signal])];
  try {
    return await new Verification(context, checked, tuning, AbortSignal.any(signals)).run();
  } finally {
    end.abort(); // Nothing goes on behind a verification that has failed.
  }
}

class Verification {
  readonly #context: RepositoryContext;
  readonly #options: CheckedVerifyOptions;
  readonly #tuning: VerifyTuning;
  readonly #signal: AbortSignal;
  readonly #retries: VerifyRetries;
  /** The context's, with calls that are tried again. */
  readonly #target: CloudTarget;
  readonly #records: RecordStore;
  readonly #damages: DamageReport;
  readonly #progress: ProgressReporter;
  readonly #packs: PackChecks;

  constructor(context: RepositoryContext, options: CheckedVerifyOptions, tuning: VerifyTuning, signal: AbortSignal) {
    this.#context = context;
    this.#options = options;
    this.#tuning = tuning;
    this.#signal = signal;
    this.#retries = new VerifyRetries(context.target, signal, tuning.clock);
    this.#target = this.#retries.target;
    const insist = <T>(work: () => Promise<T>) => this.#retries.with(work);
    this.#records = freshRecords(context, { target: this.#target, insist, signal });
    this.#damages = new DamageReport(this.#records);
    this.#progress = new ProgressReporter(options.onProgress);
    this.#packs = new PackChecks({
      context,
      target: this.#target,
      damages: this.#damages,
      progress: this.#progress,
      signal,
      saveEveryPacks: tuning.saveEveryPacks,
    });
  }

  async run(): Promise<VerifyResult> {
    const signal = this.#signal;
    this.#progress.begin('log');
    const state = await this.#catchUp();
    const backups = selected(state, this.#options.backups);
    const objects = await this.#retries.with(() => checkSmallObjects(this.#context, this.#target, { signal }));
    const copies = await this.#retries.with(() => this.#checkCopies());
    const small = {
      ...objects,
      damagedObjects: [...objects.damagedObjects, ...copies.lost],
      restored: [...objects.restored, ...copies.restored],
    };
    this.#progress.begin('listing');
    const listing = await listPacks({ target: this.#target }, { signal });
    this.#progress.begin('log');
    const fraction = this.#fractionOf(listing);
    const { packs: logged, ...log } = await readLogWhile(
      this.#context,
      () => this.#catchUp(),
      () => this.#retries.with(() => readLoggedPacks(this.#context, this.#target, { fraction, signal })),
    );
    const parts = { target: this.#target, records: this.#records, damages: this.#damages, signal };
    const needed = new NeededPacks({ ...parts, footerKey: this.#context.keys.footerKey, sizeOf: listing.sizeOf });
    const tables = await needed.readTables(state, logged);
    const unused = await unreferenced(state, listing.packs, tables);
    const times = await this.#verifiedTimes();
    const chosen = await this.#readMaps(backups, needed, listing, times);
    const expected = await expectedPacks(needed, listing, logged, parts);
    const read = await this.#checkPacks(expected, needed, listing, times, chosen);
    const replicas = await this.#checkReplicas(expected, read);
    const result = await this.#conclude(expected, small, replicas, unused);
    await log.save();
    if (log.lacksCheckpoint && !this.#context.readOnly) await this.#context.log.checkpointNow({ signal });
    return result;
  }

  #catchUp(): Promise<LogState> {
    return this.#retries.with(() => this.#context.log.catchUp({ needs: 'all', signal: this.#signal }));
  }

  /** Of the data, and so of the log, where `maxBytes` says how much. */
  #fractionOf({ bytes }: PackListing): number {
    const { fraction, maxBytes } = this.#options;
    return Math.min(fraction, bytes === 0 ? 1 : maxBytes / bytes);
  }

  async #verifiedTimes(): Promise<VerifiedTimes | undefined> {
    if (this.#options.depth !== 'data') return undefined;
    return VerifiedTimes.read(this.#target, this.#context.keys.logKey, this.#signal);
  }

  /** @returns keys of the packs of which all data is to be read, where only a part is verified */
  async #readMaps(
    backups: readonly StoredBackup[],
    needed: NeededPacks,
    listing: PackListing,
    times: VerifiedTimes | undefined,
  ): Promise<ReadonlySet<string> | undefined> {
    const { depth, fraction, maxBytes } = this.#options;
    let chosen: ReadonlySet<string> | undefined;
    if (times !== undefined && (fraction < 1 || maxBytes !== Number.POSITIVE_INFINITY)) {
      // It has to be known which packs are needed before the content of some is compared with the maps.
      await this.#walk(backups, needed, false);
      chosen = await leastRecentlyVerified([...needed.packs()], times, listing.sizeOf, { fraction, maxBytes });
    }
    const isCompared = depth === 'data' || (depth === 'checksums' && this.#target.capabilities.checksums !== true);
    needed.compare = (key) => isCompared && (chosen === undefined || chosen.has(key));
    await this.#walk(backups, needed, true);
    return chosen;
  }

  async #walk(backups: readonly StoredBackup[], needed: NeededPacks, readsLeaves: boolean): Promise<void> {
    this.#progress.begin('maps');
    const visitor = needed.visitor(new LocationSet(), readsLeaves);
    for (const { descriptor } of backups) {
      this.#signal.throwIfAborted();
      const before = this.#records.readBytes;
      const map = mapOver(this.#context, this.#records, descriptor, { cacheBytes: 0 });
      await visitMap(map, visitor, { signal: this.#signal });
      this.#progress.advance(this.#records.readBytes - before);
    }
  }

  /** @returns packs of which all data was read */
  async #checkPacks(
    expected: readonly ExpectedPack[],
    needed: NeededPacks,
    listing: PackListing,
    times: VerifiedTimes | undefined,
    chosen: ReadonlySet<string> | undefined,
  ): Promise<readonly ExpectedPack[]> {
    if (this.#options.depth === 'structure') this.#packs.verifiedBytes = this.#records.readBytes;
    if (this.#options.depth === 'checksums') await this.#packs.checkSums(expected, needed);
    if (times === undefined) return [];
    const wanted = expected.filter(({ pack }) => chosen === undefined || chosen.has(packKey(pack)));
    await this.#packs.checkData(wanted, times, listing);
    return wanted;
  }

  /** If a pack is damaged on the primary, nothing can be said about the other members' copies. */
  async #checkReplicas(all: readonly ExpectedPack[], wanted: readonly ExpectedPack[]): Promise<ReplicaDamage[]> {
    const { members } = this.#context.target;
    if (members === undefined) return [];
    const expected = all.filter(({ pack }) => !this.#damages.has(packKey(pack)));
    const read = wanted.filter(({ pack }) => !this.#damages.has(packKey(pack)));
    const bytes = read.reduce((sum, { listedBytes }) => sum + listedBytes, 0);
    this.#progress.begin('replicas', bytes * (members.length - 1));
    const parts = { context: this.#context, signal: this.#signal, clock: this.#tuning.clock, expected, read };
    return checkMembers(members, { ...parts, onBytes: (count) => this.#progress.advance(count) });
  }

  /** Each page of the catalogue has two copies, of which one is enough to read it. */
  #checkCopies(): Promise<CheckedCopies> {
    const { keys, log, readOnly } = this.#context;
    const source = { target: this.#target, logKey: keys.logKey, mayWrite: !readOnly };
    return checkCopies(source, log.state.pages, { signal: this.#signal });
  }

  /** P8: which backups need what looks damaged, as of the newest entries of the log. */
  async #affected(): Promise<{ readonly state: LogState; readonly byPack: ReadonlyMap<string, readonly string[]> }> {
    const { log } = this.#context;
    if (this.#damages.size === 0)
      return { state: await log.withPages('all', { signal: this.#signal }), byPack: new Map() };
    this.#progress.begin('damage');
    for (let look = 1; ; look++) {
      const state = await this.#catchUp();
      const affected = new AffectedBackups(this.#context, state, this.#records, this.#damages, this.#signal);
      await affected.find();
      if (log.state.seq === state.seq || look === MAX_LOOKS) return { state, byPack: affected.byPack };
    }
  }

  async #conclude(
    expected: readonly ExpectedPack[],
    small: SmallObjects,
    damagedReplicas: readonly ReplicaDamage[],
    unused: Unreferenced,
  ): Promise<VerifyResult> {
    const { state, byPack } = await this.#affected();
    const found: { readonly pack: PackName; readonly backups: readonly string[]; readonly error: BackupError }[] = [];
    for (const [key, { pack, error }] of this.#damages.entries()) {
      const backups = byPack.get(key) ?? [];
      // A pack that was condemned since, and that no backup needs, may well be gone.
      if (backups.length > 0 || isKnown(state, pack)) found.push({ pack, backups, error });
    }
    const noted = await this.#note(found.map(({ pack }) => pack));
    const { backups: asked } = this.#options;
    // When some backups are verified, damage that only others have is not reported.
    const reported = found.filter(({ backups }) => asked === undefined || backups.some((id) => asked.includes(id)));
    this.#progress.begin('done');
    return {
      ok: reported.length + small.damagedObjects.length + damagedReplicas.length === 0,
      ...small,
      damaged: reported.map(({ pack, backups, error }) => ({ pack: packKey(pack), backups, error })),
      damagedReplicas,
      verifiedBytes: this.#packs.verifiedBytes,
      packs: expected.length,
      packBytes: expected.reduce((sum, { listedBytes }) => sum + listedBytes, 0),
      verifiedPacks: this.#packs.verifiedPacks,
      packsWithoutChecksum: this.#packs.withoutChecksum,
      unreferenced: unused,
      ...noted,
    };
  }

  /** Notes in the log which packs are damaged, and which are good again (P10). */
  async #note(
    damaged: readonly PackName[],
  ): Promise<Pick<VerifyResult, 'quarantined' | 'released' | 'quarantineError'>> {
    const nothing = { quarantined: [], released: [], quarantineError: undefined };
    const { log, readOnly } = this.#context;
    const good = this.#packs.good.filter((pack) => !this.#damages.has(packKey(pack)));
    const decide = (state: LogState) => decideQuarantine(state, damaged, good);
    if (readOnly || !this.#options.quarantine) return nothing;
    const needs = { packs: [...damaged, ...good] };
    if (decide(await log.withPages(needs, { signal: this.#signal })) === undefined) return nothing;
    try {
      const entry = (await log.append(decide, { needs, signal: this.#signal }))?.entry;
      if (entry?.type !== 'config') return nothing;
      return { ...nothing, quarantined: entry.quarantine.map(packKey), released: entry.release.map(packKey) };
    } catch (error) {
      this.#signal.throwIfAborted();
      // What was found is worth more than the note.
      if (!BackupError.is(error)) throw error;
      return { ...nothing, quarantineError: error };
    }
  }
}

function selected(state: LogState, ids: readonly string[] | undefined): StoredBackup[] {
  if (ids === undefined) return [...state.backups.values()];
  return ids.map((id) => {
    const backup = state.backups.get(id);
    if (backup === undefined) throw missingBackup(state, id);
    return backup;
  });
}
