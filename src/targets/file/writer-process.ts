import { createHash } from 'node:crypto';
import { readlinkSync } from 'node:fs';
import { bootId, startOf } from '../../common/process-start.ts';

/**
 * Which process an unfinished file belongs to, so that another one can say for certain that its writer is dead.
 *
 * On Linux: the boot, the namespace of process ids, the id, and when that process began. A process of the same boot and
 * namespace can be looked up, and one that began at another time is another process. Of writers on other machines, in
 * other containers and on other systems nothing is known.
 */
export interface WriterProcess {
  /** Boot and namespace, 16 hex digits. */
  readonly place: string;
  readonly pid: number;
  /** In clock ticks since the boot. */
  readonly startedAt: string;
}

let own: WriterProcess | undefined | null = null;

/** This process, undefined where the system does not say enough. */
export function writerProcess(): WriterProcess | undefined {
  if (own === null) own = describeOwn();
  return own;
}

/** Whether a process runs: undefined where that can't be known from here. */
export function isRunning(writer: WriterProcess): boolean | undefined {
  if (writerProcess()?.place !== writer.place) return undefined;
  return startOf(writer.pid) === writer.startedAt;
}

function describeOwn(): WriterProcess | undefined {
  const [boot, startedAt] = [bootId(), startOf(process.pid)];
  if (boot === undefined || startedAt === undefined) return undefined;
  try {
    const place = createHash('sha256')
      .update(`${boot} ${readlinkSync('/proc/self/ns/pid')}`)
      .digest('hex')
      .slice(0, 16);
    return { place, pid: process.pid, startedAt };
  } catch {
    return undefined; // A system that hides it.
  }
}
