import type { BackupErrorCode } from './errors.ts';
import { decodeWalked, notPlain } from './msgpack.ts';
import { keyRefused, type MsgpackHead, MsgpackWalker } from './msgpack-walker.ts';
import type { Steps } from './yield-to-event-loop.ts';

/** The number of bytes that are decoded in one step, which takes well under a millisecond whatever they hold. */
const SLICE_BYTES = 16 * 1024;
/** The most values that one element of a list may hold. They are all in memory before the element is checked. */
const MAX_ELEMENT_VALUES = 2 ** 20;

/**
 * Reads long MessagePack part by part, in short steps, so that a wrong part is refused before the rest is decoded. It refuses
 * what `decodeMsgpack` refuses, and has the same bound on memory.
 */
export class MsgpackReader {
  readonly #bytes: Uint8Array;
  readonly #code: BackupErrorCode;
  readonly #walker: MsgpackWalker;
  #pausedAt = 0;

  /** @param code - the code of the error for bytes that are not plain MessagePack, or not what they are read as */
  constructor(bytes: Uint8Array, code: BackupErrorCode) {
    this.#bytes = bytes;
    this.#code = code;
    this.#walker = new MsgpackWalker(bytes);
  }

  /** Reads a map whose keys differ. `read` is called for each key and takes the value from this reader. */
  *map(read: (key: string) => Steps<void>): Steps<void> {
    const { isMap, values } = this.#enter();
    if (!isMap) throw this.#wrong('not a map');
    yield* this.#eachKey(values, read);
  }

  *#eachKey(values: number, read: (key: string) => Steps<void>): Steps<void> {
    const keys = new Set<string>();
    for (let left = values; left > 0; left -= 2) {
      const [key] = this.#group(1) ?? [];
      if (typeof key !== 'string') throw this.#wrong('a key is not a text');
      if (key === '__proto__') throw notPlain(this.#code, keyRefused(key));
      if (keys.has(key)) throw this.#wrong('a key occurs twice');
      keys.add(key);
      yield* read(key);
    }
    this.#walker.leave();
  }

  /** Reads an array. `take` is called with each element as soon as it is decoded. */
  *list(take: (item: unknown) => Steps<void> | void): Steps<void> {
    const { isMap, values } = this.#enter();
    if (isMap) throw this.#wrong('not an array');
    for (let left = values; left > 0; ) {
      const items = this.#group(left) ?? [yield* this.#longElement()];
      for (const item of items) {
        const steps = take(item);
        if (steps !== undefined) yield* steps;
      }
      left -= items.length;
      yield;
    }
    this.#walker.leave();
  }

  *#longElement(): Steps<unknown> {
    this.#walker.limit(MAX_ELEMENT_VALUES);
    const value = yield* this.value();
    this.#walker.limit(Infinity);
    return value;
  }

  /** Reads a value that is shorter than a step, such as a number or a short text. */
  short(): unknown {
    const values = this.#group(1);
    if (values === undefined) throw this.#wrong('too long a value');
    return values[0];
  }

  /** Reads a map. A value that is longer than a step is an {@link UndecodedArray}, which is decoded by its elements. */
  *fields(): Steps<Record<string, unknown>> {
    const fields: Record<string, unknown> = {};
    yield* this.map((key) => this.#field(key, fields));
    return fields;
  }

  *#field(key: string, fields: Record<string, unknown>): Steps<void> {
    const start = this.#walker.position;
    const values = this.#group(1);
    if (values === undefined) yield* this.skip();
    const undecoded = () => new UndecodedArray(this.#bytes.subarray(start, this.#walker.position), this.#code);
    fields[key] = values === undefined ? undecoded() : values[0];
  }

  /** Reads one value of any kind. */
  *value(): Steps<unknown> {
    if (this.#walker.position - this.#pausedAt >= SLICE_BYTES) {
      this.#pausedAt = this.#walker.position;
      yield;
    }
    const short = this.#group(1);
    if (short !== undefined) return short[0];
    const { isMap, values } = this.#enter();
    if (!isMap) {
      const items: unknown[] = [];
      for (let left = values; left > 0; yield) {
        const group = this.#group(left) ?? [yield* this.value()];
        for (const item of group) items.push(item);
        left -= group.length;
      }
      this.#walker.leave();
      return items;
    }
    const fields: Record<string, unknown> = {};
    yield* this.#eachKey(values, (key) => this.#valueInto(fields, key));
    return fields;
  }

  *#valueInto(fields: Record<string, unknown>, key: string): Steps<void> {
    fields[key] = yield* this.value();
  }

  /** Skips one value without decoding it. */
  *skip(): Steps<void> {
    while (!this.#try(() => this.#walker.over(this.#walker.position + SLICE_BYTES))) yield;
  }

  /** Throws unless all bytes have been read. */
  end(): void {
    if (this.#walker.position !== this.#bytes.length) throw this.#wrong('something follows the value');
  }

  /** Decodes up to `most` values that together are about one slice; `undefined` if the first one alone is longer. */
  #group(most: number): unknown[] | undefined {
    return this.#try(() => {
      const walker = this.#walker;
      const start = walker.position;
      let count = 0;
      while (count < most && walker.position < start + SLICE_BYTES) {
        const mark = walker.mark();
        if (!walker.over(start + SLICE_BYTES)) {
          walker.reset(mark);
          break;
        }
        count++;
      }
      return count === 0 ? undefined : decodeWalked(this.#bytes.subarray(start, walker.position));
    });
  }

  #enter(): MsgpackHead {
    return this.#try(() => this.#walker.enter());
  }

  #try<T>(work: () => T): T {
    try {
      return work();
    } catch (cause) {
      throw notPlain(this.#code, cause);
    }
  }

  #wrong(what: string): Error {
    return notPlain(this.#code, new RangeError(what));
  }
}

/**
 * A value that was skipped. What is wrong with it is found at its first wrong element, and only that has taken memory:
 * values of a hostile writer can take a hundred times their bytes.
 */
export class UndecodedArray {
  readonly #bytes: Uint8Array;
  readonly #code: BackupErrorCode;

  constructor(bytes: Uint8Array, code: BackupErrorCode) {
    this.#bytes = bytes;
    this.#code = code;
  }

  /** Calls `take` with each element. @throws an error with the code of the bytes for a value that is no array */
  each(take: (item: unknown) => Steps<void> | void): Steps<void> {
    return new MsgpackReader(this.#bytes, this.#code).list(take);
  }
}

/** Decodes a map, in steps. See {@link MsgpackReader.fields}. */
export function* decodeFieldsInSteps(bytes: Uint8Array, code: BackupErrorCode): Steps<Record<string, unknown>> {
  const reader = new MsgpackReader(bytes, code);
  const fields = yield* reader.fields();
  reader.end();
  return fields;
}
