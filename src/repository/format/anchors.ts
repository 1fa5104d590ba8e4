/**
 * Hashes of old entries, which the state keeps after the entries themselves were deleted: of the entries k * 2^j the newest
 * eight for each j, the newest entry included. A host that remembers a position recognises its history by them (L7).
 */

/** Bytes of an entry's hash that an anchor has. */
export const ANCHOR_BYTES = 16;
/** For each distance between anchors. */
const OF_EACH = 8;

/** The beginning of the hash of one entry. */
export interface Anchor {
  readonly seq: number;
  readonly hash: Uint8Array;
}

/** The numbers of the anchors of the state through entry `newest`, newest first. */
export function anchorNumbers(newest: number): number[] {
  const numbers = new Set<number>();
  for (let step = 1; step <= newest; step *= 2) {
    const top = newest - (newest % step);
    for (let k = 0; k < OF_EACH && top - k * step > 0; k++) numbers.add(top - k * step);
  }
  return [...numbers].sort((one, other) => other - one);
}

/** The anchors of the state through entry `seq`. @param before - those of the state through the entry below */
export function nextAnchors(before: readonly Anchor[], seq: number, hash: Uint8Array): Anchor[] {
  const own = { seq, hash: Uint8Array.from(hash.subarray(0, ANCHOR_BYTES)) };
  const kept = new Set(anchorNumbers(seq));
  return [own, ...before.filter((anchor) => kept.has(anchor.seq))];
}

/** The anchors in the order of {@link anchorNumbers}, one after another. */
export function anchorBytes(anchors: readonly Anchor[]): Uint8Array {
  const bytes = new Uint8Array(anchors.length * ANCHOR_BYTES);
  for (const [index, { hash }] of anchors.entries()) bytes.set(hash, index * ANCHOR_BYTES);
  return bytes;
}

/** What {@link anchorBytes} has made of the anchors of entry `seq`; `undefined` for bytes of another length or entry. */
export function anchorsIn(bytes: Uint8Array, seq: number, hash: Uint8Array): Anchor[] | undefined {
  const numbers = anchorNumbers(seq);
  if (bytes.length !== numbers.length * ANCHOR_BYTES) return undefined;
  if (seq > 0 && Buffer.compare(bytes.subarray(0, ANCHOR_BYTES), hash.subarray(0, ANCHOR_BYTES)) !== 0)
    return undefined;
  return numbers.map((each, index) => ({
    seq: each,
    hash: Uint8Array.from(bytes.subarray(index * ANCHOR_BYTES, (index + 1) * ANCHOR_BYTES)),
  }));
}

/**
 * Whether two histories are the same as far as their anchors show: the newest number that both have decides, and everything
 * below follows from it. `undefined` if they have none in common.
 */
export function haveSameAnchor(known: readonly Anchor[], found: readonly Anchor[]): boolean | undefined {
  const byNumber = new Map(found.map(({ seq, hash }) => [seq, hash]));
  for (const { seq, hash } of known) {
    const other = byNumber.get(seq);
    if (other !== undefined) return Buffer.compare(hash, other) === 0;
  }
  return undefined;
}
