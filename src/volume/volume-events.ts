import { channel } from 'node:diagnostics_channel';
import { EventEmitter } from 'node:events';
import type { BlockRange } from '../common/block-range.ts';
import type { BackupError } from '../common/errors.ts';
import type { CopyOnWriteVolume } from './copy-on-write-volume.ts';
import type { PreimageUse } from './preimage-space.ts';
import type { VolumeSnapshot } from './volume-snapshot.ts';

/**
 * The events of a volume, on `volume.events` and on `node:diagnostics_channel` channels named
 * `cow-cloud-backup:volume:snapshot-begun`, `...:block-preserved`, `...:block-lost`, `...:snapshot-broken`,
 * `...:snapshot-closed`, whose messages are `{ volume, snapshot, blocks?, error? }`, and `...:preimage-pressure` with
 * `{ volume, preimages }`.
 *
 * Events are emitted shortly after what they report, never in the middle of a write. There is no `error` event.
 *
 * @public
 */
export interface VolumeEvents {
  /** An instant has been frozen. */
  snapshotBegun: [snapshot: VolumeSnapshot];
  /** A pre-image could not be kept under `break-snapshot`; `error` is `SNAPSHOT_BROKEN`. */
  snapshotBroken: [snapshot: VolumeSnapshot, error: BackupError];
  /** A handle has been given up, by its `close` or its volume's; also one that was broken before. */
  snapshotClosed: [snapshot: VolumeSnapshot];
  /** Neighbouring blocks were `pending` and are about to be overwritten; they are `preserved` now, or `zero`. */
  blockPreserved: [snapshot: VolumeSnapshot, blocks: BlockRange];
  /**
   * Blocks have become `lost`, because their pre-images could not be kept under `lose-block`. The spill may also fail after
   * `blockPreserved` was emitted. A block that was `storing` at that moment may still arrive, and is lost only when it is
   * marked `failed`. `error` is `PRESERVE_FAILED` with its cause, or `SPILL_CORRUPT`.
   */
  blockLost: [snapshot: VolumeSnapshot, blocks: BlockRange, error: BackupError];
  /**
   * Pre-images take up half of their limit: it is time to store what is preserved, before writes have to wait for room.
   * It is emitted again only after usage has fallen to three eighths of the limit.
   */
  preimagePressure: [preimages: PreimageUse];
}

const CHANNELS = {
  snapshotBegun: channel('cow-cloud-backup:volume:snapshot-begun'),
  snapshotBroken: channel('cow-cloud-backup:volume:snapshot-broken'),
  snapshotClosed: channel('cow-cloud-backup:volume:snapshot-closed'),
  blockPreserved: channel('cow-cloud-backup:volume:block-preserved'),
  blockLost: channel('cow-cloud-backup:volume:block-lost'),
  preimagePressure: channel('cow-cloud-backup:volume:preimage-pressure'),
};

interface Told {
  readonly name: Exclude<keyof VolumeEvents, 'preimagePressure'>;
  readonly snapshot: VolumeSnapshot;
  readonly error: BackupError | undefined;
  readonly firstBlock: number;
  blockCount: number;
}

/** Queues what happened and tells it in a microtask of its own; neighbouring blocks are told together. */
export class EventQueue {
  readonly emitter = new EventEmitter<VolumeEvents>();
  readonly #volume: () => CopyOnWriteVolume;
  #queue: Told[] = [];
  /** The last one about each snapshot, which a neighbouring block joins: a block is often told of to several. */
  readonly #lastAbout = new Map<VolumeSnapshot, Told>();

  constructor(volume: () => CopyOnWriteVolume) {
    this.#volume = volume;
  }

  snapshot(
    name: 'snapshotBegun' | 'snapshotBroken' | 'snapshotClosed',
    snapshot: VolumeSnapshot,
    error?: BackupError,
  ): void {
    if (this.#isHeard(name)) this.#push({ name, snapshot, error, firstBlock: 0, blockCount: 0 });
  }

  block(name: 'blockPreserved' | 'blockLost', snapshot: VolumeSnapshot, block: number, error?: BackupError): void {
    if (!this.#isHeard(name)) return;
    const last = this.#lastAbout.get(snapshot);
    const continues = last?.name === name && last.error === error && last.firstBlock + last.blockCount === block;
    if (continues) last.blockCount++;
    else this.#push({ name, snapshot, error, firstBlock: block, blockCount: 1 });
  }

  /** Half of the room for pre-images is taken. The numbers are those of the moment in which it is told. */
  pressure(use: () => PreimageUse): void {
    if (!this.#isHeard('preimagePressure')) return;
    queueMicrotask(() => {
      const preimages = use();
      CHANNELS.preimagePressure.publish({ volume: this.#volume(), preimages });
      this.#emit('preimagePressure', [preimages]);
    });
  }

  #isHeard(name: keyof VolumeEvents): boolean {
    return CHANNELS[name].hasSubscribers || this.emitter.listenerCount(name) > 0;
  }

  #push(told: Told): void {
    if (this.#queue.length === 0) queueMicrotask(() => this.#tell());
    this.#queue.push(told);
    this.#lastAbout.set(told.snapshot, told);
  }

  #tell(): void {
    const queue = this.#queue;
    this.#queue = [];
    this.#lastAbout.clear();
    for (const { name, snapshot, error, firstBlock, blockCount } of queue) {
      const blocks = name === 'blockPreserved' || name === 'blockLost' ? { firstBlock, blockCount } : undefined;
      CHANNELS[name].publish({ volume: this.#volume(), snapshot, blocks, error });
      const values = [snapshot, blocks, error].filter((value) => value !== undefined);
      this.#emit(name, values);
    }
  }

  #emit(name: keyof VolumeEvents, values: readonly unknown[]): void {
    for (const listener of this.emitter.rawListeners(name)) {
      try {
        (listener as (...values: unknown[]) => void).apply(this.emitter, [...values]);
      } catch (thrown) {
        // The host's own mistake: the process should hear of it, but nobody's write may fail by it.
        process.nextTick(() => {
          throw thrown;
        });
      }
    }
  }
}
