import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { collectRanges } from '../../../src/common/block-range.ts';
import { BackupError } from '../../../src/common/errors.ts';
import { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import type { VolumeState } from '../../../src/volume/state-directory/volume-state.ts';
import { commitMemory } from '../../../src/volume/volume-snapshot.ts';
import { randomForTest, testSeed, times, withinMs } from '../../support/randomness.ts';
import { Disk } from './support/disk.ts';
import { StateDisk } from './support/state-disk.ts';

/**
 * Histories of a volume with a state directory whose process is killed, whose power fails, and whose disks are reverted and copied, at any
 * moment (rules C1, C2, C3, C4, C12, C16). Whatever a later process believes of an instant, the blocks that differ from it are among those that are reported as changed.
 */

const BLOCK = 512 * 8;
const BLOCKS = 200;
const REPOSITORY = new Uint8Array(16).fill(7);
/** So much later a reverted disk shows by its time. Rule C22. */
const LATER_MS = 10 * 60_000;

interface Base {
  readonly trackingId: string;
  readonly serial: number;
  readonly content: Uint8Array;
}

class History {
  readonly #below: (limit: number) => number;
  readonly device = new Disk(BLOCK * BLOCKS, Date.now);
  storage = new StateDisk();
  volume!: CopyOnWriteVolume;
  /** By digest: instants that became backups. */
  readonly bases = new Map<string, Base>();
  readonly found: Record<string, number> = {};
  tracked = 0;
  #commits = 0;
  #minute = 0;

  /** Whether calls of the state's disk fail now and then. */
  readonly #fails: boolean;

  constructor(below: (limit: number) => number, fails = false) {
    this.#below = below;
    this.#fails = fails;
  }

  /** @param isIntact - neither disk was reverted or copied: then the state is believed */
  async open(isIntact = true): Promise<void> {
    const open = () =>
      CopyOnWriteVolume.open(this.device.open(), {
        blockSize: BLOCK,
        stateDirectory: this.storage.open(),
        preserve: { spillBytes: 0 },
      });
    this.storage.fault = () =>
      this.#fails && this.#below(30) === 0 ? (['before', 'after'] as const)[this.#below(2)] : undefined;
    this.volume = await open().catch((error: unknown) => {
      if (!this.#fails) throw error;
      this.storage.fault = () => undefined; // As somebody mends the disk.
      return open();
    });
    this.#minute = Date.now() + 60_000;
    const { found, reason } = this.volume.recovery!;
    if (isIntact && !this.#fails) expect(reason).toBeUndefined();
    const what = reason === undefined ? found : `${found}: ${reason}`;
    this.found[what] = (this.found[what] ?? 0) + 1;
    await this.check();
  }

  /** What is believed of every base that is remembered. */
  async check(): Promise<void> {
    for (const { serial, digest } of this.volume[commitMemory]?.committed ?? []) {
      const base = this.bases.get(Buffer.from(digest).toString('hex'));
      expect(base).toBeDefined();
      const changes = this.volume.changedSince({ trackingId: this.volume.trackingId, epoch: serial });
      if (changes === undefined) continue;
      const changed = new Set<number>();
      for (const { firstBlock, blockCount } of await collectRanges(changes)) {
        for (let block = firstBlock; block < firstBlock + blockCount; block++) changed.add(block);
      }
      if (changed.size < BLOCKS) this.tracked++;
      for (let block = 0; block < BLOCKS; block++) {
        const [from, to] = [block * BLOCK, (block + 1) * BLOCK];
        const isSame = Buffer.compare(this.device.content.subarray(from, to), base!.content.subarray(from, to)) === 0;
        if (!isSame && !changed.has(block)) throw new Error(`block ${block} has changed, and is not reported`);
      }
    }
  }

  get #state(): VolumeState {
    return (this.volume as unknown as { core: { state: VolumeState } }).core.state;
  }

  /** Time passes, and the volume notices each minute. */
  async #pass(ms: number): Promise<void> {
    const now = Date.now() + ms;
    for (; this.#minute <= now; this.#minute += 60_000) {
      vi.setSystemTime(this.#minute);
      await this.#state.minute();
    }
    vi.setSystemTime(now);
  }

  async step(): Promise<void> {
    const below = this.#below;
    await this.#pass(below(20_000));
    const kind = below(20);
    if (kind < 11) await this.#write();
    else if (kind < 13) await this.#instant();
    else if (kind === 13) for (let n = this.#below(30) === 0 ? 120 : 1; n > 0; n--) await this.#instant();
    else if (kind === 14) await this.volume.flush();
    else if (kind === 15) void this.#state.compact();
    else if (kind === 16)
      await this.#pass(12 * 60_000); // Regions become quiet, and are cleared.
    else await this.#restart(below(8));
  }

  /** A call that fails because of the state's disk has failed, and nothing more. */
  async #tolerant<T>(work: Promise<T>): Promise<T | undefined> {
    return work.catch((error: unknown) => {
      if (!this.#fails || !BackupError.is(error, 'STATE_FAILED')) throw error;
      return undefined;
    });
  }

  async #write(): Promise<void> {
    const below = this.#below;
    const count = 1 + below(3);
    const first = below(BLOCKS - count);
    const bytes = new Uint8Array(count * BLOCK).fill(1 + below(255));
    const writing = this.volume.write(first * BLOCK, bytes);
    writing.catch(() => {});
    if (below(3) > 0) await this.#tolerant(writing);
  }

  async #instant(): Promise<void> {
    let content = new Uint8Array(0);
    const atInstant = () => {
      content = this.device.content.slice();
    };
    const snapshot = await this.#tolerant(this.volume.createSnapshot({ atInstant }));
    if (snapshot === undefined) return;
    await snapshot.close();
    if (this.#below(3) === 0) return;
    const digest = new Uint8Array(32);
    new DataView(digest.buffer).setUint32(0, ++this.#commits);
    const { trackingId, epoch: serial } = snapshot.point;
    this.bases.set(Buffer.from(digest).toString('hex'), { trackingId, serial, content });
    this.volume[commitMemory]!.commit({ serial, repositoryId: REPOSITORY, volume: `v${this.#below(3)}`, digest });
  }

  async #restart(kind: number): Promise<void> {
    const below = this.#below;
    // Anywhere in the middle of something.
    const turns = below(6);
    const closing = kind < 3 || kind === 7 ? this.volume.close() : undefined;
    if (closing !== undefined && below(4) > 0) await closing;
    else for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
    const images = [this.device.image(), this.storage.image()] as const;
    if (kind === 3 || kind === 4) {
      this.device.kill();
      this.storage.kill();
    } else if (kind === 5 || kind === 6) {
      this.device.losePower(below);
      this.storage.losePower(below);
    } else {
      this.device.kill();
      this.storage.kill();
    }
    if (kind === 7) await this.#reverted(images, below(4));
    vi.setSystemTime(Date.now() + below(2) * below(5 * LATER_MS));
    await this.open(kind !== 7);
  }

  /** One disk or both are put back to what they were at a restart, or the state is copied. */
  async #reverted([device, storage]: readonly [() => void, () => void], which: number): Promise<void> {
    if (which === 3) {
      this.storage = this.storage.copy();
      return;
    }
    await this.open();
    await this.#pass(LATER_MS);
    for (let n = 0; n < 4; n++) await this.#write();
    await this.#instant();
    await this.volume.flush();
    const isClosed = this.#below(2) === 0;
    if (isClosed) await this.volume.close();
    this.device.kill();
    this.storage.kill();
    if (which !== 1) device();
    if (which !== 0) storage();
  }
}

beforeEach(() => void vi.useFakeTimers({ toFake: ['Date'], now: 1.8e12 }));
afterEach(() => void vi.useRealTimers());

test.each([
  [20, 'whatever happened to a process, its power and its disks', false],
  [14, 'whatever fails in the storage of the state', true],
])('of %d histories, %s, no change is missed', { timeout: withinMs(120_000) }, async (count, _what, fails) => {
  const found: Record<string, number> = {};
  let tracked = 0;
  for (let nth = 0; nth < times(count); nth++) {
    const history = new History(randomForTest(testSeed() + nth).below, fails);
    try {
      await history.open();
      for (let step = 0; step < 40; step++) await history.step();
      await history.volume.close();
    } catch (error) {
      throw new Error(`history ${nth}: ${(error as Error).message}`, { cause: error });
    }
    for (const [what, count] of Object.entries(history.found)) found[what] = (found[what] ?? 0) + count;
    tracked += history.tracked;
  }
  console.log(found, `${tracked} bases were tracked`);
  expect(found.clean).toBeGreaterThan(5);
  expect(found.recovered).toBeGreaterThan(5);
  expect(tracked).toBeGreaterThan(20);
});
