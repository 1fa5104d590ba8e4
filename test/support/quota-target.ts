import { BackupError } from '../../src/common/errors.ts';
import type { CloudTarget, PutOptions, PutResult } from '../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../src/targets/decorators/forwarding-target.ts';

/** A store that takes so many bytes of objects and refuses more with `NO_SPACE`, as a full disk or a quota does. */
export class QuotaTarget extends ForwardingTarget {
  quotaBytes: number;
  readonly #sizes = new Map<string, number>();

  constructor(inner: CloudTarget, quotaBytes: number) {
    super(inner, 'this QuotaTarget');
    this.quotaBytes = quotaBytes;
  }

  /** Bytes of the objects that are there. */
  get usedBytes(): number {
    let sum = 0;
    for (const size of this.#sizes.values()) sum += size;
    return sum;
  }

  protected override async forwardPut(
    key: string,
    body: Uint8Array<ArrayBuffer>,
    options: PutOptions,
  ): Promise<PutResult> {
    const before = this.#sizes.get(key) ?? 0;
    // A name that is taken is refused for that, also where there is no room.
    const isTaken = options.createOnly === true && (await this.inner.stat(key)) !== undefined;
    if (!isTaken && this.usedBytes - before + body.length > this.quotaBytes) {
      throw new BackupError('NO_SPACE', `object ${key} of ${body.length} bytes has no room`);
    }
    if (isTaken) return await this.inner.put(key, body, options);
    // It takes its room from now on: others may be put at the same time.
    this.#sizes.set(key, body.length);
    try {
      return await this.inner.put(key, body, options);
    } catch (error) {
      if (before === 0) this.#sizes.delete(key);
      else this.#sizes.set(key, before);
      throw error;
    }
  }

  protected override async forwardDelete(key: string): Promise<void> {
    await this.inner.delete(key);
    this.#sizes.delete(key);
  }

  protected override async forwardDeleteMany(keys: readonly string[]): Promise<void> {
    for (const key of keys) await this.forwardDelete(key);
  }
}
