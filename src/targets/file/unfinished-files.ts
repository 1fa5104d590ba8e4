import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { AbortOptions } from '../../common/abort.ts';
import { isMissing, systemCode } from '../../common/system-errors.ts';
import type { Leftovers } from '../cloud-target.ts';
import { discard } from './durable-file.ts';
import { isRunning, writerProcess } from './writer-process.ts';

/**
 * The files of puts that are not finished. Their names tell the process that writes them:
 * `put-<place>-<pid>-<started>-<random>`, or `put-<random>` where the system does not say enough.
 *
 * A file is left over when its process is known to be dead. Where that can't be known, it is taken for left over after an
 * age, measured against the time of a file that is written at that moment: both times are the store's. A living writer
 * that was held up for longer than that loses nothing: its put finds the file gone and writes it again.
 */
const UNFINISHED = /^put-(?:([0-9a-f]{16})-(\d+)-(\d+)-)?[0-9a-f]{32}$/;

/** The name for a file of a put by this process. */
export function unfinishedName(): string {
  const writer = writerProcess();
  const process = writer === undefined ? '' : `${writer.place}-${writer.pid}-${writer.startedAt}-`;
  return `put-${process}${randomBytes(16).toString('hex')}`;
}

/** What is removed, and what is only counted. */
export interface RemoveUnfinishedOptions extends AbortOptions {
  readonly olderThanMs: number;
  readonly dryRun: boolean;
}

/** Removes what is left over in the folder of unfinished files, which need not be there. */
export async function removeUnfinished(folder: string, options: RemoveUnfinishedOptions): Promise<Leftovers> {
  let [count, bytes] = [0, 0];
  let now: number | undefined;
  for (const name of await namesIn(folder)) {
    options.signal?.throwIfAborted();
    const match = UNFINISHED.exec(name);
    if (match === null) continue;
    const path = join(folder, name);
    const info = await infoOf(path);
    if (!info?.isFile()) continue;
    const [, place, pid, startedAt] = match;
    const isAlive =
      place === undefined ? undefined : isRunning({ place, pid: Number(pid), startedAt: String(startedAt) });
    if (isAlive === true) continue;
    if (isAlive === undefined && options.olderThanMs > 0) {
      // Nothing may be written in a dry run: it goes by this machine's clock.
      now ??= options.dryRun ? Date.now() : await timeOrNone(folder);
      if (now === undefined || now - info.mtimeMs < options.olderThanMs) continue;
    }
    if (!options.dryRun) await discard(path);
    count++;
    bytes += info.size;
  }
  return { count, bytes };
}

/** On a disk that is full nothing can be written to learn the time; what is certain is removed all the same. */
async function timeOrNone(folder: string): Promise<number | undefined> {
  return storeTimeIn(folder).catch((error: unknown) => {
    if (['ENOSPC', 'EDQUOT'].includes(systemCode(error) ?? '')) return undefined;
    throw error;
  });
}

/** The time that the file system gives to a file that is made now. */
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

async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
}

async function infoOf(path: string): Promise<Stats | undefined> {
  return lstat(path).catch((error: unknown) => {
    if (isMissing(error)) return undefined;
    throw error;
  });
}
