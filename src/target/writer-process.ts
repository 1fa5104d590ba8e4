import { createHash } from 'node:crypto';
import { readFile, readlink } from 'node:fs/promises';
import { isMissing } from '../common/system-errors.ts';

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

let own: Promise<WriterProcess | undefined> | undefined;

/** This process, undefined where the system does not say enough. */
export function writerProcess(): Promise<WriterProcess | undefined> {
  own ??= describeOwn();
  return own;
}

/** Whether a process runs: undefined where that can't be known from here. */
export async function isRunning(writer: WriterProcess): Promise<boolean | undefined> {
  if ((await writerProcess())?.place !== writer.place) return undefined;
  return (await startOf(String(writer.pid))) === writer.startedAt;
}

async function describeOwn(): Promise<WriterProcess | undefined> {
  if (process.platform !== 'linux') return undefined;
  try {
    const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8');
    const namespace = await readlink('/proc/self/ns/pid');
    const startedAt = await startOf('self');
    if (startedAt === undefined) return undefined;
    const place = createHash('sha256').update(`${boot.trim()} ${namespace}`).digest('hex').slice(0, 16);
    return { place, pid: process.pid, startedAt };
  } catch {
    return undefined; // A system without /proc, or one that hides it.
  }
}

/** Field 22 of proc_pid_stat(5); the second one, the program's name, may hold spaces and brackets. */
async function startOf(pid: string): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}
