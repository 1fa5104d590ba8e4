import { BackupError } from '../../../../src/common/errors.ts';
import { entryKey } from '../../../../src/repository/format/object-keys.ts';
import { fanOut } from '../../../../src/targets/decorators/fan-out.ts';
import { MemoryTarget } from '../../../../src/targets/memory-target.ts';
import { type RandomSource, seededRandom } from '../../../../src/testing/seeded-random.ts';
import { cutOff } from '../../backup/support/interrupted.ts';
import { InterleavingTarget } from '../../log/support/interleaving-target.ts';
import { BLOCK, openIn } from '../../support/repositories.ts';
import { attempt, type Outcome } from './attempt.ts';
import { CopiedStore } from './copied-store.ts';
import { anyTool, copyBy, type Tool } from './foreign-copy.ts';
import { type Content, Guest } from './guest.ts';
import { createSmall } from './host.ts';
import type { Kept } from './ledger.ts';

export interface Copied {
  readonly tool: Tool | 'synchronize';
  readonly copy: MemoryTarget;
  /** It has to be whole: log and packs were copied in this order, and nothing was deleted meanwhile, or it would have shown. */
  readonly mustBeWhole: boolean;
}

const WRITERS = 2;
const BACKUPS = 7;
/** Before anybody copies, so that every copy is one of a log with a floor, or nearly. */
const BEFORE = 9;
const COPIERS = 2;
const AT_ONCE = { graceMs: 0, keepFencedMs: 0, minRepackGainBytes: 0 } as const;

/**
 * Hosts back up, die and adopt, forget, prune, repack and verify, while tools copy the store object by object, again and again. Every
 * request and every answer comes in an order that the seed gives.
 */
export class CopiedHistory {
  readonly store = new CopiedStore();
  readonly isEncrypted: boolean;
  readonly copies: Copied[] = [];
  readonly guests: Guest[] = [];
  /** Of all that was ever committed, or may have been. */
  readonly wasCommitted = new Map<string, Kept>();
  readonly tally = { backups: 0, died: 0, adopted: 0, repacked: 0, deleted: 0, floors: 0, pages: 0 };
  readonly #random: RandomSource;
  readonly #slow: InterleavingTarget;
  #isOver = false;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
    this.isEncrypted = seed % 2 === 0;
    this.#slow = new InterleavingTarget(this.store, this.#random);
  }

  async run(): Promise<void> {
    await createSmall(this.store, this.isEncrypted);
    for (let number = 0; number < WRITERS; number++) {
      this.guests.push(
        await Guest.open(`volume-${number}`, (4 + this.#below(20)) * BLOCK - 1000, this.#below(2 ** 31)),
      );
    }
    for (const guest of this.guests) await this.#begin(guest);
    const writing = Promise.all(this.guests.map((guest) => this.#write(guest)));
    const others = [this.#prune(), ...Array.from({ length: COPIERS }, () => this.#copy()), this.#synchronize()];
    try {
      await writing;
    } finally {
      this.#isOver = true;
      await Promise.all(others);
    }
    for await (const _ of this.store.list('catalogue/')) this.tally.pages++;
    if ((await this.store.stat(entryKey(1))) === undefined) this.tally.floors++;
  }

  async close(): Promise<void> {
    for (const { volume } of this.guests) await volume.close();
  }

  /** Nobody is in the way yet. */
  async #begin(guest: Guest): Promise<void> {
    const repository = await openIn(this.store, this.isEncrypted);
    for (let backup = 0; backup < BEFORE; backup++) {
      await this.#guestWrites(guest);
      const content = guest.copy();
      const { id } = await repository.backup(guest.volume, { volume: guest.name });
      this.wasCommitted.set(id, { id, volume: guest.name, content });
    }
    await repository.prune(AT_ONCE);
    await repository.close();
  }

  async #write(guest: Guest): Promise<void> {
    let repository = await openIn(this.#slow, this.isEncrypted);
    for (let backup = 0; backup < BACKUPS; backup++) {
      await this.#guestWrites(guest);
      const content = guest.copy();
      const commit = (id: string) => this.wasCommitted.set(id, { id, volume: guest.name, content });
      if (this.#below(3) === 0) {
        const ids = await cutOff(this.#slow, { [guest.name]: guest.volume }, 1 + this.#below(2), this.isEncrypted);
        for (const id of ids ?? []) commit(id);
        if (ids === undefined) this.tally.died++;
        await this.#guestWrites(guest);
      }
      const now = guest.copy();
      const started = await attempt(() => repository.startBackup(guest.volume, { volume: guest.name, takeOver: true }));
      if (failed(started)) continue;
      await this.#guestWrites(guest);
      const { id } = started.value;
      this.wasCommitted.set(id, { id, volume: guest.name, content: now });
      const outcome = await attempt(() => started.value.sweep().done);
      // What was refused is in no copy either.
      if ('error' in outcome && !BackupError.is(outcome.error, 'COMMIT_UNKNOWN')) this.wasCommitted.delete(id);
      if (failed(outcome)) continue;
      this.tally.backups++;
      if (outcome.value.adoptedBytes > 0) this.tally.adopted++;
      if (this.#below(2) === 0) await this.#forget(guest.name);
      if (this.#below(4) > 0) continue;
      await repository.close();
      repository = await openIn(this.#slow, this.isEncrypted);
    }
    await repository.close();
  }

  async #forget(volume: string): Promise<void> {
    await using repository = await openIn(this.#slow, this.isEncrypted);
    const ids: string[] = [];
    for await (const { id } of repository.listBackups({ volume })) if (this.#below(2) === 0) ids.push(id);
    await repository.forget(ids);
  }

  async #prune(): Promise<void> {
    let repository = await openIn(this.#slow, this.isEncrypted);
    while (!this.#isOver) {
      if (this.#below(3) === 0) await attempt(() => repository.verify({ depth: 'data', fraction: 0.3 }));
      const repackBelow = [0, 0.5, 1][this.#below(3)];
      const outcome = await attempt(() => repository.prune({ ...AT_ONCE, repackBelow, packBytes: 30_000 }));
      if (failed(outcome)) continue;
      this.tally.repacked += outcome.value.repackedPacks;
      this.tally.deleted += outcome.value.deletedObjects;
      if (this.#below(3) > 0) continue;
      await repository.close();
      repository = await openIn(this.#slow, this.isEncrypted);
    }
    await repository.close();
  }

  async #copy(): Promise<void> {
    while (!this.#isOver) {
      const tool = anyTool(this.#random);
      const { deletions } = this.store;
      const copy = await copyBy(tool, this.store, this.#slow, this.#random);
      const isInOrder = tool.stopsAt === 1 && (tool.order === 'documented' || tool.order === 'log first');
      this.copies.push({ tool, copy, mustBeWhole: isInOrder && deletions === this.store.deletions });
    }
  }

  /** A replica that nobody writes to, but for `synchronize`. */
  async #synchronize(): Promise<void> {
    let copy = new MemoryTarget();
    while (!this.#isOver) {
      const target = fanOut(this.#slow, [copy]);
      const controller = new AbortController();
      let left = this.#below(3) === 0 ? this.#below(60) : Number.POSITIVE_INFINITY;
      const onProgress = () => {
        if (--left < 0) controller.abort();
      };
      const options = { signal: controller.signal, deleteExtras: this.#below(2) === 0, onProgress };
      const outcome = await attempt(() => target.synchronize(options));
      const wasAborted = controller.signal.aborted;
      if ('error' in outcome && !wasAborted) throw outcome.error;
      this.copies.push({ tool: 'synchronize', copy: await snapshotOf(copy), mustBeWhole: !wasAborted });
      if (this.#below(3) === 0) copy = new MemoryTarget();
    }
  }

  async #guestWrites(guest: Guest): Promise<void> {
    for (let count = 1 + this.#below(3); count > 0; count--) {
      const content = (['fresh', 'fresh', 'alike', 'zeroes'] as Content[])[this.#below(4)] as Content;
      await guest.write({ at: this.#random(), bytes: 1 + this.#below(20_000), content });
    }
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }
}

async function snapshotOf(target: MemoryTarget): Promise<MemoryTarget> {
  const copy = new MemoryTarget();
  for await (const { key } of target.list('')) await copy.put(key, await target.get(key));
  return copy;
}

/** What hosts are told that are in each other's way. */
const EXPECTED = ['OBJECT_CONFLICT', 'PACK_CONDEMNED', 'SESSION_FENCED', 'VOLUME_BUSY', 'BACKUP_NOT_FOUND'];

function failed<T>(outcome: Outcome<T>): outcome is Extract<Outcome<T>, { error: unknown }> {
  if (!('error' in outcome)) return false;
  if (!BackupError.is(outcome.error) || !EXPECTED.includes(outcome.error.code)) throw outcome.error;
  return true;
}
