import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { encodeMsgpack } from '../../../src/common/msgpack.ts';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import type { RepositoryContext } from '../../../src/repository/context/repository-context.ts';
import { checkUnlock, type Unlock } from '../../../src/repository/crypto/unlock.ts';
import type { LogFact } from '../../../src/repository/format/log-entry.ts';
import { FORMAT_KEY, slotKey } from '../../../src/repository/format/object-keys.ts';
import { FEWEST_ENTRIES } from '../../../src/repository/log/checkpoint-due.ts';
import { createRepository } from '../../../src/repository/open/create-repository.ts';
import { addKeySlot, listKeySlots, removeKeySlot } from '../../../src/repository/open/key-slots.ts';
import { openRepository } from '../../../src/repository/open/open-repository.ts';
import { checkTuning } from '../../../src/repository/open/repository-options.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { type FaultRule, scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { seededRandom } from '../../../src/testing/seeded-random.ts';
import { testSeed, times } from '../../support/randomness.ts';
import { withCode } from '../../support/with-code.ts';
import { readMap, sealedSlot, slotBody, withChecksum } from '../format/support/format-text.ts';
import { InterleavingTarget } from '../log/support/interleaving-target.ts';

const ROUNDS = times(20);
const CHEAP = { n: 2, r: 1, p: 1 };

/** A raw key, told apart by its first byte. */
const keyOf = (first: number): { key: Uint8Array } => ({ key: new Uint8Array(32).fill(9).fill(first, 0, 1) });
const FIRST = keyOf(0);

async function created(): Promise<MemoryTarget> {
  const target = new MemoryTarget();
  await createRepository(target, { unlock: checkUnlock(FIRST), singleWriter: false });
  return target;
}

/** A host that has the repository open. */
function admin(target: CloudTarget, unlock: Unlock | undefined = FIRST): Promise<RepositoryContext> {
  return openRepository(target, { unlock }, checkTuning({ threads: 0 }));
}

function faulty(target: CloudTarget, ...rules: FaultRule[]): FaultyTarget {
  return new FaultyTarget(target, scriptedFaults(rules as never));
}

/** Whether this unlocks the repository: a code when not. */
async function outcomeOf(target: CloudTarget, unlock: Unlock): Promise<string> {
  try {
    await admin(target, unlock);
    return 'opens';
  } catch (error) {
    if (BackupError.is(error)) return error.code;
    throw error;
  }
}

async function idsOf(context: RepositoryContext): Promise<string[]> {
  return (await listKeySlots(context)).map(({ id }) => id);
}

async function damage(target: MemoryTarget, id: string, change: (bytes: Uint8Array) => Uint8Array): Promise<void> {
  await target.put(slotKey(id), Uint8Array.from(change(await target.get(slotKey(id)))));
}

function flipped(bytes: Uint8Array): Uint8Array {
  return bytes.map((byte, at) => (at === 300 ? byte ^ 1 : byte));
}

/** Everything that the log says about slots, oldest first, with checkpoints out of the way. */
async function keysEntries(target: MemoryTarget): Promise<LogFact[]> {
  const { log } = await admin(target);
  return log.reader.tail.flatMap(({ entry }) => (entry.type === 'keys' ? [entry] : [])).toReversed();
}

describe('adding', () => {
  test('makes another way in, and leaves the others', async () => {
    const target = await created();
    const context = await admin(target);
    const passphrase = await addKeySlot(context, { passphrase: 'açaí' }, {}, { cost: CHEAP });
    const raw = await addKeySlot(context, keyOf(1));
    for (const unlock of [FIRST, keyOf(1), { passphrase: 'açaí' }])
      expect(await outcomeOf(target, unlock)).toBe('opens');
    for (const unlock of [keyOf(2), { passphrase: 'acai' }])
      expect(await outcomeOf(target, unlock)).toBe('KEY_REFUSED');
    const kinds = new Map((await listKeySlots(context)).map(({ id, kind }) => [id, kind]));
    expect(kinds.size).toBe(3);
    expect([kinds.get(passphrase), kinds.get(raw)]).toEqual(['passphrase', 'key']);
    expect(await keysEntries(target)).toMatchObject([
      { added: [passphrase], removed: [] },
      { added: [raw], removed: [] },
    ]);
  });

  test('wraps the same key: what was written before stays readable through the new slot alone', async () => {
    const target = await created();
    const context = await admin(target);
    const [old] = await idsOf(context);
    await addKeySlot(context, keyOf(1));
    await removeKeySlot(context, old as string);
    const again = await admin(target, keyOf(1));
    expect(again.log.state.seq).toBe(2);
    expect(again.keys.repositoryKey).toEqual(context.keys.repositoryKey);
  });

  test('believes a put that went through although its answer was lost', async () => {
    const target = await created();
    // As a client that repeats the request by itself sees it.
    const exists = () => new BackupError('OBJECT_EXISTS', 'it exists');
    const context = await admin(
      faulty(target, { operation: 'put', subject: /^keys/, fault: { kind: 'fail-after', error: exists } }),
    );
    await addKeySlot(context, keyOf(1));
    expect(await outcomeOf(target, keyOf(1))).toBe('opens');
  });

  test("does not take another's slot for its own", async () => {
    const target = await created();
    const put = target.put.bind(target);
    target.put = async (key, body, options) => {
      if (key.startsWith('keys/')) await put(key, Uint8Array.of(1, 2, 3));
      await put(key, body, options);
    };
    await expect(addKeySlot(await admin(target), keyOf(1))).rejects.toEqual(withCode('OBJECT_EXISTS'));
    expect(await outcomeOf(target, keyOf(1))).toBe('KEY_REFUSED');
  });

  test('stores nothing that does not open again', async () => {
    const target = await created();
    const context = await admin(target);
    const wrap = async (key: Uint8Array) => key.map((byte) => byte ^ 0x55);
    const provider = { id: 'forgetful', wrap, unwrap: async () => new Uint8Array(32) };
    await expect(addKeySlot(context, { provider })).rejects.toEqual(withCode('KEY_REFUSED'));
    expect(await idsOf(context)).toHaveLength(1);
    expect(context.log.state.seq).toBe(0);
  });

  test('wraps the key also when the repository is closed meanwhile', async () => {
    const target = await created();
    const context = await admin(target);
    const key = Uint8Array.from(context.keys.repositoryKey as Uint8Array);
    let seen: Uint8Array | undefined;
    const provider = {
      id: 'slow',
      wrap: async (given: Uint8Array) => {
        context.keys.wipe();
        seen = Uint8Array.from(given);
        return seen;
      },
      unwrap: async (wrapped: Uint8Array) => Uint8Array.from(wrapped),
    };
    await addKeySlot(context, { provider }).catch(() => {});
    expect(seen).toEqual(key);
  });

  test('that dies before its entry has left a slot that opens, is listed and can be removed', async () => {
    const target = await created();
    const noEntry = { kind: 'fail-before', error: () => new BackupError('PERMISSION_DENIED', 'no') } as const;
    const context = await admin(faulty(target, { operation: 'put', subject: /^log/, fault: noEntry }));
    await expect(addKeySlot(context, keyOf(1))).rejects.toEqual(withCode('PERMISSION_DENIED'));
    expect(await outcomeOf(target, keyOf(1))).toBe('opens');
    const other = await admin(target);
    const added = (await idsOf(other)).filter((id) => id !== other.format.keySlot);
    expect(added).toHaveLength(1);
    await removeKeySlot(other, added[0] as string);
    expect(await outcomeOf(target, keyOf(1))).toBe('KEY_REFUSED');
  });

  test('fails where another host removed the slot before its entry came', async () => {
    const target = await created();
    const other = await admin(target);
    const put = target.put.bind(target);
    target.put = async (key, body, options) => {
      await put(key, body, options);
      if (!key.startsWith('keys/')) return;
      target.put = put;
      await removeKeySlot(other, key.slice('keys/'.length));
    };
    const context = await admin(target);
    await expect(addKeySlot(context, keyOf(1))).rejects.toEqual(withCode('KEY_SLOT_NOT_FOUND'));
    expect(await outcomeOf(target, keyOf(1))).toBe('KEY_REFUSED');
    expect([context.log.state.keySlots.size, context.log.state.removedSlots.size]).toEqual([0, 1]);
  });

  test('is aborted before it stores anything', async () => {
    const target = await created();
    const context = await admin(target);
    const reason = new Error('enough');
    await expect(addKeySlot(context, keyOf(1), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(await idsOf(context)).toHaveLength(1);
  });
});

describe('removing', () => {
  test('shuts out what opened the slot, and only that', async () => {
    const target = await created();
    const context = await admin(target);
    const id = await addKeySlot(context, { passphrase: 'old' }, {}, { cost: CHEAP });
    await addKeySlot(context, { passphrase: 'new' }, {}, { cost: CHEAP });
    await removeKeySlot(context, id);
    expect(await outcomeOf(target, { passphrase: 'old' })).toBe('KEY_REFUSED');
    expect(await outcomeOf(target, { passphrase: 'new' })).toBe('opens');
    expect((await keysEntries(target)).at(-1)).toMatchObject({ added: [], removed: [id] });
  });

  test('refuses what is not there', async () => {
    const target = await created();
    const context = await admin(target);
    const id = await addKeySlot(context, keyOf(1));
    for (const missing of ['0123456789abcdef', 'nonsense', '../format']) {
      await expect(removeKeySlot(context, missing)).rejects.toEqual(withCode('KEY_SLOT_NOT_FOUND'));
    }
    await removeKeySlot(context, id);
    await expect(removeKeySlot(context, id)).rejects.toEqual(withCode('KEY_SLOT_NOT_FOUND'));
    expect(await outcomeOf(target, FIRST)).toBe('opens');
  });

  test('refuses the last one', async () => {
    const target = await created();
    const context = await admin(target);
    const [id] = await idsOf(context);
    await expect(removeKeySlot(context, id as string)).rejects.toEqual(withCode('LAST_KEY_SLOT'));
    expect(await outcomeOf(target, FIRST)).toBe('opens');
    expect(context.log.state.seq).toBe(0);
  });

  test.each([
    ['cut short', (bytes: Uint8Array) => bytes.subarray(0, bytes.length >> 1)],
    ['empty', () => new Uint8Array(0)],
    ["another repository's", (bytes: Uint8Array) => bytes.map((byte, at) => (at < bytes.length - 4 ? byte : byte ^ 1))],
    [
      'changed in its last bit',
      (bytes: Uint8Array) => bytes.map((byte, at) => (at < bytes.length - 1 ? byte : byte ^ 1)),
    ],
    ['changed in its first bit', (bytes: Uint8Array) => bytes.map((byte, at) => (at > 0 ? byte : byte ^ 0x80))],
    // No checksum shows it, and it opens with nothing: only who has the key can tell.
    [
      'changed and checksummed anew',
      (bytes: Uint8Array) => withChecksum('cow1 key slot', flipped(bytes).subarray(0, -32)),
    ],
  ])('does not count a slot that is %s, but removes one', async (_how, change) => {
    const target = await created();
    const context = await admin(target);
    const [first] = await idsOf(context);
    const id = await addKeySlot(context, keyOf(1));
    await damage(target, id, change);
    await expect(removeKeySlot(context, first as string)).rejects.toEqual(withCode('LAST_KEY_SLOT'));
    await removeKeySlot(context, id);
    expect(await idsOf(context)).toEqual([first]);
  });

  test('fails, and removes nothing, when the other slots can’t be read now', async () => {
    const target = await created();
    const id = await addKeySlot(await admin(target), keyOf(1));
    const context = await admin(target);
    const hindered = {
      ...context,
      target: faulty(target, { operation: 'get', subject: /^keys/, fault: { kind: 'fail-before' } }),
    };
    await expect(removeKeySlot(hindered, id)).rejects.toEqual(withCode('TARGET_UNAVAILABLE'));
    expect(context.log.state.seq).toBe(1);
    expect(await outcomeOf(target, keyOf(1))).toBe('opens');
  });

  test('that died before the deletion is finished by whoever removes it again, or another', async () => {
    for (const finishes of ['the same', 'another']) {
      const target = await created();
      const context = await admin(target);
      const [id, other] = [await addKeySlot(context, keyOf(1)), await addKeySlot(context, keyOf(2))];
      const dying = await admin(faulty(target, { operation: 'delete', fault: { kind: 'fail-before' } }));
      await expect(removeKeySlot(dying, id)).rejects.toEqual(withCode('TARGET_UNAVAILABLE'));
      expect(await idsOf(context)).toContain(id);
      await removeKeySlot(await admin(target), finishes === 'the same' ? id : other);
      expect(await outcomeOf(target, keyOf(1))).toBe('KEY_REFUSED');
      expect(
        (await keysEntries(target)).filter((fact) => fact.type === 'keys' && fact.removed.includes(id)),
      ).toHaveLength(1);
    }
  });

  test('does not count a slot that was removed and whose object is there still, also by a checkpoint', async () => {
    const target = await created();
    const context = await admin(target);
    const [first] = await idsOf(context);
    const id = await addKeySlot(context, keyOf(1));
    const dying = await admin(faulty(target, { operation: 'delete', fault: { kind: 'fail-before' } }));
    await removeKeySlot(dying, id).catch(() => {});
    await expect(removeKeySlot(context, first as string)).rejects.toEqual(withCode('LAST_KEY_SLOT'));
    const nothing: LogFact = { type: 'config', quarantine: [], release: [] };
    for (let n = 0; n < FEWEST_ENTRIES; n++) await context.log.append(() => nothing);
    const later = await admin(target);
    expect(later.log.reader.checkpoint).toBeGreaterThan(2);
    await expect(removeKeySlot(later, first as string)).rejects.toEqual(withCode('LAST_KEY_SLOT'));
  });

  test('waits for the objects once its entry is sent, whatever the signal says', async () => {
    const target = await created();
    const id = await addKeySlot(await admin(target), keyOf(1));
    const controller = new AbortController();
    const context = await admin(target);
    const put = target.put.bind(target);
    target.put = async (key, body, options) => {
      if (key.startsWith('log/')) controller.abort();
      await put(key, body, { createOnly: options?.createOnly });
    };
    await removeKeySlot(context, id, { signal: controller.signal });
    expect(await outcomeOf(target, keyOf(1))).toBe('KEY_REFUSED');
  });
});

describe('several hosts at once', () => {
  test('never remove all: of the last two, one stays', async () => {
    const target = await created();
    const first = (await admin(target)).format.keySlot as string;
    const id = await addKeySlot(await admin(target), keyOf(1));
    // The second host wins its entry while the first stands between its entry and the deletion.
    const held = Promise.withResolvers<void>();
    const slow = await admin(target);
    const remove = target.delete.bind(target);
    target.delete = async (key, options) => {
      await held.promise;
      await remove(key, options);
    };
    const removal = removeKeySlot(slow, first);
    await expect.poll(() => slow.log.state.removedSlots.size).toBe(1);
    await expect(removeKeySlot(await admin(target), id)).rejects.toEqual(withCode('LAST_KEY_SLOT'));
    held.resolve();
    await removal;
    expect(await outcomeOf(target, keyOf(1))).toBe('opens');
  });

  test('in any order of their requests', async () => {
    const seed = testSeed();
    let refused = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const target = await created();
      const setUp = await admin(target);
      const keys = [FIRST, keyOf(1), keyOf(2)];
      const ids = [setUp.format.keySlot as string];
      for (const key of keys.slice(1)) ids.push(await addKeySlot(setUp, key));
      const interleaved = new InterleavingTarget(target, seededRandom(seed + round));
      const admins = await Promise.all(keys.map((key) => admin(interleaved, key)));
      const outcomes = await Promise.allSettled(
        admins.map((context, index) => removeKeySlot(context, ids[index] as string)),
      );
      const failures = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
      expect(failures, `seed ${seed + round}`).toEqual([withCode('LAST_KEY_SLOT')]);
      refused += failures.length;
      const left = await Promise.all(keys.map((key) => outcomeOf(target, key)));
      expect(
        left.filter((outcome) => outcome === 'opens'),
        `seed ${seed + round}`,
      ).toHaveLength(1);
    }
    expect(refused).toBe(ROUNDS);
  });

  test('add at the same time', async () => {
    const seed = testSeed();
    const target = await created();
    const interleaved = new InterleavingTarget(target, seededRandom(seed));
    const admins = await Promise.all([1, 2, 3, 4].map(() => admin(interleaved)));
    const ids = await Promise.all(admins.map((context, index) => addKeySlot(context, keyOf(index + 1))));
    expect(new Set(ids).size, `seed ${seed}`).toBe(4);
    for (const first of [0, 1, 2, 3, 4]) expect(await outcomeOf(target, keyOf(first))).toBe('opens');
    expect(await keysEntries(target)).toHaveLength(4);
  });
});

describe('the slot in use', () => {
  test('is the one that was created, then the one that the secret opens, also where `format` is gone', async () => {
    const target = new MemoryTarget();
    await using creator = await BackupRepository.create(target, { encryption: FIRST, threads: 0 });
    const [{ id } = { id: '' }] = await creator.keys.list();
    expect(creator.keys.current).toBe(id);
    const added = await creator.keys.add(keyOf(1));
    expect(creator.keys.current).toBe(id);
    await using other = await BackupRepository.open(target, { unlock: keyOf(1), threads: 0 });
    expect(other.keys.current).toBe(added);
    await other.keys.remove(added);
    expect(other.keys.current).toBe(added);
    await target.delete(FORMAT_KEY);
    await using later = await BackupRepository.open(target, { unlock: FIRST, threads: 0 });
    expect(later.keys.current).toBe(id);
  });

  test('is none in a repository without encryption', async () => {
    await using plain = await BackupRepository.create(new MemoryTarget(), { encryption: 'none', threads: 0 });
    expect(plain.keys.current).toBeUndefined();
  });
});

describe('listing', () => {
  test('tells damaged slots, and those of a newer version, from the others', async () => {
    const target = await created();
    const context = await admin(target);
    const [cut, newer] = [await addKeySlot(context, keyOf(1)), await addKeySlot(context, keyOf(2))];
    await damage(target, cut, (bytes) => bytes.subarray(0, 20));
    const { repositoryKey } = context.keys;
    await damage(target, newer, (bytes) => {
      const body = encodeMsgpack({ ...readMap(slotBody(bytes)), kind: 'smart card' });
      return sealedSlot(repositoryKey as Uint8Array, context.format.repositoryId, newer, body);
    });
    await target.put('keys/readme', Uint8Array.of(1));
    const listed = new Map((await listKeySlots(context)).map((info) => [info.id, info]));
    expect(listed.size).toBe(3);
    expect(listed.get(cut)).toEqual({ id: cut, kind: undefined, error: withCode('KEY_SLOT_CORRUPT') });
    expect(listed.get(newer)).toEqual({ id: newer, kind: undefined, error: withCode('REPOSITORY_UNSUPPORTED') });
    expect(listed.get(context.format.keySlot as string)).toMatchObject({ kind: 'key', error: undefined });
  });
});

test('a plain repository has no slots, and gets none', async () => {
  const target = new MemoryTarget();
  await createRepository(target, { unlock: undefined, singleWriter: false });
  const context = await openRepository(target, {}, checkTuning({ threads: 0 }));
  expect(await listKeySlots(context)).toEqual([]);
  await expect(addKeySlot(context, keyOf(1))).rejects.toEqual(withCode('NOT_ENCRYPTED'));
  await expect(removeKeySlot(context, '0123456789abcdef')).rejects.toEqual(withCode('NOT_ENCRYPTED'));
  for await (const { key } of target.list('')) expect(key.startsWith('probe/') || key === 'format').toBe(true);
});

test('a repository for a single writer has them too', async () => {
  const target = new MemoryTarget();
  await createRepository(target, { unlock: checkUnlock(FIRST), singleWriter: true });
  const options = { unlock: FIRST, singleWriter: true };
  const context = await openRepository(target, options, checkTuning({ threads: 0 }));
  await addKeySlot(context, keyOf(1));
  await removeKeySlot(context, context.format.keySlot as string);
  expect((await listKeySlots(context)).map(({ kind }) => kind)).toEqual(['key']);
});

test('repository.keys is all of this', async () => {
  const target = await created();
  await using repository = await BackupRepository.open(target, { unlock: FIRST, threads: 0 });
  const id = await repository.keys.add(keyOf(1));
  expect((await repository.keys.list()).map((slot) => slot.id)).toContain(id);
  await using reading = await BackupRepository.open(target, { unlock: keyOf(1), threads: 0, readOnly: true });
  expect(await reading.keys.list()).toHaveLength(2);
  await expect(reading.keys.add(keyOf(2))).rejects.toEqual(withCode('READ_ONLY'));
  await expect(reading.keys.remove(id)).rejects.toEqual(withCode('READ_ONLY'));
  await repository.keys.remove(id);
  expect(await repository.keys.list()).toHaveLength(1);
  await repository.close();
  await expect(repository.keys.list()).rejects.toEqual(withCode('CLOSED'));
  await expect(repository.keys.add(keyOf(2))).rejects.toEqual(withCode('CLOSED'));
});
