import type { AbortOptions } from '../../common/abort.ts';
import type { CloudTarget, GetOptions, ListOptions, ObjectInfo } from '../../targets/cloud-target.ts';
import { ForwardingTarget } from '../../targets/decorators/forwarding-target.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { logCorrupt } from '../format/corrupt.ts';
import { MAX_ENTRY_BYTES } from '../format/entry-codec.ts';
import type { PackRecord } from '../format/log-entry.ts';
import { entryKey, packKey, parseLogKey } from '../format/object-keys.ts';
import type { HashedEntry } from '../log/fold.ts';
import { truncated } from '../log/log-source.ts';
import { readWholeLog, type WholeLog } from '../log/open-log.ts';
import { checkCheckpoints } from './checkpoints-follow.ts';
import { type PartOfLog, readPartOfLog } from './part-of-log.ts';

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
 * Reads the log's objects, holds every link, compares tails and checkpoints with the entries, and resolves with what its
 * entries say of packs: of the whole log, or of what is new and a fraction of what has been verified before.
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
  // What this repository works with came by tails and a checkpoint.
  const { seq, hash } = log.state;
  const { parts, listing, save } =
    fraction < 1
      ? await readPartOfLog(source, fraction, startReading, { signal })
      : partsOf(await readWholeLog(source, { signal }));
  for (const part of parts) await checkCheckpoints(source, listing, part, { signal });
  if (listing.newest < seq) throw truncated(seq);
  const entries = parts.flat();
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

function partsOf({ entries, listing }: WholeLog): PartOfLog {
  return { parts: [entries], listing, save: async () => {} };
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
  /** Bytes by key, as they were listed. */
  readonly #sizes = new Map<string, number>();

  constructor(target: CloudTarget) {
    super(target, 'the log');
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    for await (const info of super.forwardList(prefix, options)) {
      this.#sizes.set(info.key, info.size);
      yield info;
    }
  }

  protected override forwardGet(key: string, options: GetOptions): Promise<Uint8Array> {
    const answer = this.#coming.get(key) ?? super.forwardGet(key, options);
    this.#coming.delete(key);
    const parsed = parseLogKey(key);
    if (parsed?.kind === 'entry' && parsed.suffix === undefined) {
      for (let seq = parsed.seq - 1; seq >= Math.max(this.lowest, parsed.seq - ENTRIES_AHEAD); seq--) {
        const below = entryKey(seq);
        const length = this.#sizes.get(below) ?? 0;
        if (this.#coming.has(below) || length === 0 || length > MAX_ENTRY_BYTES) continue;
        const coming = super.forwardGet(below, { ...options, range: { offset: 0, length } });
        coming.catch(() => {}); // It is reported when its turn comes.
        this.#coming.set(below, coming);
      }
    }
    return answer;
  }
}
