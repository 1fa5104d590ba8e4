/**
 * An exact set of visited states: every state's bytes are kept and compared, so nothing rests on a
 * hash being free of collisions. States are numbered in the order in which they were found.
 */
export class StateTable {
  #arena = new Uint8Array(1 << 20);
  #used = 0;
  #offsets = new Float64Array(1 << 12);
  #slots = new Int32Array(1 << 13).fill(-1);
  size = 0;

  /** The state's number, and whether it is new. */
  add(bytes: Uint8Array): { index: number; isNew: boolean } {
    if ((this.size + 1) * 2 > this.#slots.length) this.#rehash();
    const mask = this.#slots.length - 1;
    let slot = hashOf(bytes) & mask;
    for (let index = this.#slots[slot]!; index >= 0; index = this.#slots[slot]!) {
      if (this.#equals(index, bytes)) return { index, isNew: false };
      slot = (slot + 1) & mask;
    }
    const index = this.size++;
    this.#slots[slot] = index;
    this.#append(index, bytes);
    return { index, isNew: true };
  }

  bytes(index: number): Uint8Array {
    return this.#arena.subarray(this.#offsets[index], this.#offsets[index + 1]);
  }

  #append(index: number, bytes: Uint8Array): void {
    if (this.#used + bytes.length > this.#arena.length) {
      const arena = new Uint8Array(this.#arena.length * 2);
      arena.set(this.#arena.subarray(0, this.#used));
      this.#arena = arena;
    }
    if (index + 2 > this.#offsets.length) {
      const offsets = new Float64Array(this.#offsets.length * 2);
      offsets.set(this.#offsets);
      this.#offsets = offsets;
    }
    this.#arena.set(bytes, this.#used);
    this.#used += bytes.length;
    this.#offsets[index + 1] = this.#used;
  }

  #equals(index: number, bytes: Uint8Array): boolean {
    const from = this.#offsets[index]!;
    if (this.#offsets[index + 1]! - from !== bytes.length) return false;
    for (let i = 0; i < bytes.length; i++) if (this.#arena[from + i] !== bytes[i]) return false;
    return true;
  }

  #rehash(): void {
    const slots = new Int32Array(this.#slots.length * 2).fill(-1);
    const mask = slots.length - 1;
    for (let index = 0; index < this.size; index++) {
      let slot = hashOf(this.bytes(index)) & mask;
      while (slots[slot]! >= 0) slot = (slot + 1) & mask;
      slots[slot] = index;
    }
    this.#slots = slots;
  }
}

/** FNV-1a with a final mix, so that a mask of the low bits spreads well. */
function hashOf(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < bytes.length; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x2c1b3c6d);
  hash ^= hash >>> 13;
  return hash >>> 0;
}
