import type { BlockRange } from '../common/block-range.ts';
import { BackupError } from '../common/errors.ts';
import { BlockEpochs } from './block-epochs.ts';

/** An instant that changes can be asked against. `epoch` is renumbered now and then; `serial` never changes nor returns. */
export interface KeptPoint {
  readonly serial: number;
  epoch: number;
  /** Snapshot handles open at this instant. A held point is never dropped. */
  holders: number;
}

const MAX_EPOCH = 255;
const MAX_KEPT_POINTS = 254;
/** A longer run is given in parts, so that no step of going through changes takes long. */
const MAX_RUN_BLOCKS = 2 ** 20;
/** Points dropped at a time once there are too many, so that renumbering a large map stays rare. */
const DROPPED_AT_ONCE = 32;

/**
 * An epoch for each block: the number of the newest snapshot that existed when the block was last written. It answers both
 * what changed since any kept point and whether an overwrite needs a pre-image. Rules R1 and R10.
 */
export class EpochMap {
  /** Only ever set to `current`. */
  readonly blocks: BlockEpochs;
  /** The newest epoch ever given out. */
  current = 0;
  #points: KeptPoint[] = [];
  #lastSerial = 0;

  constructor(blockCount: number) {
    this.blocks = new BlockEpochs(blockCount);
  }

  /** The serial of the newest point, 0 before the first. */
  get lastSerial(): number {
    return this.#lastSerial;
  }

  /**
   * Whether another point can be taken. Changes nothing.
   *
   * @throws `SNAPSHOT_LIMIT` when too many points are held
   */
  requireRoom(): void {
    const held = this.#points.filter((point) => point.holders > 0).length;
    if (held >= MAX_KEPT_POINTS) {
      throw new BackupError('SNAPSHOT_LIMIT', `${held} instants are held by open snapshots; close one first`);
    }
  }

  /**
   * Takes the next epoch, after dropping the oldest points that nobody holds and renumbering if it must. At an instant
   * only, and after `requireRoom`. Renumbering and the next epoch are one step: in between, blocks of dropped points
   * would pass for written just now. What else keeps epochs is told how to translate them.
   */
  advance(renumbered: (newEpoch: Uint8Array) => void): KeptPoint {
    if (this.#points.length >= MAX_KEPT_POINTS) this.#dropOldest();
    if (this.current === MAX_EPOCH) this.#renumber(renumbered);
    this.current++;
    this.#lastSerial++;
    const point: KeptPoint = { serial: this.#lastSerial, epoch: this.current, holders: 0 };
    this.#points.push(point);
    return point;
  }

  /**
   * Blocks written since a point. One that is no longer kept rounds down to an older kept one, so that the answer may
   * hold too much and never too little; `undefined` where there is none, or the serial was never given out.
   *
   * Nothing is looked at before it is asked for, and chunks without changes are passed over: a step costs no more than the
   * chunks of one run.
   */
  changedSince(serial: number): Iterable<BlockRange> | undefined {
    if (serial > this.#lastSerial || this.#epochOf(serial) === undefined) return undefined;
    return { [Symbol.iterator]: () => this.#changedSince(serial) };
  }

  *#changedSince(serial: number): Generator<BlockRange, undefined> {
    let run: { firstBlock: number; blockCount: number } | undefined;
    const { blocks } = this;
    for (let at = 0; ; ) {
      const block = blocks.nextSince(this.#epochOf(serial) ?? 0, at, blocks.blockCount);
      if (block === blocks.blockCount) break;
      at = blocks.endOfChunk(block);
      for (const next of this.#changesIn(block, at, serial)) {
        if (
          run !== undefined &&
          run.firstBlock + run.blockCount === next.firstBlock &&
          run.blockCount < MAX_RUN_BLOCKS
        ) {
          run.blockCount += next.blockCount;
        } else {
          if (run !== undefined) yield run;
          run = next;
        }
      }
    }
    if (run !== undefined) yield run;
  }

  /**
   * A chunk is looked at in one step, before anything of it is given out: whoever goes through the changes may let an
   * instant pass between two of them, which renumbers epochs (rule R10) or drops the point. Then all may have changed.
   */
  #changesIn(first: number, end: number, serial: number): { firstBlock: number; blockCount: number }[] {
    const { blocks } = this;
    const epoch = this.#epochOf(serial) ?? 0;
    const changes: { firstBlock: number; blockCount: number }[] = [];
    for (let block = first; block < end; ) {
      const firstBlock = blocks.nextSince(epoch, block, end);
      if (firstBlock === end) break;
      block = blocks.nextBefore(epoch, firstBlock, end);
      changes.push({ firstBlock, blockCount: block - firstBlock });
    }
    return changes;
  }

  #epochOf(serial: number): number | undefined {
    // @mutation point-rounds-down
    const epoch = this.#points.findLast((point) => point.serial <= serial)?.epoch;
    return epoch;
  }

  #dropOldest(): void {
    let excess = DROPPED_AT_ONCE;
    this.#points = this.#points.filter((point) => point.holders > 0 || excess-- <= 0);
  }

  /** Kept points become 1, 2, 3 ...; every other epoch becomes the number of kept points up to it. */
  #renumber(renumbered: (newEpoch: Uint8Array) => void): void {
    const newEpoch = new Uint8Array(MAX_EPOCH + 1);
    for (const { epoch } of this.#points) newEpoch[epoch] = 1;
    for (let epoch = 1; epoch <= MAX_EPOCH; epoch++) newEpoch[epoch]! += newEpoch[epoch - 1] as number;
    this.blocks.renumber(newEpoch);
    for (const point of this.#points) point.epoch = newEpoch[point.epoch] as number;
    this.current = newEpoch[this.current] as number;
    renumbered(newEpoch);
  }
}
