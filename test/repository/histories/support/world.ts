import type { BackupError } from '../../../../src/common/errors.ts';
import type { BackupJob, BackupOptions } from '../../../../src/repository/backup/backup-job.ts';
import { MemoryTarget } from '../../../../src/targets/memory-target.ts';
import { BLOCK, openIn } from '../../support/repositories.ts';
import { attempt, type Outcome } from './attempt.ts';
import { Guest } from './guest.ts';
import { holdersOf } from './holders.ts';
import { createSmall, Host } from './host.ts';
import { type Kept, Ledger } from './ledger.ts';
import type { Mishap } from './mishaps.ts';
import type { Shape } from './steps.ts';

/** A backup under way, over any number of steps. */
export interface Running extends Kept {
  readonly job: BackupJob;
  readonly host: Host;
  readonly guest: Guest;
  /** Something went wrong between its host and the store meanwhile. */
  isHurt: boolean;
  /** Its volume was taken over by another. */
  isTaken: boolean;
}

/** How often what happened, so that histories in which nothing happens are noticed. */
export type Tally = Map<string, number>;

/** What an operation came to, and whether something went wrong with its requests. */
export interface Suffered<T> {
  readonly outcome: Outcome<T>;
  readonly struck: boolean;
}

/** What one is told whose volume was taken over. */
const TAKEN = ['SESSION_FENCED', 'SESSION_ENDED'];

/** Real repositories on one store, guests that write to their volumes, and the {@link Ledger} that all is held against. */
export class World {
  readonly store = new MemoryTarget();
  readonly ledger = new Ledger();
  readonly hosts: Host[] = [];
  readonly guests: Guest[] = [];
  readonly running = new Set<Running>();
  readonly #isEncrypted: boolean;
  readonly #tally: Tally;

  private constructor(isEncrypted: boolean, tally: Tally) {
    this.#isEncrypted = isEncrypted;
    this.#tally = tally;
  }

  static async open({ isEncrypted, blocks, seed }: Shape, tally: Tally): Promise<World> {
    const world = new World(isEncrypted, tally);
    await createSmall(world.store, isEncrypted);
    for (let number = 0; number < 2; number++) world.hosts.push(await new Host(world.store, isEncrypted).open());
    for (const [index, count] of blocks.entries()) {
      world.guests.push(await Guest.open(`volume-${index}`, count * BLOCK - 1000, seed + index));
    }
    return world;
  }

  async close(): Promise<void> {
    for (const { repository } of this.hosts) await repository.close({ jobs: 'cancel' });
    for (const { volume } of this.guests) await volume.close();
  }

  count(what: string): void {
    this.#tally.set(what, (this.#tally.get(what) ?? 0) + 1);
  }

  /** Does something while something goes wrong. */
  async suffer<T>(host: Host, mishap: Mishap | undefined, work: () => Promise<T>): Promise<Suffered<T>> {
    const { struck: before } = host.mishaps;
    host.mishaps.arrange(mishap);
    const outcome = await attempt(work);
    host.mishaps.arrange(undefined);
    const struck = host.mishaps.struck > before;
    if (struck) {
      this.count(`struck by ${mishap?.kind}`);
      for (const each of this.running) if (each.host === host) each.isHurt = true;
    }
    if ('error' in outcome) this.count(codeOf(outcome.error));
    return { outcome, struck };
  }

  /** Begins a lazy backup. Resolves with `undefined` where that could not be, for a good reason. */
  async begin(host: Host, guest: Guest, options: Omit<BackupOptions, 'volume'>, mishap?: Mishap) {
    const [busy] = [...this.running].filter((each) => each.guest === guest && isLive(each) && !each.isTaken);
    const content = guest.copy();
    const held = busy !== undefined && options.takeOver === true ? await this.#holders(guest) : new Set<number>();
    const { outcome, struck } = await this.suffer(host, mishap, () =>
      host.repository.startBackup(guest.volume, { ...options, volume: guest.name }),
    );
    if (busy !== undefined && held.size > 0) {
      // One that fails may have happened, or not: the log says which.
      const still = 'error' in outcome ? await this.#holders(guest) : new Set<number>();
      busy.isTaken = ![...held].some((seq) => still.has(seq));
    }
    if ('error' in outcome) {
      const isBusy = busy !== undefined && codeOf(outcome.error) === 'VOLUME_BUSY';
      if (!struck && !isBusy) throw new Error('a backup could not begin', { cause: outcome.error });
      await this.check(false);
      return undefined;
    }
    if (busy !== undefined && isLive(busy) && options.takeOver !== true) throw new Error('a volume has two writers');
    const job = outcome.value;
    job.done.catch(() => {}); // Looked at when its turn comes.
    const running: Running = {
      id: job.id,
      volume: guest.name,
      content,
      job,
      host,
      guest,
      isHurt: false,
      isTaken: false,
    };
    this.running.add(running);
    return running;
  }

  #holders(guest: Guest): Promise<Set<number>> {
    return holdersOf(this.store, this.#isEncrypted, guest.name);
  }

  /** Sweeps a backup to its end, whatever that is. */
  async settle(running: Running, mishap?: Mishap): Promise<void> {
    const { outcome } = await this.suffer(running.host, mishap, () => {
      running.job.resume();
      return running.job.sweep().done;
    });
    this.ended(running, outcome);
    if ('value' in outcome) return;
    const isTaken = running.isTaken && TAKEN.includes(codeOf(outcome.error));
    // Another volume's backup, whose content this one referred to, was forgotten and pruned meanwhile: decision 035.
    const isOvertaken = codeOf(outcome.error) === 'PACK_CONDEMNED';
    if (!running.isHurt && !isTaken && !isOvertaken)
      throw new Error('a backup failed although nothing went wrong', { cause: outcome.error });
  }

  /** Backups whose every block was overwritten commit themselves. */
  async settleComplete(): Promise<void> {
    for (const running of [...this.running]) {
      const { pending, preserved } = running.job.states.counts;
      if (pending + preserved === 0) await this.settle(running);
    }
  }

  /** A backup is over. */
  ended(
    running: Running,
    outcome: Outcome<{
      readonly changeSource: string;
      readonly adoptedBytes: number;
      readonly warnings: readonly BackupError[];
    }>,
  ) {
    this.running.delete(running);
    if ('value' in outcome) {
      this.ledger.commit(running);
      this.count(outcome.value.changeSource);
      if (outcome.value.adoptedBytes > 0) this.count('adopted');
      if (outcome.value.warnings.length > 0) throw outcome.value.warnings[0];
    } else if (codeOf(outcome.error) === 'COMMIT_UNKNOWN') this.ledger.doubt(running);
  }

  /** Gives up the backups that something else ends. */
  async abandoned(those: (running: Running) => boolean): Promise<void> {
    for (const running of [...this.running].filter(those)) {
      this.ended(running, await attempt(() => running.job.done));
    }
  }

  /** Somebody who has just come looks at everything, or only at what each volume has newest. */
  async check(isDeep: boolean): Promise<void> {
    this.count('check');
    const repository = await openIn(this.store, this.#isEncrypted);
    await this.ledger.compare(repository, new Set([...this.running].map(({ id }) => id)));
    const newest = this.guests.flatMap(({ name }) => this.ledger.of(name).slice(-1));
    await this.ledger.read(repository, isDeep ? undefined : newest.map(({ id }) => id));
    await repository.close();
  }
}

export function isLive({ job }: Running): boolean {
  return job.status === 'lazy' || job.status === 'sweeping' || job.status === 'paused';
}

export function codeOf(error: BackupError | DOMException): string {
  return String(error.code);
}
