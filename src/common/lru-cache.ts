/**
 * Keeps the values that were used most recently, as long as their weights (bytes, rows, or 1 for each) add up to no more
 * than a limit.
 */
export class LruCache<K, V> {
  readonly #limit: number;
  readonly #keepsNewest: boolean;
  /** The value that was used least recently comes first. */
  readonly #entries = new Map<K, { readonly value: V; readonly weight: number }>();
  #weight = 0;

  /**
   * @param keepsNewest - whether the value that was set last is kept even when it alone weighs more than the limit; by
   * default such a value is not kept
   */
  constructor(limit: number, { keepsNewest = false } = {}) {
    this.#limit = limit;
    this.#keepsNewest = keepsNewest;
  }

  /** The sum of the weights of all values. */
  get weight(): number {
    return this.#weight;
  }

  /** The value of a key, which counts as used now. */
  get(key: K): V | undefined {
    const found = this.#entries.get(key);
    if (found === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, found);
    return found.value;
  }

  /** The value of a key. This does not count as a use. */
  peek(key: K): V | undefined {
    return this.#entries.get(key)?.value;
  }

  /** Sets the value of a key, in place of any earlier one, and drops what was used least recently until the limit holds. */
  set(key: K, value: V, weight = 1): void {
    this.delete(key);
    if (weight > this.#limit && !this.#keepsNewest) return;
    this.#entries.set(key, { value, weight });
    this.#weight += weight;
    for (const oldest of this.#entries.keys()) {
      if (this.#weight <= this.#limit || oldest === key) break;
      this.delete(oldest);
    }
  }

  delete(key: K): boolean {
    const found = this.#entries.get(key);
    if (found === undefined) return false;
    this.#weight -= found.weight;
    return this.#entries.delete(key);
  }
}
