import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { namedPages, pageKeyOf } from '../format/catalogue-pages.ts';
import type { Floor } from '../format/log-entry.ts';
import { EMPTY_STATE, floorSeq, type LogState } from '../format/log-state.ts';
import { foldEntries } from './fold.ts';
import type { LogChain } from './log-chain.ts';
import type { LogListing } from './log-listing.ts';
import {
  type FoundCheckpoint,
  fetchCheckpoint,
  floorMissing,
  keyOfCheckpoint,
  type LogSource,
  type NamedObject,
} from './log-source.ts';

/** A state, and the number of the checkpoint that it was folded from; 0 for the first entry. */
export interface FoldedState {
  readonly state: LogState;
  readonly checkpoint: number;
}

/**
 * Computes the newest state from the newest checkpoint that the chain confirms, or else from all entries.
 *
 * P11 (decision 023): the chain must reach the checkpoint, and must have the checkpoint's hash at its number. L1: below the floor
 * nothing belongs to the log any more, and the floor's own checkpoint must have the digest that its collection has set.
 */
export async function stateOf(chain: LogChain, checkpoints: Checkpoints, options: AbortOptions): Promise<FoldedState> {
  for (;;) {
    const found = await checkpoints.next(chain.floor, options);
    if (found === undefined || found.state.seq < (chain.floor?.seq ?? 0)) break;
    const { seq } = found.state;
    await chain.reach(seq + 1, options);
    const hash = chain.hashOf(seq);
    // @mutation checkpoint-continues-the-chain
    if (hash === undefined || Buffer.compare(hash, found.state.hash) !== 0) continue;
    try {
      const state = await foldEntries(found.state, chain.since(seq));
      if (leadsTo(found, state)) return { state, checkpoint: seq };
    } catch (error) {
      // If the checkpoint is not what is wrong, folding the whole log fails in the same way.
      if (!BackupError.is(error, 'LOG_CORRUPT')) throw error;
    }
  }
  while (chain.floor === undefined && chain.below.seq > 0) await chain.reach(chain.below.seq, options);
  // @mutation checkpoint-of-a-newer-program
  if (chain.floor !== undefined && checkpoints.newer !== undefined) throw checkpoints.newer;
  if (chain.floor !== undefined) throw floorMissing(checkpoints.source, chain.floor);
  return { state: await foldEntries(EMPTY_STATE, chain.since(0)), checkpoint: 0 };
}

/** Whether the state that a checkpoint was folded to lets the checkpoint count. */
function leadsTo({ state: { seq }, sha256 }: FoundCheckpoint, { floor }: LogState): boolean {
  // @mutation floor-has-its-digest
  if (floor !== undefined && seq === floor.seq) return Buffer.compare(floor.sha256, sha256) === 0;
  return seq > floorSeq({ floor });
}

/** The readable checkpoints of a listing, newest first; those of one number in the order of their keys. */
export class Checkpoints {
  readonly source: LogSource;
  readonly #listing: LogListing;
  readonly #newest: number;
  /** What the first checkpoint that a newer program made was refused with. */
  newer: BackupError | undefined;
  readonly #lostPages: ReadonlySet<string>;
  /** Keys of those that were read. */
  readonly #read = new Set<string>();
  #first: { readonly key: string; readonly answer: Promise<FoundCheckpoint | undefined> } | undefined;

  /**
   * @param newest - those of higher numbers are left out
   * @param lostPages - keys of pages: those that name one of them are left out too
   */
  constructor(source: LogSource, listing: LogListing, newest: number, lostPages: ReadonlySet<string> = new Set()) {
    this.source = source;
    this.#lostPages = lostPages;
    this.#listing = listing;
    this.#newest = newest;
  }

  /** Requests the newest checkpoint, so that it is there when {@link Checkpoints.next} is called. */
  fetchFirst(options: AbortOptions): void {
    const seq = this.#listing.checkpointBelow(this.#newest);
    const [first] = this.#listing.checkpointsAt(seq);
    if (first === undefined) return;
    const answer = this.#fetch(seq, first, options);
    answer.catch(() => {}); // `next` reports it.
    this.#first = { key: first.key, answer };
  }

  /**
   * The next readable checkpoint; `undefined` if there is none.
   *
   * @param floor - if it is known: in single-writer mode the key of its checkpoint follows from its digest
   */
  async next(floor: Floor | undefined, options: AbortOptions): Promise<FoundCheckpoint | undefined> {
    for (;;) {
      // Reading more of the listing may show others of a number.
      for (const seq of this.#listing.checkpoints) {
        if (seq > this.#newest) continue; // Above a fork.
        for (const named of this.#listing.checkpointsAt(seq)) {
          // @mutation checkpoints-in-turn
          if (this.#read.has(named.key)) continue;
          this.#read.add(named.key);
          if (seq === floor?.seq && named.key !== keyOfCheckpoint(this.source, seq, floor.sha256)) continue;
          const isFirst = this.#first?.key === named.key;
          const found = await (isFirst ? this.#first?.answer : this.#fetch(seq, named, options));
          if (found !== undefined && !this.#isLost(found)) return found;
        }
      }
      if (!this.#listing.hasMore) return undefined;
      await this.#listing.readMore(options);
    }
  }

  #fetch(seq: number, named: NamedObject, { signal }: AbortOptions): Promise<FoundCheckpoint | undefined> {
    const onNewer = (error: BackupError) => {
      this.newer ??= error;
    };
    return fetchCheckpoint(this.source, seq, named, { signal, onNewer });
  }

  #isLost({ state: { pages } }: FoundCheckpoint): boolean {
    return this.#lostPages.size > 0 && namedPages(pages).some(({ ref }) => this.#lostPages.has(pageKeyOf(ref)));
  }
}
