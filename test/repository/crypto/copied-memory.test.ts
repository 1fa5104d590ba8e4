import { expect, test, vi } from 'vitest';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { readMap, slotBody } from '../format/support/format-text.ts';
import { create, opened } from '../open/support/creations.ts';

/** Two copies of one process memory, as a virtual machine that was cloned has them: their random generators say the same. */
vi.mock('node:crypto', async (importOriginal) => ({
  ...(await importOriginal<typeof import('node:crypto')>()),
  randomBytes: (length: number) => Buffer.alloc(length, 7),
}));

const keyOf = (byte: number) => ({ key: new Uint8Array(32).fill(byte) });

async function clone(byte: number) {
  const kind = { encryption: keyOf(byte), singleWriter: true };
  const target = new MemoryTarget();
  await create(target, kind);
  return { target, kind };
}

test('copies that create repositories with different secrets share no key, salt, nonce or name', async () => {
  const slots = await Promise.all(
    [1, 2].map(async (byte) => {
      const { target } = await clone(byte);
      const [info] = await Array.fromAsync(target.list('keys/'));
      return { name: info!.key, ...readMap(slotBody(await target.get(info!.key))) } as Record<string, unknown>;
    }),
  );
  const [first, second] = slots as [Record<string, unknown>, Record<string, unknown>];
  for (const field of ['name', 'salt', 'nonce', 'wrapped']) expect(first[field], field).not.toEqual(second[field]);
});

test('copies that add different secrets to one repository make slots of different names', async () => {
  const { target, kind } = await clone(1);
  for (const byte of [2, 3]) {
    await using copy = await opened(target, kind);
    await copy.keys.add(keyOf(byte));
  }
  await using repository = await opened(target, kind);
  expect((await repository.keys.list()).map(({ error }) => error)).toEqual([undefined, undefined, undefined]);
  for (const byte of [2, 3]) await (await opened(target, { ...kind, encryption: keyOf(byte) })).close();
});
