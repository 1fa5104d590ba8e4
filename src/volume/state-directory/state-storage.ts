/**
 * Where the state of a volume is kept, so that it outlives the process: its change tracking and, later, its open backups. A host
 * may implement it, as a database does that keeps everything in files of its own; the default is a folder.
 *
 * The obligations:
 *
 * - **One user.** One volume at a time has the storage open. A lock that a dead process does not hold keeps others out.
 * - **Files** have bytes by offset. A file that is written past its end grows.
 * - **Durability.** What was written before `sync` was called survives a loss of power once it has resolved. Before that, each byte
 *   may be old, new or neither. After a `sync` that rejected, nothing is known of the file, and it is not written to again.
 * - **Names.** `rename` replaces at once: a reader finds the old or the new file, also after a loss of power. Creations, renamings and
 *   removals survive a loss of power once `sync` of the storage has resolved.
 * - **Errors** are `BackupError`s that keep their cause.
 *
 * @public
 */
export interface StateStorage extends AsyncDisposable {
  /** For messages. */
  readonly name: string;
  /** The names of all files. */
  list(): Promise<string[]>;
  /** Creates an empty file in place of one of this name, if there is one. */
  create(name: string): Promise<StateFile>;
  /** Opens a file that exists. */
  open(name: string): Promise<StateFile>;
  rename(from: string, to: string): Promise<void>;
  /** Removes a file, if it is there. */
  remove(name: string): Promise<void>;
  /** Makes creations, renamings and removals durable. */
  sync(): Promise<void>;
}

/** A file of a {@link StateStorage}. @public */
export interface StateFile {
  /**
   * What stays the same as long as it is this file, also under another name, and what a copy of it does not have: of a file on a disk its
   * inode and time of creation. If it is absent, a copy of the storage passes for the original.
   */
  readonly identity?: string | undefined;
  /** Bytes. */
  size(): Promise<number>;
  /** Fills `into`. Rejects if the file ends before. */
  read(offset: number, into: Uint8Array): Promise<void>;
  write(offset: number, from: Uint8Array): Promise<void>;
  /** Makes what was written durable. */
  sync(): Promise<void>;
  /** As `write` and `sync`, for a volume with a synchronous door, which needs both. */
  writeSync?(offset: number, from: Uint8Array): void;
  syncSync?(): void;
  close(): Promise<void>;
}
