import { channel } from 'node:diagnostics_channel';
import { EventEmitter } from 'node:events';
import type { BackupError } from '../common/errors.ts';
import type { PreimageUse } from './preimage-buffers.ts';
import type { SnapshotRecord } from './snapshot-record.ts';

const CHANNELS = {
  snapshotBegun: channel('cow-cloud-backup:volume:snapshot-begun'),
  snapshotBroken: channel('cow-cloud-backup:volume:snapshot-broken'),
  snapshotClosed: channel('cow-cloud-backup:volume:snapshot-closed'),
  blockPreserved: channel('cow-cloud-backup:volume:block-preserved'),
  blockLost: channel('cow-cloud-backup:volume:block-lost'),
  preimagePressure: channel('cow-cloud-backup:volume:preimage-pressure'),
  stateLost: channel('cow-cloud-backup:volume:state-lost'),
};

type EventName = keyof typeof CHANNELS;

interface QueuedEvent {
  readonly name: Exclude<EventName, 'preimagePressure' | 'stateLost'>;
  readonly record: SnapshotRecord;
  readonly error: BackupError | undefined;
  readonly firstBlock: number;
  blockCount: number;
}

/** The public objects, which listeners are handed and the core does not know. */
type PublicObjects = { volume(): object; snapshotOf(record: SnapshotRecord): object };

/**
 * Queues events about records and emits them in a microtask, so that no listener runs in the middle of a write. Events
 * about neighbouring blocks are joined.
 */
export class EventQueue {
  // Typed: the type that is inferred has no meaning in later versions of Node's types.
  readonly emitter: EventEmitter = new EventEmitter();
  readonly #objects: PublicObjects;
  #queue: QueuedEvent[] = [];
  /** The last event about each record, which one about a neighbouring block joins: a block often concerns several. */
  readonly #lastAbout = new Map<SnapshotRecord, QueuedEvent>();

  constructor(objects: PublicObjects) {
    this.#objects = objects;
  }

  snapshot(
    name: 'snapshotBegun' | 'snapshotBroken' | 'snapshotClosed',
    record: SnapshotRecord,
    error?: BackupError,
  ): void {
    if (this.#isHeard(name)) this.#push({ name, record, error, firstBlock: 0, blockCount: 0 });
  }

  block(name: 'blockPreserved' | 'blockLost', record: SnapshotRecord, block: number, error?: BackupError): void {
    if (!this.#isHeard(name)) return;
    const last = this.#lastAbout.get(record);
    const continues = last?.name === name && last.error === error && last.firstBlock + last.blockCount === block;
    if (continues) last.blockCount++;
    else this.#push({ name, record, error, firstBlock: block, blockCount: 1 });
  }

  /** Half of the room for pre-images is in use. The numbers are those of the moment at which the event is emitted. */
  pressure(use: () => PreimageUse): void {
    if (!this.#isHeard('preimagePressure')) return;
    queueMicrotask(() => {
      const preimages = use();
      CHANNELS.preimagePressure.publish({ volume: this.#objects.volume(), preimages });
      this.#emit('preimagePressure', [preimages]);
    });
  }

  /** The state of the volume can't be recorded any more. */
  stateLost(error: BackupError): void {
    if (!this.#isHeard('stateLost')) return;
    queueMicrotask(() => {
      CHANNELS.stateLost.publish({ volume: this.#objects.volume(), error });
      this.#emit('stateLost', [error]);
    });
  }

  #isHeard(name: EventName): boolean {
    return CHANNELS[name].hasSubscribers || this.emitter.listenerCount(name) > 0;
  }

  #push(event: QueuedEvent): void {
    if (this.#queue.length === 0) queueMicrotask(() => this.#emitAll());
    this.#queue.push(event);
    this.#lastAbout.set(event.record, event);
  }

  #emitAll(): void {
    const queue = this.#queue;
    this.#queue = [];
    this.#lastAbout.clear();
    for (const { name, record, error, firstBlock, blockCount } of queue) {
      const snapshot = this.#objects.snapshotOf(record);
      const blocks = name === 'blockPreserved' || name === 'blockLost' ? { firstBlock, blockCount } : undefined;
      CHANNELS[name].publish({ volume: this.#objects.volume(), snapshot, blocks, error });
      const values = [snapshot, blocks, error].filter((value) => value !== undefined);
      this.#emit(name, values);
    }
  }

  #emit(name: EventName, values: readonly unknown[]): void {
    for (const listener of this.emitter.rawListeners(name)) {
      try {
        (listener as (...values: unknown[]) => void).apply(this.emitter, [...values]);
      } catch (thrown) {
        // This is the host's mistake: it becomes an uncaught exception of the process, and no write fails by it.
        process.nextTick(() => {
          throw thrown;
        });
      }
    }
  }
}
