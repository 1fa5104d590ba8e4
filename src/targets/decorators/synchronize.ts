import type { AbortOptions } from '../../common/abort.ts';
import {
  booleanArgument,
  described,
  functionArgument,
  integerArgument,
  optionsArgument,
  signalArgument,
  textArgument,
} from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { tell } from '../../common/tell.ts';
import type { CloudTarget, ObjectInfo } from '../cloud-target.ts';
import { inParallel } from '../in-parallel.ts';
import { checkKey } from '../keys.ts';
import { type MissingObject, objectsApart } from './objects-apart.ts';

/** Options of {@link FanOut.synchronize}. @public */
export interface SynchronizeOptions extends AbortOptions {
  /**
   * Delete from the replicas what the primary does not have: what they kept when they missed a deletion. Each is looked for
   * on the primary once more before. @defaultValue false
   */
  deleteExtras?: boolean | undefined;
  /**
   * Keys of objects to copy in any case, also where the replicas have them in the same length: what `verify` has found
   * damaged on a replica. @defaultValue none
   */
  recopy?: readonly string[] | undefined;
  /** How many objects are copied at once, from 1. Each is held in memory whole. @defaultValue 4 */
  concurrency?: number | undefined;
  /** Hears of each object that was copied. */
  onProgress?: ((progress: SynchronizeProgress) => void) | undefined;
}

/** How far {@link FanOut.synchronize} has got. @public */
export interface SynchronizeProgress {
  /** Position in the array of replicas. */
  readonly replica: number;
  /** Copied to that replica so far. */
  readonly copiedObjects: number;
  readonly copiedBytes: number;
}

/** What {@link FanOut.synchronize} did to one replica. @public */
export interface SynchronizedReplica {
  readonly copiedObjects: number;
  readonly copiedBytes: number;
  /** Of what the replica has and the primary has not. They are still there unless `deleteExtras` was set. */
  readonly extraObjects: number;
  readonly extraBytes: number;
  readonly deletedObjects: number;
}

/** The options with their defaults. */
export interface CheckedSynchronizeOptions {
  readonly deleteExtras: boolean;
  readonly recopy: readonly string[];
  readonly concurrency: number;
  readonly onProgress: SynchronizeOptions['onProgress'];
  readonly signal: AbortSignal | undefined;
}

const KNOWN = { deleteExtras: true, recopy: true, concurrency: true, onProgress: true, signal: true } as const;

/** @throws `TypeError` for an option that is unknown or out of range */
export function checkSynchronizeOptions(options: SynchronizeOptions | undefined): CheckedSynchronizeOptions {
  const given = optionsArgument('options', options, KNOWN);
  const { deleteExtras = false, recopy = [], concurrency = 4, onProgress, signal } = given;
  if (!Array.isArray(recopy)) throw new TypeError(`options.recopy must be an array of keys, not ${described(recopy)}`);
  if (onProgress !== undefined) functionArgument('options.onProgress', onProgress);
  return {
    deleteExtras: booleanArgument('options.deleteExtras', deleteExtras),
    recopy: recopy.map((key, index) => checkKey(textArgument(`options.recopy[${index}]`, key))),
    concurrency: integerArgument('options.concurrency', concurrency, 1),
    onProgress,
    signal: signalArgument('options.signal', signal),
  };
}

/** What a repository appends to: objects that refer to others, and to those before them. Newer keys sort first. */
const LOG = 'log/';
/** Others may append all the while. */
const MAX_ROUNDS = 10;
const MAX_COPIES = 5;

/**
 * Brings one replica up to date. A repository that is opened on the replica in the middle of it, or after it was ended there,
 * is an older state of the primary's and has all that its log refers to: the names in the log are taken first, then
 * everything else is copied, and then those entries, the oldest first.
 */
export class Synchronization {
  readonly #primary: CloudTarget;
  readonly #replica: CloudTarget;
  readonly #index: number;
  readonly #options: CheckedSynchronizeOptions;
  #copiedObjects = 0;
  #copiedBytes = 0;
  #deletedObjects = 0;

  constructor(primary: CloudTarget, replica: CloudTarget, index: number, options: CheckedSynchronizeOptions) {
    this.#primary = primary;
    this.#replica = replica;
    this.#index = index;
    this.#options = options;
  }

  /** @throws `REPLICA_DIVERGED` before anything is changed; what the targets give */
  async run(): Promise<SynchronizedReplica> {
    const { signal, concurrency } = this.#options;
    for (let round = 1; ; round++) {
      const entries = await this.#missingEntries();
      const extras: ObjectInfo[] = [];
      const missing = objectsApart(this.#primary, this.#replica, { signal, extras, except: LOG });
      await inParallel(missing, concurrency, (object) => this.#copy(object));
      for (const entry of entries) await this.#copy(entry);
      if (entries.length > 0 && round < MAX_ROUNDS) continue;
      const again = this.#options.recopy.map((key) => ({ key, isNew: false }));
      await inParallel(again, concurrency, (object) => this.#copy(object));
      if (this.#options.deleteExtras) for (const { key } of extras) await this.#deleteExtra(key);
      return {
        copiedObjects: this.#copiedObjects,
        copiedBytes: this.#copiedBytes,
        extraObjects: extras.length,
        extraBytes: extras.reduce((sum, { size }) => sum + size, 0),
        deletedObjects: this.#deletedObjects,
      };
    }
  }

  /** What the replica lacks of the log, in the order in which it was written. */
  async #missingEntries(): Promise<MissingObject[]> {
    const { signal } = this.#options;
    const [ours, theirs] = [await listed(this.#primary, signal), await listed(this.#replica, signal)];
    await this.#requireSameLog(ours, theirs);
    const missing: MissingObject[] = [];
    for (const key of ours.keys()) if (!theirs.has(key)) missing.push({ key, isNew: true });
    // An entry before its checkpoint, which has the same number and something after it.
    const numberOf = ({ key }: MissingObject) => key.split('-', 1)[0] as string;
    return missing.sort((a, b) => compare(numberOf(b), numberOf(a)) || compare(a.key, b.key));
  }

  /**
   * The primary's log must go on from the replica's. An entry that only the replica has, or another one under the same key,
   * was not written through here: somebody used the replica by itself. Which of both is right is not for us to say.
   */
  async #requireSameLog(ours: ReadonlyMap<string, number>, theirs: ReadonlyMap<string, number>): Promise<void> {
    const { signal } = this.#options;
    const oldest = [...ours.keys()].at(-1);
    let newestOfBoth: string | undefined;
    for (const [key, size] of theirs) {
      const size0 = ours.get(key);
      if (size0 === undefined) {
        // Older ones may have been deleted from the primary. Others may have been written after it was listed.
        const isOlder = oldest !== undefined && key > oldest;
        if (!isOlder && (await this.#primary.stat(key, { signal })) === undefined) throw this.#diverged(key);
      } else if (size0 !== size) throw this.#diverged(key);
      else newestOfBoth ??= key;
    }
    if (newestOfBoth === undefined) return;
    const bodies = [this.#primary, this.#replica].map((target) => target.get(newestOfBoth, { signal }));
    const [own, other] = (await Promise.all(bodies)) as [Uint8Array, Uint8Array];
    if (Buffer.compare(own, other) !== 0) throw this.#diverged(newestOfBoth);
  }

  #diverged(key: string): BackupError {
    const message =
      `replica ${this.#index} has a ${key} of its own, which was not written through this fan-out; nothing was changed. ` +
      'Keep the store whose backups you need, and empty the other one before you synchronize again';
    return new BackupError('REPLICA_DIVERGED', message);
  }

  /** Others may put and delete the object meanwhile: it is as on the primary when that was the same before and after. */
  async #copy({ key, isNew }: MissingObject): Promise<void> {
    const { signal, onProgress } = this.#options;
    for (let copies = 1; copies <= MAX_COPIES; copies++) {
      signal?.throwIfAborted();
      const before = await this.#primary.stat(key, { signal });
      const body = before && (await bodyOf(this.#primary, key, signal));
      if (before === undefined || body === undefined) {
        if (copies > 1) await this.#deleteExtra(key); // Put by us, and deleted from the primary since.
        return;
      }
      if (body.byteLength !== before.size) continue;
      const createOnly = isNew && copies === 1 && this.#replica.capabilities.createOnly;
      try {
        await this.#replica.put(key, body, { createOnly, signal });
      } catch (error) {
        if (!BackupError.is(error, 'OBJECT_EXISTS')) throw error;
        return; // A put that came meanwhile was faster, and is newer.
      }
      if (!isSame(before, await this.#primary.stat(key, { signal }))) continue;
      this.#copiedObjects++;
      this.#copiedBytes += body.byteLength;
      const copied = { copiedObjects: this.#copiedObjects, copiedBytes: this.#copiedBytes };
      tell('onProgress', onProgress, { replica: this.#index, ...copied });
      return;
    }
    const message = `object ${key} changes on the primary faster than it can be copied to replica ${this.#index}`;
    throw new BackupError('OBJECT_CONFLICT', message, { retryable: true });
  }

  async #deleteExtra(key: string): Promise<void> {
    const { signal } = this.#options;
    if ((await this.#primary.stat(key, { signal })) !== undefined) return;
    await this.#replica.delete(key, { signal });
    this.#deletedObjects++;
  }
}

/** Sizes of the objects of the log, in key order. */
async function listed(target: CloudTarget, signal: AbortSignal | undefined): Promise<Map<string, number>> {
  const sizes = new Map<string, number>();
  for await (const { key, size } of target.list(LOG, { signal })) sizes.set(key, size);
  return sizes;
}

async function bodyOf(
  target: CloudTarget,
  key: string,
  signal: AbortSignal | undefined,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    return new Uint8Array(await target.get(key, { signal }));
  } catch (error) {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return undefined;
    throw error;
  }
}

function isSame(before: ObjectInfo, after: ObjectInfo | undefined): boolean {
  return (
    after !== undefined &&
    after.size === before.size &&
    after.sha256 === before.sha256 &&
    Number(after.modifiedAt ?? 0) === Number(before.modifiedAt ?? 0)
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
