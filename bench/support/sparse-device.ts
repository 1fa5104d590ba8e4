import type { BlockDevice, Extent } from '../../src/index.ts';

export const BLOCK = 4096;

/** A device of blocks of 4 KiB that takes memory for what was written only. */
export function sparseDevice(blocks: number, content = 0): BlockDevice {
  const written = new Map<number, Uint8Array>();
  return {
    size: blocks * BLOCK,
    sectorSize: BLOCK,
    read: async (offset, into) => {
      into.fill(content);
      if (written.size === 0) return;
      for (let at = 0; at < into.length; at += BLOCK) {
        const bytes = written.get(offset + at);
        if (bytes !== undefined) into.set(bytes, at);
      }
    },
    write: async (offset, from) => {
      for (let at = 0; at < from.length; at += BLOCK) written.set(offset + at, from.slice(at, at + BLOCK));
    },
    discard: async () => {},
    async *extents(offset, length): AsyncGenerator<Extent> {
      yield { offset, length, kind: 'zero' };
    },
    flush: async () => {},
    [Symbol.asyncDispose]: async () => {},
  };
}
