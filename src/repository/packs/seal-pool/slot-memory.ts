import { maxStoredLength } from '../record-sealing.ts';

/** How a slot is divided. */
export interface SlotGeometry {
  /** The most bytes of a block. */
  readonly blockSize: number;
  readonly blocks: number;
}

const ID_BYTES = 32;
/** Per block: stored length, and codec. */
const RESULT_WORDS = 2;

/** Bytes of shared memory that a slot takes. */
export function slotBytes({ blockSize, blocks }: SlotGeometry): number {
  return blocks * (RESULT_WORDS * 4 + ID_BYTES + blockSize + maxStoredLength(blockSize));
}

/**
 * The shared memory of one slot, seen from either side: results, ids, plaintext in, sealed records out. The plaintext
 * stays as it was, so that a block can be sealed again when a worker died over it. Who may touch it is agreed by
 * messages: the pool's side while no task is under way, the worker during one.
 */
export class SlotMemory {
  /** Plaintext, block by block without gaps. */
  readonly input: Uint8Array;
  readonly #geometry: SlotGeometry;
  readonly #results: Int32Array;
  readonly #ids: Uint8Array;
  readonly #output: Uint8Array;

  constructor(shared: SharedArrayBuffer, geometry: SlotGeometry) {
    const { blockSize, blocks } = geometry;
    this.#geometry = geometry;
    this.#results = new Int32Array(shared, 0, blocks * RESULT_WORDS);
    this.#ids = new Uint8Array(shared, this.#results.byteLength, blocks * ID_BYTES);
    this.input = new Uint8Array(shared, this.#ids.byteOffset + this.#ids.byteLength, blocks * blockSize);
    this.#output = new Uint8Array(shared, this.input.byteOffset + this.input.byteLength);
  }

  plaintext(block: number, length: number): Uint8Array {
    const at = block * this.#geometry.blockSize;
    return this.input.subarray(at, at + length);
  }

  /** Where a block's content id goes. */
  id(block: number): Uint8Array {
    return this.#ids.subarray(block * ID_BYTES, (block + 1) * ID_BYTES);
  }

  /** Where a block's sealed record goes. */
  output(block: number): Uint8Array {
    const stride = maxStoredLength(this.#geometry.blockSize);
    return this.#output.subarray(block * stride, (block + 1) * stride);
  }

  setResult(block: number, first: number, second: number): void {
    this.#results[block * RESULT_WORDS] = first;
    this.#results[block * RESULT_WORDS + 1] = second;
  }

  result(block: number): readonly [number, number] {
    return [this.#results[block * RESULT_WORDS] as number, this.#results[block * RESULT_WORDS + 1] as number];
  }
}
