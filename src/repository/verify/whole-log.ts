import type { AbortOptions } from '../../common/abort.ts';
import type { CloudTarget, GetOptions } from '../../target/cloud-target.ts';
import { ForwardingTarget } from '../../target/forwarding-target.ts';
import { logCorrupt } from '../log/corrupt.ts';
import { foldEntries, type HashedEntry } from '../log/fold.ts';
import type { PackRecord } from '../log/log-entry.ts';
import { entryKey, parseLogKey } from '../log/log-keys.ts';
import { EMPTY_STATE } from '../log/log-state.ts';
import { readWholeLog } from '../log/open-log.ts';
import { packKey } from '../records/record.ts';
import type { RepositoryContext } from '../repository-context.ts';
import { readPartOfLog } from './part-of-log.ts';

const ENTRIES_AHEAD = 8;

/** What the log says of packs, by their keys. */
export type LoggedPacks = Map<string, Pick<PackRecord, 'size' | 'sha256'>>;

/** What was read of the log. */
export interface LoggedPart {
  readonly packs: LoggedPacks;
  /** To be called once the verification has ended: notes which part of the log was read. */
  save(): Promise<void>;
}

/**
 * Reads the log's objects, holds every link, and resolves with what its entries say of packs: of the whole log, which is
 * folded too, or of what is new and a fraction of what has been verified before.
 *
 * @throws `LOG_CORRUPT`, `LOG_TRUNCATED`, `LOG_FORKED`, and what the target gives
 */
export async function readLoggedPacks(
  { log }: Pick<RepositoryContext, 'log'>,
  target: CloudTarget,
  { fraction, signal }: AbortOptions & { readonly fraction: number },
): Promise<LoggedPart> {
  const ahead = new EntriesAhead(target);
  const source = { ...log.reader.source, target: ahead };
  const startReading = (lowest: number) => {
    ahead.lowest = lowest;
  };
  const { entries, save } =
    fraction < 1
      ? await readPartOfLog(source, fraction, startReading, { signal })
      : { entries: await readWholeLog(source, { signal }), save: async () => {} };
  if (fraction === 1) await foldEntries(EMPTY_STATE, entries);
  // What this repository works with came by tails and a checkpoint.
  const { seq, hash } = log.state;
  const known = entries.find(({ entry }) => entry.seq === seq);
  if (known !== undefined && Buffer.compare(known.hash, hash) !== 0) {
    throw logCorrupt(`entry ${seq} is not the one that this repository was opened with`);
  }
  const packs: LoggedPacks = new Map();
  for (const { entry } of entries) {
    for (const pack of packsOf(entry)) packs.set(packKey(pack), { size: pack.size, sha256: pack.sha256 });
  }
  return { packs, save };
}

function packsOf(entry: HashedEntry['entry']) {
  if (entry.type === 'commit') return entry.packs;
  return entry.type === 'collect' ? entry.newPacks : [];
}

/** A log is read from its newest entry down, and each name follows from the one before: the next ones are on their way. */
class EntriesAhead extends ForwardingTarget {
  /** Nothing below it is going to be read. */
  lowest = 1;
  readonly #coming = new Map<string, Promise<Uint8Array>>();

  constructor(target: CloudTarget) {
    super(target, 'the log');
  }

  protected override forwardGet(key: string, options: GetOptions): Promise<Uint8Array> {
    const answer = this.#coming.get(key) ?? super.forwardGet(key, options);
    this.#coming.delete(key);
    const parsed = parseLogKey(key);
    if (parsed?.kind === 'entry' && parsed.suffix === undefined) {
      for (let seq = parsed.seq - 1; seq >= Math.max(this.lowest, parsed.seq - ENTRIES_AHEAD); seq--) {
        const below = entryKey(seq);
        if (this.#coming.has(below)) continue;
        const coming = super.forwardGet(below, options);
        coming.catch(() => {}); // It is reported when its turn comes.
        this.#coming.set(below, coming);
      }
    }
    return answer;
  }
}
