import { StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import { MAX_SEQ, packKey } from './object-keys.ts';
import type { PackName } from './record.ts';
import { mapCorrupt } from './record-parts.ts';

/**
 * The packs that a record's location part names: u16 number of packs, then u64 session and 16 random bytes for each, each
 * once, in the order in which the rest first refers to them.
 */
export const PACK_NAME_BYTES = 24;

/** A list as it is in a record. A name is decoded when it is first asked for: most never are. */
export class PackList {
  readonly count: number;
  /** Bytes of it in the record. */
  readonly byteLength: number;
  readonly #raw: Uint8Array;
  readonly #view: DataView;
  readonly #at: number;
  readonly #names: (PackName | undefined)[] = [];
  #seen = 0;

  constructor(raw: Uint8Array, view: DataView, at: number) {
    this.#raw = raw;
    this.#view = view;
    this.#at = at + 2;
    this.count = view.getUint16(at, true);
    this.byteLength = 2 + this.count * PACK_NAME_BYTES;
    if (at + this.byteLength > raw.length) throw mapCorrupt('more packs than there are bytes');
    for (let i = 0; i < this.count; i++) {
      const session = this.#session(i);
      if (session < 1 || session > MAX_SEQ) throw mapCorrupt('no such session');
    }
    if (this.count > 1) this.#checkEachOnce();
  }

  /** Compares parts of the names first. Names are random, so equal parts are rare, and whole names are compared only then. */
  #checkEachOnce(): void {
    const parts = new Uint32Array(this.count);
    for (let i = 0; i < this.count; i++) parts[i] = this.#view.getUint32(this.#at + i * PACK_NAME_BYTES + 8, true);
    parts.sort();
    if (!parts.some((part, index) => index > 0 && part === parts[index - 1])) return;
    const bytes = Buffer.from(this.#raw.buffer, this.#raw.byteOffset + this.#at, this.count * PACK_NAME_BYTES);
    const names = new Set<string>();
    for (let at = 0; at < bytes.length; at += PACK_NAME_BYTES) {
      names.add(bytes.toString('latin1', at, at + PACK_NAME_BYTES));
    }
    if (names.size !== this.count) throw mapCorrupt('a pack that is named twice');
  }

  #session(index: number): number {
    const at = this.#at + index * PACK_NAME_BYTES;
    return this.#view.getUint32(at + 4, true) * 2 ** 32 + this.#view.getUint32(at, true);
  }

  name(index: number): PackName {
    const known = this.#names[index];
    if (known !== undefined) return known;
    const at = this.#at + index * PACK_NAME_BYTES;
    const random = Buffer.from(this.#raw.buffer, this.#raw.byteOffset + at + 8, 16).toString('hex');
    const name: PackName = { session: this.#session(index), random };
    this.#names[index] = name;
    return name;
  }

  /** Called by decoders with each index in the order of the bytes. */
  check(index: number): void {
    if (index > this.#seen || index >= this.count) throw mapCorrupt('a pack out of order');
    if (index === this.#seen) this.#seen++;
  }

  /** Called by decoders in the end. */
  checkAllNamed(): void {
    if (this.#seen !== this.count) throw mapCorrupt('a pack that nothing refers to');
  }
}

/** Makes a list while a record is encoded. */
export class PackListBuilder {
  readonly names: PackName[] = [];
  readonly #byObject = new Map<PackName, number>();
  readonly #byText = new Map<string, number>();
  #last: PackName | undefined;
  #lastIndex = 0;

  get byteLength(): number {
    return 2 + this.names.length * PACK_NAME_BYTES;
  }

  index(pack: PackName): number {
    if (pack === this.#last) return this.#lastIndex;
    let index = this.#byObject.get(pack);
    if (index === undefined) {
      const text = packKey(pack);
      index = this.#byText.get(text);
      if (index === undefined) {
        index = this.names.push(pack) - 1;
        this.#byText.set(text, index);
      }
      this.#byObject.set(pack, index);
    }
    this.#last = pack;
    this.#lastIndex = index;
    return index;
  }

  /** Returns where it ends. */
  *writing(raw: Uint8Array, view: DataView, at: number): Steps<number> {
    view.setUint16(at, this.names.length, true);
    const bytes = Buffer.from(raw.buffer, raw.byteOffset, raw.length);
    const steps = new StepCounter();
    let end = at + 2;
    for (const { session, random } of this.names) {
      view.setUint32(end, session % 2 ** 32, true);
      view.setUint32(end + 4, Math.floor(session / 2 ** 32), true);
      bytes.write(random, end + 8, 'hex');
      end += PACK_NAME_BYTES;
      if (steps.isDue()) yield;
    }
    return end;
  }
}
