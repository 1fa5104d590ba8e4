import type { BlockRange } from '../../../src/common/block-range.ts';
import type { BackupError } from '../../../src/common/errors.ts';
import type { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import type { VolumeEvents, VolumeSnapshot } from '../../../src/volume/volume-snapshot.ts';

/** One event as a listener got it. */
export interface Heard {
  readonly name: keyof VolumeEvents;
  readonly snapshot: VolumeSnapshot;
  readonly blocks?: BlockRange;
  readonly error?: BackupError;
}

/** Everything that a volume tells from now on. */
export function listenTo(volume: CopyOnWriteVolume): Heard[] {
  const heard: Heard[] = [];
  volume.events.on('snapshotBegun', (snapshot) => heard.push({ name: 'snapshotBegun', snapshot }));
  volume.events.on('snapshotBroken', (snapshot, error) => heard.push({ name: 'snapshotBroken', snapshot, error }));
  volume.events.on('blockPreserved', (snapshot, blocks) => heard.push({ name: 'blockPreserved', snapshot, blocks }));
  volume.events.on('blockLost', (snapshot, blocks, error) =>
    heard.push({ name: 'blockLost', snapshot, blocks, error }),
  );
  return heard;
}
