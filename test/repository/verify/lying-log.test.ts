import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { decodeCheckpoint, encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import { openObject, sealObject } from '../../../src/repository/format/log-object.ts';
import type { LogState } from '../../../src/repository/format/log-state.ts';
import { checkpointKey, entryKey, parseLogKey, VERIFIED_LOG_KEY } from '../../../src/repository/format/object-keys.ts';
import type { CloudTarget, ListOptions, ObjectInfo } from '../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { entryBody, fieldsOfEntry } from '../format/support/codecs-at-once.ts';
import { createIn, openIn, openVolume, writeBlock } from '../support/repositories.ts';
import { contextOf } from './support/damaging.ts';

async function newestCheckpoint(target: CloudTarget): Promise<number> {
  for await (const { key } of target.list('log/')) {
    const parsed = parseLogKey(key);
    if (parsed?.kind === 'checkpoint') return parsed.seq;
  }
  return expect.fail('there is no checkpoint');
}

/** Tails and checkpoints that say something else than the entries: openings believe them, so a verification must not. */

/** @param multiple - of what the number of the newest entry is to be: 4 gives a tail of three entries */
async function filled(isEncrypted: boolean, backups = 20, multiple = 1) {
  const target = new MemoryTarget();
  await using repository = await createIn(target, isEncrypted);
  const { volume } = await openVolume(8);
  for (let index = 0; index < backups; index++) {
    await writeBlock(volume, index % 8);
    await repository.backup(volume, { volume: 'a' });
  }
  const { keys, log } = await contextOf(target, isEncrypted);
  const nothing = { type: 'keys', added: [], removed: [] } as const;
  while (log.state.seq % multiple !== 0) await log.append(() => nothing);
  return { target, logKey: keys.logKey, newest: log.state.seq };
}

const PARTS = [{ depth: 'structure' }, { depth: 'data', fraction: 0.4 }] as const;

describe.each([false, true])('encrypted: %s', (isEncrypted) => {
  test.each(PARTS)('a tail that hides a backup is found by $depth', async (options) => {
    const { target, logKey, newest } = await filled(isEncrypted, 21, 4);
    const key = entryKey(newest);
    const body = openObject(logKey, 'cow1 log', newest, await target.get(key));
    const fields = fieldsOfEntry(body) as { tail: { type: string; backups: { volume: string }[] }[] };
    const hidden = fields.tail.find(({ type }) => type === 'commit');
    hidden!.backups[0]!.volume = 'another';
    await target.put(key, sealObject(logKey, 'cow1 log', newest, entryBody(fields)));
    await using repository = await openIn(target, isEncrypted, { readOnly: true }).catch(() => undefined);
    // Where the state can't be folded, opening has noticed by itself.
    if (repository === undefined) return;
    const error = await failureOf(repository.verify(options));
    expect(error.code).toBe('LOG_CORRUPT');
    expect(error.message).toContain('tail of entry');
  });

  test.each(PARTS)('a tail with another time is found by $depth', async (options) => {
    const { target, logKey, newest } = await filled(isEncrypted, 21, 4);
    const key = entryKey(newest);
    const body = openObject(logKey, 'cow1 log', newest, await target.get(key));
    const fields = fieldsOfEntry(body) as { tail: { at: number }[] };
    (fields.tail.at(-1) as { at: number }).at = 1;
    await target.put(key, sealObject(logKey, 'cow1 log', newest, entryBody(fields)));
    await using repository = await openIn(target, isEncrypted);
    const error = await failureOf(repository.verify(options));
    expect(error).toMatchObject({ code: 'LOG_CORRUPT' });
    expect(error.message).toContain('tail of entry');
  });

  test.each(PARTS)('a checkpoint that hides a backup is found by $depth', async (options) => {
    const { target, logKey } = await filled(isEncrypted, 35);
    const lies: [string, (state: LogState) => LogState][] = [
      ['a backup less', (state) => ({ ...state, backups: new Map([...state.backups].slice(1)) })],
      ['backups in another order', (state) => ({ ...state, backups: new Map([...state.backups].reverse()) })],
      [
        'a pack less',
        (state) => ({ ...state, quarantined: new Map([['x', { session: 1, random: 'ab'.repeat(16) }]]) }),
      ],
    ];
    const seq = await newestCheckpoint(target);
    const whole = await target.get(checkpointKey(seq));
    for (const [what, lie] of lies) {
      const lying = await encodeCheckpoint(logKey, lie(await decodeCheckpoint(logKey, seq, whole)));
      await target.put(checkpointKey(seq), lying!);
      await target.delete(VERIFIED_LOG_KEY); // Else it may not be its turn.
      await using repository = await openIn(target, isEncrypted);
      const error = await failureOf(repository.verify(options));
      expect(error, what).toMatchObject({ code: 'LOG_CORRUPT' });
      expect(error.message, what).toContain(checkpointKey(seq));
      await target.delete(checkpointKey(seq));
      expect((await repository.verify(options)).ok, what).toBe(true);
    }
  });

  test.each(PARTS)('a checkpoint that cannot be read gets a newer one: $depth', async (options) => {
    const { target } = await filled(isEncrypted, isEncrypted ? 35 : 34);
    const seq = await newestCheckpoint(target);
    await target.put(checkpointKey(seq), Uint8Array.of(1, 2, 3));
    await target.delete(VERIFIED_LOG_KEY);
    await using reader = await openIn(target, isEncrypted, { readOnly: true });
    expect((await reader.verify({ ...options, quarantine: false })).ok).toBe(true);
    expect(await newestCheckpoint(target)).toBe(seq);
    await target.delete(VERIFIED_LOG_KEY);
    await using repository = await openIn(target, isEncrypted);
    expect((await repository.verify(options)).ok).toBe(true);
    expect(await newestCheckpoint(target)).toBe(repository.position.seq);
    expect(repository.position.seq).toBeGreaterThan(seq);
    expect(await target.get(checkpointKey(seq))).toEqual(Uint8Array.of(1, 2, 3));
  });

  test.each(PARTS)('a log that vanishes while it is verified is missed by $depth', async (options) => {
    const target = new VanishingLog(new MemoryTarget());
    await using repository = await createIn(target, isEncrypted);
    await repository.keys.list();
    const { volume } = await openVolume(2);
    const { id } = await repository.backup(volume, { volume: 'a' });
    await repository.forget([id]);
    expect((await repository.verify(options)).ok).toBe(true);
    for (const listings of [0, 1]) {
      target.vanishAfter(listings);
      const error = await failureOf(repository.verify(options));
      expect(['LOG_TRUNCATED', 'REPOSITORY_ROLLED_BACK'], `after ${listings} listings`).toContain(error.code);
      target.vanishAfter(Number.POSITIVE_INFINITY);
    }
  });
});

async function failureOf(promise: Promise<unknown>): Promise<BackupError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!BackupError.is(error)) throw new Error('it should have failed, with a code', { cause: error });
  return error;
}

/** After so many listings of `log/` there is nothing left there. */
class VanishingLog extends ForwardingTarget {
  #left = Number.POSITIVE_INFINITY;

  constructor(inner: MemoryTarget) {
    super(inner, 'this target');
  }

  vanishAfter(listings: number): void {
    this.#left = listings;
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    if (prefix.startsWith('log/') && this.#left-- <= 0) return;
    yield* super.forwardList(prefix, options);
  }
}
