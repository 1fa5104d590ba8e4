/** What was stored, and which way each block went. */
export class Tally {
  interceptedBlocks = 0;
  interceptedBytes = 0;
  sweptBlocks = 0;
  sweptBytes = 0;
  failures = 0;
  readonly #intercepted = new Set<number>();

  get storedBytes(): number {
    return this.interceptedBytes + this.sweptBytes;
  }

  isIntercepted(block: number): boolean {
    return this.#intercepted.has(block);
  }

  stored(block: number, sizeBytes: number, isIntercepted: boolean): void {
    if (isIntercepted) {
      this.#intercepted.add(block);
      this.interceptedBlocks++;
      this.interceptedBytes += sizeBytes;
    } else {
      this.sweptBlocks++;
      this.sweptBytes += sizeBytes;
    }
  }
}
