import type { BlockRange } from '../../common/block-range.ts';
import { BackupError } from '../../common/errors.ts';
import { BlockEpochs } from './block-epochs.ts';

/** An instant of one volume, to ask for the changes since then. It is plain data and may be stored anywhere. @public */
export interface ChangePoint {
  /** The tracking to which the epoch belongs: a volume that was not open the whole time has another one. */
  readonly trackingId: string;
  /**
   * A serial number, never used twice under one `trackingId`, unless the device and its state directory were put back together to
   * what they were before: a point that was taken since may then be given out again.
   */
  readonly epoch: number;
}

/** An instant that changes can be asked against. `epoch` is renumbered now and then; `serial` never changes and is never reused. */
export interface KeptPoint {
  readonly serial: number;
  epoch: number;
  /** Whether it is durable, where the volume has a state: only then it is believed by a later process. Rule C4. */
  isSealed?: boolean;
  /** Snapshot handles open at this instant. A held point is never dropped. */
  holders: number;
}

const MAX_EPOCH = 255;
const MAX_KEPT_POINTS = 254;
/** A longer run is returned in parts, so that no step of an iteration over changes takes long. */
const MAX_RUN_BLOCKS = 2 ** 20;
/** How many points are dropped at a time once there are too many, so that renumbering a large map stays rare. */
const DROPPED_AT_ONCE = 32;

/**
 * This folder knows of each block when it was last written.
 *
 * An epoch for each block: the number of the newest instant that had passed when the block was last written. It answers
 * both what changed since any kept point and whether an overwrite needs a pre-image. Rules R1 and R10.
 */
export class EpochMap {
  /** Only ever set to `current`. */
  readonly blocks: BlockEpochs;
  /** The newest epoch. */
  current = 0;
  /** The serial of the newest point, 0 before the first. */
  lastSerial = 0;
  #points: KeptPoint[] = [];

  /** Called before the next instant when only these points are kept, and when epochs are renumbered by them: a state records it. */
  onKept: (points: readonly KeptPoint[]) => void = () => {};
  onRenumbered: () => void = () => {};

  constructor(blockCount: number) {
    this.blocks = new BlockEpochs(blockCount);
  }

  /** The points that are kept, the oldest first. */
  get points(): readonly KeptPoint[] {
    return this.#points;
  }

  /** Goes on from what a state has recorded. */
  restore({
    current,
    lastSerial,
    points,
  }: {
    current: number;
    lastSerial: number;
    points: readonly KeptPoint[];
  }): void {
    this.current = current;
    this.lastSerial = lastSerial;
    this.#points = [...points];
  }

  /** Drops all points but these. */
  keep(isKept: (point: KeptPoint) => boolean): void {
    this.#points = this.#points.filter(isKept);
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
   * Takes the next epoch, after dropping the oldest points that are not held and renumbering if it must. It is called at
   * an instant only, and after `requireRoom`. Renumbering and the next epoch are one step: in between, blocks of dropped
   * points would count as just written. `renumbered` must translate all epochs that are kept elsewhere.
   */
  advance(renumbered: (newEpoch: Uint8Array) => void): KeptPoint {
    if (this.#points.length >= MAX_KEPT_POINTS) this.#dropOldest();
    if (this.current === MAX_EPOCH) this.renumber(renumbered);
    this.current++;
    this.lastSerial++;
    const point: KeptPoint = { serial: this.lastSerial, epoch: this.current, holders: 0 };
    this.#points.push(point);
    return point;
  }

  /**
   * The blocks written since a point. A point that is no longer kept rounds down to an older kept one, so that the answer
   * may contain too much and never too little. It is `undefined` if there is no older one, or if the serial was never used.
   *
   * Blocks are examined only when the iteration reaches them, and chunks without changes are skipped: a step costs no more
   * than the chunks of one run.
   */
  changedSince(serial: number): Iterable<BlockRange> | undefined {
    if (serial > this.lastSerial || this.#epochOf(serial) === undefined) return undefined;
    return { [Symbol.iterator]: () => this.#changedSince(serial) };
  }

  *#changedSince(serial: number): Generator<BlockRange, undefined> {
    const { blocks } = this;
    let run = { firstBlock: 0, blockCount: 0 };
    for (let at = 0; at < blocks.blockCount; ) {
      const block = blocks.nextSince(this.#epochOf(serial) ?? 0, at, blocks.blockCount);
      at = blocks.endOfChunk(block);
      for (const next of this.#changesIn(block, at, serial)) {
        if (run.firstBlock + run.blockCount === next.firstBlock && run.blockCount < MAX_RUN_BLOCKS) {
          run.blockCount += next.blockCount;
        } else {
          if (run.blockCount > 0) yield run;
          run = next;
        }
      }
    }
    if (run.blockCount > 0) yield run;
  }

  /**
   * A chunk is examined in one step, before any of its changes is yielded: between two of them the caller may let an
   * instant pass, which renumbers epochs (rule R10) or drops the point. If the point was dropped, every block counts as
   * changed.
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
    this.onKept(this.#points);
  }

  /** Kept points become 1, 2, 3 ...; every other epoch becomes the number of kept points up to it. */
  renumber(renumbered: (newEpoch: Uint8Array) => void): void {
    const newEpoch = new Uint8Array(MAX_EPOCH + 1);
    for (const { epoch } of this.#points) newEpoch[epoch] = 1;
    for (let epoch = 1; epoch <= MAX_EPOCH; epoch++) newEpoch[epoch]! += newEpoch[epoch - 1] as number;
    this.blocks.renumber(newEpoch);
    for (const point of this.#points) point.epoch = newEpoch[point.epoch] as number;
    this.current = newEpoch[this.current] as number;
    renumbered(newEpoch);
    this.onRenumbered();
  }
}
