import { describe, expect, test } from 'vitest';
import { entryKey, VERIFIED_LOG_KEY } from '../../../src/repository/format/object-keys.ts';
import type { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { errorOf } from '../../volume/support/bytes.ts';
import { createIn, notedTarget, openIn, openVolume, writeBlock } from '../support/repositories.ts';

const BACKUPS = 30;
const ENTRIES = 2 * BACKUPS;
const FRACTION = 0.1;

async function filled(isEncrypted: boolean) {
  const { target, calls } = notedTarget();
  const repository = await createIn(target, isEncrypted);
  const { volume } = await openVolume(8);
  for (let i = 0; i < BACKUPS; i++) {
    await writeBlock(volume, i % 8);
    await repository.backup(volume, { volume: 'a' });
  }
  const verify = async () => {
    calls.length = 0;
    const result = await repository.verify({ depth: 'data', fraction: FRACTION });
    expect(result.ok).toBe(true);
    // Without the look at the number that comes next.
    const next = `get ${entryKey(repository.position.seq + 1)}`;
    return new Set(calls.filter((call) => call.startsWith('get log/') && !call.endsWith('-c') && call !== next));
  };
  return { target, repository, volume, verify };
}

describe.each([{ isEncrypted: false }, { isEncrypted: true }])('encrypted: $isEncrypted', ({ isEncrypted }) => {
  test('a verification of a part reads the log once, and then what is new and a part of what is old', async () => {
    const { repository, volume, verify } = await filled(isEncrypted);
    expect((await verify()).size).toBe(ENTRIES);
    const read = new Set<string>();
    const rounds = Math.ceil(1 / FRACTION) + 1;
    for (let round = 0; round < rounds; round++) {
      const entries = await verify();
      expect(entries.size).toBeLessThanOrEqual(FRACTION * ENTRIES + 4);
      for (const entry of entries) read.add(entry);
    }
    expect(read.size).toBeGreaterThanOrEqual(ENTRIES); // In turn, all of it.
    for (let i = 0; i < 5; i++) await repository.backup(volume, { volume: 'a' });
    const newest = [...(await verify())].filter((call) => !read.has(call));
    expect(newest.length).toBeGreaterThanOrEqual(10);
  });

  test('what has rotted of what is old is found when its turn comes', async () => {
    for (const damage of ['flipped', 'deleted'] as const) {
      const { target, verify } = await filled(isEncrypted);
      await verify();
      const key = entryKey(35);
      const bytes = await target.get(key);
      if (damage === 'deleted') await target.delete(key);
      else
        await target.put(
          key,
          Uint8Array.from(bytes, (byte, at) => (at === 40 ? byte ^ 1 : byte)),
        );
      const outcomes: unknown[] = [];
      for (let round = 0; round <= 1 / FRACTION; round++) {
        outcomes.push(
          await verify().then(
            () => 'ok',
            (error: { code: string }) => error.code,
          ),
        );
      }
      expect(outcomes.at(-1)).toBe(damage === 'deleted' ? 'LOG_TRUNCATED' : 'LOG_CORRUPT');
    }
  });

  test('a mark of another log, or a damaged one, counts as none', async () => {
    const { target, verify } = await filled(isEncrypted);
    await verify();
    const mark = await target.get(VERIFIED_LOG_KEY);
    await target.put(
      VERIFIED_LOG_KEY,
      Uint8Array.from(mark, (byte, at) => (at === 20 ? byte ^ 1 : byte)),
    );
    expect((await verify()).size).toBe(ENTRIES);
    const other = await filled(isEncrypted);
    await other.verify();
    await target.put(VERIFIED_LOG_KEY, Uint8Array.from(await other.target.get(VERIFIED_LOG_KEY)));
    expect((await verify()).size).toBe(ENTRIES);
  });
});

test('a verification of everything reads all of the log', async () => {
  const { target, repository } = await filled(false);
  await repository.verify({ depth: 'data', fraction: FRACTION });
  await target.delete(entryKey(7));
  await errorOf(repository.verify({ depth: 'structure' }), 'LOG_TRUNCATED');
  expect(await openIn(target as MemoryTarget)).toBeDefined(); // Opening needs no old entry.
});
