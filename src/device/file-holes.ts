import { fstat } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { promisify } from 'node:util';
import { BackupError } from '../common/errors.ts';
import type { Extent } from './block-device.ts';
import { ERRNO, type SystemCalls, systemCalls } from './system-calls.ts';

/**
 * Which parts of an image are holes, as the kernel says at that moment: lseek(2) with SEEK_DATA and SEEK_HOLE. Nothing is
 * inferred from sizes: a file with few blocks may hold data that is not yet allocated.
 *
 * A hole is believed only on file systems that are known to count what is written but not yet on disk as data: ext2 to
 * ext4, XFS, Btrfs and tmpfs. OpenZFS before 2.1.14 and 2.2.2 called fresh data a hole, and of FUSE and network
 * file systems it is not known what stands behind them: there everything is data.
 *
 * What is written while the question is asked, or after it, is the asker's matter: a snapshot looks again (rule R4).
 */

/** <linux/magic.h> */
const TRUSTED: ReadonlySet<number> = new Set([0xef53, 0x58465342, 0x9123683e, 0x01021994]);

// <unistd.h> of Linux.
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** So long a generator may go on without letting the event loop turn. */
const TURN_MS = 4;

/** Runs a call while the descriptor is sure to be open, or throws `CLOSED`: a number that was closed is soon another file's. */
export type WhileOpen = <T>(work: () => Promise<T>) => Promise<T>;

/** The calls to find the holes of an open file, undefined where they can't be made or are not to be believed. */
export async function holeCalls(fd: number): Promise<SystemCalls | undefined> {
  const calls = systemCalls();
  if (calls === undefined) return undefined;
  try {
    if (!(await promisify(fstat)(fd)).isFile()) return undefined; // Of a block special file everything is data.
    // The descriptor's own file system, whatever has the path by now.
    const { type } = await statfs(`/proc/self/fd/${fd}`);
    return TRUSTED.has(type) ? calls : undefined;
  } catch {
    return undefined;
  }
}

/** The extents of a range of an open file. */
export async function* holesAndData(
  calls: SystemCalls,
  fd: number,
  whileOpen: WhileOpen,
  offset: number,
  length: number,
): AsyncGenerator<Extent, void, undefined> {
  const end = offset + length;
  const seek = seeker(calls, fd, whileOpen);
  for (let at = offset; at < end; ) {
    const data = await seek(at, SEEK_DATA);
    if (data === -ERRNO.ENXIO) {
      // No data up to the end of the file, which must not be before the end of the range: then the file was cut.
      await requireSize(fd, whileOpen, end);
      yield { kind: 'zero', offset: at, length: end - at };
      return;
    }
    const dataStart = data < at ? at : Math.min(data, end); // An error: nothing is known, so it is data.
    if (dataStart > at) yield { kind: 'zero', offset: at, length: dataStart - at };
    if (dataStart === end) return;
    const hole = await seek(dataStart, SEEK_HOLE);
    const dataEnd = hole <= dataStart ? end : Math.min(hole, end);
    yield { kind: 'data', offset: dataStart, length: dataEnd - dataStart };
    at = dataEnd;
  }
}

/** Asks at once for a few milliseconds, which is long, and then once on a thread, where the event loop turns. */
function seeker(calls: SystemCalls, fd: number, whileOpen: WhileOpen): (at: number, whence: number) => Promise<number> {
  let since = Number.NEGATIVE_INFINITY;
  return async (at, whence) => {
    if (performance.now() - since < TURN_MS) return whileOpen(async () => calls.lseekSync(fd, at, whence));
    const answer = await whileOpen(() => calls.lseek(fd, at, whence));
    since = performance.now();
    return answer;
  };
}

async function requireSize(fd: number, whileOpen: WhileOpen, end: number): Promise<void> {
  const { size } = await whileOpen(() => promisify(fstat)(fd));
  if (size >= end) return;
  throw new BackupError('SHORT_READ', `the file ends at ${size}, before byte ${end}: it was cut while it was open`);
}
