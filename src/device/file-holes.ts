import { fstat } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { promisify } from 'node:util';
import { BackupError } from '../common/errors.ts';
import type { Extent } from './block-device.ts';
import { ERRNO, type SystemCalls, systemCalls } from './system-calls.ts';

/**
 * Which parts of an image are holes, as the kernel reports them at that moment: lseek(2) with SEEK_DATA and SEEK_HOLE. Nothing is
 * inferred from sizes, because a file with few blocks may hold data that is not allocated yet.
 *
 * Holes are trusted only on file systems that are known to report data that is written but not yet on disk: ext2 to ext4, XFS,
 * Btrfs and tmpfs. OpenZFS before 2.1.14 and 2.2.2 reported fresh data as a hole, and what is behind FUSE and network file systems
 * is not known. On these, everything counts as data.
 *
 * Callers have to handle writes during the call or after it: a snapshot looks again (rule R4).
 */

/** Values of <linux/magic.h>. */
const TRUSTED: ReadonlySet<number> = new Set([0xef53, 0x58465342, 0x9123683e, 0x01021994]);

// <unistd.h> of Linux.
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** How long synchronous calls may follow each other before the event loop has to turn, in milliseconds. */
const TURN_MS = 4;

/** Runs a call while the descriptor is open, or throws `CLOSED`. The number of a closed descriptor soon belongs to another file. */
export type WhileOpen = <T>(work: () => Promise<T>) => Promise<T>;

/** The calls that find the holes of an open file; `undefined` if they are not available or not to be trusted. */
export async function holeCalls(fd: number): Promise<SystemCalls | undefined> {
  const calls = systemCalls();
  if (calls === undefined) return undefined;
  try {
    if (!(await promisify(fstat)(fd)).isFile()) return undefined; // A block special file is all data.
    // This is the file system of the descriptor, even if another file has the path by now.
    const { type } = await statfs(`/proc/self/fd/${fd}`);
    return TRUSTED.has(type) ? calls : undefined;
  } catch {
    return undefined;
  }
}

/** How long data that was found counts as data, in milliseconds. */
const REMEMBERED_MS = 250;

/**
 * The data that was found last. Code that goes through a file asks range by range, and finding where its data ends may take long: on
 * tmpfs, the kernel looks at every page up to there. If the data has become a hole meanwhile, it is read, and is zeroes. Holes
 * are not remembered, because somebody may write there.
 */
export class FoundData {
  #from = 0;
  #to = 0;
  #since = Number.NEGATIVE_INFINITY;

  note(from: number, to: number): void {
    this.#from = from;
    this.#to = to;
    this.#since = performance.now();
  }

  /** Where the data that is known to be at an offset ends; the offset itself if nothing is known. */
  endAt(offset: number): number {
    const isKnown = offset >= this.#from && offset < this.#to && performance.now() - this.#since < REMEMBERED_MS;
    return isKnown ? this.#to : offset;
  }
}

/** The extents of a range of an open file. */
export async function* holesAndData(
  calls: SystemCalls,
  fd: number,
  whileOpen: WhileOpen,
  offset: number,
  length: number,
  found = new FoundData(),
): AsyncGenerator<Extent, void, undefined> {
  const end = offset + length;
  const seek = seeker(calls, fd, whileOpen);
  for (let at = offset; at < end; ) {
    const known = Math.min(found.endAt(at), end);
    if (known > at) {
      yield { kind: 'data', offset: at, length: known - at };
      at = known;
      continue;
    }
    const data = await seek(at, SEEK_DATA);
    if (data === -ERRNO.ENXIO) {
      // There is no data up to the end of the file. If that is before the end of the range, the file was shortened.
      await requireSize(fd, whileOpen, end);
      yield { kind: 'zero', offset: at, length: end - at };
      return;
    }
    const dataStart = data < at ? at : Math.min(data, end); // After an error nothing is known, so it counts as data.
    if (dataStart > at) yield { kind: 'zero', offset: at, length: dataStart - at };
    if (dataStart === end) return;
    const hole = await seek(dataStart, SEEK_HOLE);
    if (hole > dataStart) found.note(dataStart, hole);
    const dataEnd = hole <= dataStart ? end : Math.min(hole, end);
    yield { kind: 'data', offset: dataStart, length: dataEnd - dataStart };
    at = dataEnd;
  }
}

/** Makes synchronous calls for a few milliseconds, which are many, and then one on a thread, while the event loop turns. */
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
  throw new BackupError(
    'SHORT_READ',
    `the file ends at byte ${size}, before byte ${end}: another program has shortened it while it was open`,
  );
}
