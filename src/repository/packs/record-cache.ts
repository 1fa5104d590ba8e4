import { ownBytes } from '../../common/bytes.ts';
import { LruCache } from '../../common/lru-cache.ts';
import { packKey } from '../format/object-keys.ts';
import type { Location, RecordKind } from '../format/record.ts';

/** What is held for each record besides its bytes, roughly. */
const OVERHEAD_BYTES = 400;

interface Kept {
  readonly kind: RecordKind;
  readonly id: Uint8Array;
  readonly raw: Uint8Array;
}

/**
 * Raw records of maps by their place. Not by their id: that does not cover where a node says things are, and two nodes of
 * one id may say different things of which a collector keeps only one.
 */
export class RecordCache {
  readonly #records: LruCache<string, Kept>;

  constructor(limitBytes: number) {
    this.#records = new LruCache(limitBytes);
  }

  get(location: Location): Kept | undefined {
    return this.#records.get(placeKey(location));
  }

  /** @param raw - nobody changes it any more */
  add(kind: RecordKind, id: Uint8Array, location: Location, raw: Uint8Array): void {
    if (this.get(location) !== undefined) return;
    const own = ownBytes(raw);
    this.#records.set(placeKey(location), { kind, id: id.slice(), raw: own }, own.buffer.byteLength + OVERHEAD_BYTES);
  }
}

function placeKey({ pack, offset }: Location): string {
  return `${packKey(pack)}/${offset}`;
}
