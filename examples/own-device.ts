// Makes a block device of your own, here a thinly provisioned one, and runs the package's conformance suite on it.
import { test } from 'node:test';
import { type AbortOptions, BackupError, type BlockDevice } from 'cow-cloud-backup';
import { deviceConformance } from 'cow-cloud-backup/testing';

const SECTOR = 4096;

/** Memory for the sectors that were written; all others are zeroes. */
class ThinDevice implements BlockDevice {
  readonly sectorSize = SECTOR;
  readonly size: number;
  readonly #sectors = new Map<number, Uint8Array>();

  constructor(size: number) {
    this.size = Math.ceil(size / SECTOR) * SECTOR;
  }

  async read(offset: number, into: Uint8Array, { signal }: AbortOptions = {}) {
    for (const at of this.#sectorsOf(offset, into.length, signal)) {
      into.set(this.#sectors.get(at) ?? new Uint8Array(SECTOR), at - offset);
    }
  }

  async write(offset: number, from: Uint8Array, { signal }: AbortOptions = {}) {
    for (const at of this.#sectorsOf(offset, from.length, signal)) {
      // A copy, since the caller may change `from` later. (`slice` of a Buffer would be none.)
      this.#sectors.set(at, new Uint8Array(from.subarray(at - offset, at - offset + SECTOR)));
    }
  }

  async flush({ signal }: AbortOptions = {}) {
    signal?.throwIfAborted(); // Memory has nothing to make durable.
  }

  async discard(offset: number, length: number, { signal }: AbortOptions = {}) {
    for (const at of this.#sectorsOf(offset, length, signal)) this.#sectors.delete(at);
  }

  /** Optional. With it, a backup does not even read what was never written. */
  async *extents(offset: number, length: number, { signal }: AbortOptions = {}) {
    for (const at of this.#sectorsOf(offset, length, signal)) {
      yield { offset: at, length: SECTOR, kind: this.#sectors.has(at) ? ('data' as const) : ('zero' as const) };
    }
  }

  async [Symbol.asyncDispose]() {}

  #sectorsOf(offset: number, length: number, signal: AbortSignal | undefined): number[] {
    signal?.throwIfAborted();
    if (!(offset >= 0 && offset + length <= this.size)) throw new BackupError('OUT_OF_RANGE', `${offset}+${length}`);
    if (offset % SECTOR || length % SECTOR) throw new BackupError('MISALIGNED', `${offset}+${length}`);
    return Array.from({ length: length / SECTOR }, (_, index) => offset + index * SECTOR);
  }
}

for (const { name, run } of deviceConformance({ open: async ({ size }) => new ThinDevice(size) })) test(name, run);
