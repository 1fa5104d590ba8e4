import { afterEach, describe, expect, test, vi } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { decodeKeySlot, makeKeySlot, openKeySlot } from '../../../src/repository/crypto/key-slot.ts';
import { passphraseKey } from '../../../src/repository/crypto/scrypt.ts';
import { checkUnlock, type KeyProvider } from '../../../src/repository/crypto/unlock.ts';
import { encodeFormat } from '../../../src/repository/format/format-object.ts';
import { KEYS_PREFIX } from '../../../src/repository/format/object-keys.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { randomBytes } from '../../support/randomness.ts';
import { create, open, ScriptedTarget } from '../open/support/creations.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** Counts how often each key was zeroed, by what it was before: every `fill(0)` of 32 bytes is seen. */
function watchWipes() {
  const wiped: string[] = [];
  for (const prototype of [Object.getPrototypeOf(Uint8Array.prototype), Buffer.prototype] as Uint8Array[]) {
    const fill = prototype.fill;
    vi.spyOn(prototype, 'fill').mockImplementation(function (this: Uint8Array, value: number, ...range) {
      if (value === 0 && this.length === 32) wiped.push(hex(this));
      return fill.call(this, value, ...range);
    });
  }
  return (key: Uint8Array | undefined) => wiped.filter((each) => key !== undefined && each === hex(key)).length;
}

/** A provider that keeps the key for the test, and fails as it is asked to. */
class Keeper implements KeyProvider {
  readonly id = 'keeper';
  key: Uint8Array | undefined;
  failsAt: 'wrap' | 'unwrap' | undefined;

  async wrap(key: Uint8Array): Promise<Uint8Array> {
    this.key = Uint8Array.from(key);
    if (this.failsAt === 'wrap') throw new Error('no');
    return Uint8Array.of(1);
  }

  async unwrap(): Promise<Uint8Array> {
    if (this.failsAt === 'unwrap') throw new Error('no');
    return Uint8Array.from(this.key as Uint8Array);
  }
}

const refuse = () => {
  throw new BackupError('PERMISSION_DENIED', 'refused');
};

describe('a new key is zeroed', () => {
  // Two copies of it are handed out: to the provider, which wraps it, and by the slot, which is tried.
  const ways = [
    { when: 'the repository is there', outcome: 'created', copies: 3 },
    { when: 'the provider does not wrap it', failsAt: 'wrap', outcome: 'KEY_REFUSED', copies: 2 },
    { when: 'the provider does not unwrap it', failsAt: 'unwrap', outcome: 'KEY_REFUSED', copies: 2 },
    { when: 'its slot can not be stored', refused: KEYS_PREFIX, outcome: 'PERMISSION_DENIED', copies: 3 },
    { when: 'format can not be stored', refused: 'format', outcome: 'PERMISSION_DENIED', copies: 3 },
  ] as const;
  test.each(ways)('when $when', async ({ outcome, copies, ...how }) => {
    const { failsAt, refused } = { failsAt: undefined, refused: undefined, ...how };
    const count = watchWipes();
    const provider = Object.assign(new Keeper(), { failsAt });
    const target = new ScriptedTarget(new MemoryTarget(), (_index, invoke, call) =>
      call?.operation === 'put' && refused !== undefined && call.subject.startsWith(refused) ? refuse() : invoke(),
    );
    const creation = create(target, { encryption: { provider }, singleWriter: false });
    const found = await creation.then(
      () => 'created',
      (error: BackupError) => error.code,
    );
    expect(found).toBe(outcome);
    expect(count(provider.key)).toBe(copies);
  });
});

test('the key out of a slot that stands in for a lost format is zeroed when the log can not be listed', async () => {
  const provider = new Keeper();
  const inner = new MemoryTarget();
  const kind = { encryption: { provider }, singleWriter: true };
  const { context } = await open(inner, { createIfMissing: kind });
  await context.log.append(() => ({ type: 'keys', added: ['0123456789abcdef'], removed: [] }));
  await inner.delete('format');
  let listings = 0;
  const target = new ScriptedTarget(inner, (_index, invoke, call) =>
    // Of the log, of the slots, and of the log for a copy of format come first.
    call === undefined && ++listings > 3 ? refuse() : invoke(),
  );
  const count = watchWipes();
  await expect(open(target, { unlock: { provider }, singleWriter: true })).rejects.toMatchObject({
    code: 'PERMISSION_DENIED',
  });
  expect(listings).toBe(4);
  expect(count(provider.key)).toBe(1);
});

describe('what a slot is opened with', () => {
  const key = randomBytes(32);
  const repositoryId = Uint8Array.from(randomBytes(16));
  const slot = '0123456789abcdef';
  const name = { repositoryId, slot };
  const fields = {
    version: 1,
    minReader: 1,
    minWriter: 1,
    features: [],
    readerFeatures: [],
    fanOut: 128,
    mode: 'shared',
  } as const;
  const format = encodeFormat({ ...fields, repositoryId, encrypted: true, keySlot: slot });
  const unlock = checkUnlock({ passphrase: 'open sesame' });
  const make = () => makeKeySlot(key, unlock, { format, slot }, {}, { n: 2, r: 1, p: 1 });

  test('is zeroed when nobody waits for it any more', async () => {
    const stored = decodeKeySlot(await make());
    if (stored.kind !== 'passphrase') throw new Error(stored.kind);
    const wrapping = await passphraseKey(Buffer.from('open sesame'), stored.salt, stored.cost);
    const count = watchWipes();
    const abort = new AbortController();
    const opening = openKeySlot(stored, unlock, name, { signal: abort.signal });
    abort.abort(new Error('enough'));
    await expect(opening).rejects.toThrow('enough');
    await vi.waitFor(() => expect(count(wrapping)).toBe(1));
    expect(count(key)).toBe(0);
  });

  test('leaves no key behind where its tag is wrong', async () => {
    const stored = decodeKeySlot(await make());
    if (stored.kind !== 'passphrase') throw new Error(stored.kind);
    const wrapped = Uint8Array.from(stored.wrapped);
    wrapped[40]! ^= 1; // Of the tag: the text before it still decrypts to the key.
    const count = watchWipes();
    await expect(openKeySlot({ ...stored, wrapped }, unlock, name)).rejects.toMatchObject({ code: 'KEY_REFUSED' });
    expect(count(key)).toBe(2); // What the cipher gave, and the copy that would have been returned.
  });
});
