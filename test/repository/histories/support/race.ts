import { BackupError } from '../../../../src/common/errors.ts';
import { MemoryDevice } from '../../../../src/device/memory-device.ts';
import type { BackupRepository } from '../../../../src/repository/backup-repository.ts';
import type { CloudTarget } from '../../../../src/targets/cloud-target.ts';
import type { RandomSource } from '../../../../src/testing/seeded-random.ts';
import { BLOCK, openIn } from '../../support/repositories.ts';
import { attempt, type Outcome } from './attempt.ts';
import { type Content, Guest } from './guest.ts';
import { Ledger, sameBytes } from './ledger.ts';

/** Hosts that are at one repository at the same time, each with a target of its own. */
export interface RaceOptions {
  readonly random: RandomSource;
  /** A host's way to the store, by its number. */
  readonly target: (host: number) => CloudTarget;
  readonly isEncrypted: boolean;
  /** Requests go wrong now and then, so that operations may fail. */
  readonly hasFaults: boolean;
  readonly writers: number;
  readonly backups: number;
  readonly pruners: number;
  readonly readers: number;
}

/** What a race came to. */
export interface RaceTally {
  backups: number;
  read: number;
  repacked: number;
  deleted: number;
  failures: number;
  adopted: number;
}

/** What a reader of a backup that is being forgotten may be told. */
const FORGOTTEN = ['BACKUP_FORGOTTEN', 'BACKUP_NOT_FOUND'];

/** Writers, each with a volume of its own, which forget what they have, while others prune and read. */
export class Race {
  readonly ledger = new Ledger();
  readonly tally: RaceTally = { backups: 0, read: 0, repacked: 0, deleted: 0, failures: 0, adopted: 0 };
  readonly #options: RaceOptions;
  /** Somebody is about to forget these. */
  readonly #doomed = new Set<string>();
  #isOver = false;

  constructor(options: RaceOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const { writers, pruners, readers } = this.#options;
    let host = 0;
    const some = (count: number, work: (host: number) => Promise<void>) =>
      Array.from({ length: count }, () => work(host++));
    const writing = Promise.all(some(writers, (number) => this.#write(number)));
    const others = [
      ...some(pruners, (number) => this.#prune(number)),
      ...some(readers, (number) => this.#read(number)),
    ];
    try {
      await writing;
    } finally {
      this.#isOver = true;
      await Promise.all(others);
    }
  }

  async #write(host: number): Promise<void> {
    const guest = await Guest.open(`volume-${host}`, (5 + this.#below(40)) * BLOCK - 1000, this.#below(2 ** 31));
    let repository = await this.#open(host);
    for (let backup = 0; backup < this.#options.backups; backup++) {
      await this.#guestWrites(guest);
      await this.#backup(repository, guest);
      if (this.#below(3) === 0) await this.#forget(repository, guest);
      if (this.#below(4) === 0) await guest.reopen();
      if (this.#below(4) > 0) continue;
      await repository.close();
      repository = await this.#open(host);
    }
    await repository.close();
    await guest.volume.close();
  }

  async #backup(repository: BackupRepository, guest: Guest): Promise<void> {
    const content = guest.copy();
    const started = await attempt(() => repository.startBackup(guest.volume, { volume: guest.name }));
    if (this.#failed(started)) return;
    const job = started.value;
    await this.#guestWrites(guest);
    job.sweep();
    await this.#guestWrites(guest);
    const outcome = await attempt(() => job.done);
    const backup = { id: job.id, volume: guest.name, content };
    // What it knew of a backup that this host has forgotten may be pruned meanwhile: decision 035.
    if (!this.#failed(outcome, ['PACK_CONDEMNED'])) {
      this.ledger.commit(backup);
      if (outcome.value.adoptedBytes > 0) this.tally.adopted++;
    } else if (BackupError.is(outcome.error, 'COMMIT_UNKNOWN')) this.ledger.doubt(backup);
    this.tally.backups++;
  }

  async #forget(repository: BackupRepository, guest: Guest): Promise<void> {
    const doomed = this.ledger.of(guest.name).filter(() => this.#below(2) === 0);
    for (const { id } of doomed) this.#doomed.add(id);
    const outcome = await attempt(() => repository.forget(doomed.map(({ id }) => id)));
    if (!this.#failed(outcome)) for (const { id } of doomed) this.ledger.forget(id);
    else if (BackupError.is(outcome.error, 'COMMIT_UNKNOWN')) for (const backup of doomed) this.ledger.doubt(backup);
    else for (const { id } of doomed) this.#doomed.delete(id);
  }

  async #prune(host: number): Promise<void> {
    const repository = await this.#open(host);
    while (!this.#isOver) {
      const outcome = await attempt(() =>
        repository.prune({
          graceMs: 0,
          repackBelow: [0.5, 0.9, 1][this.#below(3)],
          minRepackGainBytes: 0,
          packBytes: [20_000, 100_000][this.#below(2)],
        }),
      );
      if (this.#failed(outcome, ['OBJECT_CONFLICT'])) continue;
      this.tally.repacked += outcome.value.repackedPacks;
      this.tally.deleted += outcome.value.deletedObjects;
      if (outcome.value.repackError !== undefined && !this.#options.hasFaults) throw outcome.value.repackError;
    }
    await repository.close();
  }

  /** Opens backups and reads them while their packs are moved and deleted. */
  async #read(host: number): Promise<void> {
    const repository = await this.#open(host);
    while (!this.#isOver) {
      const kept = [...this.ledger.kept.values()];
      const backup = kept[this.#below(kept.length)];
      if (backup === undefined) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        continue;
      }
      const { id, content } = backup;
      const outcome = await attempt(async () => {
        if (this.#below(2) === 0) {
          const device = new MemoryDevice(content.length);
          await repository.restore(id, device);
          return device.bytes;
        }
        await using image = await repository.openBackup(id);
        const bytes = new Uint8Array(content.length).fill(0xee);
        for (let at = 0; at < bytes.length; at += 20_000) await image.read(at, bytes.subarray(at, at + 20_000));
        return bytes;
      });
      if (this.#failed(outcome, this.#doomed.has(id) ? FORGOTTEN : [])) continue;
      sameBytes(outcome.value, content, `backup ${id}`);
      this.tally.read++;
    }
    await repository.close();
  }

  async #open(host: number): Promise<BackupRepository> {
    for (;;) {
      const outcome = await attempt(() => openIn(this.#options.target(host), this.#options.isEncrypted));
      if (!this.#failed(outcome)) return outcome.value;
    }
  }

  async #guestWrites(guest: Guest): Promise<void> {
    for (let count = this.#below(4); count > 0; count--) {
      const content = (['fresh', 'fresh', 'alike', 'zeroes'] as Content[])[this.#below(4)] as Content;
      await guest.write({ at: this.#options.random(), bytes: 1 + this.#below(20_000), content });
    }
  }

  /** @throws an error that nothing explains */
  #failed<T>(
    outcome: Outcome<T>,
    expected: readonly string[] = [],
  ): outcome is Extract<Outcome<T>, { error: unknown }> {
    if (!('error' in outcome)) return false;
    const isExpected = BackupError.is(outcome.error) && expected.includes(outcome.error.code);
    if (!isExpected && !this.#options.hasFaults) throw outcome.error;
    this.tally.failures++;
    return true;
  }

  #below(limit: number): number {
    return Math.floor(this.#options.random() * limit);
  }
}
