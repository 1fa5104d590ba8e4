import { type Steps, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { EncodedRecord } from './entry-columns.ts';
import { Bitmap } from './entry-table.ts';
import type { MapGeometry } from './map-geometry.ts';
import { PackList, PackListBuilder } from './pack-list.ts';
import type { Location, PackName } from './record.ts';
import {
  CHECK_BYTES,
  checkLocationPart,
  codecOf,
  LOCATION_BYTES,
  locationFault,
  mapCorrupt,
  sealLocationPart,
  storedLengthOf,
  storedWord,
  viewOf,
} from './record-parts.ts';

/** An inner node: `docs/FORMAT.md`, section 7. */

const CHILD_BYTES = LOCATION_BYTES + 4;
const USAGE_BYTES = 6;
/** Each may name as many packs as a leaf has blocks. */
const CHILDREN_AT_ONCE = 8;

/** How much of a pack something needs, in stored bytes. */
export interface PackBytes {
  readonly pack: PackName;
  readonly bytes: number;
}

/** A child: its id and its location. */
export interface NodeRef {
  readonly id: Uint8Array;
  readonly location: Location;
  /** Leaves only: the stored bytes of its blocks, by pack. */
  readonly usage: readonly PackBytes[] | undefined;
}

/** A node, kept as the bytes that were read. */
export class InnerNode {
  readonly level: number;
  readonly identityLength: number;
  readonly #fanOut: number;
  readonly #raw: Uint8Array;
  readonly #view: DataView;
  readonly #bitmap: Bitmap;
  readonly #idsAt: number;
  readonly #packs: PackList;
  readonly #locationsAt: number;
  /** Where the usage of each child that is present begins; level 1 only. */
  readonly #usageAt: Uint32Array;

  /** @throws `MAP_CORRUPT` */
  constructor(raw: Uint8Array, level: number, index: number, geometry: MapGeometry) {
    this.level = level;
    this.#fanOut = geometry.fanOut;
    this.#raw = raw;
    this.#view = viewOf(raw);
    this.#idsAt = 1 + geometry.fanOut / 8;
    if (raw.length < this.#idsAt) throw mapCorrupt('a node is too short');
    if (raw[0] !== level) throw mapCorrupt(`a node of level ${raw[0]} where one of level ${level} should be`);
    this.#bitmap = new Bitmap(raw.subarray(1, this.#idsAt), geometry.slots(level, index));
    const { present } = this.#bitmap;
    if (present === 0) throw mapCorrupt('an empty node');
    this.identityLength = this.#idsAt + present * 32;
    const end = checkLocationPart(raw, this.#view, this.identityLength);
    this.#packs = new PackList(raw, this.#view, this.identityLength);
    this.#locationsAt = this.identityLength + this.#packs.byteLength;
    const usageAt = this.#locationsAt + present * CHILD_BYTES;
    if (usageAt > end) throw mapCorrupt('a node is too short');
    for (let rank = 0; rank < present; rank++) this.#checkLocation(rank, geometry.maxNodeBytes(level - 1));
    this.#usageAt = new Uint32Array(level === 1 ? present : 0);
    if (this.#checkUsage(usageAt, end, geometry.fanOut) !== end) throw mapCorrupt('a node has not its length');
    this.#packs.checkAllNamed();
  }

  /** The child in a slot, its id a view of this record. */
  child(slot: number): NodeRef | undefined {
    if (!this.#bitmap.has(slot)) return undefined;
    const rank = this.#bitmap.rank(slot);
    const at = this.#locationsAt + rank * CHILD_BYTES;
    const word = this.#view.getUint32(at + 6, true);
    return {
      id: this.#raw.subarray(this.#idsAt + rank * 32, this.#idsAt + rank * 32 + 32),
      location: {
        pack: this.#packs.name(this.#view.getUint16(at, true)),
        offset: this.#view.getUint32(at + 2, true),
        storedLength: storedLengthOf(word),
        codec: codecOf(word),
        rawLength: this.#view.getUint32(at + 10, true),
      },
      usage: this.level === 1 ? this.#usage(rank) : undefined,
    };
  }

  /** The children of all slots: they may name some 60,000 packs, so others run in between. */
  async children(): Promise<(NodeRef | undefined)[]> {
    const children: (NodeRef | undefined)[] = [];
    for (let slot = 0; slot < this.#fanOut; slot++) {
      if (slot % CHILDREN_AT_ONCE === 0) await yieldToEventLoop();
      children.push(this.child(slot));
    }
    return children;
  }

  #usage(rank: number): PackBytes[] {
    let at = this.#usageAt[rank] as number;
    const count = this.#view.getUint16(at, true);
    at += 2;
    const usage: PackBytes[] = [];
    for (let i = 0; i < count; i++, at += USAGE_BYTES) {
      const pack = this.#packs.name(this.#view.getUint16(at, true));
      usage.push({ pack, bytes: this.#view.getUint32(at + 2, true) });
    }
    return usage;
  }

  #checkLocation(rank: number, maxRawLength: number): void {
    const at = this.#locationsAt + rank * CHILD_BYTES;
    this.#packs.check(this.#view.getUint16(at, true));
    const rawLength = this.#view.getUint32(at + 10, true);
    if (rawLength > maxRawLength) throw mapCorrupt(`no node has ${rawLength} bytes`);
    const word = this.#view.getUint32(at + 6, true);
    const fault = locationFault(this.#view.getUint32(at + 2, true), storedLengthOf(word), codecOf(word), rawLength);
    if (fault !== undefined) throw mapCorrupt(fault);
  }

  /** Returns where the usage ends. */
  #checkUsage(start: number, end: number, fanOut: number): number {
    let at = start;
    for (let rank = 0; rank < this.#usageAt.length; rank++) {
      this.#usageAt[rank] = at;
      if (at + 2 > end) throw mapCorrupt('a node is too short');
      const count = this.#view.getUint16(at, true);
      at += 2;
      // Every leaf has content, and no more packs than blocks.
      if (count < 1 || count > fanOut || at + count * USAGE_BYTES > end)
        throw mapCorrupt('a usage of packs is not valid');
      for (let i = 0; i < count; i++, at += USAGE_BYTES) this.#packs.check(this.#view.getUint16(at, true));
    }
    return at;
  }
}

/** Encodes a node from its children by slot; those of level 1 have their usage, and may name some 60,000 packs. */
export function* encodingInnerNode(level: number, children: readonly (NodeRef | undefined)[]): Steps<EncodedRecord> {
  const present = children.filter((child) => child !== undefined);
  const usages = level === 1 ? present.map(({ usage }) => usage as readonly PackBytes[]) : [];
  const packs = new PackListBuilder();
  for (const { location } of present) packs.index(location.pack);
  let usageBytes = 0;
  for (const usage of usages) {
    for (const { pack } of usage) packs.index(pack);
    usageBytes += 2 + usage.length * USAGE_BYTES;
    yield;
  }
  const idsAt = 1 + children.length / 8;
  const identityLength = idsAt + present.length * 32;
  const locationsBytes = present.length * CHILD_BYTES;
  const raw = new Uint8Array(identityLength + packs.byteLength + locationsBytes + usageBytes + CHECK_BYTES);
  const view = viewOf(raw);
  raw[0] = level;
  for (let slot = 0; slot < children.length; slot++) {
    if (children[slot] !== undefined) raw[1 + (slot >> 3)]! |= 1 << (slot & 7);
  }
  let at = yield* packs.writing(raw, view, identityLength);
  for (const [rank, { id, location }] of present.entries()) {
    raw.set(id, idsAt + rank * 32);
    view.setUint16(at, packs.index(location.pack), true);
    view.setUint32(at + 2, location.offset, true);
    view.setUint32(at + 6, storedWord(location), true);
    view.setUint32(at + 10, location.rawLength, true);
    at += CHILD_BYTES;
  }
  for (const usage of usages) {
    view.setUint16(at, usage.length, true);
    at += 2;
    for (const { pack, bytes } of usage) {
      view.setUint16(at, packs.index(pack), true);
      view.setUint32(at + 2, bytes, true);
      at += USAGE_BYTES;
    }
    yield;
  }
  sealLocationPart(raw, view, identityLength);
  return { raw, identityLength };
}
