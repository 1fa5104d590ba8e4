import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import { type CataloguePages, pageKeys, unsafePages } from '../format/catalogue-pages.ts';
import type { Floor } from '../format/log-entry.ts';
import { floorSeq, type LogState } from '../format/log-state.ts';
import { EntriesAhead } from './entries-ahead.ts';
import { foldEntries } from './fold.ts';
import { LogChain } from './log-chain.ts';
import { LogListing } from './log-listing.ts';
import { fetchCheckpoint, type LogSource } from './log-source.ts';
import type { LogWriter } from './log-writer.ts';
import { isDoubt } from './looking.ts';
import { checkCopies } from './pages/page-copies.ts';
import { isLost, PageStore } from './pages/page-store.ts';
import { isSameState } from './same-state.ts';
import { stateAtFloor } from './whole-log.ts';

/** By how much a new floor has to be higher than the present one: each takes an entry, and requests that read the log again. */
const LEAST_STEP = 16;
/** How many of the newest checkpoints are read at most, if some of them are not good. */
const MOST_READ = 4;

/**
 * Finds the next floor of the log (L1): the older of the two newest checkpoints that can be read back and are equal to what the
 * entries result in. Everything above the present floor is read and folded for that, because what it says is believed for good
 * once the entries are gone. A log in which anything is wrong keeps its floor.
 */
export class FloorFinder {
  /** Whether the log is long enough for another floor and has too few good checkpoints for that. */
  needsCheckpoint = false;
  readonly #log: LogWriter;
  /** What was folded for an earlier state, and the checkpoints that are equal to that, the oldest first. */
  #known: { readonly folded: LogState; readonly good: readonly GoodCheckpoint[] } | undefined;

  constructor(log: LogWriter) {
    this.#log = log;
  }

  /** @param state - the newest one, which is known to be in the log. @throws what the target throws */
  async find(state: LogState, options: AbortOptions): Promise<Floor | undefined> {
    this.needsCheckpoint = false;
    if (state.seq - floorSeq(state) < 2 * LEAST_STEP) return undefined;
    try {
      return await this.#find(state, options);
    } catch (error) {
      // Damage is for `verify` to report, and what was deleted or replaced meanwhile is another pruner's work.
      const isElsewhere = BackupError.is(error, 'OBJECT_CHANGED') || BackupError.is(error, 'REPOSITORY_UNSUPPORTED');
      if (!isDoubt(error) && !isElsewhere && !isLost(error)) throw error;
      return undefined;
    }
  }

  async #find(state: LogState, options: AbortOptions): Promise<Floor | undefined> {
    const { source } = this.#log.reader;
    const present = floorSeq(state);
    const ahead = new EntriesAhead(source.target);
    const reading = { ...source, target: ahead };
    const listing = await LogListing.read(reading, options);
    await listing.reach(present + 1, options);
    const numbers = listing.checkpoints.filter((seq) => seq > present && seq <= state.seq).slice(0, MOST_READ);
    const [, older = 0] = numbers;
    this.needsCheckpoint = numbers.length < 2;
    if (older - present < LEAST_STEP) return undefined;
    const known = this.#known;
    this.#known = undefined;
    const isKnown = known !== undefined && known.folded.seq <= state.seq && floorSeq(known.folded) === present;
    const base = await stateAtFloor(reading, listing, state.floor, options);
    let folded = isKnown ? known.folded : base;
    const good = isKnown ? [...known.good] : [];
    // Nothing of the pages is in memory: what is believed for good is read back from the store.
    const pages = new PageStore(source);
    const whole = (each: LogState) => pages.takeIn(each, 'all', options);
    ahead.lowest = folded.seq + 1;
    const chain = await LogChain.from(reading, listing, state.seq, { ...options, usesTails: false });
    await chain.reach(folded.seq + 1, options);
    const isOneLog =
      isSameHash(chain.hashOf(state.seq), state.hash) && isSameHash(chain.hashOf(folded.seq), folded.hash);
    if (!isOneLog) return undefined;
    const advance = async (seq: number) => {
      folded = await foldEntries(folded, chain.since(folded.seq).slice(0, seq - folded.seq));
    };
    for (const seq of numbers.toReversed()) {
      if (seq <= folded.seq) continue;
      await advance(seq);
      const found = await this.#goodCheckpoint({ reading, listing, base, whole }, folded, options);
      if (found !== undefined) good.push(found);
    }
    await advance(state.seq);
    this.#known = { folded, good };
    this.needsCheckpoint = good.length < 2;
    // The state that everything else goes by came from tails and a checkpoint.
    if (!(await runInSteps(isSameState(await whole(state), await whole(folded))))) return undefined;
    // @mutation floor-is-the-older
    const [floor, second] = good.slice(-2);
    if (floor === undefined || second === undefined || floor.seq - present < LEAST_STEP) return undefined;
    // The new floor will let others delete pages of the second one.
    // @mutation second-has-safe-pages
    this.needsCheckpoint = unsafePages(second.pages, floor.seq, pageKeys(floor.pages)).length > 0;
    return this.needsCheckpoint ? undefined : { seq: floor.seq, sha256: floor.sha256 };
  }

  /** A checkpoint that says what was folded. In single-writer mode there may be several of this number: one that is good is enough. */
  async #goodCheckpoint(
    { reading, listing, base, whole }: Comparison,
    folded: LogState,
    options: AbortOptions,
  ): Promise<GoodCheckpoint | undefined> {
    const { seq } = folded;
    const ofFloor = pageKeys(base.pages);
    for (const named of listing.checkpointsAt(seq)) {
      const found = await fetchCheckpoint(reading, seq, named, options);
      if (found === undefined) continue;
      // The present floor lets others delete its pages.
      // @mutation floor-has-safe-pages
      if (unsafePages(found.state.pages, base.seq, ofFloor).length > 0) continue;
      if (!(await this.#arePagesThere(found.state, options))) continue;
      // @mutation floor-is-read-back
      if (!(await runInSteps(isSameState(await whole(found.state), await whole(folded))))) continue;
      return { seq, sha256: found.sha256, pages: found.state.pages };
    }
    return undefined;
  }

  /** Whether both copies of all pages of a checkpoint can be read from the store. A lost copy is written again. */
  async #arePagesThere({ pages }: LogState, options: AbortOptions): Promise<boolean> {
    const { target, logKey } = this.#log.reader.source;
    const { lost } = await checkCopies({ target, logKey, mayWrite: true }, pages, options);
    // @mutation pages-are-read-back
    return lost.length === 0;
  }
}

/** With what, and how, checkpoints are compared. */
interface Comparison {
  readonly reading: LogSource;
  readonly listing: LogListing;
  /** The state of the present floor's checkpoint; that before the first entry if nothing was ever deleted. */
  readonly base: LogState;
  /** Takes in all pages of a state. */
  whole(state: LogState): Promise<LogState>;
}

/** A checkpoint that was read back and is what the entries result in. */
interface GoodCheckpoint extends Floor {
  readonly pages: CataloguePages;
}

function isSameHash(one: Uint8Array | undefined, other: Uint8Array): boolean {
  return one !== undefined && Buffer.compare(one, other) === 0;
}
