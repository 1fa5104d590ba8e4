import { BackupError } from '../common/errors.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { EpochMap } from './epochs/epoch-map.ts';
import type { EventQueue } from './event-queue.ts';
import { WriteGate } from './freeze.ts';
import { LiveSnapshots } from './live-snapshots.ts';
import type { PreimageBuffers } from './preimage-buffers.ts';
import { Preimages } from './preimages.ts';
import type { OpenedState } from './state-directory/open-state.ts';
import type { VolumeState } from './state-directory/volume-state.ts';
import type { CheckedVolumeOptions, PreserveFailure } from './volume-options.ts';

/** The parts of one volume that its write path, the readers of its snapshots and its public face share. */
export class VolumeCore {
  readonly device: BlockDevice;
  readonly size: number;
  readonly sectorSize: number;
  readonly blockSize: number;
  /** The reciprocal of `blockSize`, which is exact because that is a power of two. */
  readonly blocksPerByte: number;
  readonly blockCount: number;
  readonly deadlineMs: number;
  readonly onFailure: PreserveFailure;
  readonly epochs: EpochMap;
  readonly gate = new WriteGate();
  readonly buffers: PreimageBuffers;
  readonly preimages: Preimages;
  readonly snapshots: LiveSnapshots;
  /** What a later process has to know, if the volume has a state directory. */
  readonly state: VolumeState | undefined;
  isClosed = false;
  /** Whether the volume accepts writes. */
  isWritable: boolean;

  constructor(
    device: BlockDevice,
    options: CheckedVolumeOptions,
    buffers: PreimageBuffers,
    events: EventQueue,
    opened: Pick<OpenedState, 'state' | 'epochs'> | undefined,
  ) {
    this.device = device;
    this.size = device.size;
    this.sectorSize = device.sectorSize;
    this.isWritable = device.readOnly !== true;
    this.blockSize = options.blockSize;
    this.blocksPerByte = 1 / options.blockSize;
    this.blockCount = Math.ceil(device.size / options.blockSize);
    this.deadlineMs = options.deadlineMs;
    this.onFailure = options.onFailure;
    this.buffers = buffers;
    try {
      this.epochs = opened?.epochs ?? new EpochMap(this.blockCount);
      this.preimages = new Preimages(buffers, this.blockCount);
    } catch (cause) {
      const message = `there is not enough memory for a map of ${this.blockCount} blocks: choose a larger blockSize`;
      throw new BackupError('LIMIT_EXCEEDED', message, { cause });
    }
    this.state = opened?.state;
    this.snapshots = new LiveSnapshots(this.epochs, this.preimages, events, options.onFailure);
  }

  /** The bytes of a block on the device; the last block may be short. */
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
