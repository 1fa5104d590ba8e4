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
import { forEachConcurrently } from '../../common/map-concurrently.ts';
import { report } from '../../common/report.ts';
import type { CloudTarget, ObjectInfo } from '../cloud-target.ts';
import { checkKey } from '../keys.ts';

/** Options of {@link FanOut.synchronize}. @public */
export interface SynchronizeOptions extends AbortOptions {
  /**
   * Delete objects from the replicas that the primary does not have, because the replicas missed their deletion. Each object is
   * looked up on the primary once more before it is deleted. @defaultValue false
   */
  deleteExtras?: boolean | undefined;
  /**
   * Keys of objects that are copied even if the replicas have them in the same length, such as those that `verify` has found
   * damaged on a replica. @defaultValue none
   */
  recopy?: readonly string[] | undefined;
  /** The number of objects that are copied at once, from 1. Each is in memory as a whole. @defaultValue 4 */
  concurrency?: number | undefined;
  /** Called after each object that was copied. */
  onProgress?: ((progress: SynchronizeProgress) => void) | undefined;
}

/** The progress of {@link FanOut.synchronize}. @public */
export interface SynchronizeProgress {
  /** The position in the array of replicas. */
  readonly replica: number;
  /** The number of objects that were copied to this replica so far. */
  readonly copiedObjects: number;
  readonly copiedBytes: number;
}

/** The result of {@link FanOut.synchronize} for one replica. @public */
export interface SynchronizedReplica {
  readonly copiedObjects: number;
  readonly copiedBytes: number;
  /** The number of objects that only the replica has. They were not deleted unless `deleteExtras` was set. */
  readonly extraObjects: number;
  readonly extraBytes: number;
  readonly deletedObjects: number;
}

/** The options with their defaults. */
export type CheckedSynchronizeOptions = ReturnType<typeof checkSynchronizeOptions>;

const KNOWN = { deleteExtras: true, recopy: true, concurrency: true, onProgress: true, signal: true } as const;

/** @throws `TypeError` for an option that is unknown or out of range */
export function checkSynchronizeOptions(options: SynchronizeOptions | undefined) {
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

/** The log of a repository. Its objects refer to other objects and to earlier entries. Newer keys sort first. */
const LOG = 'log/';
/** What the keys of its checkpoints end in. In single-writer mode there may be several of one number. */
const CHECKPOINT = /-c(?:-[0-9a-f]{32})?$/;
/** Other hosts may append to the log meanwhile, so the number of rounds is limited. */
const MAX_ROUNDS = 10;
const MAX_COPIES = 5;

/**
 * Brings one replica up to date. A repository that is opened on the replica meanwhile, or after an abort, is an older state of
 * the primary's and has everything that its log refers to. For this reason the log of the primary is listed first, then all
 * other objects are copied, and then the listed entries, the oldest first. Then the log is listed again, and what is new in it
 * begins another round.
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

  /** @throws `REPLICA_DIVERGED` before anything is changed; what the targets throw */
  async run(): Promise<SynchronizedReplica> {
    const { signal, concurrency } = this.#options;
    let entries = await this.#missingEntries();
    for (let round = 1; ; round++) {
      const extras: ObjectInfo[] = [];
      const missing = objectsApart(this.#primary, this.#replica, extras, signal);
      await forEachConcurrently(missing, (object) => this.#copy(object), concurrency);
      for (const entry of entries) await this.#copy(entry);
      // L20: what a new collection has condemned may be gone before it was copied.
      // @mutation copy-looks-again
      entries = await this.#missingEntries();
      if (entries.length > 0 && round < MAX_ROUNDS) continue;
      const again = this.#options.recopy.map((key) => ({ key, isNew: false }));
      await forEachConcurrently(again, (object) => this.#copy(object), concurrency);
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

  /** The objects of the log that the replica lacks, in the order in which they were written. */
  async #missingEntries(): Promise<MissingObject[]> {
    const { signal } = this.#options;
    const [ours, theirs] = [await listed(this.#primary, signal), await listed(this.#replica, signal)];
    await this.#requireSameLog(ours, theirs);
    const missing: MissingObject[] = [];
    for (const key of ours.keys()) if (!theirs.has(key)) missing.push({ key, isNew: true });
    // An entry comes before the checkpoints of its number.
    const rank = ({ key }: MissingObject) => (CHECKPOINT.test(key) ? 1 : 0);
    return missing.sort((a, b) => compare(numberOf(b.key), numberOf(a.key)) || rank(a) - rank(b));
  }

  /**
   * Throws unless the primary's log continues the replica's. An entry that only the replica has, or another entry under the same
   * key, was not written through this fan-out. Only the host can decide which of the two stores it needs.
   */
  async #requireSameLog(ours: ReadonlyMap<string, number>, theirs: ReadonlyMap<string, number>): Promise<void> {
    const { signal } = this.#options;
    const oldest = [...ours.keys()].at(-1);
    // A log keeps two checkpoints. What is older may be deleted in any order, and its numbers may be taken again.
    const checkpoints = [...ours.keys()].filter((key) => CHECKPOINT.test(key)).map(numberOf);
    const [newest, settled = newest] = new Set(checkpoints);
    const isSettled = (key: string) => settled !== undefined && numberOf(key) >= settled;
    let newestOfBoth: string | undefined;
    for (const [key, size] of theirs) {
      const size0 = ours.get(key);
      if (size0 === undefined) {
        // Older entries may have been deleted from the primary, and newer ones written after it was listed.
        const isOlder = oldest !== undefined && (key > oldest || isSettled(key));
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
      `replica ${this.#index} has an object ${key} that was not written through this fan-out; nothing was changed. ` +
      'Keep the store whose backups you need, and empty the other one before you synchronize again';
    return new BackupError('REPLICA_DIVERGED', message);
  }

  /** Copies an object. Other hosts may change it meanwhile, so the copy is valid if the primary's was the same before and after. */
  async #copy({ key, isNew }: MissingObject): Promise<void> {
    const { signal, onProgress } = this.#options;
    for (let copies = 1; copies <= MAX_COPIES; copies++) {
      signal?.throwIfAborted();
      const before = await this.#primary.stat(key, { signal });
      const body = before && (await bodyOf(this.#primary, key, signal));
      if (before === undefined || body === undefined) {
        if (copies > 1) await this.#deleteExtra(key); // It was copied, and has been deleted from the primary since.
        return;
      }
      if (body.byteLength !== before.size) continue;
      const createOnly = isNew && copies === 1 && this.#replica.capabilities.createOnly;
      try {
        await this.#replica.put(key, body, { createOnly, signal });
      } catch (error) {
        if (!BackupError.is(error, 'OBJECT_EXISTS')) throw error;
        return; // Another put was faster, and is newer.
      }
      if (!isSame(before, await this.#primary.stat(key, { signal }))) continue;
      this.#copiedObjects++;
      this.#copiedBytes += body.byteLength;
      const copied = { copiedObjects: this.#copiedObjects, copiedBytes: this.#copiedBytes };
      report('onProgress', onProgress, { replica: this.#index, ...copied });
      return;
    }
    const message = `object ${key} changes on the primary faster than it can be copied to replica ${this.#index}; try again`;
    throw new BackupError('OBJECT_CONFLICT', message, { retryable: true });
  }

  async #deleteExtra(key: string): Promise<void> {
    const { signal } = this.#options;
    if ((await this.#primary.stat(key, { signal })) !== undefined) return;
    await this.#replica.delete(key, { signal });
    this.#deletedObjects++;
  }
}

/** The sizes of the objects of the log, in key order. */
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
    after.tag === before.tag &&
    Number(after.modifiedAt ?? 0) === Number(before.modifiedAt ?? 0)
  );
}

/** The part of a key of the log that is its number; newer ones are smaller. */
function numberOf(key: string): string {
  return key.split('-', 1)[0] as string;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** An object that a replica lacks, or has in another length. */
interface MissingObject {
  readonly key: string;
  /** Whether the replica has none under this key. */
  readonly isNew: boolean;
}

/**
 * The objects of the primary that a replica lacks, in key order, without those of the log. The listings are read side by side.
 * Objects of the same length are not compared.
 *
 * @param extras - receives the objects that only the replica has
 */
async function* objectsApart(
  primary: CloudTarget,
  replica: CloudTarget,
  extras: ObjectInfo[],
  signal: AbortSignal | undefined,
): AsyncGenerator<MissingObject> {
  const theirs = replica.list('', { signal })[Symbol.asyncIterator]();
  let their = await theirs.next();
  const isTheirsFirst = (key: string | undefined) =>
    !their.done && (key === undefined || (their.value as ObjectInfo).key < key);
  const takeExtra = async () => {
    const info = their.value as ObjectInfo;
    if (!info.key.startsWith(LOG)) extras.push(info);
    their = await theirs.next();
  };
  try {
    for await (const { key, size } of primary.list('', { signal })) {
      while (isTheirsFirst(key)) await takeExtra();
      const info = their.done ? undefined : (their.value as ObjectInfo);
      const isThere = info?.key === key;
      if (isThere) their = await theirs.next();
      const isAlike = isThere && info.size === size;
      if (!isAlike && !key.startsWith(LOG)) yield { key, isNew: !isThere };
    }
    while (isTheirsFirst(undefined)) await takeExtra();
  } finally {
    if (!their.done) await theirs.return?.();
  }
}
