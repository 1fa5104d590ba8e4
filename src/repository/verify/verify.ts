import type { TargetClock } from '../../common/clock.ts';
import { BackupError } from '../../common/errors.ts';
import { sortInSteps } from '../../common/sort-in-steps.ts';
import { FreshRecords } from '../context/fresh-records.ts';
import { walkMap } from '../context/map-walk.ts';
import { ProgressReporter, withProgress } from '../context/progress.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { isKnown, type LogState, type StoredBackup } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import type { PackName } from '../format/record.ts';
import { missingBackup } from '../log/entries/backups.ts';
import { PlaceSet } from '../packs/location-set.ts';
import { listPacks, type PackListing } from '../prune/pack-listing.ts';
import { type Unreferenced, unreferenced } from '../prune/unreferenced.ts';
import { AffectedBackups } from './affected-backups.ts';
import { Damages } from './damages.ts';
import { expectedPacks } from './expected-packs.ts';
import { checkMembers } from './member-checks.ts';
import { NeededPacks } from './needed-packs.ts';
import type { ExpectedPack } from './pack-check.ts';
import { PackChecks } from './pack-checks.ts';
import { Patience } from './patience.ts';
import { quarantine } from './quarantine.ts';
import { checkSmallObjects, type SmallObjects } from './small-objects.ts';
import { readTables } from './tables.ts';
import { VerifiedTimes } from './verified-times.ts';
import {
  type CheckedVerifyOptions,
  checkVerifyOptions,
  type ReplicaDamage,
  type VerifyOptions,
  type VerifyResult,
} from './verify-options.ts';
import { readLoggedPacks } from './whole-log.ts';

/** What tests choose. */
export interface VerifyTuning {
  readonly clock?: Pick<TargetClock, 'sleep'> | undefined;
  /** Verified packs between two notes of which they are. */
  readonly saveEveryPacks?: number | undefined;
}

/** Looks at a log that goes on while what is damaged is being looked at. */
const MAX_LOOKS = 4;

/**
 * Looks whether a repository is as it should be: see `VerifyOptions`. What is damaged is told and does not end it.
 *
 * Nothing is believed to be damaged before it was read twice, and after a look at the newest entries of the log: what
 * others forgot, moved or deleted meanwhile is no damage. What the store fails to answer is tried again and then
 * rejects: it says nothing of what is stored.
 *
 * @throws TypeError; `BACKUP_NOT_FOUND`, `BACKUP_FORGOTTEN`; `LOG_CORRUPT`, `LOG_TRUNCATED`, `LOG_FORKED`,
 * `REPOSITORY_ROLLED_BACK` when the log itself is not as it should be; `BUDGET_EXCEEDED`, and what the target gives. An
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
  readonly #signal: AbortSignal;
  readonly #patience: Patience;
  readonly #records: FreshRecords;
  readonly #damages: Damages;
  readonly #progress: ProgressReporter;
  readonly #packs: PackChecks;
  #unreferenced: Unreferenced = { packs: 0, bytes: 0, sessions: [] };
  readonly #tuning: VerifyTuning;

  constructor(context: RepositoryContext, options: CheckedVerifyOptions, tuning: VerifyTuning, signal: AbortSignal) {
    this.#context = context;
    this.#options = options;
    this.#tuning = tuning;
    this.#signal = signal;
    this.#patience = new Patience(context.target, signal, tuning.clock);
    this.#records = new FreshRecords(
      context,
      this.#patience.target,
      () => this.#patience.with(() => context.log.catchUp({ signal })),
      signal,
    );
    this.#damages = new Damages(this.#records);
    this.#progress = new ProgressReporter(options.onProgress);
    this.#packs = new PackChecks({
      context,
      target: this.#patience.target,
      damages: this.#damages,
      progress: this.#progress,
      signal,
      saveEveryPacks: tuning.saveEveryPacks,
    });
  }

  get #target() {
    return this.#patience.target;
  }

  async run(): Promise<VerifyResult> {
    const signal = this.#signal;
    const { depth } = this.#options;
    this.#progress.begin('log');
    const state = await this.#patience.with(() => this.#context.log.catchUp({ signal }));
    const backups = selected(state, this.#options.backups);
    const small = await this.#patience.with(() => checkSmallObjects(this.#context, this.#target, { signal }));
    this.#progress.begin('listing');
    const listing = await listPacks({ target: this.#target }, { signal });
    this.#progress.begin('log');
    const fraction = this.#fractionOf(listing);
    const { packs: logged, save: saveLogMark } = await this.#patience.with(() =>
      readLoggedPacks(this.#context, this.#target, { fraction, signal }),
    );
    const needed = new NeededPacks({
      records: this.#records,
      damages: this.#damages,
      footerKey: this.#context.keys.footerKey,
      sizeOf: (key) => listing.sizeOf(key),
      signal,
    });
    const tables = await readTables(state, {
      records: this.#records,
      damages: this.#damages,
      logged,
      needed,
      signal,
    });
    this.#unreferenced = await unreferenced(state, listing.packs, tables);
    const times =
      depth === 'data' ? await VerifiedTimes.read(this.#target, this.#context.keys.logKey, signal) : undefined;
    const isPart = this.#options.fraction < 1 || this.#options.maxBytes !== Number.POSITIVE_INFINITY;
    let chosen: ReadonlySet<string> | undefined;
    if (times !== undefined && isPart) {
      // Which packs there are is seen before what they hold is compared.
      await this.#walk(backups, needed, false);
      chosen = await this.#choose(needed, listing, times);
    }
    const isCompared = depth === 'data' || (depth === 'checksums' && this.#target.capabilities.checksums !== true);
    needed.compare = (key) => isCompared && (chosen === undefined || chosen.has(key));
    await this.#walk(backups, needed, true);
    const parts = { target: this.#target, damages: this.#damages, signal };
    const expected = await expectedPacks(needed, listing, logged, parts);
    if (depth === 'structure') this.#packs.verifiedBytes = this.#records.readBytes;
    if (depth === 'checksums') await this.#packs.checkSums(expected, needed);
    let wanted: ExpectedPack[] = [];
    if (times !== undefined) {
      wanted = expected.filter(({ pack }) => chosen === undefined || chosen.has(packKey(pack)));
      await this.#packs.checkData(wanted, times, listing);
    }
    const replicas = await this.#checkReplicas(expected, wanted);
    const result = await this.#conclude(expected, small, replicas);
    await saveLogMark();
    return result;
  }

  /** Of what is damaged on the primary nothing can be said of the others. */
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

  /** Of the data, and so of the log, where `maxBytes` says how much. */
  #fractionOf({ bytes }: PackListing): number {
    const { fraction, maxBytes } = this.#options;
    return Math.min(fraction, bytes === 0 ? 1 : maxBytes / bytes);
  }

  async #walk(backups: readonly StoredBackup[], needed: NeededPacks, readsLeaves: boolean): Promise<void> {
    this.#progress.begin('maps');
    const seen = new PlaceSet();
    for (const { descriptor } of backups) {
      this.#signal.throwIfAborted();
      const before = this.#records.readBytes;
      await walkMap(this.#records.map(descriptor), this.#records, needed, { seen, readsLeaves, signal: this.#signal });
      this.#progress.advance(this.#records.readBytes - before);
    }
  }

  /** The part of the data that was verified least recently. */
  async #choose(needed: NeededPacks, listing: PackListing, times: VerifiedTimes): Promise<Set<string>> {
    const { fraction, maxBytes } = this.#options;
    const packs = await sortInSteps(
      [...needed.packs()].map((pack) => ({ key: packKey(pack), at: times.of(pack) })),
      (a, b) => a.at - b.at || (a.key < b.key ? -1 : 1),
    );
    const total = packs.reduce((sum, { key }) => sum + listing.sizeOf(key), 0);
    const chosen = new Set<string>();
    let bytes = 0;
    for (const { key } of packs) {
      const size = listing.sizeOf(key);
      const isEnough = bytes >= fraction * total || bytes + size > maxBytes;
      if (chosen.size > 0 && isEnough) break;
      chosen.add(key);
      bytes += size;
    }
    return chosen;
  }

  /** P8: what looks damaged is looked at once more with what has become of it meanwhile. */
  async #conclude(
    expected: readonly ExpectedPack[],
    small: SmallObjects,
    damagedReplicas: readonly ReplicaDamage[],
  ): Promise<VerifyResult> {
    const context = this.#context;
    const signal = this.#signal;
    let affected: AffectedBackups | undefined;
    let state = context.log.state;
    if (this.#damages.size > 0) {
      this.#progress.begin('damage');
      for (let look = 1; look <= MAX_LOOKS; look++) {
        state = await this.#patience.with(() => context.log.catchUp({ signal }));
        affected = new AffectedBackups(state, this.#records, this.#damages, signal);
        await affected.find();
        if (context.log.state.seq === state.seq) break;
      }
    }
    const found: { readonly pack: PackName; readonly backups: readonly string[]; readonly error: BackupError }[] = [];
    for (const [key, { pack, error }] of this.#damages.entries()) {
      const backups = affected?.byPack.get(key) ?? [];
      // What was condemned since, and nobody needs, may well be gone.
      if (backups.length > 0 || isKnown(state, pack)) found.push({ pack, backups, error });
    }
    const noted = await this.#note(found.map(({ pack }) => pack));
    const { backups: asked } = this.#options;
    // Asked for some backups, it is of no interest what only others miss.
    const told = found.filter(({ backups }) => asked === undefined || backups.some((id) => asked.includes(id)));
    this.#progress.begin('done');
    return {
      ok: told.length + small.damagedObjects.length + damagedReplicas.length === 0,
      ...small,
      damaged: told.map(({ pack, backups, error }) => ({ pack: packKey(pack), backups, error })),
      damagedReplicas,
      verifiedBytes: this.#packs.verifiedBytes,
      packs: expected.length,
      packBytes: expected.reduce((sum, { listedBytes }) => sum + listedBytes, 0),
      verifiedPacks: this.#packs.verifiedPacks,
      packsWithoutChecksum: this.#packs.withoutChecksum,
      unreferenced: this.#unreferenced,
      ...noted,
    };
  }

  async #note(
    damaged: readonly PackName[],
  ): Promise<Pick<VerifyResult, 'quarantined' | 'released' | 'quarantineError'>> {
    const nothing = { quarantined: [], released: [], quarantineError: undefined };
    if (this.#context.readOnly || !this.#options.quarantine) return nothing;
    const good = this.#packs.good.filter((pack) => !this.#damages.has(packKey(pack)));
    try {
      const noted = await quarantine(this.#context, damaged, good, { signal: this.#signal });
      return { ...nothing, quarantined: noted.quarantine.map(packKey), released: noted.release.map(packKey) };
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
