import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { openMap, type RepositoryContext } from '../context/repository-context.ts';
import type { StoredBackup } from '../format/log-state.ts';
import type { BlockEntry, MappedBlock } from '../format/map-descriptor.ts';
import type { BlockMap } from '../map/block-map.ts';
import type { Deliver, ReadBlocksOptions } from '../packs/record-store.ts';

/** What a source says of a block. A restore that may write lost blocks writes them as zeroes. */
export type BlockContent<Entry = BlockEntry> = Entry | 'zero' | 'lost';

/** Where restores and images get their blocks from: they look a block up first, and fetch it by the entry that they found. */
export interface BlockSource<Entry = BlockEntry> {
  /** Bytes. */
  readonly size: number;
  /** Bytes. */
  readonly blockSize: number;
  /** Looks up `count` blocks from `firstBlock` on, all of them within the source. */
  lookup(firstBlock: number, count: number, options: AbortOptions): Promise<readonly BlockContent<Entry>[]>;
  /**
   * Delivers the content of blocks, in any order. Without `onFailed` it rejects with the first failure; with it, failed
   * blocks are reported one by one.
   */
  fetch(
    blocks: readonly { readonly block: number; readonly entry: Entry }[],
    deliver: Deliver,
    options: ReadBlocksOptions,
  ): Promise<void>;
}

/** A source that a device can be compared with. */
export interface ComparableSource<Entry = BlockEntry> extends BlockSource<Entry> {
  /** Whether a block for which `lookup` gave an entry has this content. */
  isContent(entry: Entry, bytes: Uint8Array, options: AbortOptions): boolean | Promise<boolean>;
}

/** Reads a committed backup block by block. */
export class BackupReader implements ComparableSource {
  readonly size: number;
  readonly blockSize: number;
  readonly map: BlockMap;
  readonly #context: RepositoryContext;
  readonly #id: string;

  constructor(context: RepositoryContext, { id, descriptor }: Pick<StoredBackup, 'id' | 'descriptor'>) {
    this.#context = context;
    this.#id = id;
    this.map = openMap(context, descriptor);
    ({ size: this.size, blockSize: this.blockSize } = descriptor);
  }

  /** Loads what every lookup needs, so that a missing or damaged map shows early. */
  async load(options: AbortOptions): Promise<void> {
    await this.explaining(() => this.map.load(options));
  }

  lookup(firstBlock: number, count: number, options: AbortOptions): Promise<BlockContent[]> {
    return this.explaining(async () => {
      const { entries, lost } = await this.map.lookup(firstBlock, count, options);
      const contents = entries.map((entry): BlockContent => entry ?? 'zero');
      for (const range of lost) {
        const from = range.firstBlock - firstBlock;
        contents.fill('lost', from, from + range.blockCount);
      }
      return contents;
    });
  }

  async fetch(
    blocks: readonly MappedBlock[],
    deliver: Deliver,
    { signal, onFailed }: ReadBlocksOptions,
  ): Promise<void> {
    const tally = { fetchedBytes: 0, requests: 0 };
    const reported: Promise<void>[] = [];
    const explained =
      onFailed &&
      ((block: number, error: unknown) => {
        reported.push(this.#explain(error).then((cause) => onFailed(block, cause)));
      });
    await this.explaining(() =>
      this.#context.records.readBlocks(blocks, deliver, tally, { signal, onFailed: explained }),
    ).finally(() => Promise.all(reported));
  }

  isContent({ id }: BlockEntry, bytes: Uint8Array): boolean {
    return Buffer.compare(this.#context.keys.contentId(bytes), id) === 0;
  }

  /** Does something with the map; see {@link explainMissingPack}. */
  async explaining<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw await this.#explain(error);
    }
  }

  #explain(error: unknown): Promise<unknown> {
    return explainMissingPack(this.#context, this.#id, error);
  }
}

/**
 * A missing pack means damage, unless the backup was forgotten in the meantime: then the error is `BACKUP_FORGOTTEN`. The state is
 * new enough: before the record store rejects with `PACK_MISSING` it reads the newest log entries.
 *
 * @param backup - the id of a backup that existed when its reader was made
 */
export async function explainMissingPack(
  { log }: Pick<RepositoryContext, 'log'>,
  backup: string,
  error: unknown,
): Promise<unknown> {
  if (!BackupError.is(error, 'PACK_MISSING')) return error;
  const state = await log.withPages({ ids: [backup] }).catch(() => undefined);
  if (state === undefined || state.backups.has(backup)) return error;
  return new BackupError('BACKUP_FORGOTTEN', `backup ${backup} was forgotten while it was being read`, {
    cause: error,
  });
}
