import { describe, expect, test, vi } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { encodeMsgpack } from '../../../src/common/msgpack.ts';
import { makeKeySlot } from '../../../src/repository/crypto/key-slot.ts';
import * as scrypt from '../../../src/repository/crypto/scrypt.ts';
import { checkUnlock, type Unlock } from '../../../src/repository/crypto/unlock.ts';
import { type StoredSlot, unlockRepository } from '../../../src/repository/crypto/unlock-repository.ts';
import { encodeFormat } from '../../../src/repository/format/format-object.ts';
import { randomBytes } from '../../support/randomness.ts';
import { withCode } from '../../support/with-code.ts';
import { readMap, sealedSlot, slotBody } from '../format/support/format-text.ts';

const key = randomBytes(32);
const repositoryId = Uint8Array.from(randomBytes(16));
const formatOf = (id: Uint8Array) =>
  encodeFormat({
    ...{
      version: 1,
      minReader: 1,
      minWriter: 1,
      features: [],
      readerFeatures: [],
      repositoryId: id,
      encrypted: true,
      fanOut: 128,
    },
    ...{ mode: 'shared', keySlot: undefined },
  });
const ours: Unlock = { key: randomBytes(32) };
const theirs: Unlock = { key: randomBytes(32) };
const slotName = (index: number) => index.toString(16).padStart(16, '0');

/** Slots of which every read is noted. */
class Slots {
  readonly stored: StoredSlot[] = [];
  readonly read: string[] = [];

  async add(unlock: Unlock, changes: object = {}, id = repositoryId): Promise<string> {
    const slot = slotName(this.stored.length);
    const name = { format: formatOf(id), slot };
    const bytes = await makeKeySlot(key, checkUnlock(unlock), name, {}, { n: 2, r: 1, p: 1 });
    const changed = sealedSlot(key, id, slot, encodeMsgpack({ ...readMap(slotBody(bytes)), ...changes }));
    return this.put(() => changed);
  }

  put(bytes: () => Uint8Array): string {
    const name = slotName(this.stored.length);
    this.stored.push({
      name,
      read: async () => {
        this.read.push(name);
        return bytes();
      },
    });
    return name;
  }

  async unlock(
    unlock: Unlock,
    options: { hint?: string; signal?: AbortSignal; repositoryId?: Uint8Array | undefined } = {},
  ): Promise<Uint8Array> {
    const request = { repositoryId, slots: this.stored, hint: undefined, ...options };
    return (await unlockRepository({ ...request, unlock: checkUnlock(unlock) })).key;
  }
}

test('the hinted slot is read first, and the others only when it does not open', async () => {
  const slots = new Slots();
  const names = [await slots.add(theirs), await slots.add(ours), await slots.add(ours)];
  expect(Buffer.from(await slots.unlock(ours, { hint: names[2] as string }))).toEqual(key);
  expect(slots.read).toEqual([names[2]]);
  slots.read.length = 0;
  expect(Buffer.from(await slots.unlock(ours, { hint: names[0] as string }))).toEqual(key);
  expect(slots.read).toEqual([names[0], names[1]]);
  slots.read.length = 0;
  expect(Buffer.from(await slots.unlock(ours, { hint: 'ffffffffffffffff' }))).toEqual(key);
  expect(slots.read).toEqual([names[0], names[1]]);
});

describe('a slot that can not be used', () => {
  const damaged = () => Uint8Array.of(1, 2, 3);
  const removed = () => {
    throw new BackupError('OBJECT_NOT_FOUND', 'gone');
  };
  const unreachable = new BackupError('TARGET_UNREACHABLE', 'no network', { retryable: true });
  const cut = () => {
    throw unreachable;
  };

  test('does not keep the next from opening', async () => {
    const slots = new Slots();
    for (const bytes of [damaged, removed, cut]) slots.put(bytes);
    await slots.add(theirs);
    await slots.add({ passphrase: 'another kind' });
    await slots.add(ours, { kind: 'smart card' });
    await slots.add(ours, { version: 2 });
    await slots.add(ours, {}, new Uint8Array(16));
    await slots.add(ours);
    expect(Buffer.from(await slots.unlock(ours))).toEqual(key);
    expect(slots.read).toHaveLength(9);
  });

  test('is what the error is about when none opens', async () => {
    const slots = new Slots();
    const none = {
      code: 'KEY_REFUSED',
      message: expect.stringMatching(/^there is no key slot.*restore the objects under keys\//),
    };
    await expect(slots.unlock(ours)).rejects.toMatchObject(none);
    slots.put(removed);
    await expect(slots.unlock(ours)).rejects.toMatchObject(none);
    slots.put(damaged);
    const named = {
      code: 'KEY_SLOT_CORRUPT',
      message: expect.stringMatching(/^object keys\/[0-9a-f]{16}: a key slot is damaged/),
    };
    await expect(slots.unlock(ours)).rejects.toMatchObject(named);
    await slots.add(theirs);
    await expect(slots.unlock(ours)).rejects.toMatchObject({
      code: 'KEY_REFUSED',
      message: expect.stringContaining('not all of them can be read'),
      cause: { errors: [withCode('KEY_REFUSED'), withCode('KEY_SLOT_CORRUPT')] },
    });
    slots.put(cut); // It might be the one that opens: asking again may help.
    await expect(slots.unlock(ours)).rejects.toBe(unreachable);
  });
});

test('slots of a newer program alone are just that', async () => {
  const slots = new Slots();
  await slots.add(ours, { kind: 'smart card' });
  await expect(slots.unlock(ours)).rejects.toEqual(withCode('REPOSITORY_UNSUPPORTED'));
});

test('where the repository is not known, the slot that opens says which it is', async () => {
  const slots = new Slots();
  const another = Uint8Array.from(randomBytes(16));
  await slots.add(ours, {}, another);
  await expect(slots.unlock(ours)).rejects.toEqual(withCode('KEY_REFUSED'));
  const request = { repositoryId: undefined, slots: slots.stored, hint: undefined, unlock: checkUnlock(ours) };
  expect((await unlockRepository(request)).format).toEqual(formatOf(another));
});

describe('hostile slots', () => {
  test('do not multiply the work of scrypt: so much is spent on all of them, the cheap ones first', async () => {
    const work: number[] = [];
    // Each would take some seconds; what is asked for is what counts.
    vi.spyOn(scrypt, 'passphraseKey').mockImplementation(async ([first = 0], _salt, cost) => {
      work.push(scrypt.scryptWork(cost));
      return new Uint8Array(32).fill(first);
    });
    try {
      const slots = new Slots();
      const costly = { n: 2 ** 20, r: 8, p: 1 };
      for (let n = 0; n < 100; n++) await slots.add({ passphrase: 'theirs' }, costly);
      const usual = await slots.add({ passphrase: 'theirs' }, { n: 2 ** 17, r: 8, p: 1 });
      work.length = 0;
      await expect(slots.unlock({ passphrase: 'mine' })).rejects.toEqual(withCode('LIMIT_EXCEEDED'));
      const spent = work.reduce((sum, each) => sum + each, 0);
      expect(spent).toBeLessThanOrEqual(64 * 2 ** 20);
      expect(spent).toBeGreaterThan(50 * 2 ** 20);
      expect(work[0]).toBe(2 ** 20);
      expect(slots.read).toContain(usual);
      work.length = 0;
      await expect(slots.unlock({ passphrase: 'mine' }, { hint: slotName(7) })).rejects.toEqual(
        withCode('LIMIT_EXCEEDED'),
      );
      expect(work[0]).toBe(2 ** 23); // The hinted one, once.
    } finally {
      vi.restoreAllMocks();
    }
  });

  test('do not multiply calls of a provider', async () => {
    const slots = new Slots();
    const unwrap = vi.fn(async () => new Uint8Array(32));
    const provider = { id: 'metered', wrap: async (given: Uint8Array) => Uint8Array.from(given), unwrap };
    for (let n = 0; n < 100; n++) await slots.add({ provider });
    await expect(slots.unlock({ provider })).rejects.toEqual(withCode('LIMIT_EXCEEDED'));
    expect(unwrap).toHaveBeenCalledTimes(64);
  });
});

test('an abort ends it between slots with its reason', async () => {
  const controller = new AbortController();
  const reason = new Error('enough');
  const slots = new Slots();
  slots.put(() => {
    controller.abort(reason);
    return Uint8Array.of(0);
  });
  await slots.add(ours);
  await expect(slots.unlock(ours, { signal: controller.signal })).rejects.toBe(reason);
  expect(slots.read).toHaveLength(1);
});
