import { expect, test } from 'vitest';
import type { CloudTarget } from '../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import { expectSame } from '../volume/support/bytes.ts';
import {
  BLOCK,
  contentOfBackup,
  createIn,
  notedTarget,
  openIn,
  openVolume,
  writeBlock,
} from './support/repositories.ts';

/** Requests are what a store charges for and what a far one makes people wait for. */

/** Counts requests, and the rounds that follow each other: a request that begins while none is open begins a round. */
function inRounds(inner: MemoryTarget): { target: CloudTarget; requests: string[]; rounds: () => number } {
  const requests: string[] = [];
  let rounds = 0;
  let depth = 0;
  /** The round that each open request belongs to ends only when the event loop has turned: answers come together. */
  const pass = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
    requests.push(name);
    if (depth++ === 0) rounds++;
    try {
      await new Promise((resolve) => setTimeout(resolve, 5));
      return await call();
    } finally {
      await new Promise((resolve) => setTimeout(resolve, 5));
      depth--;
    }
  };
  const target = Object.create(inner) as MemoryTarget;
  target.get = (key, options) => pass(`get ${key}`, () => inner.get(key, options));
  target.put = (key, body, options) => pass(`put ${key}`, () => inner.put(key, body, options));
  target.stat = (key, options) => pass(`stat ${key}`, () => inner.stat(key, options));
  target.list = async function* (prefix, options) {
    yield* await pass(`list ${prefix}`, () => Array.fromAsync(inner.list(prefix, options)));
  };
  return { target, requests, rounds: () => rounds };
}

test('opening an encrypted repository of 400 backups takes at most twelve requests in two rounds', {
  timeout: 120_000,
}, async () => {
  const inner = new MemoryTarget();
  const repository = await createIn(inner, true);
  const { device, volume } = await openVolume(30);
  for (let n = 0; n < 400; n++) {
    await writeBlock(volume, n % 30);
    await repository.backup(volume, { volume: `disk ${n % 7}` });
  }
  const { target, requests, rounds } = inRounds(inner);
  const opened = await openIn(target, true);
  // Six, and up to six more for entries since the newest checkpoint.
  expect(requests.length).toBeLessThanOrEqual(12);
  const kinds = new Set(requests.map((request) => request.replace(/[0-9a-f]{13,}/, '#')));
  expect([...kinds].sort()).toEqual([
    'get format',
    'get keys/#',
    'get log/#',
    'get log/#-c',
    'list keys/',
    'list log/',
  ]);
  expect(rounds()).toBe(2);
  const backups = await Array.fromAsync(opened.listBackups());
  expect(backups).toHaveLength(400);
  expectSame(await contentOfBackup(opened, backups[0]!.id), device.bytes);
});

test('a backup of one changed block is four requests, five when a checkpoint is due, also after a reopen', async () => {
  const { target, calls } = notedTarget();
  let repository = await createIn(target, true);
  const { volume } = await openVolume(4000);
  await repository.backup(volume, { volume: 'disk' });
  const counts: number[] = [];
  for (let n = 0; n < 70; n++) {
    if (n % 10 === 0) repository = await openIn(target, true);
    await writeBlock(volume, n * 5 + 1);
    calls.length = 0;
    const { requests, readBytes } = await repository.backup(volume, { volume: 'disk' });
    expect(requests).toBe(calls.length);
    expect(readBytes).toBe(BLOCK);
    const isCheckpointed = calls.some((call) => call.endsWith('-c'));
    counts.push(calls.length - Number(isCheckpointed));
  }
  // Who has just opened the repository has no runs in memory; once in a while there are so many that they are merged.
  expect(counts.filter((count) => count > 4).length).toBeLessThanOrEqual(2);
  expect(Math.max(...counts)).toBeLessThanOrEqual(4 + 8);
});
