import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { DecodedEntry } from '../format/entry-codec.ts';
import type { LogListing } from './log-listing.ts';
import { fetchEntry, forked, type LogSource, truncated } from './log-source.ts';

/**
 * Reads the entry of a number. In single-writer mode several objects may have a key of this number; an object that is not the
 * entry that its key says does not count.
 *
 * @throws `LOG_FORKED` if there are two entries; `LOG_CORRUPT` if there are only objects that are none; `LOG_TRUNCATED` if
 * there is no object; `REPOSITORY_UNSUPPORTED`; what the target throws
 */
export async function soundEntry(
  source: LogSource,
  listing: LogListing,
  seq: number,
  options: AbortOptions = {},
): Promise<DecodedEntry> {
  await listing.reach(seq, options);
  const sound: DecodedEntry[] = [];
  let damage: unknown;
  for (const listed of listing.entriesAt(seq)) {
    try {
      const decoded = await fetchEntry(source, seq, listed, options);
      if (decoded !== undefined) sound.push(decoded);
    } catch (error) {
      if (!BackupError.is(error, 'LOG_CORRUPT')) throw error;
      damage ??= error;
    }
  }
  const [entry] = sound;
  if (sound.length > 1) throw forked(seq);
  if (entry !== undefined) return entry;
  throw damage ?? truncated(seq);
}

/**
 * Finds the lowest listed number with two entries (P13). Up to the floor of the log, two entries mean nothing: one of them may
 * have been on its way for a long time.
 *
 * @param strays - keys of objects that were read earlier and are no entries. Those that are found now are added.
 */
export async function lowestFork(
  source: LogSource,
  listing: LogListing,
  strays: Set<string>,
  { above = 0, ...options }: AbortOptions & { readonly above?: number | undefined } = {},
): Promise<number | undefined> {
  if (source.mode === 'shared') return undefined;
  for (const seq of listing.numbers.reverse()) {
    // @mutation fork-is-above-the-floor
    if (seq <= above) continue;
    const candidates = listing.entriesAt(seq).filter(({ key }) => !strays.has(key));
    if (candidates.length < 2) continue;
    let sound = 0;
    for (const listed of candidates) {
      const entry = await fetchEntry(source, seq, listed, options).catch((error: unknown) => {
        // It is damaged, or no entry at all. A store that does not answer is another matter.
        if (!BackupError.is(error, 'LOG_CORRUPT')) throw error;
        return undefined;
      });
      if (entry === undefined) strays.add(listed.key);
      else sound++;
    }
    if (sound > 1) return seq;
  }
  return undefined;
}
