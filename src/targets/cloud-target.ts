import type { AbortOptions } from '../common/abort.ts';
import type { ByteRange } from '../common/byte-range.ts';

/** What a target can do, as data: callers and conformance suites go by it. @public */
export interface TargetCapabilities {
  /**
   * Whether `put` with `createOnly` really is atomic. A repository probes it, concurrently, before it
   * relies on it: some servers accept the header and ignore it.
   */
  readonly createOnly: boolean;
  /** The largest body that `put` takes, in bytes. Absent: no limit that matters. */
  readonly maxObjectBytes?: number | undefined;
  /** Whether `stat` answers the `sha256` that the store itself keeps of a body. `list` may, and often can't. */
  readonly checksums?: boolean | undefined;
  /**
   * Whether the store keeps what is deleted or replaced, as a bucket with versioning does: a deletion frees nothing then.
   * A store may show it only in its answers, so the value is true from the first answer that shows it on; read it after
   * deleting. Absent or false: nothing of the kind was seen.
   */
  readonly versioned?: boolean | undefined;
  /**
   * Whether an object whose put has resolved is still there after a loss of power. False where the store can't see to it,
   * as a file system that does not sync directories; the value may become false with the first put. Absent: it is.
   */
  readonly durableNames?: boolean | undefined;
}

/** What the store reports about one object. @public */
export interface ObjectInfo {
  readonly key: string;
  /** Bytes. */
  readonly size: number;
  /** When the object was last written, by the same clock as {@link CloudTarget.storeTime}. */
  readonly modifiedAt?: Date | undefined;
  /** SHA-256 of the body as the store keeps it, 64 lowercase hex digits. */
  readonly sha256?: string | undefined;
  /** Until when an object lock forbids deletion, by the store's clock. */
  readonly retainUntil?: Date | undefined;
}

/** Options of {@link CloudTarget.put}. @public */
export interface PutOptions extends AbortOptions {
  /** Fail with `OBJECT_EXISTS` if there is an object under this key. @defaultValue false */
  createOnly?: boolean | undefined;
  /**
   * Called as bytes of the body are sent, each time with the number of further bytes. A target need not call it, and one that
   * sends a body again counts it again: it is for progress only. An error that it throws must not fail the put: the targets of
   * this package turn it into one process warning.
   */
  onSent?: ((bytes: number) => void) | undefined;
}

/** Options of {@link CloudTarget.get}. @public */
export interface GetOptions extends AbortOptions {
  /** Only these bytes. All of them must exist, else `RANGE_UNSATISFIABLE`. */
  range?: ByteRange | undefined;
}

/** Options of {@link CloudTarget.list}. @public */
export interface ListOptions extends AbortOptions {
  /** Only keys after this one, which is itself left out and need not exist. */
  after?: string | undefined;
}

/** Options of {@link CloudTarget.removeLeftovers}. @public */
export interface RemoveLeftoversOptions extends AbortOptions {
  /**
   * How old, by the store's clock, something unfinished must be to count as left over where it can't be known that its
   * writer is dead. In milliseconds. @defaultValue 86_400_000, a day
   */
  olderThanMs?: number | undefined;
  /** Only count. @defaultValue false */
  dryRun?: boolean | undefined;
}

/** What killed writers have left in a store outside of its objects. @public */
export interface Leftovers {
  /** How many unfinished puts. */
  readonly count: number;
  /** Bytes that they take up. */
  readonly bytes: number;
}

/**
 * An object store, reduced to what backups need. Its obligations:
 *
 * - **Keys** are `/`-separated segments of `a-z 0-9 . _ -`, each beginning with a letter or a digit and not ending in a dot,
 *   at most {@link MAX_KEY_SEGMENT_LENGTH} characters in a segment and {@link MAX_KEY_LENGTH} in all. No segment is a name
 *   that Windows takes for a device, alone or before a dot: `con`, `prn`, `aux`, `nul`, `com0` to `com9`, `lpt0` to `lpt9`.
 *   Others are refused with `INVALID_KEY`. So every key is a path in any file system.
 * - **No object is a folder.** Where `a/b` is an object, `a` is none, and the reverse; callers see to it. A target may
 *   refuse the second put with `INVALID_KEY`, and it may store both; the first object stays as it is.
 * - **Read after write.** Once `put` has resolved, every `get`, `stat` and `list` that begins later sees
 *   that object whole; once `delete` has resolved, none does.
 * - **Nothing partly visible.** An object is absent or complete, also when a `put` failed or the process
 *   died. A `put` that rejected may all the same have happened, or happen later.
 * - **Absent means absent.** `OBJECT_NOT_FOUND` (and `undefined` from `stat`) only when the store says that
 *   the object does not exist. A refused permission, a missing bucket or a timeout is never "not found".
 * - **Create-only.** Of any number of concurrent `put`s with `createOnly` on one key at most one ever takes
 *   effect; one with the very bytes that are there may succeed, so racing writers must differ in theirs.
 *   `OBJECT_EXISTS` may be one's own object after a lost answer: read back before believing the race lost. A
 *   conflict that means "again" is `OBJECT_CONFLICT` with `retryable`, not `OBJECT_EXISTS`. An adapter never repeats a
 *   create-only `put` by itself. Where it can't be had, `createOnly` rejects with `CREATE_ONLY_UNSUPPORTED`.
 * - **Whole answers.** `get` resolves with all the bytes asked for or rejects; an answer cut short is an
 *   error. The array is the caller's to keep and to change.
 * - **Buffers.** `put` is given no view of shared memory. It does not change `body`. Until it has resolved the
 *   caller leaves `body` alone; after a *rejected* `put` the caller never uses that buffer again, since an
 *   abandoned request may still be reading it.
 * - **Listing** is complete, in ascending order of key bytes, and holds objects that existed throughout; of
 *   those put or deleted in the meantime it may hold or leave out. It is consumed lazily and may be left early.
 * - **Deleting** is idempotent: an absent object is a success.
 * - **Errors** are `BackupError`s. `retryable` is true exactly for what may pass by itself: `TARGET_UNREACHABLE`,
 *   `TARGET_UNAVAILABLE`, `TARGET_THROTTLED` (perhaps with `retryAfterMs`), `TARGET_TIMEOUT`, `OBJECT_CONFLICT`,
 *   `CHECKSUM_MISMATCH`. All others are final. No error, nor its cause, holds a credential.
 * - **Time.** `modifiedAt` and `storeTime` are of one clock, the store's.
 * - **Aborting** rejects promptly with `signal.reason`, also when the store never answers.
 *
 * `targetConformance` in `cow-cloud-backup/testing` checks an adapter against this list.
 *
 * @public
 */
export interface CloudTarget extends AsyncDisposable {
  readonly capabilities: TargetCapabilities;
  /** Stores `body` under `key`, replacing what was there unless `createOnly` is set. */
  put(key: string, body: Uint8Array<ArrayBuffer>, options?: PutOptions): Promise<void>;
  /** The body of an object, or of a range of it. Rejects with `OBJECT_NOT_FOUND` when there is none. */
  get(key: string, options?: GetOptions): Promise<Uint8Array>;
  /** What the store reports about an object, `undefined` when there is none. */
  stat(key: string, options?: AbortOptions): Promise<ObjectInfo | undefined>;
  /** All objects whose key begins with `prefix` (any string, also `''`), in key order. */
  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo>;
  /** Removes an object; an absent one is a success. */
  delete(key: string, options?: AbortOptions): Promise<void>;
  /** As `delete` for each of `keys`, in fewer requests. Where one fails the call rejects; others may be gone. */
  deleteMany?(keys: readonly string[], options?: AbortOptions): Promise<void>;
  /**
   * What the store's own clock shows now, `undefined` where the store does not say. Ages of objects are measured on this
   * clock: the clocks of two hosts may differ by years. It may take a request. It may run back (the store's clock was
   * set, another server answered), so an age is never less than 0.
   */
  storeTime?(options?: AbortOptions): Promise<Date | undefined>;
  /**
   * Removes what puts that were never finished have left behind in the store, where that is no object and no listing
   * shows it. Never anything that would make a put fail that is still under way. Absent: nothing is ever left.
   */
  removeLeftovers?(options?: RemoveLeftoversOptions): Promise<Leftovers>;
  /**
   * The targets behind this one when it keeps every object in several, the one that decides first. `verify` reads each.
   */
  readonly members?: readonly TargetMember[] | undefined;
}

/** One of the targets behind a {@link CloudTarget} that keeps every object in several. @public */
export interface TargetMember {
  /** Names the member in reports, such as `primary` or `replicas[0]`. */
  readonly name: string;
  readonly target: CloudTarget;
}

/** The longest key that a target must take, in characters. S3 takes 1,024 bytes with the adapter's own prefix. @public */
export const MAX_KEY_LENGTH = 512;

/** The longest segment of a key, in characters. Encrypted file systems take names of 143 bytes. @public */
export const MAX_KEY_SEGMENT_LENGTH = 128;
