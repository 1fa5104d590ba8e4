import type { AbortOptions } from '../../common/abort.ts';
import type { CloudTarget, GetOptions } from '../../targets/cloud-target.ts';
import { ForwardingTarget } from '../../targets/decorators/forwarding-target.ts';
import { MAX_ENTRY_BYTES } from '../format/entry-codec.ts';
import type { LogListing, NamedObject } from './log-listing.ts';

/** Answers that are on their way, by key. */
export type Prefetched = ReadonlyMap<string, Promise<Uint8Array>>;

/**
 * Asks for the newest entry and the newest checkpoint of a listing. They need no key to be fetched, only to be read: so
 * the slot that gives the key is fetched beside them, and opening takes two rounds.
 */
export function prefetchLog(target: CloudTarget, listing: LogListing, { signal }: AbortOptions = {}): Prefetched {
  const newest = listing.entriesAt(listing.newest).filter(({ size }) => size > 0 && size <= MAX_ENTRY_BYTES);
  const wanted: NamedObject[] = newest.slice(0, 1);
  const checkpoint = listing.checkpoints.find((seq) => seq <= listing.newest);
  if (checkpoint !== undefined) wanted.push(listing.checkpointAt(checkpoint));
  const answers = wanted.map(({ key, size }): [string, Promise<Uint8Array>] => {
    const answer = target.get(key, { range: { offset: 0, length: size }, signal });
    answer.catch(() => {}); // Whoever asks for it sees it.
    return [key, answer];
  });
  return new Map(answers);
}

/** A target that gives each prefetched answer once, and asks for everything else. */
export class PrefetchedTarget extends ForwardingTarget {
  readonly #answers: Map<string, Promise<Uint8Array>>;

  constructor(inner: CloudTarget, answers: Prefetched) {
    super(inner, 'this prefetched target');
    this.#answers = new Map(answers);
  }

  protected override forwardGet(key: string, options: GetOptions): ReturnType<CloudTarget['get']> {
    const answer = this.#answers.get(key);
    if (answer === undefined) return this.inner.get(key, options);
    this.#answers.delete(key);
    return answer as ReturnType<CloudTarget['get']>;
  }
}
