import { createHash, randomBytes } from 'node:crypto';
import { lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { bootId, processNamespace, startOf } from '../../common/process-start.ts';
import { orIfMissing, systemCode } from '../../common/system-errors.ts';
import type { Leftovers } from '../cloud-target.ts';
import type { CheckedLeftoversOptions } from '../target-arguments.ts';
import { discard } from './durable-file.ts';

/**
 * The files of unfinished puts. A name identifies the process that writes the file:
 * `put-<namespace>-<pid>-<started>-<random>`, or `put-<random>` if the system does not provide enough.
 *
 * A file is left over if its process is known to be dead. If that can't be known, the file counts as left over from a certain
 * age on, which is measured against the time of a file that is written at that moment, so that both times are the store's. A
 * put of a living writer that was held up for longer than that finds its file gone and writes it again.
 */
const UNFINISHED = /^put-(?:([0-9a-f]{16})-(\d+)-(\d+)-)?[0-9a-f]{32}$/;

/** The name for a file of a put by this process. */
export function unfinishedName(): string {
  const writer = writerProcess();
  const process = writer === undefined ? '' : `${writer.namespace}-${writer.pid}-${writer.startedAt}-`;
  return `put-${process}${randomBytes(16).toString('hex')}`;
}

/** Removes the files that are left over in the folder of unfinished files, if the folder exists. */
export async function removeUnfinished(folder: string, options: CheckedLeftoversOptions): Promise<Leftovers> {
  let [count, bytes] = [0, 0];
  let now: number | undefined;
  for (const name of await orIfMissing(readdir(folder), [])) {
    options.signal?.throwIfAborted();
    const match = UNFINISHED.exec(name);
    if (match === null) continue;
    const path = join(folder, name);
    const info = await orIfMissing(lstat(path), undefined);
    if (!info?.isFile()) continue;
    const [, namespace, pid, startedAt] = match;
    const isAlive = namespace === undefined ? undefined : isRunning(namespace, Number(pid), String(startedAt));
    if (isAlive === true) continue;
    if (isAlive === undefined && options.olderThanMs > 0) {
      // A dry run may not write a file, so it uses this machine's clock.
      now ??= options.dryRun ? Date.now() : await timeOrNone(folder);
      if (now === undefined || now - info.mtimeMs < options.olderThanMs) continue;
    }
    if (!options.dryRun) await discard(path);
    count++;
    bytes += info.size;
  }
  return { count, bytes };
}

/** The store's time; `undefined` on a full disk, where no file can be written. Only files of dead processes are removed then. */
async function timeOrNone(folder: string): Promise<number | undefined> {
  return storeTimeIn(folder).catch((error: unknown) => {
    if (['ENOSPC', 'EDQUOT'].includes(systemCode(error) ?? '')) return undefined;
    throw error;
  });
}

/** The store's time: that of a file that is created now. */
export async function storeTimeIn(folder: string): Promise<number> {
  const path = join(folder, unfinishedName());
  const file = await open(path, 'wx', 0o600);
  try {
    return (await file.stat()).mtimeMs;
  } finally {
    await file.close();
    await discard(path);
  }
}

/**
 * The process that writes an unfinished file, on Linux. A process of the same boot and namespace of process ids can be looked up.
 * Nothing is known about writers on other machines, in other containers and on other systems.
 */
interface WriterProcess {
  /** A hash of the boot and the namespace of process ids, as 16 hex digits. */
  readonly namespace: string;
  readonly pid: number;
  /** The start time in clock ticks since the boot. */
  readonly startedAt: string;
}

let own: WriterProcess | undefined | null = null;

/** This process; `undefined` if the system does not provide enough. */
export function writerProcess(): WriterProcess | undefined {
  if (own === null) own = describeOwn();
  return own;
}

/** Whether a process runs; `undefined` if that can't be known from here. */
function isRunning(namespace: string, pid: number, startedAt: string): boolean | undefined {
  if (writerProcess()?.namespace !== namespace) return undefined;
  return startOf(pid) === startedAt;
}

function describeOwn(): WriterProcess | undefined {
  const [boot, processes, startedAt] = [bootId(), processNamespace(), startOf(process.pid)];
  if (boot === undefined || processes === undefined || startedAt === undefined) return undefined;
  const namespace = createHash('sha256').update(`${boot} ${processes}`).digest('hex').slice(0, 16);
  return { namespace, pid: process.pid, startedAt };
}
