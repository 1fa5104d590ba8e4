import { type AbortOptions, abortable } from '../common/abort.ts';
import { functionArgument, optionsArgument, signalArgument } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';
import { deviceStack } from '../device/underlying.ts';
import type { CopyOnWriteVolume } from './copy-on-write-volume.ts';
import { SnapshotRecord } from './snapshot-record.ts';
import type { VolumeCore } from './volume-core.ts';
import { VolumeSnapshot } from './volume-snapshot.ts';

/** Options of `createSnapshot`. @public */
export interface SnapshotOptions extends AbortOptions {
  /**
   * Runs at the instant itself, while writes are held: the place to note a log sequence number or the like. What it
   * throws is what `createSnapshot` rejects with. Must not write to the volume.
   */
  atInstant?: (() => void) | undefined;
}

/** A volume and its parts. */
export interface Member {
  readonly volume: CopyOnWriteVolume;
  readonly core: VolumeCore;
}

/** Freezes all members at one instant: hold, drain, and then one synchronous step. Rule R9. */
export async function freezeTogether(members: readonly Member[], options: SnapshotOptions): Promise<VolumeSnapshot[]> {
  const { signal, atInstant } = checkSnapshotOptions(options);
  refuseStacked(members);
  for (const { core } of members) core.requireOpen();
  const releases = members.map(({ core }) => core.gate.hold());
  try {
    for (;;) {
      // Looked at together and synchronously: only when no member has a write at its device is it the instant.
      const busy = members.find(({ core }) => core.gate.inFlight > 0);
      // @mutation drain
      if (busy === undefined) break;
      await abortable(busy.core.gate.landed(), signal);
    }
    return freezeNow(members, atInstant);
  } finally {
    // @mutation holds-released
    for (const release of releases) release();
  }
}

/** Freezes one volume without waiting. */
export function freezeSync(member: Member, options: SnapshotOptions): VolumeSnapshot {
  const { atInstant } = checkSnapshotOptions(options);
  if (member.core.gate.inFlight > 0) {
    const message = `${member.core.gate.inFlight} asynchronous writes are at the device`;
    throw new BackupError('WRITES_IN_FLIGHT', message, { retryable: true });
  }
  const [snapshot] = freezeNow([member], atInstant);
  return snapshot as VolumeSnapshot;
}

const SNAPSHOT_OPTIONS = { signal: true, atInstant: true } as const satisfies Record<keyof SnapshotOptions, true>;

/** Throws the signal's reason too, when it has aborted. */
function checkSnapshotOptions(options: SnapshotOptions): SnapshotOptions {
  const { signal, atInstant } = optionsArgument('options', options, SNAPSHOT_OPTIONS);
  if (atInstant !== undefined) functionArgument('options.atInstant', atInstant);
  signalArgument('options.signal', signal)?.throwIfAborted();
  return { signal, atInstant };
}

function freezeNow(members: readonly Member[], atInstant: (() => void) | undefined): VolumeSnapshot[] {
  // Whatever can be refused is refused before any epoch moves.
  for (const { core } of members) {
    core.requireOpen();
    core.snapshots.requireRoom();
  }
  // @mutation instant-after-epoch
  const frozenAt = new Date();
  const begun: { core: VolumeCore; record: SnapshotRecord; snapshot: VolumeSnapshot }[] = [];
  try {
    for (const { volume, core } of members) {
      const record = new SnapshotRecord(core.snapshots.takePoint(), core.blockCount, frozenAt);
      const snapshot = new VolumeSnapshot(volume, core, record);
      core.snapshots.add(record);
      begun.push({ core, record, snapshot });
    }
    runAtInstant(atInstant);
  } catch (error) {
    for (const { core, record } of begun) core.snapshots.retire(record, 'closed');
    throw error;
  }
  for (const { core, record } of begun) core.snapshots.begun(record);
  return begun.map(({ snapshot }) => snapshot);
}

/** An asynchronous function would run on after writes have been let go: it is refused rather than misunderstood. */
function runAtInstant(atInstant: (() => void) | undefined): void {
  const returned: unknown = atInstant?.();
  // Not by its class: a promise of another realm is one too.
  if (typeof (returned as PromiseLike<unknown> | undefined)?.then !== 'function') return;
  Promise.resolve(returned).catch(() => {});
  throw new TypeError('atInstant must be synchronous');
}

/** A volume held for the instant can't finish a write for another one that waits for it. */
function refuseStacked(members: readonly Member[]): void {
  const volumes = new Set(members.map(({ volume }) => volume));
  if (volumes.size !== members.length) throw new TypeError('a volume is in the group twice');
  for (const volume of volumes) {
    for (const device of deviceStack(volume)) {
      if (device !== volume && volumes.has(device as CopyOnWriteVolume)) {
        throw new BackupError('VOLUME_STACKED', 'a volume of the group stands on another one of it');
      }
    }
  }
}
