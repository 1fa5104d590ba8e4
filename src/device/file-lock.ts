import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { BackupError } from '../common/errors.ts';
import { systemCode } from '../common/system-errors.ts';
import { ERRNO, systemCalls } from './system-calls.ts';

/**
 * Locks for the exclusive use of a file, which the kernel releases however the process ends.
 *
 * Node has no `flock`. On macOS and the BSDs, `open` itself takes the lock; on Windows the share mode has this effect. On Linux the
 * lock is flock(2), which belongs to the open file description. The optional package `koffi` makes the call. Without it, the program
 * `flock` (util-linux, BusyBox) makes it on a descriptor that it inherits, and this process keeps the lock after the program has
 * ended. Both take the same lock, so they exclude each other, and also containers that share the file.
 */

// <fcntl.h> of macOS and the BSDs; not in `fs.constants`.
const O_SHLOCK = 0x10;
const O_EXLOCK = 0x20;
// libuv's UV_FS_O_EXLOCK for Windows: share mode 0.
const WINDOWS_EXCLUSIVE = 0x10000000;
// <sys/file.h> of Linux.
const LOCK = { shared: 1, exclusive: 2, nonBlocking: 4 } as const;

const BSD: readonly string[] = ['darwin', 'freebsd', 'openbsd', 'netbsd'];

/** The flags to add to `open` on platforms where opening and locking are one step. */
export function lockingOpenFlags(readOnly: boolean): number {
  if (BSD.includes(process.platform)) return (readOnly ? O_SHLOCK : O_EXLOCK) | constants.O_NONBLOCK;
  if (process.platform === 'win32') return readOnly ? 0 : WINDOWS_EXCLUSIVE;
  return 0;
}

/**
 * Takes the lock on an open descriptor, unless opening has done so: a shared one for readers, or else an exclusive one.
 *
 * @throws `DEVICE_BUSY` if another device or program has the lock, `LOCK_UNAVAILABLE` if this system can't take it
 */
export async function lockDescriptor(fd: number, path: string, readOnly: boolean): Promise<void> {
  if (lockingOpenFlags(readOnly) !== 0 || process.platform === 'win32') return;
  const calls = systemCalls();
  if (calls === undefined) return lockByProgram(fd, path, readOnly);
  const result = await calls.flock(fd, (readOnly ? LOCK.shared : LOCK.exclusive) | LOCK.nonBlocking);
  if (result === -ERRNO.EAGAIN) throw busy(path);
  if (result !== 0) throw unavailable(path, `flock(2) failed with error number ${-result}`);
}

async function lockByProgram(fd: number, path: string, readOnly: boolean): Promise<void> {
  const status = await new Promise<number>((resolve, reject) => {
    // The descriptor becomes the program's number 3.
    const program = spawn('flock', [readOnly ? '-s' : '-x', '-n', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] });
    program.once('error', reject);
    program.once('exit', (code, signal) => resolve(code ?? (signal === null ? -1 : -2)));
  }).catch((cause: unknown) => {
    throw unavailable(path, reasonOf(cause), cause);
  });
  if (status === 1) throw busy(path);
  if (status !== 0) throw unavailable(path, `the program "flock" ended with ${status}`);
}

function reasonOf(cause: unknown): string {
  const code = systemCode(cause);
  if (code === 'ENOENT') return 'neither the package koffi nor the program "flock" (package util-linux) is installed';
  if (code === 'ERR_ACCESS_DENIED') {
    return "Node's permission model denies child processes; give --allow-child-process, or install koffi and give --allow-addons";
  }
  return `the program "flock" can't be started (${code})`;
}

function busy(path: string): BackupError {
  return new BackupError('DEVICE_BUSY', `${path} is in use by another device or program; close it there`);
}

function unavailable(path: string, reason: string, cause?: unknown): BackupError {
  const message = `can't lock ${path}: ${reason}; \`shared: true\` opens it without a lock`;
  return new BackupError('LOCK_UNAVAILABLE', message, cause === undefined ? {} : { cause });
}
