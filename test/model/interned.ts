/**
 * The bytes of a state whose parts are plain objects: each distinct part gets a number, by its whole JSON text, and a state is
 * the list of its parts' numbers. Two states are equal only if all texts are, as with the text itself, in a fraction of the room.
 */
export class Interned<S> {
  readonly #split: (state: S) => readonly object[];
  readonly #join: (parts: readonly object[]) => S;
  readonly #numbers = new Map<string, number>();
  readonly #parts: object[] = [];
  /** Of the parts that states are joined from. Parts that were made since are met once or twice. */
  readonly #known = new Map<object, number>();

  constructor(split: (state: S) => readonly object[], join: (parts: readonly object[]) => S) {
    this.#split = split;
    this.#join = join;
  }

  encode(state: S): Uint8Array {
    const parts = this.#split(state);
    const bytes = new Uint8Array(parts.length * 3);
    for (const [index, part] of parts.entries()) {
      const number = this.#numberOf(part);
      bytes[index * 3] = number;
      bytes[index * 3 + 1] = number >>> 8;
      bytes[index * 3 + 2] = number >>> 16;
    }
    return bytes;
  }

  decode(bytes: Uint8Array): S {
    const parts: object[] = [];
    for (let at = 0; at < bytes.length; at += 3) {
      parts.push(this.#parts[bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16)]!);
    }
    return this.#join(parts);
  }

  #numberOf(part: object): number {
    const known = this.#known.get(part);
    if (known !== undefined) return known;
    const text = JSON.stringify(part);
    let number = this.#numbers.get(text);
    if (number === undefined) {
      number = this.#parts.length;
      if (number >= 1 << 24) throw new RangeError('more distinct parts than three bytes can number');
      this.#parts.push(part);
      this.#numbers.set(text, number);
      this.#known.set(part, number);
    }
    return number;
  }
}
