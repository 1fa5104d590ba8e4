/** Ways to keep very many small values that were decoded: a catalogue may have a hundred thousand rows of them. */

/** Texts that are longer are not shared. */
const MAX_CHARACTERS = 128;
const MAX_TEXTS = 4096;

/**
 * One string for equal texts. A decoded string may be a part of a much longer one, which it keeps in memory (V8 and msgpackr
 * both do that), and the same names occur again and again.
 */
export class SharedTexts {
  readonly #texts = new Map<string, string>();

  /** The same text, in memory of its own. */
  share(text: string): string {
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    const own = Buffer.from(text, 'utf8').toString('utf8');
    if (own.length > MAX_CHARACTERS) return own;
    if (this.#texts.size >= MAX_TEXTS) this.#texts.clear();
    this.#texts.set(own, own);
    return own;
  }
}

/** Byte strings up to this length share memory. */
const MAX_SHORT_BYTES = 64;
/** Memory for short byte strings is taken in pieces of this size. One string that is kept keeps its whole piece. */
const PIECE_BYTES = 1024;

/** Copies of short byte strings, many of them in one piece of memory: a buffer of its own would take 100 bytes more for each. */
export class ShortBytes {
  #piece = new Uint8Array(0);

  copyOf(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
    if (bytes.length > MAX_SHORT_BYTES) return Uint8Array.from(bytes);
    if (this.#piece.length < bytes.length) this.#piece = new Uint8Array(PIECE_BYTES);
    const copy = this.#piece.subarray(0, bytes.length);
    copy.set(bytes);
    this.#piece = this.#piece.subarray(bytes.length);
    return copy;
  }
}
