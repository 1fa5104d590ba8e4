import type { CloudTarget, GetOptions } from '../../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../../src/targets/decorators/forwarding-target.ts';

/** Flips a bit in one answer of a pack, so many bytes before its end. */
export class GarblingTarget extends ForwardingTarget {
  #left: number;
  readonly #fromEnd: number;

  constructor(inner: CloudTarget, nth: number, fromEnd: number) {
    super(inner, 'this GarblingTarget');
    this.#left = nth;
    this.#fromEnd = fromEnd;
  }

  protected override async forwardGet(key: string, options: GetOptions): Promise<Uint8Array> {
    const bytes = await this.inner.get(key, options);
    if (!key.startsWith('packs/') || --this.#left !== 0 || bytes.length <= this.#fromEnd) return bytes;
    const garbled = Uint8Array.from(bytes);
    const at = bytes.length - this.#fromEnd;
    garbled[at] = (garbled[at] as number) ^ 1;
    return garbled;
  }
}
