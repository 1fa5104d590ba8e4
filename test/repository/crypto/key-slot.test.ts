import { runInNewContext } from 'node:vm';
import { describe, expect, test, vi } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { encodeMsgpack } from '../../../src/common/msgpack.ts';
import {
  checkKeySlot,
  decodeKeySlot,
  makeKeySlot,
  newSlotName,
  openKeySlot,
} from '../../../src/repository/crypto/key-slot.ts';
import { checkUnlock, type KeyProvider, type Unlock } from '../../../src/repository/crypto/unlock.ts';
import { encodeFormat } from '../../../src/repository/format/format-object.ts';
import { isSlotName } from '../../../src/repository/format/object-keys.ts';
import { randomBytesFrom, seededRandom } from '../../../src/testing/seeded-random.ts';
import { randomBytes, testSeed } from '../../support/randomness.ts';
import { withCode } from '../../support/with-code.ts';
import { bytes, gcm, hkdf256, readMap, sealedSlot, slotBody, withChecksum } from '../format/support/format-text.ts';

const CHEAP = { n: 2, r: 1, p: 1 };
const key = randomBytes(32);
const rawKey = randomBytes(32);
const repositoryId = Uint8Array.from(randomBytes(16));
const slotName = randomBytes(8).toString('hex');
const name = { repositoryId, slot: slotName };
const format = encodeFormat({
  version: 1,
  minReader: 1,
  minWriter: 1,
  features: [],
  readerFeatures: [],
  repositoryId,
  encrypted: true,
  fanOut: 128,
  mode: 'shared',
  keySlot: slotName,
});
const invert = async (data: Uint8Array) => data.map((byte) => byte ^ 0xff);
const provider: KeyProvider = { id: 'test', wrap: invert, unwrap: invert };
const UNLOCKS: Record<string, Unlock> = {
  passphrase: { passphrase: 'open sesame' },
  key: { key: rawKey },
  provider: { provider },
};

const make = (unlock: Unlock, wrapped: Uint8Array = key) =>
  makeKeySlot(wrapped, checkUnlock(unlock), { format, slot: slotName }, {}, CHEAP);
const open = async (slot: Uint8Array, unlock: Unlock, at = name, options = {}) =>
  (await openKeySlot(decodeKeySlot(slot), checkUnlock(unlock), at, options)).key;
const fieldsOf = (slot: Uint8Array) => readMap(slotBody(slot));

describe.each(Object.entries(UNLOCKS))('a slot of kind %s', (kind, unlock) => {
  test('gives the key back', async () => {
    const slot = await make(unlock);
    expect(fieldsOf(slot)).toMatchObject({ version: 1, kind, format: Buffer.from(format.body) });
    expect(decodeKeySlot(slot)).toMatchObject({ kind, format });
    expect(checkKeySlot(slot, key, name)).toBeUndefined();
    expect(Buffer.from(await open(slot, unlock))).toEqual(key);
  });

  test('is another one each time, but for what a provider makes', async () => {
    const [first, second] = [fieldsOf(await make(unlock)), fieldsOf(await make(unlock))];
    if (kind === 'provider') return expect(first).toEqual(second);
    for (const field of ['salt', 'nonce', 'wrapped']) expect(first[field]).not.toEqual(second[field]);
  });

  test('does not hold the key in the clear', async () => {
    expect(Buffer.from(await make(unlock)).includes(key)).toBe(false);
  });

  test('opens under its own name and in its own repository only', async () => {
    const slot = await make(unlock);
    const elsewhere = { ...name, slot: '0123456789abcdef' };
    await expect(open(slot, unlock, elsewhere)).rejects.toEqual(withCode('KEY_REFUSED'));
    expect(checkKeySlot(slot, key, elsewhere)).toMatchObject({
      code: 'KEY_SLOT_CORRUPT',
      message: expect.stringContaining('object keys/0123456789abcdef'),
    });
    const another = { ...name, repositoryId: Uint8Array.from(randomBytes(16)) };
    await expect(open(slot, unlock, another)).rejects.toEqual(withCode('KEY_REFUSED'));
    expect(checkKeySlot(slot, key, another)).toEqual(withCode('KEY_SLOT_CORRUPT'));
  });

  test('stays closed to what another kind takes', async () => {
    const slot = await make(unlock);
    for (const [other, wrong] of Object.entries(UNLOCKS)) {
      if (other !== kind) await expect(open(slot, wrong)).rejects.toEqual(withCode('KEY_REFUSED'));
    }
  });

  test('shows every bit that flips, to everybody', async () => {
    const slot = await make(unlock);
    for (let bit = 0; bit < slot.length * 8; bit++) {
      const flipped = Uint8Array.from(slot);
      flipped[bit >>> 3]! ^= 1 << (bit & 7);
      expect(() => decodeKeySlot(flipped), `bit ${bit}`).toThrow(withCode('KEY_SLOT_CORRUPT'));
      expect(checkKeySlot(flipped, key, name), `bit ${bit}`).toEqual(withCode('KEY_SLOT_CORRUPT'));
    }
  });

  test('shows every byte that somebody changed, checksum and all, to whoever holds the key', async () => {
    const slot = await make(unlock);
    for (let at = 0; at < slot.length - 32; at++) {
      const changed = Uint8Array.from(slot);
      changed[at]! ^= 1;
      const forged = withChecksum('cow1 key slot', changed.subarray(0, -32));
      expect(checkKeySlot(forged, key, name), `byte ${at}`).toEqual(withCode('KEY_SLOT_CORRUPT'));
      const outcome = await open(forged, unlock).catch((error: unknown) => error);
      expect(BackupError.is(outcome), `byte ${at}: ${outcome}`).toBe(true);
    }
  });

  test('is damaged when it is cut or something follows it', async () => {
    const slot = await make(unlock);
    for (let length = 0; length < slot.length; length++) {
      await expect(open(slot.subarray(0, length), unlock)).rejects.toEqual(withCode('KEY_SLOT_CORRUPT'));
    }
    await expect(open(bytes(slot, 0xc0), unlock)).rejects.toEqual(withCode('KEY_SLOT_CORRUPT'));
  });

  test('refuses to hold another key than it is signed with, though everything else is right', async () => {
    const other = randomBytes(32);
    const forged = sealedSlot(key, repositoryId, slotName, slotBody(await make(unlock, other)));
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
    const slot = await makeKeySlot(key, checkUnlock({ passphrase: 'p' }), { format, slot: slotName });
    expect(fieldsOf(slot)).toMatchObject({ n: 2 ** 17, r: 8, p: 1 });
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
  ['a misspelt one', { passphrse: 'secret' }],
  ['one more than is known', { passphrase: 'secret', hint: 'x' }],
  ['a map', new Map([['passphrase', 'secret']])],
  ['a key of another view', { key: new Uint16Array(16) }],
  ['none', {}],
  ['null', null],
  ['a bare string', 'secret'],
])('%s is a TypeError that names the argument and quotes no secret', (_, unlock) => {
  let error: unknown;
  try {
    checkUnlock(unlock as Unlock, 'options.unlock');
  } catch (caught) {
    error = caught;
  }
  expect(error).toBeInstanceOf(TypeError);
  expect(String(error)).toContain('options.unlock');
  expect(String(error)).not.toMatch(/secret|abab/);
});

test('bytes of another realm are as good', () => {
  const key = runInNewContext('new Uint8Array(32)') as Uint8Array;
  expect(checkUnlock({ key })).toEqual({ kind: 'key', key });
});

test('names and repository keys of a wrong form are a TypeError', async () => {
  const unlock = checkUnlock({ key: rawKey });
  const whole = decodeKeySlot(await make({ key: rawKey }));
  for (const slot of ['', 'ABCDEF0123456789', '0123456789abcde', '../../../../etc/x']) {
    expect(isSlotName(slot)).toBe(false);
    await expect(makeKeySlot(key, unlock, { format, slot })).rejects.toThrow(TypeError);
    await expect(openKeySlot(whole, unlock, { ...name, slot })).rejects.toThrow(TypeError);
  }
  expect(isSlotName(newSlotName(key, unlock))).toBe(true);
  await expect(makeKeySlot(key.subarray(1), unlock, { format, slot: slotName })).rejects.toThrow(TypeError);
});

describe('a hostile slot', () => {
  /** Signed by somebody who has the key: nothing but its fields is wrong. */
  const changed = async (unlock: Unlock, changes: object) =>
    sealedSlot(key, repositoryId, slotName, encodeMsgpack({ ...fieldsOf(await make(unlock)), ...changes }));

  test.each([
    { n: 2 ** 24, r: 8, p: 1 }, // 16 GiB
    { n: 2 ** 23, r: 2, p: 1 },
    { n: 100_000, r: 8, p: 1 },
    { n: 2 ** 17, r: 8, p: 17 },
    { n: 2 ** 20, r: 8, p: 16 }, // 1 GiB, 16 times
    { n: 2 ** 20, r: 8, p: 2 },
    { n: 2 ** 17, r: 8, p: 9 }, // 9 times the usual work
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
    const wide = await changed(UNLOCKS.passphrase as Unlock, { n: 2 ** 16, r: 8, p: 16 });
    expect(decodeKeySlot(wide)).toMatchObject({ cost: { n: 2 ** 16, r: 8, p: 16 } });
  });

  test.each([
    { wrapped: new Uint8Array(47) },
    { wrapped: new Uint8Array(49) },
    { nonce: new Uint8Array(11) },
    { salt: new Uint8Array(31) },
    { salt: 'a salt that has thirty-two letters' },
    { kind: null },
    { format: null },
    { format: new Uint8Array(20) },
    { format: encodeFormat({ ...format, encrypted: false, keySlot: undefined }).body },
    { version: 0 },
    { version: 1.5 },
  ])('with %o is damaged', async (changes) => {
    const slot = await changed(UNLOCKS.key as Unlock, changes);
    expect(() => decodeKeySlot(slot)).toThrow(withCode('KEY_SLOT_CORRUPT'));
  });

  test('may have fields that this version does not know', async () => {
    const unlock = UNLOCKS.key as Unlock;
    expect(Buffer.from(await open(await changed(unlock, { comment: 'x' }), unlock))).toEqual(key);
  });

  test.each([{ version: 2 }, { kind: 'smart card' }, { kind: 'smart card', version: 7, salt: null }])(
    'of a newer program is no damage: %o',
    async (changes) => {
      const newer = await changed(UNLOCKS.key as Unlock, changes);
      expect(() => decodeKeySlot(newer)).toThrow(withCode('REPOSITORY_UNSUPPORTED'));
      expect(checkKeySlot(newer, key, name)).toEqual(withCode('REPOSITORY_UNSUPPORTED'));
      // Only if it is one: a damaged slot, or one that a stranger changed, does not pass for newer.
      const forged = withChecksum('cow1 key slot', bytes(slotBody(newer), randomBytes(32)));
      expect(checkKeySlot(forged, key, name)).toEqual(withCode('KEY_SLOT_CORRUPT'));
    },
  );

  test('is not looked at when it is larger than 64 KiB', async () => {
    const slot = await changed(UNLOCKS.key as Unlock, { padding: new Uint8Array(64 * 1024) });
    await expect(open(slot, UNLOCKS.key as Unlock)).rejects.toEqual(withCode('KEY_SLOT_CORRUPT'));
  });

  test('can not open to two keys: a second wrapped key is not the one that signed', async () => {
    const fields = fieldsOf(await make(UNLOCKS.key as Unlock));
    const kek = hkdf256(rawKey, fields.salt as Buffer, 'cow1 raw key');
    const wrapped = gcm(kek, fields.nonce as Buffer, randomBytes(32), bytes('cow1 slot', repositoryId, slotName));
    const forged = sealedSlot(key, repositoryId, slotName, encodeMsgpack({ ...fields, wrapped }));
    await expect(open(forged, UNLOCKS.key as Unlock)).rejects.toEqual(withCode('KEY_SLOT_CORRUPT'));
  });

  test('made of random bytes never gives a key, nor anything but a coded error', async () => {
    const seed = testSeed();
    const random = seededRandom(seed);
    const slot = await make(UNLOCKS.key as Unlock);
    for (let round = 0; round < 3000; round++) {
      const noise = () => randomBytesFrom(random, 64 + Math.floor(random() * 300));
      const body = round % 2 === 0 ? noise() : Uint8Array.from(slot.subarray(0, -32));
      for (let edits = 0; edits < 4; edits++) body[Math.floor(random() * body.length)] = random() * 256;
      const mutated = withChecksum('cow1 key slot', body);
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
    expect(fieldsOf(slot).wrapped).toEqual(key);
  });

  test.each([[new Uint8Array()], [new Uint8Array(16 * 1024 + 1)], ['text'], [undefined]])(
    'that wraps to something else than 1 byte to 16 KiB is taken to refuse (%#)',
    async (wrapped) => {
      const wrapping = slotOf({ ...provider, wrap: async () => wrapped as Uint8Array });
      await expect(wrapping).rejects.toEqual(withCode('KEY_REFUSED'));
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

  test.each(['wrap', 'unwrap'] as const)(
    'that never answers to %s is left behind when the signal aborts',
    async (call) => {
      const controller = new AbortController();
      const reason = new Error('enough');
      const { promise, resolve } = Promise.withResolvers<Uint8Array>();
      const silent: KeyProvider = { ...provider, [call]: () => promise };
      const unlock = checkUnlock({ provider: silent });
      const whole = decodeKeySlot(await slotOf(provider));
      const pending =
        call === 'wrap'
          ? makeKeySlot(key, unlock, { format, slot: slotName }, controller)
          : openKeySlot(whole, unlock, name, controller);
      controller.abort(reason);
      await expect(pending).rejects.toBe(reason);
      resolve(new Uint8Array(32)); // Nobody waits for it any more.
    },
  );

  test('of a failing wrap is taken to refuse, and its bytes of another realm are as good', async () => {
    const denied = new Error('denied');
    await expect(slotOf({ ...provider, wrap: () => Promise.reject(denied) })).rejects.toMatchObject({
      code: 'KEY_REFUSED',
      cause: denied,
    });
    const foreign = (data: Uint8Array) => runInNewContext('Uint8Array.from(data)', { data }) as Uint8Array;
    const abroad = {
      ...provider,
      wrap: async (k: Uint8Array) => foreign(k),
      unwrap: async (k: Uint8Array) => foreign(k),
    };
    expect(Buffer.from(await open(await slotOf(abroad), { provider: abroad }))).toEqual(key);
  });
});
