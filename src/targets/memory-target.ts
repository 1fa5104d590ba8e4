import type { AbortOptions } from '../common/abort.ts';
import { booleanArgument, functionArgument, optionsArgument } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';
import { ownCopy, sha256InSteps } from '../common/long-bytes.ts';
import { runInSteps } from '../common/yield-to-event-loop.ts';
import type {
  CloudTarget,
  GetOptions,
  ListOptions,
  ObjectInfo,
  PutOptions,
  PutResult,
  TargetCapabilities,
} from './cloud-target.ts';
import { checkKey, keyInTheWay } from './keys.ts';
import { Lifetime } from './lifetime.ts';
import { rangeWithin } from './object-range.ts';
import { requireTag } from './tags.ts';
import {
  abortOptions,
  bodyArgument,
  getOptions,
  keysArgument,
  listOptions,
  prefixOfList,
  putOptions,
} from './target-arguments.ts';

/** The number of puts of all instances: what is known of one store in memory must not fit another one that takes its place. */
let puts = 0;

/** Options of {@link MemoryTarget}. @public */
export interface MemoryTargetOptions {
  /** Set it to `false` for a target without create-only puts, which some object stores do not have. @defaultValue true */
  createOnly?: boolean | undefined;
  /** The store's clock, in milliseconds since 1970, for `storeTime` and `modifiedAt`. @defaultValue Date.now */
  now?: (() => number) | undefined;
}

/**
 * Stores objects in memory, for tests and for hosts that need a point in time but no storage.
 *
 * All calls throw `INVALID_KEY`, `CLOSED` and `signal.reason`. `put` with `createOnly` throws `OBJECT_EXISTS` or
 * `CREATE_ONLY_UNSUPPORTED`. `get` throws `OBJECT_NOT_FOUND`, `OBJECT_CHANGED`, `RANGE_UNSATISFIABLE`, and `TypeError` for an
 * invalid range or tag. Every put gives its object a tag that no other object has.
 *
 * @example
 * ```ts
 * const target = new MemoryTarget();
 * await using repository = await BackupRepository.create(target, { encryption: 'none' });
 * await using volume = await CopyOnWriteVolume.open(new MemoryDevice(1024 * 1024));
 * const { id } = await repository.backup(volume, { volume: 'disk' });
 * const copy = new MemoryDevice(volume.size);
 * await repository.restore(id, copy);
 * ```
 *
 * @public
 */
export class MemoryTarget implements CloudTarget {
  readonly capabilities: TargetCapabilities;
  readonly #lifetime = new Lifetime('this MemoryTarget');
  readonly #objects = new Map<string, { readonly body: Uint8Array<ArrayBuffer>; readonly info: ObjectInfo }>();
  /** The number of objects below each folder, by the beginning of their keys up to a slash. */
  readonly #folders = new Map<string, number>();
  readonly #now: () => number;

  /** @throws `TypeError` for an option that is unknown or of another type. */
  constructor(options: MemoryTargetOptions = {}) {
    const { createOnly = true, now = Date.now } = optionsArgument('options', options, { createOnly: true, now: true });
    this.capabilities = { createOnly: booleanArgument('options.createOnly', createOnly), checksums: true };
    this.#now = functionArgument('options.now', now);
  }

  async put(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions = {}): Promise<PutResult> {
    const { createOnly, onSent, signal } = putOptions(options);
    const given = bodyArgument(body);
    this.#lifetime.check(signal);
    checkKey(key);
    if (createOnly && !this.capabilities.createOnly) {
      throw new BackupError('CREATE_ONLY_UNSUPPORTED', 'this MemoryTarget was made without createOnly');
    }
    const copy = await ownCopy(given);
    const sha256 = Buffer.from(await runInSteps(sha256InSteps(copy))).toString('hex');
    this.#lifetime.check(signal);
    // Nothing is awaited from here to the `set`, which makes the put atomic.
    if (createOnly && this.#objects.has(key)) throw new BackupError('OBJECT_EXISTS', `object ${key} exists`);
    if (!this.#objects.has(key)) this.#count(key);
    const tag = String(++puts);
    const info = { key, size: copy.length, modifiedAt: new Date(this.#now()), sha256, tag };
    this.#objects.set(key, { body: copy, info });
    onSent?.(copy.length);
    return { tag };
  }

  async get(key: string, options: GetOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    const { range, ifTag, signal } = getOptions(options);
    this.#lifetime.check(signal);
    const object = this.#objects.get(checkKey(key));
    if (object === undefined) throw new BackupError('OBJECT_NOT_FOUND', `there is no object ${key}`);
    requireTag(key, object.info.tag, ifTag);
    const { offset, length } = rangeWithin(key, object.body.length, range);
    return ownCopy(object.body.subarray(offset, offset + length));
  }

  async stat(key: string, options: AbortOptions = {}): Promise<ObjectInfo | undefined> {
    this.#lifetime.check(abortOptions(options).signal);
    return this.#objects.get(checkKey(key))?.info;
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo, void, undefined> {
    const { after, signal } = listOptions(options);
    prefixOfList(prefix);
    this.#lifetime.check(signal);
    const keys = [...this.#objects.keys()]
      .filter((key) => key.startsWith(prefix) && (after === undefined || key > after))
      .sort();
    for (const key of keys) {
      const object = this.#objects.get(key);
      if (object !== undefined) yield object.info;
      this.#lifetime.check(signal);
    }
  }

  async delete(key: string, options: AbortOptions = {}): Promise<void> {
    this.#lifetime.check(abortOptions(options).signal);
    this.#delete(checkKey(key));
  }

  async deleteMany(keys: readonly string[], options: AbortOptions = {}): Promise<void> {
    this.#lifetime.check(abortOptions(options).signal);
    for (const key of keysArgument(keys)) checkKey(key);
    for (const key of keys) this.#delete(key);
  }

  async storeTime(options: AbortOptions = {}): Promise<Date> {
    this.#lifetime.check(abortOptions(options).signal);
    return new Date(this.#now());
  }

  /** Deletes all objects and closes the target: later calls reject with `CLOSED`. */
  async close(): Promise<void> {
    this.#lifetime.close();
    this.#objects.clear();
    this.#folders.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Counts a new key, and refuses one that is below an object or above others, so that tests in memory find such keys. */
  #count(key: string): void {
    if (this.#folders.has(key)) throw keyInTheWay(key, 'others begin with it');
    const above = foldersOf(key);
    const object = above.find((folder) => this.#objects.has(folder));
    if (object !== undefined) throw keyInTheWay(key, `${object} is one`);
    for (const folder of above) this.#folders.set(folder, (this.#folders.get(folder) ?? 0) + 1);
  }

  #delete(key: string): void {
    if (!this.#objects.delete(key)) return;
    for (const folder of foldersOf(key)) {
      const left = (this.#folders.get(folder) ?? 0) - 1;
      if (left > 0) this.#folders.set(folder, left);
      else this.#folders.delete(folder);
    }
  }
}

/** The beginnings of a key that end before a slash. */
function foldersOf(key: string): string[] {
  const folders: string[] = [];
  for (let at = key.indexOf('/'); at !== -1; at = key.indexOf('/', at + 1)) folders.push(key.slice(0, at));
  return folders;
}
