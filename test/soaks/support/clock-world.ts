import { vi } from 'vitest';
import type { BackupError, BackupJob, BackupRepository, CloudTarget, CopyOnWriteVolume } from '../../../src/index.ts';
import { randomBytesFrom } from '../../../src/testing/seeded-random.ts';
import type { randomForTest } from '../../support/randomness.ts';

export type Library = typeof import('../../../src/index.ts');
type Random = ReturnType<typeof randomForTest>;

export const BLOCK = 4096;
export const SECOND_MS = 1000;
export const DAY_MS = 86_400_000;
const EARLIEST = Date.UTC(1975, 0, 1);
const LATEST = Date.UTC(2150, 0, 1);

/** True time, which only the store may know. */
export class TrueTime {
  now = Date.UTC(2026, 0, 1);

  pass(ms: number): void {
    this.now += ms;
  }
}

/** The library as another process has it: what is once in a process is once in each. */
export async function libraryOfAnotherProcess(): Promise<Library> {
  vi.resetModules();
  return import('../../../src/index.ts');
}

/** A backup that a host has begun. */
export interface Begun {
  readonly job: BackupJob;
  readonly content: Uint8Array;
  /** True time. */
  readonly at: number;
  /** Prunes before it. */
  readonly prunes: number;
}

/** A host with a clock of its own, a volume of its own and a repository that it has open. */
export class ClockHost {
  readonly name: string;
  readonly library: Library;
  readonly #random: Random;
  readonly #time: TrueTime;
  readonly #target: CloudTarget;
  #offsetMs = 0;
  bytes: Uint8Array = new Uint8Array();
  volume!: CopyOnWriteVolume;
  repository!: BackupRepository;
  begun: Begun | undefined;

  constructor(name: string, library: Library, target: CloudTarget, time: TrueTime, random: Random) {
    this.name = name;
    this.library = library;
    this.#target = target;
    this.#time = time;
    this.#random = random;
  }

  async setUp(): Promise<void> {
    this.bytes = randomBytesFrom(this.#random, 20 * BLOCK);
    const device = new this.library.MemoryDevice(this.bytes);
    this.bytes = device.bytes;
    this.volume = await this.library.CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    await this.open();
  }

  /** Does something with this host's clock for a clock. */
  async at<T>(work: () => Promise<T>): Promise<T> {
    vi.setSystemTime(this.clock);
    return work();
  }

  get clock(): number {
    return this.#time.now + this.#offsetMs;
  }

  /** By seconds to decades, both ways; or it is set right. */
  jump(): void {
    const { below } = this.#random;
    const magnitudeMs = Math.floor(SECOND_MS * (50 * 365 * 86_400) ** this.#random());
    const offsets = [0, this.#offsetMs + magnitudeMs, this.#offsetMs - magnitudeMs, magnitudeMs, -magnitudeMs];
    const clock = this.#time.now + (offsets[below(offsets.length)] as number);
    this.#offsetMs = Math.min(LATEST, Math.max(EARLIEST, clock)) - this.#time.now;
  }

  open(): Promise<void> {
    return this.at(async () => {
      const { BackupRepository } = this.library;
      this.repository = await BackupRepository.open(this.#target, { threads: 0, packBytes: 64 * 1024 });
    });
  }

  async reopen(): Promise<void> {
    await this.at(() => this.repository.close({ jobs: 'cancel' }));
    this.begun = undefined;
    await this.open();
  }

  async write(): Promise<void> {
    const { below } = this.#random;
    const length = 1 + below(5 * BLOCK);
    await this.volume.write(below(this.bytes.length - length), randomBytesFrom(this.#random, length));
  }

  async begin(prunes: number): Promise<void> {
    const content = this.bytes.slice();
    const job = await this.at(() => this.repository.startBackup(this.volume, { volume: this.name }));
    this.begun = { job, content, at: this.#time.now, prunes };
  }

  /** Resolves with the error of one that failed. */
  async finish({ job }: Begun): Promise<BackupError | undefined> {
    this.begun = undefined;
    return this.at(() =>
      job.sweep().done.then(
        () => undefined,
        (error: BackupError) => error,
      ),
    );
  }

  async close(): Promise<void> {
    await this.at(() => this.repository.close({ jobs: 'cancel' }));
    await this.volume.close();
  }
}
