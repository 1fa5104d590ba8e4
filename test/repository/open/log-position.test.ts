import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { entryKey } from '../../../src/repository/format/object-keys.ts';
import type { LogPosition } from '../../../src/repository/log/log-source.ts';
import { formatPosition, parsePosition } from '../../../src/repository/open/log-position.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { openVolume } from '../support/repositories.ts';
import { KINDS, objectsOf, open, openCreating, opened, PLAIN } from './support/creations.ts';

const ZERO = `0-${'00'.repeat(32)}`;

test('a position goes into text and back', () => {
  const hash = Uint8Array.from({ length: 32 }, (_, index) => index * 8);
  for (const seq of [0, 1, 2 ** 52 - 2]) {
    const text = formatPosition({ seq, hash });
    expect(text).toMatch(/^[0-9]+-[0-9a-f]{64}$/);
    expect(parsePosition(text)).toEqual({ seq, hash });
    expect(parsePosition(` ${text}\r\n`)).toEqual({ seq, hash });
  }
});

const POSITION = { seq: 1, hash: new Uint8Array(32) };
test.each<[string, unknown]>([
  ['null', null],
  ['an empty object', {}],
  ['JSON text', JSON.stringify(POSITION)],
  ['what JSON makes of it', JSON.parse(JSON.stringify(POSITION))],
  ['an empty text', ''],
  ['a text that is cut', ZERO.slice(0, -1)],
  ['a text of a number that no entry has', ZERO.replace('0-', `${2 ** 52}-`)],
  ['a number', 7],
  ['a map', new Map(Object.entries(POSITION))],
  ['a list', [1, new Uint8Array(32)]],
  ['a negative number', { ...POSITION, seq: -1 }],
  ['half a number', { ...POSITION, seq: 0.5 }],
  ['a hash in hex', { ...POSITION, hash: '00'.repeat(32) }],
  ['a hash that is cut', { ...POSITION, hash: new Uint8Array(31) }],
  ['a hash of another view', { ...POSITION, hash: new Uint16Array(32) }],
  ['one with more to it', { ...POSITION, sequence: 1 }],
])('%s is no position: a TypeError that names the argument, before any request', async (_what, value) => {
  const target = new MemoryTarget();
  await target.close();
  const opening = open(target, { remembered: value as LogPosition });
  await expect(opening).rejects.toThrow(expect.objectContaining({ name: 'TypeError' }));
  await expect(opening).rejects.toThrow(/^remembered/);
  if (typeof value !== 'string') expect(() => formatPosition(value as LogPosition)).toThrow(TypeError);
  expect(() => parsePosition(value as string)).toThrow(TypeError);
});

test('a position of another realm is as good', () => {
  const position = runInNewContext('({ seq: 3, hash: new Uint8Array(32) })') as LogPosition;
  expect(formatPosition(position)).toBe(ZERO.replace('0-', '3-'));
});

test.each(KINDS)('$name: a repository opens where this host left it, given as an object or as text', async (kind) => {
  const target = new MemoryTarget();
  (await openCreating(target, kind)).context.keys.wipe();
  await using repository = await opened(target, kind);
  const old = await objectsOf(target);
  const { volume } = await openVolume(3);
  await repository.backup(volume, { volume: 'disk' });
  const { position } = repository;
  for (const remembered of [position, formatPosition(position)]) {
    await using again = await opened(target, kind, { remembered });
    expect(again.position).toEqual(position);
    const older = new MemoryTarget();
    for (const [key, bytes] of old) await older.put(key, Uint8Array.from(bytes));
    await expect(opened(older, kind, { remembered })).rejects.toEqual(withCode('REPOSITORY_ROLLED_BACK'));
  }
});

test('a host that kept its position notices another history after the entry was deleted (L7)', async () => {
  const target = new MemoryTarget();
  (await openCreating(target, PLAIN)).context.keys.wipe();
  await using repository = await opened(target, PLAIN);
  const { volume } = await openVolume(3);
  for (let i = 0; i < 3; i++) await repository.backup(volume, { volume: 'disk' });
  const forked = new MemoryTarget();
  for (const [key, bytes] of await objectsOf(target)) await forked.put(key, Uint8Array.from(bytes));
  for (let i = 0; i < 40; i++) await repository.backup(volume, { volume: 'disk' });
  const { position } = repository;
  expect(parsePosition(formatPosition(position))).toEqual(position);

  // The copy goes on in another way, and in both the entries up to the position are deleted.
  for (const [each, backups] of [
    [target, 20],
    [forked, 60],
  ] as const) {
    await using other = await opened(each, PLAIN);
    for (let i = 0; i < backups; i++) await other.backup(volume, { volume: 'disk' });
    for (let i = 0; i < 3; i++) await other.prune({ graceMs: 0 });
    expect(await each.stat(entryKey(position.seq))).toBeUndefined();
  }
  for (const remembered of [position, formatPosition(position)]) {
    await (await opened(target, PLAIN, { remembered })).close();
    await expect(opened(forked, PLAIN, { remembered })).rejects.toEqual(withCode('REPOSITORY_ROLLED_BACK'));
  }
});

test.each(KINDS)('$name: with a position remembered, a repository that is gone is never made anew', async (kind) => {
  const target = new MemoryTarget();
  const { encryption, singleWriter } = kind;
  for (const remembered of [ZERO, ZERO.replace('0-', '12-'), { seq: 5, hash: new Uint8Array(32) }]) {
    const opening = open(target, { remembered, createIfMissing: { encryption, singleWriter } });
    await expect(opening).rejects.toMatchObject({
      code: 'REPOSITORY_ROLLED_BACK',
      message: expect.stringContaining('the disk is mounted'),
      cause: withCode('REPOSITORY_NOT_FOUND'),
    });
    expect(await objectsOf(target)).toEqual(new Map());
  }
});
