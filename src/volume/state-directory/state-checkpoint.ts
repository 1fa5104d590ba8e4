import { crc32 } from 'node:zlib';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { BlockEpochs } from '../epochs/block-epochs.ts';
import type { JournalPlace } from './journal.ts';
import {
  type CommittedInstant,
  committedBytes,
  committedOf,
  stampBytes,
  stampOf,
  type TakenStamp,
} from './journal-records.ts';
import type { RegionRun } from './region-marks.ts';
import type { StateFile } from './state-storage.ts';

/**
 * A checkpoint of a state: everything that the records before it say, so that they need not be kept. Rule C16.
 *
 *     magic u32, version u32, bytes of the head u32, CRC-32 of the head u32; the head; the epochs of the blocks in pieces of
 *     2^20 blocks: kind u8 (0: all have one epoch, 1: each has its own), that epoch u8, 0 u16; in the second case one byte for
 *     each block; CRC-32 of all this u32
 *
 * The head is a sequence of numbers and byte strings, in the order of {@link CheckpointHead}.
 */
const MAGIC = 0x4b776f63;
/** Of the whole folder: a program that does not know it believes nothing in it. */
export const STATE_VERSION = 1;
const FRONT_BYTES = 16;
const PIECE_BLOCKS = 2 ** 20;
const PIECE_HEAD_BYTES = 4;
const CRC_BYTES = 4;
const MAX_HEAD_BYTES = 2 ** 29;
const UNIFORM = 0;
const MIXED = 1;

export interface CheckpointHead {
  readonly trackingId: string;
  readonly blockSize: number;
  /** Blocks of a region. */
  readonly regionBlocks: number;
  /** Bytes of the device. */
  readonly size: number;
  /** The file that this checkpoint was written to; a copy of it has another one. */
  readonly identity: string | undefined;
  readonly stamp: TakenStamp | undefined;
  /** Where the journal goes on. */
  readonly place: JournalPlace;
  readonly current: number;
  readonly lastSerial: number;
  /** Points that are kept, the oldest first. */
  readonly points: readonly { readonly serial: number; readonly epoch: number; readonly isSealed: boolean }[];
  readonly marked: Iterable<RegionRun>;
  readonly committed: readonly CommittedInstant[];
}

/** The file is not a checkpoint, or is not whole. */
export class CheckpointDamaged extends Error {}

/** The checkpoint is of a newer program. */
export class CheckpointNewer extends Error {}

/** Writes a checkpoint. The epochs may change meanwhile: what changes is in a region that is marked, or in the journal that follows. */
export async function writeCheckpoint(file: StateFile, head: CheckpointHead, epochs: BlockEpochs): Promise<number> {
  const bytes = encodeHead(head);
  const front = new Uint8Array(FRONT_BYTES);
  const view = new DataView(front.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, STATE_VERSION, true);
  view.setUint32(8, bytes.length, true);
  view.setUint32(12, crc32(bytes), true);
  await file.write(0, front);
  await file.write(FRONT_BYTES, bytes);
  let at = FRONT_BYTES + bytes.length;
  for (let first = 0; first < epochs.blockCount; first += PIECE_BLOCKS) {
    await yieldToEventLoop();
    const count = Math.min(PIECE_BLOCKS, epochs.blockCount - first);
    const piece = pieceOf(epochs, first, count);
    await file.write(at, piece);
    at += piece.length;
  }
  // @mutation checkpoint-is-synced
  await file.sync();
  return at;
}

function pieceOf(epochs: BlockEpochs, first: number, count: number): Uint8Array {
  const epoch = epochs.uniformEpoch(first, first + count);
  const length = PIECE_HEAD_BYTES + (epoch === undefined ? count : 0);
  const piece = new Uint8Array(length + CRC_BYTES);
  if (epoch === undefined) {
    piece[0] = MIXED;
    epochs.copyTo(piece.subarray(PIECE_HEAD_BYTES, length), first);
  } else {
    piece[0] = UNIFORM;
    piece[1] = epoch;
  }
  new DataView(piece.buffer).setUint32(length, crc32(piece.subarray(0, length)), true);
  return piece;
}

/** @throws {@link CheckpointDamaged}, {@link CheckpointNewer} */
export async function readCheckpointHead(file: StateFile): Promise<{ head: CheckpointHead; epochsAt: number }> {
  const size = await file.size();
  const front = new Uint8Array(FRONT_BYTES);
  if (size < FRONT_BYTES) throw new CheckpointDamaged('it is cut off');
  await file.read(0, front);
  const view = new DataView(front.buffer);
  if (view.getUint32(0, true) !== MAGIC) throw new CheckpointDamaged('it is no checkpoint');
  if (view.getUint32(4, true) !== STATE_VERSION) throw new CheckpointNewer('it has another version');
  const length = view.getUint32(8, true);
  if (length > MAX_HEAD_BYTES || FRONT_BYTES + length > size) throw new CheckpointDamaged('it is cut off');
  const bytes = new Uint8Array(length);
  await file.read(FRONT_BYTES, bytes);
  if (crc32(bytes) !== view.getUint32(12, true)) throw new CheckpointDamaged('its head is damaged');
  return { head: decodeHead(bytes), epochsAt: FRONT_BYTES + length };
}

/** Reads the epochs into a map that is new. @throws {@link CheckpointDamaged} */
export async function readCheckpointEpochs(file: StateFile, from: number, epochs: BlockEpochs): Promise<number> {
  const size = await file.size();
  const buffer = new Uint8Array(PIECE_HEAD_BYTES + PIECE_BLOCKS + CRC_BYTES);
  let at = from;
  for (let first = 0; first < epochs.blockCount; first += PIECE_BLOCKS) {
    await yieldToEventLoop();
    const count = Math.min(PIECE_BLOCKS, epochs.blockCount - first);
    const room = buffer.subarray(0, Math.min(PIECE_HEAD_BYTES + count + CRC_BYTES, size - at));
    await file.read(at, room);
    const length = PIECE_HEAD_BYTES + (room[0] === MIXED ? count : 0);
    if (room.length < length + CRC_BYTES) throw new CheckpointDamaged('it is cut off');
    const sum = new DataView(buffer.buffer).getUint32(length, true);
    if (sum !== crc32(room.subarray(0, length))) throw new CheckpointDamaged('its epochs are damaged');
    if (room[0] === MIXED) epochs.load(first, room.subarray(PIECE_HEAD_BYTES, length));
    else epochs.set(first, first + count, room[1] as number);
    at += length + CRC_BYTES;
  }
  return at;
}

function runsOf(words: Uint32Array): RegionRun[] {
  const runs: RegionRun[] = [];
  for (let at = 0; at + 1 < words.length; at += 2)
    runs.push({ first: words[at] as number, count: words[at + 1] as number });
  return runs;
}

function encodeHead(head: CheckpointHead): Uint8Array {
  const parts: Uint8Array[] = [];
  const number = (value: number) => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
    parts.push(bytes);
  };
  const bytes = (value: Uint8Array) => {
    number(value.length);
    parts.push(value);
  };
  bytes(Buffer.from(head.trackingId));
  for (const value of [head.blockSize, head.regionBlocks, head.size]) number(value);
  bytes(Buffer.from(head.identity ?? ''));
  bytes(stampBytes(head.stamp));
  for (const value of [head.place.group, head.place.crc, head.current, head.lastSerial]) number(value);
  number(head.points.length);
  for (const { serial, epoch, isSealed } of head.points)
    for (const value of [serial, epoch, Number(isSealed)]) number(value);
  bytes(new Uint8Array(Uint32Array.from([...head.marked].flatMap(({ first, count }) => [first, count])).buffer));
  number(head.committed.length);
  for (const each of head.committed) bytes(committedBytes(each));
  return Buffer.concat(parts);
}

function decodeHead(encoded: Uint8Array): CheckpointHead {
  const view = new DataView(encoded.buffer, encoded.byteOffset, encoded.length);
  let at = 0;
  const number = () => {
    if (at + 8 > encoded.length) throw new CheckpointDamaged('its head is cut off');
    at += 8;
    return Number(view.getBigUint64(at - 8, true));
  };
  const bytes = () => {
    const length = number();
    if (at + length > encoded.length) throw new CheckpointDamaged('its head is cut off');
    at += length;
    return encoded.subarray(at - length, at);
  };
  const text = () => Buffer.from(bytes()).toString();
  const list = <T>(read: () => T) => Array.from({ length: number() }, read);
  // The order is that of `encodeHead`: an object's properties are evaluated as they are written.
  return {
    trackingId: text(),
    blockSize: number(),
    regionBlocks: number(),
    size: number(),
    identity: text() || undefined,
    stamp: stampOf(bytes()),
    place: { group: number(), crc: number() },
    current: number(),
    lastSerial: number(),
    points: list(() => ({ serial: number(), epoch: number(), isSealed: number() === 1 })),
    marked: runsOf(new Uint32Array(Uint8Array.from(bytes()).buffer)),
    committed: list(() => committedOf(bytes())),
  };
}
