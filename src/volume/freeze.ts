import { type AbortOptions, abortable } from '../common/abort.ts';
import { functionArgument, optionsArgument, signalArgument } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';
import { type BlockDevice, deviceStack } from '../device/block-device.ts';
import type { EpochMap } from './epochs/epoch-map.ts';
import type { LiveSnapshots } from './live-snapshots.ts';
import { SnapshotRecord } from './snapshot-record.ts';
import type { VolumeState } from './state-directory/volume-state.ts';

/** Freezing: hold new asynchronous writes, wait for those at the device (the drain), move the epoch, and let go. Rule R9. */

/** Options of `createSnapshot`. @public */
export interface SnapshotOptions extends AbortOptions {
  /**
   * Runs at the instant itself, while writes are held: the place to note a log sequence number or the like. What it
   * throws is what `createSnapshot` rejects with. Must not write to the volume.
   */
  atInstant?: (() => void) | undefined;
}

/**
 * Holds new asynchronous writes while an instant is taken, and knows when those at the device have landed.
 *
 * Only writes at the device lengthen a hold. A write that is still preserving when a hold begins continues to preserve and
 * then waits here like a new one: it has issued nothing yet, and tests its blocks again. A synchronous write is never held.
 */
export class WriteGate {
  /** The number of writes at the device. */
  inFlight = 0;
  #holds = 0;
  #isShut = false;
  #opened: PromiseWithResolvers<void> | undefined;
  #landed: PromiseWithResolvers<void> | undefined;

  /** Whether a write may pass at once. */
  get isOpen(): boolean {
    // @mutation gate-holds
    return this.#holds === 0;
  }

  /** Holds new writes until the returned function is called. There may be several holds at once. */
  hold(): () => void {
    this.#holds++;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#holds--;
      if (this.#holds === 0) {
        this.#opened?.resolve();
        this.#opened = undefined;
      }
    };
  }

  /** The volume closes: waiting writes continue, and find out that it is closed. */
  shut(): void {
    this.#isShut = true;
    this.#opened?.resolve();
  }

  /** Waits until there is no hold, or the gate is shut. */
  async pass(signal: AbortSignal | undefined): Promise<void> {
    while (!this.isOpen && !this.#isShut) {
      this.#opened ??= Promise.withResolvers<void>();
      await abortable(this.#opened.promise, signal);
    }
  }

  /** A write goes to the device. */
  enter(): void {
    this.inFlight++;
  }

  /** A write at the device has settled, successfully or not. */
  leave(): void {
    this.inFlight--;
    if (this.inFlight === 0 && this.#landed !== undefined) {
      this.#landed.resolve();
      this.#landed = undefined;
    }
  }

  /** Resolves when no write is at the device; by the time that the caller continues there may be one again. */
  landed(): Promise<void> {
    if (this.inFlight === 0) return Promise.resolve();
    this.#landed ??= Promise.withResolvers<void>();
    return this.#landed.promise;
  }
}

export interface Freezable {
  readonly gate: WriteGate;
  readonly epochs: EpochMap;
  readonly snapshots: LiveSnapshots;
  readonly state: VolumeState | undefined;
  readonly blockCount: number;
  requireOpen(): void;
}

/** Freezes several volumes at one instant: holds, drains, and then freezes all of them in one synchronous step. */
export async function freezeTogether(
  volumes: readonly Freezable[],
  options: SnapshotOptions,
): Promise<SnapshotRecord[]> {
  const { signal, atInstant } = checkSnapshotOptions(options);
  for (const volume of volumes) volume.requireOpen();
  const releases = volumes.map(({ gate }) => gate.hold());
  let records: SnapshotRecord[];
  try {
    for (;;) {
      // All gates are examined in one step: it is the instant only if no volume has a write at its device.
      const busy = volumes.find(({ gate }) => gate.inFlight > 0);
      // @mutation drain
      if (busy === undefined) break;
      await abortable(busy.gate.landed(), signal);
    }
    records = freezeNow(volumes, atInstant);
    // In the step of the instant, unless somebody has to wait for a state.
    if (volumes.every(({ state }) => state === undefined)) announce(volumes, records);
  } finally {
    // @mutation holds-released
    for (const release of releases) release();
  }
  if (records.every(({ isAnnounced }) => isAnnounced)) return records;
  await sealed(volumes, records, signal);
  announce(volumes, records);
  return records;
}

function announce(volumes: readonly Freezable[], records: readonly SnapshotRecord[]): void {
  for (const [index, record] of records.entries()) volumes[index]?.snapshots.announce(record);
}

/** Rule C4: nobody is shown an instant before a later process would believe it. Writes go on meanwhile. */
async function sealed(
  volumes: readonly Freezable[],
  records: readonly SnapshotRecord[],
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await abortable(Promise.all(records.map(({ point }, index) => volumes[index]?.state?.seal(point))), signal);
    for (const record of records) record.requireLive(); // A volume may have been closed meanwhile.
  } catch (error) {
    for (const [index, record] of records.entries()) volumes[index]?.snapshots.retire(record, 'closed');
    throw error;
  }
}

/**
 * Freezes one volume without waiting.
 *
 * @param flush - makes the writes before durable, if the volume has a state
 */
export function freezeSync(volume: Freezable, options: SnapshotOptions, flush: () => void): SnapshotRecord {
  const { atInstant } = checkSnapshotOptions(options);
  const { inFlight } = volume.gate;
  if (inFlight > 0) {
    const message = `${inFlight} asynchronous writes are at the device`;
    throw new BackupError('WRITES_IN_FLIGHT', message, { retryable: true });
  }
  const record = freezeNow([volume], atInstant)[0] as SnapshotRecord;
  try {
    volume.state?.sealSync(record.point, flush);
  } catch (error) {
    volume.snapshots.retire(record, 'closed');
    throw error;
  }
  volume.snapshots.announce(record);
  return record;
}

/** While it is held for the instant, a volume can't finish a write that another volume of the group waits for. */
export function refuseStacked(volumes: readonly BlockDevice[]): void {
  const group = new Set(volumes);
  if (group.size !== volumes.length) throw new TypeError('volumes must not hold a volume twice');
  for (const volume of volumes) {
    for (const device of deviceStack(volume)) {
      if (device !== volume && group.has(device)) {
        throw new BackupError(
          'VOLUME_STACKED',
          'one volume of the group stands on another; freeze only one of the two',
        );
      }
    }
  }
}

const SNAPSHOT_OPTIONS = { signal: true, atInstant: true } as const satisfies Record<keyof SnapshotOptions, true>;

/** Also throws the signal's reason if it has aborted. */
function checkSnapshotOptions(options: SnapshotOptions): SnapshotOptions {
  const { signal, atInstant } = optionsArgument('options', options, SNAPSHOT_OPTIONS);
  if (atInstant !== undefined) functionArgument('options.atInstant', atInstant);
  signalArgument('options.signal', signal)?.throwIfAborted();
  return { signal, atInstant };
}

function freezeNow(volumes: readonly Freezable[], atInstant: (() => void) | undefined): SnapshotRecord[] {
  // Every reason to refuse is checked before any epoch moves.
  for (const volume of volumes) {
    volume.requireOpen();
    volume.epochs.requireRoom();
  }
  // @mutation instant-after-epoch
  const frozenAt = new Date();
  const records: SnapshotRecord[] = [];
  try {
    for (const { snapshots, state, blockCount } of volumes) {
      const record = new SnapshotRecord(snapshots.takePoint(), blockCount, frozenAt);
      state?.instant(record.point);
      snapshots.add(record);
      records.push(record);
    }
    runAtInstant(atInstant);
  } catch (error) {
    for (const [index, record] of records.entries()) volumes[index]?.snapshots.retire(record, 'closed');
    throw error;
  }
  return records;
}

/** An asynchronous function would continue after writes have been let go, so it is refused. */
function runAtInstant(atInstant: (() => void) | undefined): void {
  const returned: unknown = atInstant?.();
  // Not by its class: a promise of another realm is one too.
  if (typeof (returned as PromiseLike<unknown> | undefined)?.then !== 'function') return;
  Promise.resolve(returned).catch(() => {});
  throw new TypeError('atInstant must be synchronous');
}
