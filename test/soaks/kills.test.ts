import { createHash } from 'node:crypto';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FileDevice } from '../../src/device/file-device.ts';
import { BackupRepository } from '../../src/repository/backup-repository.ts';
import { FileTarget } from '../../src/targets/file/file-target.ts';
import { randomBytesFrom } from '../../src/testing/seeded-random.ts';
import { CopyOnWriteVolume } from '../../src/volume/copy-on-write-volume.ts';
import { folderForFile } from '../support/folders.ts';
import { randomForTest, testSeed, times, withinMs } from '../support/randomness.ts';
import { runAndKill } from './support/kill.ts';
import type { KilledPlan, Word } from './support/killed-words.ts';

/**
 * Processes that back up a live volume into a folder, forget and prune are killed at any moment: by SIGKILL after some
 * time, or just before some call of the filesystem. After each kill the repository opens and verifies, every backup that
 * was said to be committed restores byte for byte, nothing that was forgotten comes back, and no volume stays busy. What a killed one had uploaded is adopted.
 */

const KILLS = times(1);
/** Repositories begin anew after so many. */
const KILLS_A_REPOSITORY = 10;
const IMAGE_BYTES = 1200 * 1024 + 1000;
const VOLUMES = ['a', 'b'];
/** What is there when all is forgotten. A killed creation's probe may be deleted after a day. */
const LEFT = /^(format|keys\/\w+|log\/[\w-]+|cache\/verified|reserve|probe\/\w{32}|\.cow-cloud-backup\/folder-\w{32})$/;

const root = folderForFile();

type Encryption = KilledPlan['encryption'];

class Killing {
  readonly folder: string;
  readonly #encryption: Encryption;
  readonly #random: ReturnType<typeof randomForTest>;
  readonly #images = new Map<string, string>();
  /** By id: what was read at the instant, of all that were ever begun. */
  readonly #contents = new Map<string, string>();
  /** Said to be committed, and not to be about to be forgotten. */
  readonly #kept = new Set<string>();
  readonly #forgotten = new Set<string>();

  /** How often what was said. */
  readonly tally: Map<string, number>;

  constructor(folder: string, encryption: Encryption, seed: number, tally: Map<string, number>) {
    this.tally = tally;
    this.folder = folder;
    this.#encryption = encryption;
    this.#random = randomForTest(seed);
  }

  async setUp(): Promise<void> {
    await mkdir(this.folder, { recursive: true });
    for (const volume of VOLUMES) {
      const image = join(this.folder, `${volume}.img`);
      await writeFile(image, randomBytesFrom(this.#random, IMAGE_BYTES));
      this.#images.set(volume, image);
    }
  }

  /** Kills one process, or two that are at the repository together. */
  async kill(): Promise<void> {
    const { below } = this.#random;
    const volumes = below(3) === 0 ? VOLUMES : [VOLUMES[below(2)] as string];
    const said = await Promise.all(
      volumes.map((volume) => {
        const calls = below(2) === 0 ? 1 + below([20, 200, 3000][below(3)] as number) : undefined;
        return runAndKill(this.#plan(volume, calls), below(1500));
      }),
    );
    for (const word of said.flat()) this.#hear(word);
    // Forgetting that was only begun may have happened, whatever the other process was told.
    for (const word of said.flat()) if ('forgetting' in word) for (const id of word.forgetting) this.#kept.delete(id);
  }

  #plan(volume: string, calls: number | undefined): KilledPlan {
    return {
      seed: this.#random.below(2 ** 32),
      folder: join(this.folder, 'repository'),
      image: this.#images.get(volume) as string,
      volume,
      encryption: this.#encryption,
      threads: this.#random.below(3) === 0 ? 1 : 0,
      calls,
    };
  }

  #hear(word: Word): void {
    const [what] = Object.keys(word) as [string];
    this.tally.set(what, (this.tally.get(what) ?? 0) + 1);
    if ('begun' in word) this.#contents.set(word.begun, word.sha256);
    if ('committed' in word) this.#kept.add(word.committed);
    if ('forgotten' in word) for (const id of word.forgotten) this.#forgotten.add(id);
  }

  async check(): Promise<void> {
    await using repository = await this.#open();
    const { ok, damaged } = await repository.verify({ depth: 'data' });
    expect(damaged).toEqual([]);
    expect(ok).toBe(true);
    const listed = new Set<string>();
    for await (const { id, intact } of repository.listBackups()) {
      listed.add(id);
      expect(intact).toBe(true);
      expect(this.#forgotten.has(id), `${id} was forgotten`).toBe(false);
      await using image = await repository.openBackup(id);
      const bytes = new Uint8Array(image.size).fill(0xee);
      await image.read(0, bytes);
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      expect(sha256, id).toBe(this.#contents.get(id));
    }
    expect([...this.#kept].filter((id) => !listed.has(id))).toEqual([]);
    for (const volume of VOLUMES) await this.#backUp(repository, volume);
    await repository.prune({ graceMs: 0 });
  }

  /** No volume stays busy, nor its image locked. */
  async #backUp(repository: BackupRepository, volume: string): Promise<void> {
    await using device = await FileDevice.open(this.#images.get(volume) as string);
    await using source = await CopyOnWriteVolume.open(device, { blockSize: 4096 });
    const bytes = new Uint8Array(IMAGE_BYTES);
    await source.read(0, bytes);
    const { id, adoptedBytes } = await repository.backup(source, { volume });
    if (adoptedBytes > 0) this.#hear({ adopted: adoptedBytes });
    this.#contents.set(id, createHash('sha256').update(bytes).digest('hex'));
    this.#kept.add(id);
  }

  /** In the end nothing is left of what was killed. */
  async finish(): Promise<void> {
    await using repository = await this.#open();
    const ids: string[] = [];
    for await (const { id } of repository.listBackups()) ids.push(id);
    await repository.forget(ids);
    for (let run = 0; run < 3; run++) await repository.prune({ graceMs: 0, fenceAfterMs: 0, keepFencedMs: 0 });
    const entries = await readdir(join(this.folder, 'repository'), { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
    const keys = files.map((path) => relative(join(this.folder, 'repository'), path).replaceAll('\\', '/'));
    expect(keys.filter((key) => !LEFT.test(key))).toEqual([]);
  }

  #open(): Promise<BackupRepository> {
    const encryption = this.#encryption;
    return BackupRepository.open(new FileTarget(join(this.folder, 'repository')), {
      ...(encryption === 'none' ? {} : { unlock: encryption }),
      createIfMissing: { encryption },
      threads: 0,
    });
  }
}

const ENCRYPTIONS: [string, Encryption][] = [
  ['plain', 'none'],
  ['encrypted', { passphrase: 'correct horse' }],
];

describe.each(ENCRYPTIONS)('a repository that is %s', (name, encryption) => {
  test(
    'loses nothing when its processes are killed',
    async () => {
      const tally = new Map<string, number>();
      for (let done = 0; done < KILLS; ) {
        const seed = (testSeed() + done) >>> 0;
        const killing = new Killing(join(root, name, String(done)), encryption, seed, tally);
        await killing.setUp();
        for (let left = Math.min(KILLS_A_REPOSITORY, KILLS - done); left > 0; left--, done++) {
          await killing.kill();
          try {
            await killing.check();
          } catch (error) {
            throw new Error(`after kill ${done} of the repository with seed ${seed}`, { cause: error });
          }
        }
        await killing.finish();
        await rm(killing.folder, { recursive: true, force: true });
      }
      console.log(`${KILLS} kills of a ${name} repository`, Object.fromEntries(tally));
      if (KILLS < 10) return;
      // Or else nothing was tried.
      for (const what of ['opened', 'begun', 'committed', 'forgotten', 'pruned']) {
        expect(tally.get(what) ?? 0, what).toBeGreaterThan(0);
      }
      // Few are killed between their first pack and their commit.
      if (KILLS >= 50) expect(tally.get('adopted') ?? 0).toBeGreaterThan(0);
    },
    withinMs(120_000),
  );
});
