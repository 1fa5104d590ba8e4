import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { BackupError } from '../../src/common/errors.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { BackupRepository } from '../../src/repository/backup-repository.ts';
import type { CloudTarget, ObjectInfo } from '../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import type { CopyOnWriteVolume } from '../../src/volume/copy-on-write-volume.ts';
import { folderForTest } from '../support/folders.ts';
import { BLOCK, createIn, openIn, openVolume, SMALL, unlockOf, writeBlock } from './support/repositories.ts';

/**
 * A target that answers so many calls and then never again, whatever its signals say. Its iterators hang in `next` and in
 * `return`.
 */
class SilentTarget implements CloudTarget {
  readonly capabilities = { createOnly: true, checksums: true };
  readonly #inner: CloudTarget;
  #left = Number.POSITIVE_INFINITY;
  #asked = Promise.withResolvers<void>();
  /** Whether it was a checkpoint that it did not answer: nobody waits long for that. */
  isCheckpoint = false;

  constructor(inner: CloudTarget) {
    this.#inner = inner;
  }

  /** Falls silent after so many more answers. Resolves when it has been asked something that it does not answer. */
  silentAfter(answers: number): Promise<void> {
    this.#left = answers;
    this.isCheckpoint = false;
    this.#asked = Promise.withResolvers();
    return this.#asked.promise;
  }

  #answers(): boolean {
    if (this.#left-- > 0) return true;
    this.#asked.resolve();
    return false;
  }

  async #pass<T>(call: () => Promise<T>): Promise<T> {
    return this.#answers() ? call() : new Promise<never>(() => {});
  }

  put: CloudTarget['put'] = (key, body, { createOnly } = {}) => {
    this.isCheckpoint = this.#left === 0 && key.endsWith('-c');
    return this.#pass(() => this.#inner.put(key, body, { createOnly }));
  };
  get: CloudTarget['get'] = (key, { range } = {}) => this.#pass(() => this.#inner.get(key, { range }));
  stat: CloudTarget['stat'] = (key) => this.#pass(() => this.#inner.stat(key));
  delete: CloudTarget['delete'] = (key) => this.#pass(() => this.#inner.delete(key));
  storeTime = () => this.#pass(async () => new Date());
  list: CloudTarget['list'] = (prefix, { after } = {}) => {
    const objects = this.#inner.list(prefix, { after })[Symbol.asyncIterator]();
    const iterator: AsyncIterator<ObjectInfo> = {
      next: () => this.#pass(() => objects.next()),
      return: () => new Promise<never>(() => {}),
    };
    return { [Symbol.asyncIterator]: () => iterator };
  };
  async [Symbol.asyncDispose](): Promise<void> {}
}

async function copyOf(source: MemoryTarget): Promise<MemoryTarget> {
  const copy = new MemoryTarget();
  for await (const { key } of source.list('')) await copy.put(key, new Uint8Array(await source.get(key)));
  return copy;
}

interface Trial {
  readonly target: SilentTarget;
  readonly repository: BackupRepository;
  readonly volume: CopyOnWriteVolume;
  readonly ids: readonly string[];
  /** One of two. */
  readonly slot: string;
  /** An open one. */
  readonly session: number;
  /** Of a file that is not there. */
  readonly path: string;
  readonly signal: AbortSignal;
}

const drain = async (items: AsyncIterable<unknown>): Promise<void> => {
  for await (const _ of items);
};

/** Every public method that waits for the target. */
const calls: [name: string, call: (trial: Trial) => Promise<unknown>][] = [
  ['open', ({ target, signal }) => openIn(target, true, { signal })],
  ['latestBackup', ({ repository, signal }) => repository.latestBackup('disk', { signal })],
  ['listBackups', ({ repository, signal }) => drain(repository.listBackups({ signal }))],
  ['listVolumes', ({ repository, signal }) => drain(repository.listVolumes({ signal }))],
  ['listSessions', ({ repository, signal }) => drain(repository.listSessions({ signal }))],
  ['endSession', ({ repository, session, signal }) => repository.endSession(session, { signal })],
  ['findBackup', ({ repository, ids, signal }) => repository.findBackup(ids[0]!, { signal })],
  ['stats', ({ repository, signal }) => repository.stats({ signal })],
  ['diff', ({ repository, ids, signal }) => drain(repository.diff(ids[0]!, ids[1]!, { signal }))],
  ['openBackup', ({ repository, ids, signal }) => repository.openBackup(ids[1]!, { signal })],
  [
    'a read of an opened backup',
    async ({ repository, ids, signal }) => {
      const image = await repository.openBackup(ids[1]!, { cacheBytes: 0, signal });
      await image.read(0, new Uint8Array(image.size), { signal });
    },
  ],
  [
    'restore',
    ({ repository, ids, signal }) => repository.restore(ids[1]!, new MemoryDevice(30 * BLOCK + 1000), { signal }),
  ],
  [
    'restoreToFile',
    async ({ repository, ids, path, signal }) => {
      await repository.restoreToFile(ids[1]!, path, { signal });
      await rm(path);
    },
  ],
  ['estimate', ({ repository, ids, signal }) => repository.estimate({ restore: ids[1]! }, { signal })],
  ['estimate of prune', ({ repository, signal }) => repository.estimate({ prune: true }, { signal })],
  ['forget', ({ repository, ids, signal }) => repository.forget([ids[0]!], { signal })],
  ['hold', ({ repository, ids, signal }) => repository.hold([ids[0]!], { signal })],
  ['release', ({ repository, ids, signal }) => repository.release([ids[1]!], { signal })],
  [
    'applyRetention',
    ({ repository, signal }) => repository.applyRetention({ keepLast: 1 }, { volume: 'disk', signal }),
  ],
  ['verify', ({ repository, signal }) => repository.verify({ depth: 'data', signal })],
  ['verify of the structure', ({ repository, signal }) => repository.verify({ depth: 'structure', signal })],
  ['prune', ({ repository, signal }) => repository.prune({ graceMs: 0, signal })],
  ['backup', ({ repository, volume, signal }) => repository.backup(volume, { volume: 'disk', signal })],
  [
    'startGroup',
    async ({ repository, volume, signal }) => {
      const group = await repository.startGroup([{ source: volume, volume: 'disk' }], { signal });
      for (const job of group.jobs) job.sweep();
      await group.done;
    },
  ],
  ['keys.list', ({ repository, signal }) => repository.keys.list({ signal })],
  ['keys.remove', ({ repository, slot, signal }) => repository.keys.remove(slot, { signal })],
  ['keys.add', ({ repository, signal }) => repository.keys.add({ key: new Uint8Array(32).fill(1) }, { signal })],
];

/** Two backups, one of them held, two key slots, and the session of a backup that is under way. */
async function storedTrial(
  base: MemoryTarget,
  volume: CopyOnWriteVolume,
): Promise<Pick<Trial, 'ids' | 'slot' | 'session'> & { readonly stored: MemoryTarget }> {
  const ids: string[] = [];
  await using repository = await createIn(base, true);
  for (let round = 0; round < 2; round++) {
    ids.push((await repository.backup(volume, { volume: 'disk' })).id);
    await writeBlock(volume, round);
  }
  await repository.hold([ids[1]!]);
  const slot = await repository.keys.add({ key: new Uint8Array(32).fill(2) });
  const other = await openVolume(5);
  await repository.startBackup(other.volume, { volume: 'other' });
  let session = 0;
  for await (const { seq } of repository.listSessions()) session = seq;
  return { ids, slot, session, stored: await copyOf(base) };
}

let folder: string;
beforeEach(async () => {
  folder = await folderForTest();
});

describe('a target that never answers, and takes no heed of signals, holds up no', () => {
  test.each(calls)('%s', async (_name, call) => {
    const base = new MemoryTarget();
    const { volume } = await openVolume(30);
    const { stored, ...had } = await storedTrial(base, volume);
    let silent = 0;
    for (let answers = 0; ; answers += answers < 30 ? 1 : 7) {
      const target = new SilentTarget(await copyOf(stored));
      const repository = await openIn(target, true);
      const outcome = await abortedInSilence(target, answers, (signal) =>
        call({ target, repository, volume, ...had, path: join(folder, 'restored'), signal }),
      );
      expect(await readdir(folder), 'nothing is left of a restore').toEqual([]);
      if (outcome === 'done') break;
      silent++;
      // Nothing waits for the answer that never came.
      target.silentAfter(Number.POSITIVE_INFINITY);
      const { signal } = new AbortController();
      const trial = { target, repository, volume, ...had, path: join(folder, 'restored'), signal };
      await call(trial).catch((error: unknown) => {
        if (
          !BackupError.is(error, 'BACKUP_NOT_FOUND') &&
          !BackupError.is(error, 'SESSION_ENDED') &&
          !BackupError.is(error, 'KEY_SLOT_NOT_FOUND')
        )
          throw error;
      });
    }
    expect(silent).toBeGreaterThan(0);
  });

  test.each(['create', 'open with createIfMissing'])('%s', async (name) => {
    const encryption = unlockOf(true).unlock!;
    for (let answers = 0; ; answers++) {
      const target = new SilentTarget(new MemoryTarget());
      const outcome = await abortedInSilence(target, answers, (signal) =>
        name === 'create'
          ? BackupRepository.create(target, { encryption, ...SMALL, signal })
          : BackupRepository.open(target, { createIfMissing: { encryption }, ...SMALL, signal }),
      );
      if (outcome === 'done') break;
      expect(answers).toBeLessThan(100);
    }
  });
});

/**
 * Makes a call of which the target answers only so many requests, and aborts it when the target has fallen silent. The call
 * must reject with the reason at once, or, where an entry of the log was under way, with `COMMIT_UNKNOWN` after some seconds.
 */
async function abortedInSilence(
  target: SilentTarget,
  answers: number,
  call: (signal: AbortSignal) => Promise<unknown>,
): Promise<'done' | 'aborted'> {
  const controller = new AbortController();
  const reason = new Error(`given up after ${answers} answers`);
  const asked = target.silentAfter(answers);
  const outcome = call(controller.signal).then(
    () => 'done' as const,
    (error: unknown) => ({ error }),
  );
  const first = await Promise.race([asked.then(() => 'silent' as const), outcome]);
  if (first === 'done') return 'done';
  expect(first, 'no call fails before it is aborted').toBe('silent');
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    controller.abort(reason);
    await vi.advanceTimersByTimeAsync(11_000);
    const settled = await outcome;
    if (settled === 'done') {
      expect(target.isCheckpoint, 'it cannot be done').toBe(true);
      return 'aborted';
    }
    const { error } = settled;
    if (BackupError.is(error, 'COMMIT_UNKNOWN')) expect(error.cause).toBe(reason);
    else expect(error, `after ${answers} answers`).toBe(reason);
    await vi.advanceTimersByTimeAsync(71_000); // A backup gives up to end its session.
    return 'aborted';
  } finally {
    vi.useRealTimers();
  }
}
