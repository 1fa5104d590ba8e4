import { opening, sealing } from '../common/aead.ts';
import { bytesArgument, integerArgument } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';
import { ownCopy } from '../common/long-bytes.ts';
import { decodeMsgpack } from '../common/msgpack.ts';
import { encodeMsgpackInSteps, MsgpackArray, MsgpackBytes } from '../common/msgpack-writer.ts';
import { hasBrand, isBytes } from '../common/realms.ts';
import { runInSteps } from '../common/yield-to-event-loop.ts';
import { BlockStateMap, type BlockStates, type DecodeOptions } from '../state/block-state-map.ts';
import type { ChangePoint } from '../volume/epochs/epoch-map.ts';

/**
 * What a pipeline needs to know of an earlier run: the state of each block at its end, and its instant. A
 * {@link PipelineRecord} is one.
 *
 * @public
 */
export interface PreviousRecord {
  /** Blocks that are `stored` or `inherited` are in the host's store, and those that are `zero` need not be there. */
  readonly states: BlockStates;
  /** The instant, for the volume's change tracking; not needed if the host gives `changes`. */
  readonly point?: ChangePoint | undefined;
  /** Bytes of the volume at that time. @defaultValue the size of the snapshot, if the number of blocks is the same */
  readonly size?: number | undefined;
  /** Bytes of a block. @defaultValue the block size of the snapshot */
  readonly blockSize?: number | undefined;
}

/** The parts of a {@link PipelineRecord}. */
export interface RecordParts {
  readonly size: number;
  readonly blockSize: number;
  readonly frozenAt: Date;
  readonly point: ChangePoint;
  readonly states: BlockStateMap;
}

const BRAND = Symbol.for('cow-cloud-backup.PipelineRecord');

/** Whether `value` is a record, of this or another copy of this package. */
export function isPipelineRecord(value: unknown): value is PipelineRecord {
  return hasBrand(value, BRAND);
}

const VERSION = 1;
const NOTHING = new Uint8Array(0);
const MAX_DATE_MS = 8.64e15;

/**
 * The record of a run: what was frozen, and the state of each block at the end. Keep it with the blocks: a restore needs
 * it, and with it the next run stores only what has changed since. It does not say where the host keeps a block. An
 * incomplete run has a record too.
 *
 * @example
 * ```ts
 * const { record } = await pipeline.done;
 * await writeFile('record', await record.encode());
 * // later
 * const previous = await PipelineRecord.decode(await readFile('record'));
 * ```
 *
 * @public
 */
export class PipelineRecord implements PreviousRecord {
  /** @internal */
  readonly [BRAND] = true;
  /** Bytes of the volume. */
  readonly size: number;
  /** Bytes of a block; the last block may be shorter. */
  readonly blockSize: number;
  /**
   * The instant, for the change tracking of the volume. The volume of another process does not know it, so tracks nothing.
   */
  readonly point: ChangePoint;
  /** The state of each block at the end of the run. */
  readonly states: BlockStateMap;
  readonly #frozenAtMs: number;

  /** @internal */
  constructor({ size, blockSize, frozenAt, point, states }: RecordParts) {
    this.size = size;
    this.blockSize = blockSize;
    this.#frozenAtMs = frozenAt.getTime();
    this.point = point;
    this.states = states;
  }

  /** The time of the instant, by the clock of the machine. */
  get frozenAt(): Date {
    return new Date(this.#frozenAtMs);
  }

  /** Whether the whole volume can be restored: no block is missing, and none was lost. */
  get isWhole(): boolean {
    const { stored, inherited, zero } = this.states.counts;
    return stored + inherited + zero === this.states.blockCount;
  }

  /**
   * Encodes the record: MessagePack `[1, size, blockSize, frozenAt, trackingId, epoch, states]`, and the SHA-256 of these
   * bytes. `frozenAt` is in milliseconds since 1970, and `states` are the bytes that `BlockStateMap.encode` makes.
   */
  async encode(): Promise<Uint8Array<ArrayBuffer>> {
    const { size, blockSize, frozenAt, point } = this;
    const states = await this.states.encode();
    const last = new MsgpackBytes(states.length, [states]);
    const fields = [VERSION, size, blockSize, frozenAt.getTime(), point.trackingId, point.epoch, last];
    const body = await runInSteps(encodeMsgpackInSteps(MsgpackArray.of(fields.length, fields)));
    return runInSteps(sealing(undefined, NOTHING, body));
  }

  /**
   * Decodes what {@link PipelineRecord.encode} made. The checksum finds damage; it does not stop an attacker. Up to 8 MiB of bytes
   * are copied at the call; longer ones must not be changed before the promise settles.
   *
   * @throws `STATE_CORRUPT` for other bytes, `LIMIT_EXCEEDED` for more blocks than `maxBlocks`; TypeError for wrong
   * arguments
   */
  static async decode(bytes: Uint8Array, options: DecodeOptions = {}): Promise<PipelineRecord> {
    const own = await ownCopy(bytesArgument('bytes', bytes));
    // @mutation record-is-checked
    const body = await runInSteps(opening(undefined, NOTHING, own));
    if (body === undefined) throw corrupt('the bytes do not match their checksum');
    const fields = decodeMsgpack(body, 'STATE_CORRUPT');
    if (!Array.isArray(fields) || fields[0] !== VERSION || fields.length !== 7)
      throw corrupt('the version or the number of fields is unknown');
    const [, size, blockSize, frozenAt, trackingId, epoch, states] = fields as unknown[];
    if (!isBytes(states) || typeof trackingId !== 'string') throw corrupt('a field is of another type');
    const map = await BlockStateMap.decode(states, options);
    const parts = {
      size: naturalNumber(size),
      blockSize: naturalNumber(blockSize),
      frozenAt: new Date(integerWithin(frozenAt, -MAX_DATE_MS, MAX_DATE_MS)),
      point: Object.freeze({ trackingId, epoch: naturalNumber(epoch) }),
      states: map,
    };
    if (parts.blockSize === 0 || Math.ceil(parts.size / parts.blockSize) !== map.blockCount)
      throw corrupt(`${map.blockCount} blocks of ${parts.blockSize} bytes are not ${parts.size} bytes`);
    return new PipelineRecord(parts);
  }
}

function naturalNumber(value: unknown): number {
  return integerWithin(value, 0, Number.MAX_SAFE_INTEGER);
}

function integerWithin(value: unknown, least: number, most: number): number {
  try {
    return integerArgument('a field', value, least, most);
  } catch (cause) {
    throw corrupt('a number is out of its range', cause);
  }
}

function corrupt(what: string, cause?: unknown): BackupError {
  return new BackupError('STATE_CORRUPT', `the bytes are not an encoded record of a pipeline: ${what}`, { cause });
}
