import type { AbortOptions } from '../../../../src/common/abort.ts';
import type { PutOptions, PutResult } from '../../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../../src/targets/memory-target.ts';

/** A store that notes what would excuse a copy of it. */
export class CopiedStore extends MemoryTarget {
  /** How many times something was deleted. */
  deletions = 0;
  /** Names in the log that two objects had, one after the other: one of the two is a stray. */
  readonly strays = new Set<string>();
  readonly #ever = new Set<string>();

  override async put(key: string, body: Uint8Array<ArrayBuffer>, options?: PutOptions): Promise<PutResult> {
    const result = await super.put(key, body, options);
    if (key.startsWith('log/') && this.#ever.has(key)) this.strays.add(key);
    this.#ever.add(key);
    return result;
  }

  override delete(key: string, options?: AbortOptions): Promise<void> {
    this.deletions++;
    return super.delete(key, options);
  }

  override deleteMany(keys: readonly string[], options?: AbortOptions): Promise<void> {
    this.deletions += keys.length;
    return super.deleteMany(keys, options);
  }
}
