import type { AbortOptions } from '../../../src/common/abort.ts';
import type { Extent } from '../../../src/device/block-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { checkSpan } from '../../../src/device/span.ts';

/** Memory that tells which of its sectors are zero: a device that has everything optional. */
export class SparseDevice extends MemoryDevice {
  async *extents(offset: number, length: number, options?: AbortOptions): AsyncGenerator<Extent> {
    options?.signal?.throwIfAborted();
    this.flushSync(); // Refuses when closed.
    checkSpan(this, offset, length);
    const unit = Math.max(this.sectorSize, 512);
    const kindAt = (at: number) => (this.bytes.subarray(at, at + unit).every((byte) => byte === 0) ? 'zero' : 'data');
    for (let at = offset; at < offset + length; ) {
      const kind = kindAt(at - (at % unit));
      const start = at;
      do at = Math.min(at - (at % unit) + unit, offset + length);
      while (at < offset + length && kindAt(at) === kind);
      yield { offset: start, length: at - start, kind };
    }
  }
}
