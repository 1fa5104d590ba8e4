import { BackupError } from '../../../../src/common/errors.ts';
import { MemoryDevice } from '../../../../src/device/memory-device.ts';
import { BackupRepository } from '../../../../src/repository/backup-repository.ts';
import { MemoryTarget } from '../../../../src/targets/memory-target.ts';
import { BLOCK, encryptionOf, openIn, SMALL } from '../../support/repositories.ts';
import { attempt, type Outcome } from './attempt.ts';
import { Guest } from './guest.ts';
import { createSmall, Host } from './host.ts';
import { type Kept, Ledger, sameBytes } from './ledger.ts';
import { type Mishap, Mishaps } from './mishaps.ts';

/** What is done with one call: a mishap, or it is never answered and the host gives its operation up. */
export type SweptKind = Mishap['kind'] | 'abort';

/**
 * A history in which everything happens once: a repository is created, two hosts back up two volumes, fully and incrementally,
 * forget, prune and repack, and read. One of its calls may go wrong; it ends there if that made an operation fail.
 */
export class ReferenceHistory {
  readonly mishaps = new Mishaps();
  /** Calls that something could have befallen. */
  calls = 0;
  /** So that a history without repacking is noticed. */
  repackedPacks = 0;
  readonly #isEncrypted: boolean;
  readonly #store = new MemoryTarget();
  readonly #ledger = new Ledger();
  readonly #first: Host;
  readonly #second: Host;
  readonly #guests: Guest[] = [];
  /** Of the operation under way. */
  #giveUp = new AbortController();
  /** The host that the operation under way is of. */
  #at: Host | undefined;

  constructor(kind: SweptKind, index: number, isEncrypted: boolean) {
    this.#isEncrypted = isEncrypted;
    this.mishaps.arrange({ after: index, times: 1, kind: kind === 'abort' ? 'never-answer' : kind });
    if (kind === 'abort') this.mishaps.onStruck = () => setImmediate(() => this.#giveUp.abort());
    const { mishaps } = this;
    this.#first = new Host(this.#store, isEncrypted, { mishaps });
    this.#second = new Host(this.#store, isEncrypted, { mishaps });
  }

  /** Runs it, and then looks at what is left. Resolves with the name of the operation that failed and its error, if any. */
  async run(): Promise<{ failed: string; error: unknown } | undefined> {
    for (const [index, blocks] of [30, 70].entries()) {
      this.#guests.push(await Guest.open(`volume-${index}`, blocks * BLOCK - 1000, index));
    }
    const failed = await this.#operations();
    this.calls = this.mishaps.passed;
    this.mishaps.arrange(undefined);
    await this.#lookAfter();
    for (const { volume } of this.#guests) await volume.close();
    return failed;
  }

  async #operations() {
    const [a, b] = this.#guests as [Guest, Guest];
    const [first, second] = [this.#first, this.#second];
    const operations: [string, () => Promise<Outcome<unknown>>][] = [
      ['create', () => this.#create()],
      ['first backup', () => this.#backup(first, a)],
      ['second backup', () => this.#backup(first, a)],
      ['backup of another volume', () => this.#backup(first, b)],
      ['open', () => attempt(() => this.#open(second))],
      ['incremental by another host', () => this.#backup(second, b)],
      ['group', () => this.#group(second)],
      ['forget', () => this.#forget(first, 2)],
      ['prune', () => this.#prune(first)],
      ['read', () => this.#read(second)],
      ['prune what is left', () => this.#prune(second)],
    ];
    for (const [name, operation] of operations) {
      const { struck } = this.mishaps;
      this.#giveUp = new AbortController();
      const outcome = await operation();
      if (!('error' in outcome)) continue;
      if (this.mishaps.struck === struck) throw new Error(`${name} failed by itself`, { cause: outcome.error });
      return { failed: name, error: outcome.error };
    }
    return undefined;
  }

  /** Whoever comes next finds everything that is retained, and can go on; and so can the host that was hurt. */
  async #lookAfter(): Promise<void> {
    const options = { createIfMissing: { encryption: encryptionOf(this.#isEncrypted) }, ...SMALL };
    const unlock = this.#isEncrypted ? { unlock: encryptionOf(true) as { key: Uint8Array } } : {};
    const fresh = await BackupRepository.open(this.#store, { ...options, ...unlock });
    await this.#ledger.compare(fresh);
    await this.#ledger.read(fresh);
    await verifies(fresh);
    const hurt = this.#at?.repository;
    for (const repository of hurt === undefined ? [fresh] : [hurt, fresh]) {
      for (const guest of this.#guests) {
        await guest.write({ at: 0.3, bytes: 9000, content: 'fresh' });
        const content = guest.copy();
        const { id } = await repository.backup(guest.volume, { volume: guest.name });
        this.#ledger.commit({ id, volume: guest.name, content });
      }
      const { repackError } = await repository.prune(PRUNE);
      if (repackError !== undefined) throw repackError;
      await this.#ledger.compare(fresh);
      await this.#ledger.read(fresh);
    }
    await verifies(fresh);
    await fresh.close();
    for (const host of [this.#first, this.#second]) await host.repository?.close();
    await this.#leavesNothing();
  }

  /** Nothing that a failure left behind stays for ever. */
  async #leavesNothing(): Promise<void> {
    const repository = await openIn(this.#store, this.#isEncrypted);
    await repository.forget([...this.#ledger.kept.keys()]);
    for (let run = 0; run < 3; run++) await repository.prune(PRUNE);
    for await (const { key } of this.#store.list('packs/'))
      throw new Error(`nobody needs ${key}, and it is still there`);
    await repository.close();
  }

  async #create(): Promise<Outcome<unknown>> {
    const { signal } = this.#giveUp;
    const outcome = await attempt(() => createSmall(this.#first.target, this.#isEncrypted, { signal }));
    if ('error' in outcome) return outcome;
    return attempt(() => this.#open(this.#first));
  }

  async #open(host: Host): Promise<void> {
    await host.open({ signal: this.#giveUp.signal });
  }

  async #backup(host: Host, guest: Guest): Promise<Outcome<unknown>> {
    this.#at = host;
    await guest.write({ at: 0.1, bytes: 30_000, content: 'fresh' });
    const content = guest.copy();
    const { signal } = this.#giveUp;
    const started = await attempt(() => host.repository.startBackup(guest.volume, { volume: guest.name, signal }));
    if ('error' in started) return started;
    const job = started.value;
    await guest.write({ at: 0.2, bytes: 10_000, content: 'fresh' });
    await guest.write({ at: 0.7, bytes: 5000, content: 'zeroes' });
    const done = await attempt(() => job.sweep().done);
    this.#note({ id: job.id, volume: guest.name, content }, done);
    return done;
  }

  async #group(host: Host): Promise<Outcome<unknown>> {
    this.#at = host;
    for (const guest of this.#guests) await guest.write({ at: 0.5, bytes: 6000, content: 'fresh' });
    const contents = this.#guests.map((guest) => guest.copy());
    const parts = this.#guests.map(({ volume, name }) => ({ source: volume, volume: name }));
    const { signal } = this.#giveUp;
    const started = await attempt(() => host.repository.startGroup(parts, { signal }));
    if ('error' in started) return started;
    const { jobs, done } = started.value;
    for (const job of jobs) job.sweep();
    const outcome = await attempt(() => done);
    for (const [index, { id, volume }] of jobs.entries()) {
      this.#note({ id, volume, content: contents[index] as Uint8Array }, outcome);
    }
    return outcome;
  }

  async #forget(host: Host, count: number): Promise<Outcome<unknown>> {
    this.#at = host;
    const doomed = [...this.#ledger.kept.values()].slice(0, count);
    const { signal } = this.#giveUp;
    const outcome = await attempt(() =>
      host.repository.forget(
        doomed.map(({ id }) => id),
        { signal },
      ),
    );
    for (const backup of doomed) {
      if ('value' in outcome) this.#ledger.forget(backup.id);
      else if (BackupError.is(outcome.error, 'COMMIT_UNKNOWN')) this.#ledger.doubt(backup);
    }
    return outcome;
  }

  async #prune(host: Host): Promise<Outcome<unknown>> {
    this.#at = host;
    const { signal } = this.#giveUp;
    const { struck } = this.mishaps;
    const outcome = await attempt(() => host.repository.prune({ ...PRUNE, signal }));
    if ('value' in outcome) {
      this.repackedPacks += outcome.value.repackedPacks;
      const { repackError } = outcome.value;
      if (repackError !== undefined && this.mishaps.struck === struck) throw repackError;
    }
    return outcome;
  }

  async #read(host: Host): Promise<Outcome<unknown>> {
    const { signal } = this.#giveUp;
    for (const { id, content } of [...this.#ledger.kept.values()].slice(-2)) {
      const outcome = await attempt(async () => {
        await using image = await host.repository.openBackup(id, { signal });
        const bytes = new Uint8Array(image.size).fill(0xee);
        await image.read(0, bytes, { signal });
        sameBytes(bytes, content, `backup ${id}`);
        const device = new MemoryDevice(content.length);
        await host.repository.restore(id, device, { signal });
        sameBytes(device.bytes, content, `restored backup ${id}`);
      });
      if ('error' in outcome) return outcome;
    }
    return { value: undefined };
  }

  #note(backup: Kept, outcome: Outcome<unknown>): void {
    if ('value' in outcome) this.#ledger.commit(backup);
    else if (BackupError.is(outcome.error, 'COMMIT_UNKNOWN')) this.#ledger.doubt(backup);
  }
}

const PRUNE = {
  graceMs: 0,
  fenceAfterMs: 0,
  keepFencedMs: 0,
  repackBelow: 1,
  minRepackGainBytes: 0,
  packBytes: 100_000,
} as const;

/** Nothing is damaged. */
async function verifies(repository: BackupRepository): Promise<void> {
  const { ok, damaged } = await repository.verify({ depth: 'data' });
  if (!ok) throw new Error(`${damaged.length} packs do not verify`, { cause: damaged[0]?.error });
}
