import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { makeKeySlot } from '../../../src/repository/keys/key-slot.ts';
import { checkUnlock, type Unlock } from '../../../src/repository/keys/unlock.ts';
import { type StoredSlot, unlockRepository } from '../../../src/repository/keys/unlock-repository.ts';
import { randomBytes } from '../../support/randomness.ts';

const key = randomBytes(32);
const repositoryId = randomBytes(16);
const ours: Unlock = { key: randomBytes(32) };
const theirs: Unlock = { key: randomBytes(32) };
const withCode = (code: string) => expect.objectContaining({ code });
const slotName = (index: number) => index.toString(16).padStart(16, '0');

/** Slots of which every read is noted. */
class Slots {
  readonly stored: StoredSlot[] = [];
  readonly read: string[] = [];

  async add(unlock: Unlock): Promise<string> {
    const slot = slotName(this.stored.length);
    const bytes = await makeKeySlot(key, checkUnlock(unlock), { repositoryId, slot }, {}, { n: 2, r: 1, p: 1 });
    return this.put(() => bytes);
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

  unlock(unlock: Unlock | undefined, options: { hint?: string; signal?: AbortSignal } = {}) {
    return unlockRepository({ repositoryId, slots: this.stored, hint: undefined, unlock, ...options });
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

test('nothing to unlock with is KEY_REQUIRED, something useless a TypeError, and no slot is read', async () => {
  const slots = new Slots();
  await slots.add(ours);
  await expect(slots.unlock(undefined)).rejects.toEqual(withCode('KEY_REQUIRED'));
  await expect(slots.unlock({ passphrase: '' })).rejects.toThrow(TypeError);
  expect(slots.read).toEqual([]);
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
    await slots.add(ours);
    expect(Buffer.from(await slots.unlock(ours))).toEqual(key);
    expect(slots.read).toHaveLength(6);
  });

  test('is what the error is about when none opens', async () => {
    const slots = new Slots();
    await expect(slots.unlock(ours)).rejects.toEqual(withCode('KEY_REFUSED'));
    slots.put(removed);
    await expect(slots.unlock(ours)).rejects.toEqual(withCode('KEY_REFUSED'));
    slots.put(damaged);
    await expect(slots.unlock(ours)).rejects.toEqual(withCode('KEY_SLOT_CORRUPT'));
    await slots.add(theirs);
    await expect(slots.unlock(ours)).rejects.toEqual(withCode('KEY_REFUSED'));
    slots.put(cut); // It might be the one that opens: asking again may help.
    await expect(slots.unlock(ours)).rejects.toBe(unreachable);
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
