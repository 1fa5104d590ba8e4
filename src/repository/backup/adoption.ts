import type { AbortOptions } from '../../common/abort.ts';
import { BackupError, isDamage } from '../../common/errors.ts';
import { forEachConcurrently } from '../../common/map-concurrently.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { currentMeter, metered, type RequestMeter } from '../../targets/decorators/request-meter.ts';
import { once, type RepositoryContext } from '../context/repository-context.ts';
import type { CommittedPack } from '../format/log-entry.ts';
import { mayBeCondemned } from '../format/log-state.ts';
import { packKey, parsePackKey, sessionPrefix } from '../format/object-keys.ts';
import type { Location, PackName } from '../format/record.ts';
import { readPackFooter, sha256OfPack, TAIL_GUESS_BYTES } from '../packs/pack-reader.ts';
import { AdoptedBlocks, type AdoptedLimits } from './adopted-blocks.ts';
import { isOutage } from './outage-retries.ts';

/** Packs that are looked at at one time: each takes a request or two, and its footer takes memory until it is read. */
const PACKS_AT_A_TIME = 8;
/** The share of what a budget leaves for reading that finding out may cost. */
const SHARE_OF_BUDGET = 0.5;
/** A footer takes one request, or two if it is long; and the names in one page of a listing. */
const MOST_FOOTER_GETS = 2;
const LISTED_AT_ONCE = 1000;

/**
 * What a session finds in the packs of those that it has adopted: contents that need not be uploaded again (L12).
 *
 * It lists the folders of the sessions that its own `open` names, and of no others, and only when that entry is in the log:
 * what is listed before may be deleted by a collection that the entry does not order itself before. It reads the footers, and
 * takes blocks by their content ids. Whatever goes wrong costs uploads, and not the backup.
 */
export class Adoption {
  /** What went wrong, for the result of the backup. */
  readonly warnings: BackupError[] = [];
  readonly #context: RepositoryContext;
  readonly #sessions: readonly number[];
  readonly #ending = new AbortController();
  readonly #signal: AbortSignal;
  readonly #meter: RequestMeter | undefined;
  readonly #blocks: AdoptedBlocks;
  /** By the numbers that `#blocks` gives. */
  readonly #packs: CommittedPack[] = [];
  /** Those that the session's backups need, by key. */
  readonly #used = new Map<string, CommittedPack>();
  readonly #found: Promise<void>;
  #rereading: Promise<void> | undefined;

  /**
   * Begins to look.
   *
   * @param sessions - those that the session's `open` entry names, which is in the log
   * @param signal - ends the requests
   */
  constructor(context: RepositoryContext, sessions: readonly number[], signal: AbortSignal, limits?: AdoptedLimits) {
    this.#context = context;
    this.#sessions = sessions;
    this.#signal = AbortSignal.any([signal, this.#ending.signal]);
    this.#meter = currentMeter()?.partForReading(SHARE_OF_BUDGET);
    this.#blocks = new AdoptedBlocks(limits);
    this.#found = this.#tolerant(() =>
      forEachConcurrently(this.#listed(), (pack) => this.#read(pack), PACKS_AT_A_TIME),
    );
    this.#found.catch(() => {}); // Those that wait for it learn of it.
  }

  /** The adopted packs that hold something of the session's backups: its commit has to name them. */
  get used(): CommittedPack[] {
    return [...this.#used.values()];
  }

  /** Whether a pack is one of `used`. */
  uses(pack: PackName): boolean {
    return this.#used.has(packKey(pack));
  }

  /** Ends what is still under way: the session is over, and a lazy job may have ended without a look at it. */
  end(): void {
    this.#ending.abort();
  }

  /**
   * Resolves when all that will be found of some blocks can be found.
   *
   * @throws what the target throws when it can't be reached for too long, and `signal.reason`
   */
  async prepare(blocks: readonly number[]): Promise<void> {
    await this.#found;
    while (this.#rereading !== undefined) await this.#rereading;
    const forgotten = this.#blocks.forgotten(blocks);
    if (forgotten.length === 0) return;
    // One at a time: two that read at once could drop what the other one has just read.
    this.#rereading = this.#tolerant(() =>
      forEachConcurrently(forgotten, (number) => this.#readAgain(number), PACKS_AT_A_TIME),
    ).finally(() => {
      this.#rereading = undefined;
    });
    await this.#rereading;
  }

  /** Where a content is in an adopted pack. The commit will name the pack. */
  find(id: Uint8Array, rawLength: number): Location | undefined {
    const found = this.#blocks.find(id);
    if (found === undefined || found.location.rawLength !== rawLength) return undefined;
    const pack = this.#packs[found.pack] as CommittedPack;
    if (!this.#mayUse(pack)) return undefined;
    this.#used.set(packKey(pack), pack);
    return found.location;
  }

  /** P10: what is in quarantine is stored again. */
  #mayUse(pack: PackName): boolean {
    const { state } = this.#context.log;
    return !mayBeCondemned(state, pack) && !state.quarantined.has(packKey(pack));
  }

  async *#listed(): AsyncGenerator<FoundPack> {
    const { target, insist = once } = this.#context;
    // The newest first: what several of them have is taken from it.
    for (const session of this.#sessions.toSorted((a, b) => b - a)) {
      yield* await insist(() => packsOfSession(target, session, { signal: this.#signal }));
    }
  }

  async #read({ pack, size }: FoundPack): Promise<void> {
    if (!this.#mayUse(pack)) return;
    const { target, keys, insist = once } = this.#context;
    const signal = this.#signal;
    try {
      const footer = await insist(() => readPackFooter(target, pack, size, keys.footerKey, signal));
      const sha256 = await sha256OfPack(footer);
      if (target.capabilities.checksums === true) {
        const info = await insist(() => target.stat(packKey(pack), { signal }));
        if (info === undefined) return;
        // @mutation digest-of-the-store
        if (info.sha256 !== undefined && info.sha256 !== Buffer.from(sha256).toString('hex')) return;
      }
      const number = this.#blocks.number(pack);
      this.#packs[number] = { ...pack, size, sha256 };
      await runInSteps(this.#blocks.add(number, footer.rows));
    } catch (error) {
      if (!isUseless(error)) throw error;
    }
  }

  async #readAgain(number: number): Promise<void> {
    const { target, keys, insist = once } = this.#context;
    const pack = this.#packs[number] as CommittedPack;
    try {
      const footer = await insist(() => readPackFooter(target, pack, pack.size, keys.footerKey, this.#signal));
      await runInSteps(this.#blocks.add(number, footer.rows));
    } catch (error) {
      if (!isUseless(error)) throw error;
    }
  }

  /** Runs work without which the backup can go on, and counts its requests. */
  async #tolerant(work: () => Promise<void>): Promise<void> {
    try {
      await (this.#meter === undefined ? work() : metered(this.#meter, work));
    } catch (error) {
      this.#signal.throwIfAborted();
      if (!BackupError.is(error) || isOutage(error)) throw error;
      // The rest of the budget is for the backup itself.
      if (error.code !== 'BUDGET_EXCEEDED') this.warnings.push(error);
    }
  }
}

interface FoundPack {
  readonly pack: PackName;
  readonly size: number;
}

/** What is in the folder of a session. */
async function packsOfSession(target: CloudTarget, session: number, options: AbortOptions): Promise<FoundPack[]> {
  const packs: FoundPack[] = [];
  // @mutation only-own-adopted-are-listed
  const prefix = sessionPrefix(session);
  for await (const { key, size } of target.list(prefix, options)) {
    const pack = parsePackKey(key);
    if (pack !== undefined) packs.push({ pack, size });
  }
  return packs;
}

/** The most requests and bytes that it takes to find out what some sessions have uploaded. Asks the store. */
export async function costOfAdoption(
  { target }: RepositoryContext,
  sessions: readonly number[],
  options: AbortOptions,
): Promise<{ readonly gets: number; readonly downloadBytes: number }> {
  const getsOfPack = MOST_FOOTER_GETS + Number(target.capabilities.checksums === true);
  let gets = 0;
  let downloadBytes = 0;
  for (const session of sessions) {
    const packs = await packsOfSession(target, session, options);
    gets += 1 + Math.floor(packs.length / LISTED_AT_ONCE) + packs.length * getsOfPack;
    for (const { size } of packs) downloadBytes += Math.min(size, 2 * TAIL_GUESS_BYTES);
  }
  return { gets, downloadBytes };
}

/** Whether a pack can't be used: it is damaged, is no pack at all, or comes damaged each time that it is asked for. */
function isUseless(error: unknown): boolean {
  return isDamage(error) || BackupError.is(error, 'CHECKSUM_MISMATCH');
}
