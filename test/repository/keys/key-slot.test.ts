import { describe, expect, test, vi } from 'vitest';
import { encodePlain } from '../../../src/common/bounded-msgpack.ts';
import { BackupError } from '../../../src/common/errors.ts';
import {
  decodeKeySlot,
  isSlotName,
  makeKeySlot,
  newSlotName,
  openKeySlot,
} from '../../../src/repository/keys/key-slot.ts';
import { checkUnlock, type KeyProvider, type Unlock } from '../../../src/repository/keys/unlock.ts';
import { randomBytesFrom, seededRandom } from '../../../src/testing/seeded-random.ts';
import { randomBytes, testSeed } from '../../support/randomness.ts';
import { bytes, gcm, hkdf256, readMap, slotCommitment } from './support/format-text.ts';

const CHEAP = { n: 2, r: 1, p: 1 };
const key = randomBytes(32);
const rawKey = randomBytes(32);
const name = { repositoryId: randomBytes(16), slot: newSlotName() };
const invert = async (data: Uint8Array) => data.map((byte) => byte ^ 0xff);
const provider: KeyProvider = { id: 'test', wrap: invert, unwrap: invert };
const UNLOCKS: Record<string, Unlock> = {
  passphrase: { passphrase: 'open sesame' },
  key: { key: rawKey },
  provider: { provider },
};

const make = (unlock: Unlock) => makeKeySlot(key, checkUnlock(unlock), name, {}, CHEAP);
const open = (slot: Uint8Array, unlock: Unlock, at = name) => openKeySlot(slot, checkUnlock(unlock), at);
const withCode = (code: string) => expect.objectContaining({ code });

describe.each(Object.entries(UNLOCKS))('a slot of kind %s', (kind, unlock) => {
  test('gives the key back', async () => {
    const slot = await make(unlock);
    expect(readMap(slot)).toMatchObject({ version: 1, kind });
    expect(decodeKeySlot(slot).kind).toBe(kind);
    expect(Buffer.from(await open(slot, unlock))).toEqual(key);
  });

  test('is another one each time, but for what a provider makes', async () => {
    const [first, second] = [readMap(await make(unlock)), readMap(await make(unlock))];
    if (kind === 'provider') return expect(first).toEqual(second);
    for (const field of ['salt', 'nonce', 'wrapped']) expect(first[field]).not.toEqual(second[field]);
  });

  test('does not hold the key in the clear', async () => {
    expect(Buffer.from(await make(unlock)).includes(key)).toBe(false);
  });

  test('opens under its own name and in its own repository only', async () => {
    const slot = await make(unlock);
    const refusal = withCode('KEY_REFUSED');
    await expect(open(slot, unlock, { ...name, slot: newSlotName() })).rejects.toEqual(refusal);
    await expect(open(slot, unlock, { ...name, repositoryId: randomBytes(16) })).rejects.toEqual(refusal);
  });

  test('stays closed to what another kind takes', async () => {
    const slot = await make(unlock);
    for (const [other, wrong] of Object.entries(UNLOCKS)) {
      if (other !== kind) await expect(open(slot, wrong)).rejects.toEqual(withCode('KEY_REFUSED'));
    }
  });

  test('gives the right key or an error with a code, whichever bit of it flips', async () => {
    const slot = await make(unlock);
    const codes = new Set<string>();
    for (let bit = 0; bit < slot.length * 8; bit++) {
      const flipped = Uint8Array.from(slot);
      flipped[bit >>> 3] = (flipped[bit >>> 3] as number) ^ (1 << (bit & 7));
      const outcome = await open(flipped, unlock).catch((error: unknown) => error);
      if (outcome instanceof Uint8Array) expect(Buffer.from(outcome)).toEqual(key);
      else codes.add(BackupError.is(outcome) ? outcome.code : String(outcome));
    }
    expect([...codes].sort()).toEqual(['KEY_REFUSED', 'KEY_SLOT_CORRUPT', 'REPOSITORY_UNSUPPORTED']);
  });

  test('is damaged when it is cut or something follows it', async () => {
    const slot = await make(unlock);
    for (let length = 0; length < slot.length; length++) {
      await expect(open(slot.subarray(0, length), unlock)).rejects.toEqual(withCode('KEY_SLOT_CORRUPT'));
    }
    await expect(open(bytes(slot, 0xc0), unlock)).rejects.toEqual(withCode('KEY_SLOT_CORRUPT'));
  });

  test('refuses to hold another key than it commits to, though everything else is right', async () => {
    const other = randomBytes(32);
    const slot = readMap(await makeKeySlot(other, checkUnlock(unlock), name, {}, CHEAP));
    const forged = encodePlain({ ...slot, commitment: slotCommitment(key, name.repositoryId, name.slot) });
    const code = kind === 'provider' ? 'KEY_REFUSED' : 'KEY_SLOT_CORRUPT';
    await expect(open(forged, unlock)).rejects.toEqual(withCode(code));
  });
});

describe('passphrases', () => {
  test('open whichever way they are given: composed, decomposed, or as bytes', async () => {
    const slot = await make({ passphrase: 'Übergrößenträger' });
    const forms = ['NFC', 'NFD'].map((form) => 'Übergrößenträger'.normalize(form));
    for (const form of forms) {
      expect(Buffer.from(await open(slot, { passphrase: form }))).toEqual(key);
      expect(Buffer.from(await open(slot, { passphrase: Buffer.from(form) }))).toEqual(key);
    }
    const ascii = await make({ passphrase: Buffer.from('plain') });
    expect(Buffer.from(await open(ascii, { passphrase: 'plain' }))).toEqual(key);
  });

  test('that are wrong are refused, and appear in no error', async () => {
    const slot = await make({ passphrase: 'right' });
    for (const passphrase of ['wrong-one', 'right ', 'Right', '\ufeffright', Buffer.from('\ufeffright')]) {
      const error = await open(slot, { passphrase }).catch((caught: unknown) => caught);
      expect(error).toEqual(withCode('KEY_REFUSED'));
      expect(`${error}${(error as Error).cause}`).not.toContain('wrong-one');
    }
  });

  test('cost 128 MiB of scrypt unless a test says otherwise', async () => {
    const slot = await makeKeySlot(key, checkUnlock({ passphrase: 'p' }), name);
    expect(readMap(slot)).toMatchObject({ n: 2 ** 17, r: 8, p: 1 });
    expect(Buffer.from(await open(slot, { passphrase: 'p' }))).toEqual(key);
  });
});

test.each<[string, unknown]>([
  ['an empty passphrase', { passphrase: '' }],
  ['empty bytes', { passphrase: new Uint8Array() }],
  ['bytes that are not UTF-8', { passphrase: Uint8Array.of(0xff, 0xfe) }],
  ['a lone surrogate', { passphrase: 'a\ud800' }],
  ['a passphrase that is no text', { passphrase: 42 }],
  ['a key of 31 bytes', { key: new Uint8Array(31) }],
  ['a key of 33 bytes', { key: new Uint8Array(33) }],
  ['a key in hex', { key: 'ab'.repeat(32) }],
  ['a provider without an id', { provider: { wrap: invert, unwrap: invert, id: '' } }],
  ['a provider without unwrap', { provider: { wrap: invert, id: 'x' } }],
  ['a provider that is null', { provider: null }],
  ['two at once', { passphrase: 'p', key: rawKey }],
  ['none', {}],
  ['null', null],
  ['a bare string', 'passphrase'],
])('%s is a TypeError', (_, unlock) => {
  expect(() => checkUnlock(unlock as Unlock)).toThrow(TypeError);
});

test('names and repository keys of a wrong form are a TypeError', async () => {
  const unlock = checkUnlock({ key: rawKey });
  for (const slot of ['', 'ABCDEF0123456789', '0123456789abcde', '../../../../etc/x']) {
    expect(isSlotName(slot)).toBe(false);
    await expect(makeKeySlot(key, unlock, { ...name, slot })).rejects.toThrow(TypeError);
    await expect(openKeySlot(new Uint8Array(), unlock, { ...name, slot })).rejects.toThrow(TypeError);
  }
  await expect(makeKeySlot(key.subarray(1), unlock, name)).rejects.toThrow(TypeError);
});

describe('a hostile slot', () => {
  const changed = async (unlock: Unlock, changes: object) =>
    encodePlain({ ...readMap(await make(unlock)), ...changes });

  test.each([
    { n: 2 ** 24, r: 8, p: 1 }, // 16 GiB
    { n: 2 ** 23, r: 2, p: 1 },
    { n: 100_000, r: 8, p: 1 },
    { n: 2 ** 17, r: 8, p: 17 },
    { n: 2, r: 2 ** 22, p: 16 }, // 8 GiB that 128·n·r does not show
    { n: 2 ** 16, r: 1, p: 1 }, // more than RFC 7914 allows
    { n: 1, r: 8, p: 1 },
    { n: 0, r: 8, p: 1 },
    { n: 1024, r: 0, p: 1 },
    { n: 1024, r: 8, p: 0 },
    { n: -1024, r: 8, p: 1 },
    { n: 1024.5, r: 8, p: 1 },
    { n: '1024', r: 8, p: 1 },
    { n: 2 ** 60, r: 2 ** 60, p: 1 },
  ])('with scrypt parameters $n, $r, $p is refused before any work', async (cost) => {
    const slot = await changed(UNLOCKS.passphrase as Unlock, cost);
    expect(() => decodeKeySlot(slot)).toThrow(withCode('KEY_SLOT_CORRUPT'));
  });

  test('may ask for 1 GiB and no more', async () => {
    const slot = await changed(UNLOCKS.passphrase as Unlock, { n: 2 ** 20, r: 8, p: 1 });
    expect(decodeKeySlot(slot)).toMatchObject({ cost: { n: 2 ** 20, r: 8, p: 1 } });
  });

  test.each([
    { wrapped: new Uint8Array(47) },
    { wrapped: new Uint8Array(49) },
    { nonce: new Uint8Array(11) },
    { salt: new Uint8Array(31) },
    { salt: 'a salt that has thirty-two letters' },
    { commitment: new Uint8Array() },
    { commitment: null },
    { kind: 'passphrases' },
    { kind: null },
    { version: 0 },
    { version: 1.5 },
  ])('with %o is damaged', async (changes) => {
    const slot = await changed(UNLOCKS.key as Unlock, changes);
    expect(() => decodeKeySlot(slot)).toThrow(withCode('KEY_SLOT_CORRUPT'));
  });

  test('may have fields that this version does not know, but not another version', async () => {
    const unlock = UNLOCKS.key as Unlock;
    expect(Buffer.from(await open(await changed(unlock, { comment: 'x' }), unlock))).toEqual(key);
    const newer = await changed(unlock, { version: 2 });
    await expect(open(newer, unlock)).rejects.toEqual(withCode('REPOSITORY_UNSUPPORTED'));
  });

  test('is not looked at when it is larger than 64 KiB', async () => {
    const slot = await changed(UNLOCKS.key as Unlock, { padding: new Uint8Array(64 * 1024) });
    await expect(open(slot, UNLOCKS.key as Unlock)).rejects.toEqual(withCode('KEY_SLOT_CORRUPT'));
  });

  test('can not open to two keys: a second wrapped key does not match the commitment', async () => {
    const slot = readMap(await make(UNLOCKS.key as Unlock));
    const kek = hkdf256(rawKey, slot.salt as Buffer, 'cow1 raw key');
    const associated = bytes('cow1 slot', name.repositoryId, name.slot);
    const wrapped = gcm(kek, slot.nonce as Buffer, randomBytes(32), associated);
    await expect(open(encodePlain({ ...slot, wrapped }), UNLOCKS.key as Unlock)).rejects.toEqual(
      withCode('KEY_SLOT_CORRUPT'),
    );
  });

  test('made of random bytes never gives a key, nor anything but a coded error', async () => {
    const seed = testSeed();
    const random = seededRandom(seed);
    const slot = await make(UNLOCKS.key as Unlock);
    for (let round = 0; round < 3000; round++) {
      const mutated = round % 2 === 0 ? randomBytesFrom(random, Math.floor(random() * 300)) : Uint8Array.from(slot);
      for (let edits = 0; edits < 4; edits++) mutated[Math.floor(random() * mutated.length)] = random() * 256;
      const outcome = await open(mutated, UNLOCKS.key as Unlock).catch((error: unknown) => error);
      if (outcome instanceof Uint8Array) expect(Buffer.from(outcome), `seed ${seed}`).toEqual(key);
      else expect(BackupError.is(outcome), `seed ${seed}, round ${round}: ${outcome}`).toBe(true);
    }
  });
});

describe('a key provider', () => {
  const slotOf = (given: KeyProvider) => make({ provider: given });

  test('gets a copy of the key, which is zeroed afterwards', async () => {
    let seen: Uint8Array | undefined;
    const slot = await slotOf({
      ...provider,
      wrap: async (given) => {
        expect(Buffer.from(given)).toEqual(key);
        seen = given;
        return given; // What it stores must not be zeroed with it.
      },
    });
    expect(seen).toEqual(new Uint8Array(32));
    expect(readMap(slot).wrapped).toEqual(key);
  });

  test.each([[new Uint8Array()], [new Uint8Array(16 * 1024 + 1)], ['text'], [undefined]])(
    'that wraps to something else than 1 byte to 16 KiB made a mistake (%#)',
    async (wrapped) => {
      await expect(slotOf({ ...provider, wrap: async () => wrapped as Uint8Array })).rejects.toThrow(TypeError);
    },
  );

  test('is not asked about slots of another one', async () => {
    const unwrap = vi.fn(invert);
    await expect(open(await slotOf(provider), { provider: { ...provider, id: 'other', unwrap } })).rejects.toEqual(
      withCode('KEY_REFUSED'),
    );
    expect(unwrap).not.toHaveBeenCalled();
  });

  test.each([[new Uint8Array(32)], [new Uint8Array(31)], ['text']])(
    'that gives no key, or another, is taken to refuse (%#)',
    async (given) => {
      const wrong = { ...provider, unwrap: async () => given as Uint8Array };
      await expect(open(await slotOf(provider), { provider: wrong })).rejects.toEqual(withCode('KEY_REFUSED'));
    },
  );

  test('that fails is taken to refuse, unless it says with a code what happened', async () => {
    const failing = (error: unknown) => ({ ...provider, unwrap: () => Promise.reject(error) });
    const slot = await slotOf(provider);
    const denied = new Error('denied');
    await expect(open(slot, { provider: failing(denied) })).rejects.toMatchObject({
      code: 'KEY_REFUSED',
      cause: denied,
    });
    const unreachable = new BackupError('TARGET_UNREACHABLE', 'no network', { retryable: true });
    await expect(open(slot, { provider: failing(unreachable) })).rejects.toBe(unreachable);
  });

  test('that was aborted gives the reason of the abort', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    const waiting: KeyProvider = {
      ...provider,
      unwrap: (_, options) =>
        new Promise((_, reject) => options?.signal?.addEventListener('abort', () => reject(new Error('mine')))),
    };
    const opening = openKeySlot(await slotOf(provider), checkUnlock({ provider: waiting }), name, controller);
    controller.abort(reason);
    await expect(opening).rejects.toBe(reason);
  });
});
