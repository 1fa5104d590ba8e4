import { type AbortOptions, abortable, abortOptionsArgument } from '../../common/abort.ts';
import { bytesArgument } from '../../common/arguments.ts';
import { type BlockRange, collectRanges } from '../../common/block-range.ts';
import { BackupError } from '../../common/errors.ts';
import { checkSpan } from '../../device/span.ts';
import type { JobHandle } from '../backup/job-handle.ts';
import type { BlockEntry } from '../format/map-descriptor.ts';
import type { Deliver, RecordStore } from '../packs/record-store.ts';
import type { ComparableSource } from './backup-reader.ts';
import type { OpenedBackup } from './restore-options.ts';
import { neighbours } from './restore-windows.ts';

/**
 * The frozen instant of a backup under way, as a read-only device. Blocks that were not overwritten since are read from the
 * live volume, overwritten ones from their pre-images, and those whose pre-images were released from the repository. Once the
 * backup is committed, everything is read from the repository.
 */
export class JobImage implements OpenedBackup {
  readonly size: number;
  readonly sectorSize: number;
  /** Bytes. */
  readonly blockSize: number;
  readonly readOnly = true;
  readonly #job: JobHandle;
  readonly #records: RecordStore;
  readonly #open: () => Promise<OpenedBackup>;
  /** The image of the committed backup, once it was asked for. */
  #committedImage: Promise<OpenedBackup> | undefined;
  readonly #closing = new AbortController();

  /** @param open - opens the backup once it is committed */
  constructor(job: JobHandle, records: RecordStore, open: () => Promise<OpenedBackup>) {
    const { snapshot } = job;
    this.#job = job;
    this.#records = records;
    this.#open = open;
    this.size = snapshot.size;
    this.sectorSize = snapshot.sectorSize;
    this.blockSize = snapshot.blockSize;
  }

  /**
   * @throws `BACKUP_INCOMPLETE` if the job has ended without a backup, or if it no longer knows where a released block is
   * stored; `BLOCK_LOST`, `SNAPSHOT_BROKEN`, `CLOSED`, and what the volume and the repository throw
   */
  async read(offset: number, into: Uint8Array, options: AbortOptions = {}): Promise<void> {
    abortOptionsArgument(options);
    this.#check(offset, bytesArgument('into', into).length);
    const { snapshot } = this.#job;
    if (snapshot.status === 'closed') return (await this.#committed(options)).read(offset, into, options);
    try {
      await snapshot.read(offset, into, options);
    } catch (error) {
      if (BackupError.is(error, 'CLOSED') && !this.#isClosed) return this.read(offset, into, options);
      if (!BackupError.is(error, 'BLOCK_RELEASED')) throw error;
      await this.#readEach(offset, into, options);
    }
  }

  /** Always rejects with `READ_ONLY`. */
  async write(): Promise<void> {
    throw new BackupError('READ_ONLY', 'the image of a backup is read-only: restore it to a device to change it');
  }

  async flush(options: AbortOptions = {}): Promise<void> {
    abortOptionsArgument(options);
    this.#check(0, 0);
  }

  /** Ends reads that wait for the commit. */
  async close(): Promise<void> {
    this.#closing.abort(closedError());
    // It is not waited for: the job may take long until its commit.
    this.#committedImage?.then((image) => image.close()).catch(() => {});
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The number of blocks whose pre-image could not be kept. */
  get lostBlocks(): number {
    return this.#job.snapshot.states.counts.lost;
  }

  /** The blocks that were written since the frozen instant; `undefined` if they are not known. */
  async overwritten(): Promise<BlockRange[] | undefined> {
    const { snapshot } = this.#job;
    const written = snapshot.status === 'live' ? snapshot.volume.changedSince(snapshot.point) : undefined;
    return written && collectRanges(written);
  }

  /** Reads a released block from the repository. Of several blocks each is read by itself, because others may be in the volume. */
  async #readEach(offset: number, into: Uint8Array, options: AbortOptions): Promise<void> {
    const { blockSize } = this;
    const first = Math.floor(offset / blockSize);
    const end = offset + into.length;
    if (end <= (first + 1) * blockSize) return this.#fetch(first, offset - first * blockSize, into, options);
    for (let at = offset; at < end; ) {
      const next = Math.min(end, (Math.floor(at / blockSize) + 1) * blockSize);
      await this.read(at, into.subarray(at - offset, next - offset), options);
      at = next;
    }
  }

  async #fetch(block: number, from: number, part: Uint8Array, options: AbortOptions): Promise<void> {
    const entry = await this.#entryOf(block, options);
    if (entry === undefined) {
      part.fill(0);
      return;
    }
    const deliver = (_block: number, bytes: Uint8Array) => part.set(bytes.subarray(from, from + part.length));
    const tally = { fetchedBytes: 0, requests: 0 };
    await this.#records.readBlocks([{ block, entry }], deliver, tally, options);
  }

  get #isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  /**
   * The image of the committed backup. While the job commits, its snapshot may be closed already: then this waits.
   *
   * @throws `BACKUP_INCOMPLETE` if the job has ended without a backup, and what opening one throws
   */
  #committed({ signal }: AbortOptions): Promise<OpenedBackup> {
    if (this.#committedImage === undefined) {
      const opening = this.#job.done.then(this.#open, (cause: unknown) => {
        throw new BackupError('BACKUP_INCOMPLETE', `backup ${this.#job.id} was never completed: start another one`, {
          cause,
        });
      });
      // The next read tries again: the target may answer by then.
      opening.catch(() => {
        this.#committedImage = undefined;
      });
      this.#committedImage = opening;
    }
    const ending = this.#closing.signal;
    return abortable(this.#committedImage, signal === undefined ? ending : AbortSignal.any([signal, ending]));
  }

  /** The entry of a block that the snapshot has released; `undefined` for zeroes. */
  async #entryOf(block: number, options: AbortOptions): Promise<BlockEntry | undefined> {
    const { backup, id } = this.#job;
    if (backup.entries.has(block)) return backup.entries.get(block);
    const { base } = backup;
    if (base !== undefined && backup.isAsInBase(block)) return (await base.map.lookup(block, 1, options)).entries[0];
    // For a large volume, the sweep drops the entries that it has written to the map.
    const message = `backup ${id} is under way: block ${block} has been stored, and can be read once the backup is committed`;
    throw new BackupError('BACKUP_INCOMPLETE', message, { retryable: true });
  }

  #check(offset: number, length: number): void {
    if (this.#isClosed) throw closedError();
    checkSpan(this, offset, length);
  }
}

/** Bytes read from the image with one call. */
const READ_BYTES = 1024 * 1024;

/** A backup under way as a source. Every block is read from its image; the entry of a block is its number. */
export class JobSource implements ComparableSource<number> {
  readonly size: number;
  readonly blockSize: number;
  readonly #image: JobImage;
  readonly #allowLost: boolean;

  constructor(image: JobImage, allowLost: boolean) {
    ({ size: this.size, blockSize: this.blockSize } = image);
    this.#image = image;
    this.#allowLost = allowLost;
  }

  async lookup(firstBlock: number, count: number): Promise<number[]> {
    return Array.from({ length: count }, (_, index) => firstBlock + index);
  }

  /** One read at a time: when a rollback rejects, no call to its volume may be in flight. */
  async fetch(blocks: readonly { readonly block: number }[], deliver: Deliver, options: AbortOptions): Promise<void> {
    const { blockSize } = this;
    for (const run of neighbours(blocks, READ_BYTES / blockSize)) {
      const bytes = await this.#read((run[0] as { readonly block: number }).block, run.length, options);
      for (const [index, { block }] of run.entries()) {
        await deliver(block, bytes.subarray(index * blockSize, (index + 1) * blockSize));
      }
    }
  }

  async isContent(block: number, bytes: Uint8Array, options: AbortOptions): Promise<boolean> {
    return Buffer.compare(await this.#read(block, 1, options), bytes) === 0;
  }

  async #read(block: number, count: number, options: AbortOptions): Promise<Uint8Array> {
    const { blockSize, size } = this;
    const offset = block * blockSize;
    const bytes = new Uint8Array(Math.min(count * blockSize, size - offset));
    try {
      await this.#image.read(offset, bytes, { signal: options.signal });
    } catch (error) {
      // Blocks may get lost at any time: the writes of a rollback need pre-images too.
      if (!this.#allowLost || !BackupError.is(error, 'BLOCK_LOST')) throw error;
      bytes.fill(0);
      if (count === 1) return bytes;
      for (let at = 0; at < count; at++) bytes.set(await this.#read(block + at, 1, options), at * blockSize);
    }
    return bytes;
  }
}

function closedError(): BackupError {
  return new BackupError('CLOSED', 'the image is closed');
}
