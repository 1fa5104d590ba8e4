import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as main from '../../../src/index.ts';

export const BLOCK = 4096;

interface Parts {
  readonly folder: string;
  readonly device: main.MemoryDevice;
  readonly target: main.MemoryTarget;
  readonly volume: main.CopyOnWriteVolume & main.SyncVolumeAccess;
  readonly snapshot: main.VolumeSnapshot;
  readonly repository: main.BackupRepository;
  readonly backupId: string;
}

/** What the calls work on, and what none of them may change. */
export class World {
  readonly folder: string;
  readonly device: main.MemoryDevice;
  readonly target: main.MemoryTarget;
  readonly volume: main.CopyOnWriteVolume & main.SyncVolumeAccess;
  readonly snapshot: main.VolumeSnapshot;
  readonly repository: main.BackupRepository;
  readonly backupId: string;

  #files = 0;

  private constructor(parts: Parts) {
    this.folder = parts.folder;
    this.device = parts.device;
    this.target = parts.target;
    this.volume = parts.volume;
    this.snapshot = parts.snapshot;
    this.repository = parts.repository;
    this.backupId = parts.backupId;
  }

  static async open(): Promise<World> {
    const folder = await mkdtemp(join(tmpdir(), 'cow-misuse-'));
    const device = new main.MemoryDevice(new Uint8Array(16 * BLOCK).map((_, at) => at % 251));
    const target = new main.MemoryTarget();
    const volume = await main.CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const repository = await main.BackupRepository.create(target, {
      encryption: { key: new Uint8Array(32).fill(7) },
      threads: 0,
    });
    const { id } = await repository.backup(volume, { volume: 'disk' });
    const snapshot = await volume.createSnapshot();
    return new World({ folder, device, target, volume, snapshot, repository, backupId: id });
  }

  /** Of a file that is not there yet. */
  freshName(): string {
    return `file-${this.#files++}`;
  }

  /** Everything that misuse must leave as it is. */
  async fingerprint(): Promise<string[]> {
    const objects: string[] = [];
    for await (const { key } of this.target.list('')) {
      objects.push(`${key} ${Buffer.from(await this.target.get(key)).toString('base64')}`);
    }
    const states = Object.entries(this.snapshot.states.counts).join();
    const { snapshots } = this.volume;
    const jobs = this.repository.jobs.map(({ status }) => status);
    const held = [Buffer.from(this.device.bytes).toString('base64'), states, snapshots.length, ...jobs];
    return [...held.map(String), ...objects.sort()];
  }

  async close(): Promise<void> {
    await this.repository.close();
    await this.volume.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}
