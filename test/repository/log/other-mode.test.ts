import { describe, expect, test } from 'vitest';
import type { RepositoryMode } from '../../../src/repository/format/format-object.ts';
import type { LogFact } from '../../../src/repository/format/log-entry.ts';
import { cataloguePageKey, entryKey, packKey, parseLogKey } from '../../../src/repository/format/object-keys.ts';
import { openLog } from '../../../src/repository/log/open-log.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { host, LOG_KEY, logOf, sourceOf } from './support/hosts.ts';
import { logKeysOf } from './support/pruned-log.ts';
import { verifyLog } from './support/verify-log.ts';

/** Names of entries of the other mode under `log/`: an empty log must not be taken for one, and strays must not lock anybody out. */

const fact: LogFact = { type: 'keys', added: [], removed: [] };
const MODES = ['shared', 'single-writer'] as const;
const otherOf = (mode: RepositoryMode) => MODES.find((each) => each !== mode) as RepositoryMode;
const corrupt = withCode('LOG_CORRUPT');
const cases = MODES.flatMap((mode) =>
  [undefined, LOG_KEY].map((logKey) => ({ mode, logKey, encrypted: logKey !== undefined })),
);

describe.each(cases)('in $mode mode, encrypted: $encrypted,', ({ mode, logKey }) => {
  const source = (target: MemoryTarget) => sourceOf(target, { logKey, mode });
  const hashed = (seq: number) => entryKey(seq, new Uint8Array(32));
  const strayKey = (seq: number) => (mode === 'shared' ? hashed(seq) : entryKey(seq));

  test('a log that has entries of the other mode only is refused, and not taken for an empty one', async () => {
    const target = await logOf([fact, fact], { logKey, mode: otherOf(mode) });
    await expect(openLog(source(target))).rejects.toEqual(corrupt);
    await expect(openLog(source(target))).rejects.toThrow(`says ${mode}`);
    await expect(openLog(source(target), { onDamage: 'read-only' })).rejects.toEqual(corrupt);
    await expect(verifyLog(source(target))).rejects.toEqual(corrupt);
    for (const seq of [1, 2, 3]) await target.put(strayKey(seq + 8), new Uint8Array(9)); // They sort before it.
    await expect(openLog(source(target))).rejects.toEqual(corrupt);
  });

  test.each([packKey({ session: 3, random: '0123456789abcdef'.repeat(2) }), cataloguePageKey(3, new Uint8Array(32))])(
    'a log without entries is truncated where there is an object %s, which is put only after one',
    async (key) => {
      const target = new MemoryTarget();
      // What no repository names so means nothing.
      for (const other of ['packs/readme', 'catalogue/readme']) await target.put(other, new Uint8Array(1));
      expect((await openLog(source(target))).state.seq).toBe(0);
      await target.put(key, new Uint8Array(1));
      for (const onDamage of ['refuse', 'read-only'] as const) {
        await expect(openLog(source(target), { onDamage })).rejects.toEqual(
          expect.objectContaining({ code: 'LOG_TRUNCATED', message: expect.stringContaining(key) }),
        );
      }
    },
  );

  test('objects that have such a name and are no entries mean nothing', async () => {
    const target = await logOf([], {});
    for (let seq = 1; seq < 12; seq++) await target.put(strayKey(seq), new Uint8Array(seq));
    for (const other of ['log/fffffffffffff', 'log/0000000000000', 'log/readme', `${entryKey(3)}-x`]) {
      await target.put(other, new Uint8Array(5));
    }
    expect((await openLog(source(target))).state.seq).toBe(0);
    const writer = await host(target, { logKey, mode });
    await writer.append(() => fact);
    await writer.append(() => fact);
    expect((await openLog(source(target))).state.seq).toBe(2);
    expect((await verifyLog(source(target))).seq).toBe(2);
  });

  test('beside entries of its own mode even real entries of the other one mean nothing', async () => {
    const target = await logOf([fact], { logKey, mode });
    const other = await logOf([fact, fact], { logKey, mode: otherOf(mode) });
    for await (const { key } of other.list('log/')) await target.put(key, Uint8Array.from(await other.get(key)));
    expect((await openLog(source(target))).state.seq).toBe(1);
  });

  test('a checkpoint above the newest entry is refused as a log that was cut, and one that can not be read is not', async () => {
    const target = await logOf(new Array(32).fill(fact), { logKey, mode });
    const isCheckpoint = (key: string) => parseLogKey(key)?.kind === 'checkpoint' && parseLogKey(key)?.seq === 32;
    const checkpoint = (await logKeysOf(target)).find(isCheckpoint) as string;
    const body = Uint8Array.from(await target.get(checkpoint));
    const short = await logOf([fact, fact], { logKey, mode });
    await short.put(checkpoint, body.slice(1));
    expect((await openLog(source(short))).state.seq).toBe(2);
    await short.put(checkpoint, body);
    await expect(openLog(source(short))).rejects.toEqual(withCode('LOG_TRUNCATED'));
    await expect(openLog(source(short), { onDamage: 'read-only' })).rejects.toEqual(withCode('LOG_TRUNCATED'));
    const empty = await logOf([], {});
    await empty.put(checkpoint, body.slice());
    await expect(openLog(source(empty))).rejects.toEqual(withCode('LOG_TRUNCATED'));
  });
});
