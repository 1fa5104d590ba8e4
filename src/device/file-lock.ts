import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { BackupError } from '../common/errors.ts';

/**
 * Exclusive use of a file, let go by the kernel however the process ends.
 *
 * Node has no `flock`. On macOS and the BSDs `open` itself takes the lock; on Windows the share mode does. On Linux
 * a lock taken with flock(2) belongs to the open file description, so the `flock` program (util-linux, BusyBox) can
 * take it on a descriptor that it inherits from us, and we keep it after the program has ended.
 */

// <fcntl.h> of macOS and the BSDs; not in `fs.constants`.
const O_SHLOCK = 0x10;
const O_EXLOCK = 0x20;
// libuv's UV_FS_O_EXLOCK for Windows: share mode 0.
const WINDOWS_EXCLUSIVE = 0x10000000;

const BSD: readonly string[] = ['darwin', 'freebsd', 'openbsd', 'netbsd'];

/** Flags to add to `open` where opening and locking are one step on this platform. */
export function lockingOpenFlags(readOnly: boolean): number {
  if (BSD.includes(process.platform)) return (readOnly ? O_SHLOCK : O_EXLOCK) | constants.O_NONBLOCK;
  if (process.platform === 'win32') return readOnly ? 0 : WINDOWS_EXCLUSIVE;
  return 0;
}

/**
 * Takes the lock on an open descriptor where opening did not: shared among readers, else exclusive.
 *
 * @throws `DEVICE_BUSY` when somebody else has it, `LOCK_UNAVAILABLE` when it can't be taken here at all
 */
export async function lockDescriptor(fd: number, path: string, readOnly: boolean): Promise<void> {
  if (lockingOpenFlags(readOnly) !== 0 || process.platform === 'win32') return;
  const status = await new Promise<number>((resolve, reject) => {
    // The descriptor becomes the program's number 3.
    const program = spawn('flock', [readOnly ? '-s' : '-x', '-n', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] });
    program.once('error', reject);
    program.once('exit', (code, signal) => resolve(code ?? (signal === null ? -1 : -2)));
  }).catch((cause: unknown) => {
    throw new BackupError(
      'LOCK_UNAVAILABLE',
      `can't lock ${path}: the program "flock" (package util-linux) is not there; install it or open with shared: true`,
      { cause },
    );
  });
  if (status === 1) throw new BackupError('DEVICE_BUSY', `${path} is in use by another device or program`);
  if (status !== 0) {
    throw new BackupError('LOCK_UNAVAILABLE', `can't lock ${path}: flock ended with ${status}; shared: true opens it`);
  }
}
