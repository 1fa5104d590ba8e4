import { mapCorrupt } from './map-corrupt.ts';

/** Bits of each byte value. */
const BITS = Uint8Array.from({ length: 256 }, (_, byte) => {
  let bits = 0;
  for (let rest = byte; rest > 0; rest >>= 1) bits += rest & 1;
  return bits;
});

/** A presence bitmap inside a record: bit (i mod 8) of byte (i / 8) is slot i's. Ranks are found without a loop. */
export class Bitmap {
  /** How many slots are present. */
  readonly present: number;
  readonly #bytes: Uint8Array;
  /** Slots present before each byte. */
  readonly #before: Uint16Array;

  /** @param allowed - slots from here on must be absent */
  constructor(bytes: Uint8Array, allowed: number) {
    this.#bytes = bytes;
    this.#before = new Uint16Array(bytes.length);
    let present = 0;
    for (let i = 0; i < bytes.length; i++) {
      this.#before[i] = present;
      const byte = bytes[i] as number;
      present += BITS[byte] as number;
      if (byte >> Math.min(8, Math.max(0, allowed - i * 8)) !== 0) throw mapCorrupt('content past the end');
    }
    this.present = present;
  }

  has(slot: number): boolean {
    return (((this.#bytes[slot >> 3] as number) >> (slot & 7)) & 1) === 1;
  }

  /** How many of the slots before `slot` are present. */
  rank(slot: number): number {
    const below = (this.#bytes[slot >> 3] as number) & ((1 << (slot & 7)) - 1);
    return (this.#before[slot >> 3] as number) + (BITS[below] as number);
  }
}
