import { setTimeout as delay } from 'node:timers/promises';
import { BackupError } from '../../common/errors.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import type { EpochMap, KeptPoint } from '../epochs/epoch-map.ts';
import { Journal } from './journal.ts';
import { type CommittedInstant, type JournalRecord, MAX_MARKED_AT_ONCE, type TakenStamp } from './journal-records.ts';
import { RegionMarks } from './region-marks.ts';
import { type CheckpointHead, writeCheckpoint } from './state-checkpoint.ts';
import { checkpointName, isCheckpoint, journalName, numberOf, SUFFIX_OF_UNFINISHED } from './state-files.ts';
import { remember } from './state-replay.ts';
import type { StateFile, StateStorage } from './state-storage.ts';

const MINUTE_MS = 60_000;
/** Regions that are cleared a second, so that a host that comes back to them does not wait for many marks. Rule C2. */
const CLEARED_A_SECOND = 20;
/** A journal that is longer, and longer than the checkpoint, is replaced by a new checkpoint. */
const LONG_JOURNAL_BYTES = 32 * 2 ** 20;
/** If so many are marked when the volume is closed, it is a checkpoint that says what was written. */
const MANY_REGIONS = 4096;

export interface StateParts {
  readonly storage: StateStorage;
  /** Whether the storage is closed with the state. */
  readonly isOwned: boolean;
  readonly device: BlockDevice;
  readonly trackingId: string;
  readonly blockSize: number;
  readonly regionBlocks: number;
  readonly epochs: EpochMap;
  /** By region: 1 for those that are marked. */
  readonly marked: Uint8Array;
  readonly committed: CommittedInstant[];
  /** The number of the file of the journal. */
  readonly number: number;
  readonly file: StateFile;
  readonly journal: Journal;
  readonly checkpointBytes: number;
  readonly stamp: TakenStamp | undefined;
  readonly now: () => number;
}

/**
 * This folder keeps what a later process has to know of a volume: a journal, and checkpoints that replace it.
 *
 * The state of an open volume: what a later process has to know, recorded before it is relied on.
 *
 * Everything that is called by the write path and by an instant appends its record in the step of its caller, because the order of
 * the records is that of the steps. Rule C13. What has to be durable before the caller goes on returns a promise.
 */
export class VolumeState {
  readonly marks: RegionMarks;
  /** Called when the state can't be recorded, and the volume goes on without it. */
  onLost: (error: BackupError) => void = () => {};
  readonly #parts: StateParts;
  #number: number;
  #file: StateFile;
  #journal: Journal;
  #checkpointBytes: number;
  #isClosed = false;
  /** The state is not recorded any more, and a later process finds none. */
  #isVoid = false;
  #failure: BackupError | undefined;
  #mending: Promise<void> | undefined;
  #rotating: Promise<void> | undefined;
  /** Epochs were renumbered while a checkpoint was being written, which is of no use then. Rule C12. */
  #isRenumbered = false;
  #stamp: TakenStamp | undefined;
  readonly #ending = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #clearing: Promise<void> | undefined;

  constructor(parts: StateParts) {
    this.#parts = parts;
    this.#number = parts.number;
    this.#file = parts.file;
    this.#journal = parts.journal;
    this.#checkpointBytes = parts.checkpointBytes;
    this.#stamp = parts.stamp;
    const { epochs } = parts;
    this.marks = new RegionMarks(parts.regionBlocks, parts.marked);
    epochs.onKept = (points) => this.#note({ type: 'kept', serials: points.map(({ serial }) => serial) });
    epochs.onRenumbered = () => {
      this.#isRenumbered = true;
      // @mutation renumbering-is-recorded
      this.#note({ type: 'renumbered' });
    };
    this.#timer = setInterval(() => void this.minute(), MINUTE_MS).unref();
  }

  /** The instants that became backups. */
  get committed(): readonly CommittedInstant[] {
    return this.#parts.committed;
  }

  /** Whether a write to these blocks may be issued in this step. Rule C1. */
  mayWrite(first: number, last: number): boolean {
    return this.marks.areMarked(first, last) || this.#isVoid;
  }

  /** Marks regions of these blocks, as many as one record has. @throws `STATE_FAILED` if that can't be recorded, and the state not be voided either */
  async mark(first: number, last: number): Promise<void> {
    this.#datedStamp();
    const regions = this.marks.unmarked(first, last, MAX_MARKED_AT_ONCE);
    if (regions.length > 0) this.marks.coming(regions, this.#append({ type: 'mark', regions }));
    await this.marks.arrived(first, last);
  }

  /** As {@link VolumeState.mark}, in this step. */
  markSync(first: number, last: number): void {
    if (this.#isVoid) return;
    this.#datedStamp();
    const { regionBlocks } = this.marks;
    const regions: number[] = [];
    for (let region = Math.floor(first / regionBlocks); region * regionBlocks <= last; region++) regions.push(region);
    this.#appendSync({ type: 'mark', regions });
    this.marks.marked(regions);
  }

  /** An instant, in the step in which it is taken. Rule C4. */
  instant({ serial, epoch }: KeptPoint): void {
    this.#note({ type: 'instant', serial, epoch });
  }

  /** Makes an instant believed by later processes. Writes go on meanwhile. */
  async seal(point: KeptPoint): Promise<void> {
    if (this.#isVoid) return;
    // @mutation flushed-before-the-seal
    await this.#parts.device.flush();
    // A device that was reverted to what it was before the instant has another time.
    // @mutation stamped-with-the-seal
    await this.#takeStamp();
    this.#note({ type: 'stamp', stamp: this.#stamp });
    point.isSealed = true;
    await this.#append({ type: 'seal', serial: point.serial });
  }

  /** As {@link VolumeState.seal}, in this step. */
  sealSync(point: KeptPoint, flush: () => void): void {
    if (this.#isVoid) return;
    flush();
    point.isSealed = true;
    this.#appendSync({ type: 'seal', serial: point.serial });
    void this.#takeStamp().then(() => this.#note({ type: 'stamp', stamp: this.#stamp }));
  }

  /** Remembers that an instant became a backup. Rule C20. It may be lost: then contents are compared. */
  commit(instant: CommittedInstant): void {
    remember(this.#parts.committed, instant);
    this.#note({ type: 'committed', ...instant });
  }

  /** Records everything exactly, so that the next process need not read more than was written. No write is at the device. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#ending.abort();
    const { device, storage, isOwned, now } = this.#parts;
    try {
      await Promise.allSettled([this.#rotating, this.#mending, this.#clearing]);
      if (!this.#isVoid) await this.#cleanAll();
      await device.flush();
      const stamp = await device.stamp?.();
      const recorded = this.#append({ type: 'closed', stamp: stamp && { ...stamp, takenAt: now() } });
      // From this step on nothing is recorded: the next process may have the lock before a call that is on its way ends.
      this.#isClosed = true;
      await recorded;
    } catch {
      // Then the next process finds the state as after a crash.
    } finally {
      this.#isClosed = true;
      await Promise.allSettled([this.#rotating, this.#mending]);
      await this.#journal.settled();
      await this.#file.close().catch(() => {});
      if (isOwned) await storage[Symbol.asyncDispose]();
    }
  }

  /** Appends a record that nobody waits for. */
  #note(record: JournalRecord): void {
    this.#append(record).catch(() => {}); // A caller that relies on it sees the next failure.
  }

  /** Appends a record. It resolves when it is durable, or when the state was voided. */
  async #append(record: JournalRecord): Promise<void> {
    if (this.#isVoid) return;
    if (this.#isClosed) throw closed();
    // A disk that was full may have room again.
    if (this.#failure !== undefined) return this.#mend(this.#failure);
    const appended = this.#journal.append(record);
    appended.catch(() => {});
    try {
      await appended;
    } catch (error) {
      await this.#mend(error);
    }
    // What follows a file that failed is found only by way of the new checkpoint.
    // @mutation acknowledged-when-mended
    await this.#mending;
    this.#rotateIfLong();
  }

  #appendSync(record: JournalRecord): void {
    if (this.#isClosed) throw closed();
    const { storage } = this.#parts;
    // A call that can't wait is refused while the state is mended in the background.
    if (this.#failure !== undefined) this.#mend(this.#failure).catch(() => {});
    if (this.#mending !== undefined) throw stateFailed(storage, this.#failure ?? this.#journal.failure, true);
    this.#journal.append(record).catch(() => {});
    try {
      this.#journal.commitSync();
    } catch (cause) {
      this.#mend(cause).catch(() => {});
      throw stateFailed(storage, cause, true);
    }
    this.#rotateIfLong();
  }

  #rotateIfLong(): void {
    if (this.#journal.bytes < Math.max(LONG_JOURNAL_BYTES, this.#checkpointBytes)) return;
    void this.compact();
  }

  /** Replaces the journal by a checkpoint, in the background. Never rejects. */
  async compact(): Promise<void> {
    if (this.#mending !== undefined || this.#isVoid || this.#failure !== undefined || this.#ending.signal.aborted)
      return;
    this.#rotating ??= this.#rotate()
      .then(() => {})
      .catch((error: unknown) => void this.#mend(error).catch(() => {}))
      .finally(() => {
        this.#rotating = undefined;
      });
    await this.#rotating;
  }

  /**
   * Rule C17: what could not be written is not tried again. Everything is written to new files, from memory; if that fails too, the state
   * is voided, and the volume goes on without it.
   *
   * @throws `STATE_FAILED`: a later process might believe what is there now
   */
  #mend(cause: unknown): Promise<void> {
    if (this.#isClosed) return Promise.reject(closed());
    this.#mending ??= this.#renew()
      .catch(() => this.#void(cause))
      .finally(() => {
        this.#mending = undefined;
      });
    return this.#mending;
  }

  async #renew(): Promise<void> {
    await this.#rotating;
    while (!(await this.#rotate()));
  }

  async #void(cause: unknown): Promise<void> {
    const { storage } = this.#parts;
    try {
      // Without its checkpoint a journal is not believed. The oldest goes first: with that and its own journal alone, an older state would be.
      const names = (await storage.list()).filter((name) => numberOf(name) !== undefined);
      // @mutation oldest-checkpoint-first
      const age = (name: string) => (isCheckpoint(name) ? 0 : 2 ** 50) + (numberOf(name) as number);
      for (const name of names.sort((one, other) => age(one) - age(other))) await storage.remove(name);
      await storage.sync();
      this.#isVoid = true;
      this.onLost(stateFailed(storage, cause, false));
    } catch (error) {
      this.#failure = stateFailed(storage, error, false);
      throw this.#failure;
    }
  }

  /**
   * Goes on in a new file of the journal, and replaces the files before by a checkpoint. Rule C16.
   *
   * @returns whether it has; not if epochs were renumbered meanwhile. Then the older files are still needed, and have everything
   */
  async #rotate(): Promise<boolean> {
    const { storage } = this.#parts;
    const number = ++this.#number;
    const unfinished = `${checkpointName(number)}${SUFFIX_OF_UNFINISHED}`;
    const file = await storage.create(journalName(number));
    const checkpoint = await this.#orClosed(file, storage.create(unfinished));
    try {
      await this.#orClosed(file, storage.sync());
      const { head, journal } = this.#switch(file, checkpoint);
      const bytes = await writeCheckpoint(checkpoint, head, this.#parts.epochs.blocks);
      if (this.#isRenumbered) return false;
      await storage.rename(unfinished, checkpointName(number));
      await storage.sync();
      journal.found();
      this.#checkpointBytes = bytes;
    } catch (error) {
      await storage.remove(unfinished).catch(() => {}); // It takes room that another one may need.
      throw error;
    } finally {
      await checkpoint.close().catch(() => {});
    }
    await removeOlder(storage, number).catch(() => {}); // They are not read any more, and are removed the next time.
    return true;
  }

  /** One step: what the checkpoint says, and what is recorded after it, leave nothing out and nothing twice. */
  #switch(file: StateFile, checkpoint: StateFile): { head: CheckpointHead; journal: Journal } {
    const [before, beforeFile] = [this.#journal, this.#file];
    const { isFound } = before;
    const place = before.end();
    const head = this.#head(checkpoint, place);
    const journal = new Journal(file, {
      place,
      durable: before.durable,
      before: isFound ? before : undefined,
      isFound,
    });
    this.#journal = journal;
    this.#file = file;
    this.#isRenumbered = false;
    // What is appended from here on is written. What was not before is in the checkpoint.
    this.#failure = undefined;
    void before
      .settled()
      .then(() => beforeFile.close())
      .catch(() => {});
    return { head, journal };
  }

  async #orClosed<T>(file: StateFile, work: Promise<T>): Promise<T> {
    return work.catch(async (error: unknown) => {
      await file.close().catch(() => {});
      throw error;
    });
  }

  #head(file: StateFile, place: CheckpointHead['place']): CheckpointHead {
    const { trackingId, blockSize, regionBlocks, device, epochs, committed } = this.#parts;
    return {
      ...{ trackingId, blockSize, regionBlocks, size: device.size, identity: file.identity, stamp: this.#stamp },
      ...{ place, current: epochs.current, lastSerial: epochs.lastSerial },
      points: epochs.points.map(({ serial, epoch, isSealed = false }) => ({ serial, epoch, isSealed })),
      marked: [...this.marks.runs()],
      committed: [...committed],
    };
  }

  /** Is called once a minute: clears regions that are quiet, and records that the device is in use. */
  async minute(): Promise<void> {
    if (this.#isVoid || this.#isClosed || !this.marks.areAny) return;
    const quiet = this.marks.minute();
    this.#clearing ??= this.#clear(quiet).finally(() => {
      this.#clearing = undefined;
    });
    await this.#takeStamp();
    await this.#append({ type: 'stamp', stamp: this.#stamp }).catch(() => {});
  }

  /** Records what the device says of itself, while it is written. Rule C22. */
  async #takeStamp(): Promise<void> {
    const { device, now } = this.#parts;
    const takenAt = now();
    const asked = async () => device.stamp?.(); // It may throw at once.
    const stamp = await asked().catch(() => undefined);
    if (stamp !== undefined) this.#stamp = { ...stamp, takenAt };
  }

  /** Before the first write after a pause: by the time of the newest stamp a later process tells whether the device is older or newer. */
  #datedStamp(): void {
    const takenAt = this.#parts.now();
    if (this.#stamp === undefined || takenAt - this.#stamp.takenAt < MINUTE_MS) return;
    this.#stamp = { ...this.#stamp, takenAt };
    this.#note({ type: 'stamp', stamp: this.#stamp });
  }

  async #clear(regions: readonly number[]): Promise<void> {
    for (let at = 0; at < regions.length && !this.#isVoid; at += CLEARED_A_SECOND) {
      for (const region of regions.slice(at, at + CLEARED_A_SECOND)) this.#clean(region);
      const { signal } = this.#ending;
      if (signal.aborted) return;
      await delay(1000, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  /** Nothing is marked afterwards. No write may come meanwhile. */
  async #cleanAll(): Promise<void> {
    const runs = [...this.marks.runs()];
    const isMuch = runs.reduce((sum, { count }) => sum + count, 0) > MANY_REGIONS;
    for (const { first, count } of runs) {
      for (let region = first; region < first + count; region++) {
        if (region % 1024 === 0) await yieldToEventLoop();
        if (isMuch) this.marks.clear(region);
        else this.#clean(region);
      }
    }
    if (isMuch) await this.#rotate(); // All epochs are read faster than a record for each region.
  }

  /** Rule C2: from the step on in which its epochs are recorded, the region is not marked. */
  #clean(region: number): void {
    const { blocks } = this.#parts.epochs;
    const { first, end } = this.marks.blocksOf(region, blocks.blockCount);
    const epochs = new Uint8Array(end - first);
    blocks.copyTo(epochs, first);
    // @mutation unmarked-in-the-step
    this.marks.clear(region);
    this.#note({ type: 'clean', region, epochs });
  }
}

/** Removes what a checkpoint has made superfluous. */
export async function removeOlder(storage: StateStorage, number: number): Promise<void> {
  for (const name of await storage.list()) {
    const found = numberOf(name);
    if (found !== undefined && found < number) await storage.remove(name);
  }
}

function closed(): BackupError {
  return new BackupError('CLOSED', 'the volume is closed');
}

export function stateFailed({ name }: StateStorage, cause: unknown, retryable: boolean): BackupError {
  const why = BackupError.is(cause) ? `: ${cause.message}` : '';
  const message = `the state of the volume can't be recorded in ${name}${why}`;
  return new BackupError('STATE_FAILED', message, { cause, retryable });
}
