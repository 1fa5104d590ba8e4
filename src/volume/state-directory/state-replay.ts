import { EpochMap, type KeptPoint } from '../epochs/epoch-map.ts';
import { type CommittedInstant, type JournalRecord, type TakenStamp, UnknownRecord } from './journal-records.ts';
import type { CheckpointHead } from './state-checkpoint.ts';

/** What a checkpoint and the records after it say. */
export class StateReplay {
  readonly epochs: EpochMap;
  /** By region: 1 for those that are marked. */
  readonly marked: Uint8Array;
  readonly committed: CommittedInstant[];
  /** The newest stamp of the device. */
  stamp: TakenStamp | undefined;
  /** Whether the volume was closed, and nobody has opened it since. */
  isClosed = false;
  readonly #regionBlocks: number;

  constructor(head: CheckpointHead, blockCount: number) {
    this.epochs = new EpochMap(blockCount);
    this.#regionBlocks = head.regionBlocks;
    this.marked = new Uint8Array(Math.ceil(blockCount / head.regionBlocks));
    for (const { first, count } of head.marked) this.marked.fill(1, first, first + count);
    this.committed = [...head.committed];
    this.stamp = head.stamp;
    const points = head.points.map((point): KeptPoint => ({ ...point, holders: 0 }));
    this.epochs.restore({ current: head.current, lastSerial: head.lastSerial, points });
  }

  /** @throws {@link UnknownRecord} for a record that no correct writer can have written here */
  take(record: JournalRecord): void {
    const { epochs } = this;
    this.isClosed = record.type === 'closed';
    switch (record.type) {
      case 'opened':
      case 'stamp':
      case 'closed':
        this.stamp = record.stamp;
        break;
      case 'mark':
        for (const region of record.regions) this.marked[this.#region(region)] = 1;
        break;
      case 'clean':
        this.#clean(record.region, record.epochs);
        break;
      case 'instant':
        if (record.serial !== epochs.lastSerial + 1) throw new UnknownRecord('an instant has another serial');
        epochs.restore({
          current: record.epoch,
          lastSerial: record.serial,
          points: [...epochs.points, { serial: record.serial, epoch: record.epoch, holders: 0, isSealed: false }],
        });
        break;
      case 'seal':
        for (const point of epochs.points) if (point.serial === record.serial) point.isSealed = true;
        break;
      case 'kept': {
        const kept = new Set(record.serials);
        epochs.keep(({ serial }) => kept.has(serial));
        break;
      }
      case 'renumbered':
        epochs.renumber(() => {});
        break;
      case 'committed':
        remember(this.committed, record);
    }
  }

  /**
   * Ends the replay after a crash: unsealed points never existed, and what is marked may have been written just now. Rules C3, C4.
   *
   * @returns the blocks that count as written, and perhaps were not
   */
  settle(): number {
    const { epochs } = this;
    epochs.keep(({ isSealed }) => isSealed === true);
    let count = 0;
    for (let region = this.marked.indexOf(1); region >= 0; region = this.marked.indexOf(1, region + 1)) {
      const first = region * this.#regionBlocks;
      const end = Math.min(epochs.blocks.blockCount, first + this.#regionBlocks);
      // @mutation marked-counts-as-written
      epochs.blocks.set(first, end, epochs.current);
      count += end - first;
    }
    return count;
  }

  #clean(region: number, bytes: Uint8Array): void {
    const first = this.#region(region) * this.#regionBlocks;
    const count = Math.min(this.epochs.blocks.blockCount - first, this.#regionBlocks);
    if (bytes.length !== count) throw new UnknownRecord('a region has another number of blocks');
    this.epochs.blocks.load(first, bytes);
    this.marked[region] = 0;
  }

  #region(region: number): number {
    if (region * this.#regionBlocks >= this.epochs.blocks.blockCount)
      throw new UnknownRecord('there is no such region');
    return region;
  }
}

/** Adds a commit in place of an earlier one of the same volume and repository. */
export function remember(
  committed: CommittedInstant[],
  { serial, repositoryId, volume, digest }: CommittedInstant,
): void {
  const isSame = (each: CommittedInstant) =>
    each.volume === volume && Buffer.compare(each.repositoryId, repositoryId) === 0;
  const at = committed.findIndex(isSame);
  if (at >= 0) committed.splice(at, 1);
  committed.push({ serial, repositoryId, volume, digest });
}
