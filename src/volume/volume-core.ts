import { BackupError } from '../common/errors.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { EpochMap } from './epoch-map.ts';
import { LiveSnapshots } from './live-snapshots.ts';
import type { PreimageSpace } from './preimage-space.ts';
import { Preimages } from './preimages.ts';
import type { EventQueue } from './volume-events.ts';
import type { CheckedVolumeOptions, PreserveFailure } from './volume-options.ts';
import { WriteGate } from './write-gate.ts';

/** The parts of one volume, as its write path, its snapshots' readers and its public face share them. */
export class VolumeCore {
  readonly device: BlockDevice;
  readonly size: number;
  readonly sectorSize: number;
  readonly blockSize: number;
  /** Its reciprocal, exact because it is a power of two. */
  readonly blocksPerByte: number;
  readonly blockCount: number;
  readonly deadlineMs: number;
  readonly onFailure: PreserveFailure;
  readonly epochs: EpochMap;
  readonly gate = new WriteGate();
  readonly space: PreimageSpace;
  readonly preimages: Preimages;
  readonly snapshots: LiveSnapshots;
  readonly events: EventQueue;
  isClosed = false;
  /** Whether writes are taken at all. */
  isWritable: boolean;

  constructor(device: BlockDevice, options: CheckedVolumeOptions, space: PreimageSpace, events: EventQueue) {
    this.device = device;
    this.size = device.size;
    this.sectorSize = device.sectorSize;
    this.isWritable = device.readOnly !== true;
    this.blockSize = options.blockSize;
    this.blocksPerByte = 1 / options.blockSize;
    this.blockCount = Math.ceil(device.size / options.blockSize);
    this.deadlineMs = options.deadlineMs;
    this.onFailure = options.onFailure;
    this.epochs = new EpochMap(this.blockCount);
    this.space = space;
    this.preimages = new Preimages(space, this.blockCount);
    this.events = events;
    this.snapshots = new LiveSnapshots(this.epochs, this.preimages, events, options.onFailure);
  }

  /** A block's place on the device, in bytes; the last one may be short. */
  blockSpan(block: number): { offset: number; length: number } {
    const offset = block * this.blockSize;
    return { offset, length: Math.min(this.blockSize, this.device.size - offset) };
  }

  close(): void {
    this.isClosed = true;
    this.isWritable = false;
    this.gate.shut();
  }

  requireOpen(): void {
    if (this.isClosed) throw new BackupError('CLOSED', 'the volume is closed');
  }
}
