import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import type { Unlock } from '../../../src/repository/crypto/unlock.ts';
import {
  decodeFormat,
  encodeFormat,
  FORMAT_BYTES,
  formatObject,
} from '../../../src/repository/format/format-object.ts';
import { slotKey } from '../../../src/repository/format/object-keys.ts';
import type { OpenOptions } from '../../../src/repository/open/repository-options.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { withChecksum } from '../format/support/format-text.ts';
import { openVolume, SMALL } from '../support/repositories.ts';
import {
  create,
  ENCRYPTED,
  KINDS,
  type Kind,
  OURS,
  objectsOf,
  openCreating,
  opened,
  PLAIN,
  ScriptedTarget,
  THEIRS,
} from './support/creations.ts';

const invert = async (data: Uint8Array) => data.map((byte) => byte ^ 0xff);

async function withBackup(kind: Kind): Promise<MemoryTarget> {
  const target = new MemoryTarget();
  await create(target, kind);
  await using repository = await opened(target, kind);
  const { volume } = await openVolume(3);
  await repository.backup(volume, { volume: 'disk' });
  return target;
}

/** What opening is refused with. The test fails where anything is written. */
async function refusal(target: CloudTarget, options: OpenOptions): Promise<string> {
  const watched = new ScriptedTarget(target, async (_index, invoke, call) => {
    if (['put', 'delete', 'deleteMany'].includes(call?.operation ?? '')) throw new Error(`${call?.subject} is written`);
    return invoke();
  });
  try {
    await using repository = await BackupRepository.open(watched, { ...SMALL, ...options });
    return `opens, encrypted: ${repository.encrypted}`;
  } catch (error) {
    if (!BackupError.is(error)) throw error;
    return error.code;
  }
}

describe('a plain repository in place of an encrypted one', () => {
  const UNLOCKS: [string, Unlock][] = [
    ['a passphrase', { passphrase: 'x' }],
    ['a key', OURS],
    ['a provider', { provider: { id: 'x', wrap: invert, unwrap: invert } }],
  ];
  const ways: [string, OpenOptions][] = UNLOCKS.flatMap(([name, unlock]): [string, OpenOptions][] => [
    [`${name} in unlock`, { unlock }],
    [`${name} in unlock, read-only`, { unlock, readOnly: true }],
    [`${name} in createIfMissing`, { createIfMissing: { encryption: unlock } }],
    [`${name} in both`, { unlock, createIfMissing: { encryption: unlock } }],
    [`${name}, for a single writer`, { unlock, singleWriter: true }],
  ]);

  test.each(ways)('is refused where there is %s', async (_how, options) => {
    for (const kind of KINDS.filter(({ encryption }) => encryption === 'none')) {
      const target = await withBackup(kind);
      expect(await refusal(target, options)).toBe('NOT_ENCRYPTED');
      // Without its format it is no other.
      await target.delete('format');
      expect(await refusal(target, options)).toBe('NOT_ENCRYPTED');
    }
  });

  test('opens without anything to unlock it, and says what it is', async () => {
    const target = await withBackup(PLAIN);
    expect(await refusal(target, {})).toBe('opens, encrypted: false');
    expect(await refusal(target, { createIfMissing: { encryption: 'none' } })).toBe('opens, encrypted: false');
  });

  test('and the other way round: an encrypted one is not opened without a key', async () => {
    const target = await withBackup(ENCRYPTED);
    expect(await refusal(target, {})).toBe('KEY_REQUIRED');
    expect(await refusal(target, { createIfMissing: { encryption: 'none' } })).toBe('KEY_REQUIRED');
    expect(await refusal(target, { unlock: OURS })).toBe('opens, encrypted: true');
  });
});

describe('what somebody who can write to the store makes of format', () => {
  const options = { unlock: OURS, singleWriter: true };

  test('no byte of it can change, with the checksum made anew or not', { timeout: 60_000 }, async () => {
    for (const kind of KINDS) {
      const target = await withBackup(kind);
      const whole = Uint8Array.from(await target.get('format'));
      const isEncrypted = kind.encryption !== 'none';
      const opening = isEncrypted ? options : { singleWriter: true };
      for (let at = 0; at < FORMAT_BYTES; at++) {
        const changed = whole.slice();
        changed[at]! ^= 1 << (at & 7);
        await target.put('format', changed);
        expect(await refusal(target, opening), `byte ${at}`).toBe('REPOSITORY_CORRUPT');
        // Nobody can tell in a plain repository.
        if (!isEncrypted || at >= FORMAT_BYTES - 32) continue;
        await target.put('format', Uint8Array.from(withChecksum('cow1 format', changed.subarray(0, -32))));
        expect(await refusal(target, opening), `byte ${at}, checksum anew`).toMatch(
          /^(REPOSITORY_CORRUPT|REPOSITORY_UNSUPPORTED|KEY_REFUSED)$/,
        );
      }
    }
  });

  test.each([
    ['mode', { mode: 'single-writer' }],
    ['fan-out', { fanOut: 64 }],
    ['features', { features: [] as string[], minWriter: 1, version: 2 }],
    ['key slot', { keySlot: undefined }],
  ] as const)('another %s is refused, the MAC kept, stripped, or made with another key', async (_what, changes) => {
    const target = await withBackup(ENCRYPTED);
    const { format, signed } = decodeFormat(await target.get('format'));
    const forged = encodeFormat({ ...format, ...changes });
    const content = formatObject(forged, new Uint8Array(32)).subarray(0, -64);
    for (const mac of [signed.mac, new Uint8Array(32), formatObject(forged, new Uint8Array(32)).subarray(-64, -32)]) {
      await target.put('format', Uint8Array.from(withChecksum('cow1 format', Buffer.concat([content, mac]))));
      expect(await refusal(target, options)).toBe('REPOSITORY_CORRUPT');
    }
  });

  test.each(KINDS.filter(({ encryption }) => encryption !== 'none'))(
    '$name: a plain format is refused',
    async (kind) => {
      const target = await withBackup(kind);
      const { format } = decodeFormat(await target.get('format'));
      const plain = encodeFormat({ ...format, encrypted: false, keySlot: undefined });
      await target.put('format', formatObject(plain, undefined));
      expect(await refusal(target, options)).toBe('NOT_ENCRYPTED');
    },
  );

  test('the format of another repository is refused', async () => {
    const [target, other] = [await withBackup(ENCRYPTED), await withBackup(ENCRYPTED)];
    await target.put('format', Uint8Array.from(await other.get('format')));
    expect(await refusal(target, options)).toBe('KEY_REFUSED');
  });

  test('is told from a wrong passphrase, and how it is mended', async () => {
    const target = await withBackup(ENCRYPTED);
    const bytes = Uint8Array.from(await target.get('format'));
    await target.put('format', Uint8Array.from(withChecksum('cow1 format', bytes.fill(0, 960, 992).subarray(0, -32))));
    await expect(opened(target, ENCRYPTED)).rejects.toThrow(/was changed.*delete that object/);
    await target.delete('format');
    await using repository = await opened(target, ENCRYPTED);
    expect((await repository.verify({ depth: 'structure' })).restored).toEqual(['format']);
  });
});

describe('objects that a stranger has made large', () => {
  /** Refuses to give more bytes than asked for, and notes how many were asked for. */
  function counting(inner: CloudTarget) {
    const asked: [string, number | undefined][] = [];
    const target = new ScriptedTarget(inner, (_index, invoke, call) => {
      if (call?.operation === 'get') asked.push([call.subject, call.bytes]);
      return invoke();
    });
    return { target, asked };
  }

  test('a format of many bytes is not fetched: no more of it than a format has', async () => {
    const inner = await withBackup(ENCRYPTED);
    const format = await inner.get('format');
    const large = new Uint8Array(20_000_000);
    large.set(format);
    await inner.put('format', large);
    const { target, asked } = counting(inner);
    await using repository = await opened(target, ENCRYPTED);
    expect(asked.filter(([key]) => key === 'format')).toEqual([['format', FORMAT_BYTES]]);
    // What stands behind it is noticed by a verification, which looks at the size first.
    const { restored } = await repository.verify({ depth: 'structure' });
    expect(restored).toEqual(['format']);
    expect(asked.filter(([key, bytes]) => key === 'format' && bytes !== FORMAT_BYTES)).toEqual([]);
    expect(await inner.get('format')).toEqual(format);
  });

  test('a slot of many bytes is not fetched at all, and no more of one than was listed', async () => {
    const inner = await withBackup(ENCRYPTED);
    await inner.put(slotKey('0000000000000000'), new Uint8Array(20_000_000));
    await inner.put(slotKey('0000000000000001'), new Uint8Array(0));
    await inner.put(slotKey('0000000000000002'), new Uint8Array(64 * 1024));
    const { target, asked } = counting(inner);
    await expect(opened(target, { ...ENCRYPTED, encryption: THEIRS })).rejects.toEqual(withCode('KEY_REFUSED'));
    const slots = asked.filter(([key]) => key.startsWith('keys/'));
    expect(slots.map(([key]) => key)).not.toContain(slotKey('0000000000000000'));
    expect(slots.map(([key]) => key)).not.toContain(slotKey('0000000000000001'));
    expect(slots).toHaveLength(2);
    for (const [, bytes] of slots) expect(bytes).toBeLessThanOrEqual(64 * 1024);
    await using repository = await opened(target, ENCRYPTED);
    const damaged = (await repository.keys.list()).filter(({ error }) => error !== undefined);
    expect(damaged.map(({ error }) => error?.code)).toEqual(Array(3).fill('KEY_SLOT_CORRUPT'));
  });

  test('more slots than anybody has are not looked at', async () => {
    const inner = await withBackup(ENCRYPTED);
    for (let n = 0; n < 1500; n++) await inner.put(slotKey(n.toString(16).padStart(16, '0')), Uint8Array.of(1));
    const { target, asked } = counting(inner);
    await opened(target, { ...ENCRYPTED, encryption: THEIRS }).catch(() => {});
    expect(asked.filter(([key]) => key.startsWith('keys/')).length).toBeLessThanOrEqual(1001);
    // The slot that format names opens all the same, though the listing does not come to it.
    const names = (await Array.fromAsync(inner.list('keys/'))).slice(0, 1000).map(({ key }) => key);
    await using repository = await opened(inner, ENCRYPTED);
    const listed = await repository.keys.list();
    expect(listed.filter(({ error }) => error === undefined)).toEqual([]);
    expect(listed).toHaveLength(names.length);
  });
});

describe('options of open and create', () => {
  const target = new MemoryTarget();
  const encryption = OURS;
  test.each<[RegExp, unknown]>([
    [/^options/, null],
    [/^options/, new Map()],
    [/unlok.*did you mean unlock/, { unlok: OURS }],
    [/^unlock.*passphrse.*did you mean passphrase/, { unlock: { passphrse: 'secret' } }],
    [/^unlock/, { unlock: 'secret' }],
    [/^unlock/, { unlock: null }],
    [/^readOnly/, { readOnly: 'yes' }],
    [/^singleWriter/, { singleWriter: 1 }],
    [/^signal/, { signal: {} }],
    [/^createIfMissing/, { createIfMissing: true }],
    [/^createIfMissing has no option/, { createIfMissing: { encryption, threads: 2 } }],
    [/^createIfMissing.encryption is required/, { createIfMissing: {} }],
    [/^createIfMissing.encryption/, { createIfMissing: { encryption: 'secret' } }],
    [/^createIfMissing.encryption.key/, { createIfMissing: { encryption: { key: new Uint8Array(8) } } }],
    [/^createIfMissing.singleWriter/, { createIfMissing: { encryption, singleWriter: 'yes' } }],
    [/readOnly and createIfMissing/, { readOnly: true, createIfMissing: { encryption } }],
    [/unlock is given/, { unlock: OURS, createIfMissing: { encryption: 'none' } }],
    [/threads/, { threads: -1 }],
  ])('are refused by name: %s', async (message, options) => {
    const opening = BackupRepository.open(target, options as OpenOptions);
    await expect(opening).rejects.toMatchObject({ name: 'TypeError', message: expect.stringMatching(message) });
    await expect(opening).rejects.not.toThrow(/secret/);
    expect(await objectsOf(target)).toEqual(new Map());
  });

  test.each<[RegExp, unknown]>([
    [/^encryption is required/, {}],
    [/^encryption/, { encryption: 'secret' }],
    [/^encryption.*passphrse/, { encryption: { passphrse: 'secret' } }],
    [/remembered/, { encryption: 'none', remembered: undefined }],
    [/^singleWriter/, { encryption: 'none', singleWriter: 'yes' }],
    [/^signal/, { encryption: 'none', signal: 1 }],
    [/threads/, { encryption: 'none', threads: 1.5 }],
  ])('of create too: %s', async (message, options) => {
    const creating = BackupRepository.create(target, options as never);
    await expect(creating).rejects.toMatchObject({ name: 'TypeError', message: expect.stringMatching(message) });
    await expect(creating).rejects.not.toThrow(/secret/);
    expect(await objectsOf(target)).toEqual(new Map());
  });

  test.each<[string, unknown]>([
    ['nothing', undefined],
    ['a text', '/var/backups'],
    ['an object that is no target', { put: async () => {} }],
  ])('a target that is %s is a TypeError', async (_what, wrong) => {
    await expect(BackupRepository.open(wrong as CloudTarget)).rejects.toThrow(/^target/);
    await expect(BackupRepository.create(wrong as CloudTarget, { encryption: 'none' })).rejects.toThrow(/^target/);
  });

  test('repository.keys checks its arguments', async () => {
    const target = new MemoryTarget();
    (await openCreating(target, ENCRYPTED)).context.keys.wipe();
    await using repository = await opened(target, ENCRYPTED);
    const { keys } = repository;
    await expect(keys.add({ passphrse: 'x' } as never)).rejects.toThrow(TypeError);
    await expect(keys.add(THEIRS, { sginal: 1 } as never)).rejects.toThrow(/did you mean signal/);
    await expect(keys.remove(7 as never)).rejects.toThrow(/^id/);
    await expect(keys.remove('0123456789abcdef', { signal: 'x' } as never)).rejects.toThrow(/^options.signal/);
    await expect(keys.list(new Map() as never)).rejects.toThrow(/^options/);
  });
});
