import { randomUUID } from 'node:crypto';
import { BackupError } from '../../common/errors.ts';
import { type BlockDevice, hasSyncDoor } from '../../device/block-device.ts';
import { EpochMap } from '../epochs/epoch-map.ts';
import { Journal, type JournalPlace } from './journal.ts';
import { JournalDamaged, readJournal } from './journal-reading.ts';
import { type CommittedInstant, MAX_MARKED_AT_ONCE, type TakenStamp, UnknownRecord } from './journal-records.ts';
import {
  CheckpointDamaged,
  type CheckpointHead,
  CheckpointNewer,
  readCheckpointEpochs,
  readCheckpointHead,
  writeCheckpoint,
} from './state-checkpoint.ts';
import { checkpointName, isCheckpoint, journalName, numberOf, SUFFIX_OF_UNFINISHED } from './state-files.ts';
import { StateFolder } from './state-folder.ts';
import { StateReplay } from './state-replay.ts';
import type { StateFile, StateStorage } from './state-storage.ts';
import { removeOlder, VolumeState } from './volume-state.ts';

/**
 * What was found in the state of a volume when it was opened.
 *
 * - `new`: there was none
 * - `clean`: the volume was closed, and nothing has been written since
 * - `recovered`: the process before has ended without closing the volume; what it may have been writing counts as changed
 * - `discarded`: the state was not believed, for `reason`; the next backup compares contents
 *
 * @public
 */
export interface VolumeRecovery {
  readonly found: 'new' | 'clean' | 'recovered' | 'discarded';
  /**
   * Why the state was discarded.
   *
   * - `damaged`: a file of it is damaged or missing
   * - `newer-version`: a newer version of this package has written it
   * - `block-size`, `size`: the volume had another block size, or the device another size
   * - `other-device`: it belongs to another device
   * - `device-older`: the device is as it was at an earlier time, perhaps because it was reverted to a copy
   * - `device-newer`: the device was written while this volume was not open
   * - `copied`: the state is a copy of the folder of another one
   */
  readonly reason: DiscardReason | undefined;
  /** Bytes that the next incremental backup reads, at most, although they may not have been written. */
  readonly overReadBytes: number;
}

/** @public */
export type DiscardReason =
  | 'damaged'
  | 'newer-version'
  | 'block-size'
  | 'size'
  | 'other-device'
  | 'device-older'
  | 'device-newer'
  | 'copied';

/** Blocks of a region. */
const REGION_BLOCKS = 64;
/** A device may have been written for so long after its newest stamp, and its clock may be so much behind. Rule C22. */
const MOST_LATER_MS = 120_000;
const MOST_EARLIER_MS = 60_000;

export interface OpenStateOptions {
  readonly storage: StateStorage;
  readonly isOwned: boolean;
  readonly device: BlockDevice;
  readonly blockSize: number;
  readonly blockCount: number;
  readonly now?: () => number;
}

export interface OpenedState {
  readonly state: VolumeState;
  readonly recovery: VolumeRecovery;
  readonly trackingId: string;
  readonly epochs: EpochMap;
}

/** What was found and is believed. */
interface Found {
  readonly replay: StateReplay;
  readonly head: CheckpointHead;
  readonly place: JournalPlace;
  readonly checkpointBytes: number;
}

class Discarded extends Error {
  readonly reason: DiscardReason;

  constructor(reason: DiscardReason) {
    super(reason);
    this.reason = reason;
  }
}

/** Opens the state in a folder, or in a storage of the host's. */
export async function openStateIn(
  stateDirectory: string | StateStorage,
  device: BlockDevice,
  blockSize: number,
): Promise<OpenedState> {
  const isOwned = typeof stateDirectory === 'string';
  const storage = isOwned ? await StateFolder.open(stateDirectory) : stateDirectory;
  try {
    const blockCount = Math.ceil(device.size / blockSize);
    return await openState({ storage, isOwned, device, blockSize, blockCount });
  } catch (error) {
    if (isOwned) await storage[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * Opens the state of a volume: finds out what an earlier process has left, and begins to record.
 *
 * @throws what the storage throws
 */
export async function openState(options: OpenStateOptions): Promise<OpenedState> {
  const { device, storage } = options;
  const names = await storage.list();
  const number = Math.max(0, ...names.map((name) => numberOf(name) ?? 0)) + 1;
  const stamp = await device.stamp?.();
  const taken = stamp && { ...stamp, takenAt: (options.now ?? Date.now)() };
  if (names.every((name) => numberOf(name) === undefined)) return begun(options, number, taken, 'new', undefined);
  let found: Found;
  try {
    found = await read(options, names);
  } catch (error) {
    return begun(options, number, taken, 'discarded', reasonOf(error));
  }
  const reason = unlikeStamp(found.replay, taken);
  if (reason === undefined) return resumed(options, number, taken, found);
  return begun(options, number, taken, 'discarded', reason);
}

/** @throws {@link Discarded}, and what reading throws */
async function read(options: OpenStateOptions, names: readonly string[]): Promise<Found> {
  const { storage, device, blockSize, blockCount } = options;
  const numbers = names.filter(isCheckpoint).map((name) => numberOf(name) as number);
  const newest = Math.max(...numbers);
  if (numbers.length === 0) throw new Discarded('damaged');
  const file = await storage.open(checkpointName(newest));
  try {
    const { head, epochsAt } = await readCheckpointHead(file);
    if (head.identity !== undefined && file.identity !== undefined && head.identity !== file.identity) {
      throw new Discarded('copied');
    }
    if (head.blockSize !== blockSize) throw new Discarded('block-size');
    if (head.size !== device.size) throw new Discarded('size');
    const replay = new StateReplay(head, blockCount);
    const checkpointBytes = await readCheckpointEpochs(file, epochsAt, replay.epochs.blocks);
    return { replay, head, checkpointBytes, place: await replayed(storage, names, newest, head, replay) };
  } finally {
    await file.close();
  }
}

/** Reads the files of the journal from that of the checkpoint on. */
async function replayed(
  storage: StateStorage,
  names: readonly string[],
  first: number,
  head: CheckpointHead,
  replay: StateReplay,
): Promise<JournalPlace> {
  if (!names.includes(journalName(first))) throw new Discarded('damaged');
  let { place } = head;
  const numbers = names.filter((name) => name.startsWith('journal-')).map((name) => numberOf(name) as number);
  for (const number of numbers.filter((each) => each >= first).sort((one, other) => one - other)) {
    const file = await storage.open(journalName(number));
    try {
      place = await readJournal(file, place, (record) => replay.take(record));
      // Rule C15: what was read may not be durable yet, and is relied on from here.
      // @mutation reopening-syncs
      await file.sync();
    } finally {
      await file.close();
    }
  }
  return place;
}

/** Why the device is not the one of the state, or not as that has left it. Rule C22. */
function unlikeStamp(
  { stamp: recorded, isClosed }: StateReplay,
  taken: TakenStamp | undefined,
): DiscardReason | undefined {
  if (recorded === undefined || taken === undefined) return undefined; // Only a sample of the contents may show it.
  if (recorded.identity !== taken.identity) return 'other-device';
  const earliest = isClosed ? recorded.version : recorded.version - MOST_EARLIER_MS;
  const latest = isClosed ? recorded.version : recorded.takenAt + MOST_LATER_MS;
  // @mutation older-device-is-noticed
  if (taken.version < earliest) return 'device-older';
  return taken.version > latest ? 'device-newer' : undefined;
}

/** Goes on with what was found. */
async function resumed(
  options: OpenStateOptions,
  number: number,
  stamp: TakenStamp | undefined,
  { replay, head, place, checkpointBytes }: Found,
): Promise<OpenedState> {
  const { storage, blockSize } = options;
  await storage.sync();
  const { isClosed, epochs, marked, committed } = replay;
  const overReadBytes = replay.settle() * blockSize;
  const file = await storage.create(journalName(number));
  requireSyncCalls(options.device, file);
  await storage.sync();
  const journal = new Journal(file, { place, durable: place.group - 1, isFound: true });
  // Once more: the file that said it before may have been read from a cache that can't be written.
  void journal.append({ type: 'mark', regions: fewMarked(marked) });
  void journal.append({ type: 'kept', serials: epochs.points.map(({ serial }) => serial) });
  await journal.append({ type: 'opened', stamp });
  const { trackingId, regionBlocks } = head;
  const shared = { ...options, now: options.now ?? Date.now, trackingId, regionBlocks, epochs, marked, committed };
  const state = new VolumeState({ ...shared, number, file, journal, checkpointBytes, stamp });
  // Each process adds a file. And a checkpoint needs the file of the journal that follows it: one that is missing shows.
  void state.compact();
  const recovery = { found: isClosed ? 'clean' : 'recovered', reason: undefined, overReadBytes } as const;
  return { state, recovery, trackingId, epochs };
}

/** Begins a state in which nothing is known. */
async function begun(
  options: OpenStateOptions,
  number: number,
  stamp: TakenStamp | undefined,
  found: 'new' | 'discarded',
  reason: DiscardReason | undefined,
): Promise<OpenedState> {
  const { storage, device, blockSize, blockCount } = options;
  const epochs = new EpochMap(blockCount);
  const trackingId = randomUUID();
  const place: JournalPlace = { group: 1, crc: 0 };
  const file = await storage.create(journalName(number));
  requireSyncCalls(device, file);
  const unfinished = `${checkpointName(number)}${SUFFIX_OF_UNFINISHED}`;
  const checkpoint = await storage.create(unfinished);
  const committed: CommittedInstant[] = [];
  const head: CheckpointHead = {
    ...{ trackingId, blockSize, regionBlocks: REGION_BLOCKS, size: device.size, identity: checkpoint.identity, stamp },
    ...{ place, current: 0, lastSerial: 0, points: [], marked: [], committed },
  };
  const checkpointBytes = await writeCheckpoint(checkpoint, head, epochs.blocks).finally(() => checkpoint.close());
  await storage.rename(unfinished, checkpointName(number));
  await storage.sync();
  await removeOlder(storage, number).catch(() => {}); // They are not read any more.
  const journal = new Journal(file, { place, durable: 0, isFound: true });
  await journal.append({ type: 'opened', stamp });
  const shared = { ...options, now: options.now ?? Date.now, trackingId, regionBlocks: REGION_BLOCKS, epochs };
  const marked = new Uint8Array(Math.ceil(blockCount / REGION_BLOCKS));
  const state = new VolumeState({ ...shared, marked, committed, number, file, journal, checkpointBytes, stamp });
  return { state, recovery: { found, reason, overReadBytes: 0 }, trackingId, epochs };
}

/** The regions that are marked, ascending, unless they are very many. */
function fewMarked(marked: Uint8Array): number[] {
  const regions: number[] = [];
  for (let region = marked.indexOf(1); region >= 0; region = marked.indexOf(1, region + 1)) {
    if (regions.push(region) > MAX_MARKED_AT_ONCE) return [];
  }
  return regions;
}

/** A write through the synchronous door can't wait for a mark. */
function requireSyncCalls(device: BlockDevice, { writeSync, syncSync }: StateFile): void {
  if (!hasSyncDoor(device) || (writeSync !== undefined && syncSync !== undefined)) return;
  throw new TypeError(
    'the files of stateDirectory need writeSync and syncSync, because the device has synchronous calls',
  );
}

/** Why a state is not believed. @throws what is no reason */
function reasonOf(error: unknown): DiscardReason {
  if (error instanceof Discarded) return error.reason;
  if (error instanceof CheckpointNewer) return 'newer-version';
  const isDamage =
    error instanceof CheckpointDamaged ||
    error instanceof JournalDamaged ||
    error instanceof UnknownRecord ||
    BackupError.is(error, 'SHORT_READ');
  if (!isDamage) throw error;
  return 'damaged';
}
