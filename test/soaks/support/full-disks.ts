import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackupError } from '../../../src/common/errors.ts';
import type { CloudTarget, PutOptions } from '../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../src/targets/decorators/forwarding-target.ts';
import { FileTarget } from '../../../src/targets/file/file-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';

/** A disk that others fill up and free again. */
export interface SmallDisk extends AsyncDisposable {
  readonly target: CloudTarget;
  /** Takes all room that is left, but for about so many bytes. */
  fill(leaveBytes: number): Promise<void>;
  free(): Promise<void>;
}

/** A store with a quota. */
export class QuotaDisk extends ForwardingTarget implements SmallDisk {
  readonly #sizeBytes: number;
  #limitBytes: number;

  constructor(sizeBytes: number) {
    super(new MemoryTarget(), 'this store with a quota');
    this.#sizeBytes = sizeBytes;
    this.#limitBytes = sizeBytes;
  }

  get target(): CloudTarget {
    return this;
  }

  async fill(leaveBytes: number): Promise<void> {
    this.#limitBytes = Math.min(this.#limitBytes, (await this.#used()) + leaveBytes);
  }

  async free(): Promise<void> {
    this.#limitBytes = this.#sizeBytes;
  }

  protected override async forwardPut(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions): Promise<void> {
    const replaced = (await this.inner.stat(key))?.size ?? 0;
    const used = await this.#used();
    if (used - replaced + body.length > this.#limitBytes) throw new BackupError('NO_SPACE', 'the quota is used up');
    await super.forwardPut(key, body, options);
  }

  async #used(): Promise<number> {
    let used = 0;
    for await (const { size } of this.inner.list('')) used += size;
    return used;
  }
}

/** A filesystem in memory, which root may mount on Linux. `undefined` elsewhere. */
export async function mountedDisk(sizeBytes: number): Promise<SmallDisk | undefined> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return undefined;
  const folder = await mkdtemp(join(tmpdir(), 'full-disk-'));
  const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'tmpfs', folder]);
  if (mount.status !== 0) return undefined;
  await mkdir(join(folder, 'repository'));
  const target = new FileTarget(join(folder, 'repository'));
  const filler = join(folder, 'filler');
  return {
    target,
    async fill(leaveBytes) {
      const file = await open(filler, 'a');
      try {
        for (const chunk of [64 * 1024, 4096]) await append(file, chunk);
        const { size } = await file.stat();
        await file.truncate(Math.max(0, size - leaveBytes));
      } finally {
        await file.close();
      }
    },
    free: () => rm(filler, { force: true }),
    async [Symbol.asyncDispose]() {
      await target.close();
      spawnSync('umount', [folder]);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Until nothing more has room. */
async function append(file: Awaited<ReturnType<typeof open>>, chunk: number): Promise<void> {
  for (;;) {
    try {
      const { bytesWritten } = await file.write(new Uint8Array(chunk).fill(1));
      if (bytesWritten < chunk) return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      return;
    }
  }
}
