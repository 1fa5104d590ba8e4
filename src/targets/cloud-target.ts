import type { AbortOptions } from '../common/abort.ts';
import type { ByteRange } from '../common/byte-range.ts';

/**
 * The contract of object stores. This folder holds the contract, a target in memory, and helpers that all targets use; `file/` and
 * `s3/` hold targets for a folder and for S3; `decorators/` add retries, limits, replicas, tracing and metering to any target.
 */

/** What a target supports, as data for callers and conformance suites. @public */
export interface TargetCapabilities {
  /**
   * Whether `put` with `createOnly` is atomic. A repository probes this with concurrent puts before it relies on it, because some
   * servers accept the header and ignore it.
   */
  readonly createOnly: boolean;
  /** The largest body that `put` takes, in bytes. If it is absent, there is no relevant limit. */
  readonly maxObjectBytes?: number | undefined;
  /** Whether `stat` returns a `sha256` that the store itself keeps. `list` may return it, too, and often can't. */
  readonly checksums?: boolean | undefined;
  /**
   * Whether the store keeps objects that are deleted or replaced, as a bucket with versioning does, so that a deletion frees no
   * space. A store may show this only in its answers: the value becomes true with the first answer that shows it, so read it after
   * deleting.
   */
  readonly versioned?: boolean | undefined;
  /**
   * Whether an object whose put has resolved survives a loss of power. It is false if the store can't ensure that, such as a file
   * system that can't sync directories, and may become false with the first put. Absent means true.
   */
  readonly durableNames?: boolean | undefined;
}

/** The facts that a store reports about an object. @public */
export interface ObjectInfo {
  readonly key: string;
  /** The size in bytes. */
  readonly size: number;
  /** The time at which the object was last written, by the same clock as {@link CloudTarget.storeTime}. */
  readonly modifiedAt?: Date | undefined;
  /** The SHA-256 of the body as the store keeps it, as 64 lowercase hex digits. */
  readonly sha256?: string | undefined;
  /** The time until which an object lock forbids deletion, by the store's clock. */
  readonly retainUntil?: Date | undefined;
  /**
   * Identifies what is stored under the key: it stays the same as long as the object is not written again, and an object of other
   * bytes under the same key always has another tag. An object of the same bytes may have the same one. Tags can only be compared
   * for equality, and only for one key of one target. Absent if the store gives nothing of the kind.
   */
  readonly tag?: string | undefined;
}

/** What {@link CloudTarget.put} has stored. @public */
export interface StoredObject {
  /** The tag of the object that this put has stored (see {@link ObjectInfo.tag}), if the store says it. */
  readonly tag?: string | undefined;
}

/** What {@link CloudTarget.put} resolves to. A target that knows nothing about what it has stored resolves to nothing. @public */
// biome-ignore lint/suspicious/noConfusingVoidType: `put` of a target that gives no tags may return `Promise<void>`.
export type PutResult = StoredObject | void;

/** Options of {@link CloudTarget.put}. @public */
export interface PutOptions extends AbortOptions {
  /** Fail with `OBJECT_EXISTS` if an object with this key exists. @defaultValue false */
  createOnly?: boolean | undefined;
  /**
   * Called with the number of further bytes of the body that were sent, to report progress. A target need not call it, and counts
   * a body again that it sends again. An error that it throws must not fail the put; the targets of this package turn it into one
   * process warning.
   */
  onSent?: ((bytes: number) => void) | undefined;
}

/** Options of {@link CloudTarget.get}. @public */
export interface GetOptions extends AbortOptions {
  /** Return only these bytes. All of them must exist, else the call rejects with `RANGE_UNSATISFIABLE`. */
  range?: ByteRange | undefined;
  /**
   * Return only bytes of the object that has this tag, else reject with `OBJECT_CHANGED`. The tag must be one that this target has
   * given for this key. An object without a tag never has the one that is asked for.
   */
  ifTag?: string | undefined;
}

/** Options of {@link CloudTarget.list}. @public */
export interface ListOptions extends AbortOptions {
  /** List only keys after this one, which need not exist. */
  after?: string | undefined;
}

/** Options of {@link CloudTarget.removeLeftovers}. @public */
export interface RemoveLeftoversOptions extends AbortOptions {
  /**
   * The age, by the store's clock, from which on an unfinished put counts as left over if it can't be known whether its writer is
   * dead, in milliseconds. @defaultValue 86_400_000, a day
   */
  olderThanMs?: number | undefined;
  /** Count the leftovers without removing them. @defaultValue false */
  dryRun?: boolean | undefined;
}

/** What killed writers have left in a store in addition to its objects. @public */
export interface Leftovers {
  /** The number of unfinished puts. */
  readonly count: number;
  /** The bytes that they take up. */
  readonly bytes: number;
}

/**
 * An object store, reduced to what backups need. Implementations have these obligations:
 *
 * - **Keys** are `/`-separated segments of `a-z 0-9 . _ -`. A segment begins with a letter or a digit, does not end in a dot, and has
 *   at most {@link MAX_KEY_SEGMENT_LENGTH} characters; a key has at most {@link MAX_KEY_LENGTH}. No segment is a name that Windows
 *   takes for a device, alone or before a dot: `con`, `prn`, `aux`, `nul`, `com0` to `com9`, `lpt0` to `lpt9`. Other keys are
 *   refused with `INVALID_KEY`. Every key is therefore a path in any file system.
 * - **No object is a folder.** If `a/b` is an object, `a` is not, and the reverse; callers ensure this. A target may refuse the
 *   second put with `INVALID_KEY` or store both objects. It does not change the first one.
 * - **Read after write.** Once `put` has resolved, every `get`, `stat` and `list` that begins later sees the whole object. Once
 *   `delete` has resolved, none of them sees it.
 * - **Nothing partly visible.** An object is absent or complete, even if a `put` failed or the process died. A `put` that rejected
 *   may have taken effect, or may take effect later.
 * - **Absent means absent.** `OBJECT_NOT_FOUND` (and `undefined` from `stat`) is the answer only if the store says that the object
 *   does not exist. A refused permission, a missing bucket or a timeout is never "not found".
 * - **Create-only.** Of any number of concurrent `put`s with `createOnly` on one key, at most one ever takes effect. A put of exactly
 *   the bytes that are stored may succeed, so racing writers must put different bytes. `OBJECT_EXISTS` may be about the caller's
 *   own object after a lost answer, so callers read it back before they consider the race lost. A conflict that calls for another
 *   attempt is `OBJECT_CONFLICT` with `retryable`, not `OBJECT_EXISTS`. An adapter never repeats a create-only `put` by itself. If
 *   the store does not support it, `createOnly` rejects with `CREATE_ONLY_UNSUPPORTED`.
 * - **Whole answers.** `get` resolves with all the requested bytes or rejects. An answer that was cut off is an error. The caller may
 *   keep and change the array.
 * - **Buffers.** `body` is never a view of shared memory. `put` does not change it, and the caller does not change it until `put` has
 *   resolved. After a `put` that *rejected*, the caller never uses the buffer again, because an abandoned request may still read it.
 * - **Listings** are complete and in ascending order of key bytes. They hold the objects that existed throughout; objects that are
 *   put or deleted meanwhile may be included or not. A listing is consumed lazily and may be left early.
 * - **Deleting** an object that does not exist succeeds.
 * - **Errors** are `BackupError`s. `retryable` is true exactly for errors that may pass by themselves: `TARGET_UNREACHABLE`,
 *   `TARGET_UNAVAILABLE`, `TARGET_THROTTLED` (possibly with `retryAfterMs`), `TARGET_TIMEOUT`, `OBJECT_CONFLICT`,
 *   `CHECKSUM_MISMATCH`. All others are final. Neither an error nor its cause holds a credential.
 * - **Time.** `modifiedAt` and `storeTime` come from one clock, that of the store.
 * - **Tags** are optional. `put`, `stat` and `list` may each leave them out; those that they give for one object are the same. Bytes
 *   that were replaced never come back under an old tag: also not if the objects have the same length, were written within one tick
 *   of the clock, or the first one was deleted before the second one was created. A target that gives tags obeys `ifTag`.
 * - **Aborting** rejects promptly with `signal.reason`, even if the store never answers.
 *
 * `targetConformance` in `cow-cloud-backup/testing` checks an adapter against this list.
 *
 * @public
 */
export interface CloudTarget extends AsyncDisposable {
  readonly capabilities: TargetCapabilities;
  /** Stores `body` under `key`, and replaces an earlier object unless `createOnly` is set. May resolve to the tag of the object. */
  put(key: string, body: Uint8Array<ArrayBuffer>, options?: PutOptions): Promise<PutResult>;
  /**
   * Returns the body of an object, or a range of it. Rejects with `OBJECT_NOT_FOUND` if there is no such object, and with
   * `OBJECT_CHANGED` if it is not the one that `ifTag` names.
   */
  get(key: string, options?: GetOptions): Promise<Uint8Array>;
  /** Returns what the store reports about an object; `undefined` if there is no such object. */
  stat(key: string, options?: AbortOptions): Promise<ObjectInfo | undefined>;
  /** Lists all objects whose key begins with `prefix` (any string, which may be empty), in key order. */
  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo>;
  /** Deletes an object. The call succeeds if there is no such object. */
  delete(key: string, options?: AbortOptions): Promise<void>;
  /** Deletes several objects in fewer requests. If one can't be deleted the call rejects; others may have been deleted. */
  deleteMany?(keys: readonly string[], options?: AbortOptions): Promise<void>;
  /**
   * Returns the time of the store's own clock; `undefined` if the store does not provide it. Ages of objects are measured on this
   * clock, because the clocks of two hosts may differ by years. The call may take a request. The time may go backwards (the clock
   * was set, or another server answered), so a negative age counts as 0.
   */
  storeTime?(options?: AbortOptions): Promise<Date | undefined>;
  /**
   * Removes what unfinished puts have left in the store, which is not in any listing. It never removes anything that would make a
   * put fail that is still under way. The method is absent if nothing is ever left.
   */
  removeLeftovers?(options?: RemoveLeftoversOptions): Promise<Leftovers>;
  /**
   * The targets behind this one if it keeps every object in several targets; the first one is the one that decides. `verify` reads
   * each of them.
   */
  readonly members?: readonly TargetMember[] | undefined;
}

/** One of the targets behind a {@link CloudTarget} that keeps every object in several. @public */
export interface TargetMember {
  /** The name of the member in reports, such as `primary` or `replicas[0]`. */
  readonly name: string;
  readonly target: CloudTarget;
}

/** The longest key, in characters. S3 takes 1,024 bytes, including the prefix of the adapter. @public */
export const MAX_KEY_LENGTH = 512;

/** The longest segment of a key, in characters. Encrypted file systems take names of up to 143 bytes. @public */
export const MAX_KEY_SEGMENT_LENGTH = 128;
