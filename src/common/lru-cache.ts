/** Keeps the most recently used values whose sizes add up to no more than a limit. */
export class NodeCache<V, K = number> {
  readonly #limitBytes: number;
  /** Least recently used first. */
  readonly #values = new Map<K, { readonly value: V; readonly bytes: number }>();
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get(key: K): V | undefined {
    const found = this.#values.get(key);
    if (found === undefined) return undefined;
    this.#values.delete(key);
    this.#values.set(key, found);
    return found.value;
  }

  /** The key must not be there yet. */
  add(key: K, value: V, bytes: number): void {
    if (bytes > this.#limitBytes) return;
    this.#values.set(key, { value, bytes });
    this.#bytes += bytes;
    for (const [oldest, { bytes: freed }] of this.#values) {
      if (this.#bytes <= this.#limitBytes) break;
      this.#values.delete(oldest);
      this.#bytes -= freed;
    }
  }

  get bytes(): number {
    return this.#bytes;
  }
}
