import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { encodeMsgpack } from '../../../src/common/msgpack.ts';
import type { RepositoryContext } from '../../../src/repository/context/repository-context.ts';
import { decodeFormat, formatObject } from '../../../src/repository/format/format-object.ts';
import type { LogFact } from '../../../src/repository/format/log-entry.ts';
import { slotKey } from '../../../src/repository/format/object-keys.ts';
import { FEWEST_ENTRIES } from '../../../src/repository/log/checkpoint-due.ts';
import { addKeySlot, listKeySlots, removeKeySlot } from '../../../src/repository/open/key-slots.ts';
import { openRepository } from '../../../src/repository/open/open-repository.ts';
import { checkTuning } from '../../../src/repository/open/repository-options.ts';
import { checkSmallObjects } from '../../../src/repository/verify/small-objects.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { withCode } from '../../support/with-code.ts';
import { readMap, sealedSlot, slotBody, withChecksum } from '../format/support/format-text.ts';
import {
  create,
  ENCRYPTED,
  KINDS,
  type Kind,
  opened,
  optionsFor,
  PLAIN,
  ScriptedTarget,
  THEIRS,
} from '../open/support/creations.ts';
import { SMALL } from '../support/repositories.ts';

/** What every backup rests on, and nobody reads while the repository is open. */

const CHEAP = { n: 2, r: 1, p: 1 };
const NOTHING: LogFact = { type: 'config', quarantine: [], release: [] };
const SOUND = { damagedObjects: [], restored: [], unrecordedKeySlots: [] };

async function repository(kind: Kind, readOnly = false) {
  const target = new MemoryTarget();
  await create(target, kind);
  const context = await openRepository(target, { ...optionsFor(kind), readOnly }, checkTuning(SMALL));
  return { target, context, look: () => checkSmallObjects(context, context.target, {}) };
}

const slotOf = ({ format }: RepositoryContext) => slotKey(format.keySlot as string);

describe.each(KINDS)('$name: format', (kind) => {
  test('is restored whichever of its bytes is damaged', async () => {
    const { target, look } = await repository(kind);
    const whole = Uint8Array.from(await target.get('format'));
    expect(await look()).toEqual(SOUND);
    for (let at = 0; at < whole.length; at++) {
      const damaged = whole.slice();
      damaged[at]! ^= 1 << (at & 7);
      await target.put('format', damaged);
      expect(await look(), `byte ${at}`).toEqual({ ...SOUND, restored: ['format'] });
      expect(await target.get('format')).toEqual(whole);
    }
  });

  test.each<[string, (whole: Uint8Array) => Uint8Array]>([
    ['cut', (whole) => whole.subarray(1)],
    ['empty', () => new Uint8Array()],
    ['longer', (whole) => Buffer.concat([whole, Buffer.of(0)])],
    ['of 100 KB', () => new Uint8Array(100_000)],
  ])('that is %s is reported where nothing may be written', async (_how, change) => {
    const { target, look } = await repository(kind, true);
    const damaged = Uint8Array.from(change(await target.get('format')));
    await target.put('format', damaged);
    expect(await look()).toEqual({
      damagedObjects: [{ key: 'format', error: withCode('REPOSITORY_CORRUPT') }],
      restored: [],
      unrecordedKeySlots: [],
    });
    expect(await target.get('format')).toEqual(damaged);
  });

  test('of another repository is reported and never overwritten: it may be somebody’s', async () => {
    const { target, look } = await repository(kind);
    const other = await repository(kind);
    const theirs = await other.target.get('format');
    await target.put('format', Uint8Array.from(theirs));
    expect(await look()).toMatchObject({ damagedObjects: [{ key: 'format' }], restored: [] });
    expect(await target.get('format')).toEqual(theirs);
  });

  test('is not restored where the repository that was opened is not there any more', async () => {
    const { target, context } = await repository(kind);
    await context.log.append(() => ({ type: 'config', quarantine: [], release: [] }));
    for await (const { key } of target.list('')) await target.delete(key);
    const { damagedObjects, restored } = await checkSmallObjects(context, target, {}).catch((error) => ({
      damagedObjects: [{ key: 'format', error }],
      restored: [],
    }));
    expect([damagedObjects.some(({ key }) => key === 'format'), restored]).toEqual([true, []]);
    expect(await Array.fromAsync(target.list(''))).toEqual([]);
    // Nor does it get in the way of another that is made there.
    await create(target, kind);
    const format = await target.get('format');
    await checkSmallObjects(context, target, {}).catch(() => {});
    expect(await target.get('format')).toEqual(format);
  });

  test('that can not be restored is damage, and says why', async () => {
    const { target, context } = await repository(kind);
    await target.delete('format');
    const fault = { kind: 'fail-before' } as const;
    const faulty = new FaultyTarget(target, scriptedFaults([{ operation: 'put', fault }]));
    const { damagedObjects, restored } = await checkSmallObjects(context, faulty, {});
    expect(restored).toEqual([]);
    expect(damagedObjects).toMatchObject([{ key: 'format', error: { cause: { code: 'TARGET_UNAVAILABLE' } } }]);
  });

  test('that is read wrongly once is read again', async () => {
    const { target, context } = await repository(kind);
    const plan = scriptedFaults([{ operation: 'get', subject: 'format', nth: 1, fault: { kind: 'corrupt' } }]);
    expect(await checkSmallObjects(context, new FaultyTarget(target, plan as never), {})).toEqual(SOUND);
  });
});

test('a newer format is no damage where it is signed, and damage where it is not', async () => {
  const { target, context, look } = await repository(ENCRYPTED);
  const { format } = decodeFormat(await target.get('format'));
  const body = encodeMsgpack({ ...readMap(format.body), version: 9, minReader: 9, minWriter: 9 });
  const newer = formatObject({ ...format, body }, context.keys.repositoryKey);
  await target.put('format', Uint8Array.from(newer));
  expect(await look()).toEqual(SOUND);
  expect(await target.get('format')).toEqual(newer);
  const forged = withChecksum('cow1 format', newer.fill(0, 960, 992).subarray(0, -32));
  await target.put('format', Uint8Array.from(forged));
  expect((await look()).restored).toEqual(['format']);
});

describe('key slots', () => {
  test('no bit of one can change without being named, by who holds another key to the repository', async () => {
    const { target, context, look } = await repository(ENCRYPTED);
    const key = slotOf(context);
    const whole = Uint8Array.from(await target.get(key));
    for (let at = 0; at < whole.length; at++) {
      const damaged = whole.slice();
      damaged[at]! ^= 1 << (at & 7);
      // As an accident, and as somebody does it who can make checksums.
      for (const bytes of [damaged, withChecksum('cow1 key slot', damaged.subarray(0, -32))]) {
        if (Buffer.compare(bytes, whole) === 0) continue;
        await target.put(key, Uint8Array.from(bytes));
        const { damagedObjects } = await look();
        expect(damagedObjects[0], `byte ${at}`).toEqual({ key, error: withCode('KEY_SLOT_CORRUPT') });
        // It was the only one.
        expect(damagedObjects[1]).toEqual({ key: 'keys/', error: withCode('KEY_SLOT_NOT_FOUND') });
      }
    }
  });

  test('one that is gone and was not removed is named', async () => {
    const { target, context, look } = await repository(ENCRYPTED);
    await using opener = await opened(target, ENCRYPTED);
    await opener.keys.add(THEIRS);
    await target.delete(slotOf(context));
    expect(await look()).toEqual({
      ...SOUND,
      damagedObjects: [{ key: slotOf(context), error: withCode('KEY_SLOT_NOT_FOUND') }],
    });
    // Nothing brings it back, so the way out is to remove it by name.
    await removeKeySlot(context, context.format.keySlot as string);
    expect(await look()).toEqual(SOUND);
    await expect(removeKeySlot(context, context.format.keySlot as string)).rejects.toEqual(
      withCode('KEY_SLOT_NOT_FOUND'),
    );
  });

  test('one that was added later and is gone is named, by hosts that open a checkpoint too, until it is removed', async () => {
    const { target, context, look } = await repository(ENCRYPTED);
    const id = await addKeySlot(context, THEIRS, {}, { cost: CHEAP });
    expect(await look()).toEqual(SOUND);
    await target.delete(slotKey(id));
    const missed = { ...SOUND, damagedObjects: [{ key: slotKey(id), error: withCode('KEY_SLOT_NOT_FOUND') }] };
    expect(await look()).toEqual(missed);
    for (let n = 0; n < FEWEST_ENTRIES; n++) await context.log.append(() => NOTHING);
    const later = await openRepository(target, optionsFor(ENCRYPTED), checkTuning(SMALL));
    expect(later.log.reader.checkpoint).toBeGreaterThan(1);
    expect(await checkSmallObjects(later, target, {})).toEqual(missed);
    await removeKeySlot(later, id);
    expect(await look()).toEqual(SOUND);
    await expect(removeKeySlot(later, id)).rejects.toEqual(withCode('KEY_SLOT_NOT_FOUND'));
  });

  test('one that the log does not name is no damage, and is told of', async () => {
    const { target, context, look } = await repository(ENCRYPTED);
    const noEntry = { kind: 'fail-before', error: () => new BackupError('PERMISSION_DENIED', 'no') } as const;
    const faulty = new FaultyTarget(target, scriptedFaults([{ operation: 'put', subject: /^log/, fault: noEntry }]));
    const dying = await openRepository(faulty, optionsFor(ENCRYPTED), checkTuning(SMALL));
    await expect(addKeySlot(dying, THEIRS, {}, { cost: CHEAP })).rejects.toEqual(withCode('PERMISSION_DENIED'));
    const [id = ''] = (await listKeySlots(context))
      .map((slot) => slot.id)
      .filter((each) => each !== context.format.keySlot);
    expect(await look()).toEqual({ ...SOUND, unrecordedKeySlots: [id] });
    await using opener = await opened(target, ENCRYPTED);
    expect(await opener.verify({ depth: 'structure' })).toMatchObject({ ok: true, unrecordedKeySlots: [id] });
    await removeKeySlot(context, id);
    expect(await look()).toEqual(SOUND);
  });

  test('one that is added, or removed, while they are looked at is neither missed nor left over', async () => {
    const { target, context, look } = await repository(ENCRYPTED);
    const other = await openRepository(target, optionsFor(ENCRYPTED), checkTuning(SMALL));
    const duringCatchUp = (change: () => Promise<unknown>) => {
      const catchUp = context.log.catchUp.bind(context.log);
      context.log.catchUp = async (options) => {
        context.log.catchUp = catchUp;
        await change();
        const state = await catchUp(options);
        return state;
      };
    };
    let id = '';
    duringCatchUp(async () => {
      id = await addKeySlot(other, THEIRS, {}, { cost: CHEAP });
    });
    expect(await look()).toEqual(SOUND);
    const stat = target.stat.bind(target);
    target.stat = async (key, options) => {
      target.stat = stat;
      await removeKeySlot(other, id);
      return stat(key, options);
    };
    const list = target.list.bind(target);
    target.list = (prefix, options) => {
      target.list = list;
      return list(`${prefix}${prefix === 'keys/' ? (context.format.keySlot as string) : ''}`, options);
    };
    expect(await look()).toEqual(SOUND);
    expect(context.log.state.removedSlots).toEqual(new Set([id]));
  });

  test('one that the log names is looked at also behind a thousand slots of a stranger', async () => {
    const { target, context, look } = await repository(ENCRYPTED);
    const id = await addKeySlot(context, THEIRS, {}, { cost: CHEAP });
    const strangers = {
      *[Symbol.iterator]() {
        for (let n = 0; n < 1000; n++) yield n.toString(16).padStart(16, '0');
      },
    };
    for (const name of strangers) await target.put(slotKey(name), Uint8Array.of(1));
    expect(await look()).toEqual({ ...SOUND, unrecordedKeySlots: [...strangers] });
    await target.put(slotKey(id), Uint8Array.of(1));
    expect((await look()).damagedObjects).toEqual([{ key: slotKey(id), error: withCode('KEY_SLOT_CORRUPT') }]);
    await removeKeySlot(context, id);
    expect(await target.stat(slotKey(id))).toBeUndefined();
  });

  test('one that was removed is not missed, also where its object is left', async () => {
    const { target, context, look } = await repository(ENCRYPTED);
    const bytes = Uint8Array.from(await target.get(slotOf(context)));
    await using opener = await opened(target, ENCRYPTED);
    await opener.keys.add(THEIRS);
    await opener.keys.remove(context.format.keySlot as string);
    expect(await look()).toEqual(SOUND);
    await target.put(slotOf(context), bytes.subarray(5));
    expect(await look()).toEqual(SOUND);
  });

  test('one of a newer program is no damage', async () => {
    const { target, context, look } = await repository(ENCRYPTED);
    const { repositoryId } = context.format;
    const body = readMap(slotBody(await target.get(slotOf(context))));
    const slot = 'ffffffffffffffff';
    await context.log.append(() => ({ type: 'keys', added: [slot], removed: [] }));
    for (const changes of [{ kind: 'smart card' }, { version: 2 }]) {
      const newer = encodeMsgpack({ ...body, ...changes });
      const sealed = sealedSlot(context.keys.repositoryKey as Uint8Array, repositoryId, slot, newer);
      await target.put(slotKey(slot), Uint8Array.from(sealed));
      expect(await look()).toEqual(SOUND);
      await using opener = await opened(target, ENCRYPTED);
      const listed = (await opener.keys.list()).find(({ id }) => id === slot);
      expect(listed).toEqual({ id: slot, kind: undefined, error: withCode('REPOSITORY_UNSUPPORTED') });
      expect(await opener.verify({ depth: 'structure' })).toMatchObject({ ok: true });
    }
  });

  test('one that a creation left, which lost to another and died, is no damage and is named', async () => {
    const { target, context, look } = await repository(ENCRYPTED);
    const losing = new ScriptedTarget(target, async (_index, invoke, call) => {
      // It looked before the other one was there, and dies before it deletes its slot.
      if (call === undefined) return [] as never;
      if (call.operation === 'stat') return undefined as never;
      if (call.operation === 'delete' && call.subject.startsWith('keys/')) throw new Error('dead');
      return invoke();
    });
    await expect(create(losing, ENCRYPTED)).rejects.toEqual(withCode('REPOSITORY_EXISTS'));
    const [left] = (await listKeySlots(context)).filter(({ id }) => id !== context.format.keySlot);
    expect(left).toMatchObject({
      error: { code: 'KEY_SLOT_CORRUPT', message: expect.stringContaining('another rep') },
    });
    const id = left?.id as string;
    expect(await look()).toEqual({ ...SOUND, unrecordedKeySlots: [id] });
    await target.put(slotKey(id), Uint8Array.of(1));
    expect(await look()).toEqual({ ...SOUND, unrecordedKeySlots: [id] });
    await removeKeySlot(context, id);
    expect(await look()).toEqual(SOUND);
  });

  test('a plain repository has none', async () => {
    const { target, look } = await repository(PLAIN);
    await target.put('keys/0123456789abcdef', Uint8Array.of(1));
    expect(await look()).toEqual(SOUND);
  });
});

test('a verification that found damage in a slot is not ok', async () => {
  const { target, context } = await repository(ENCRYPTED);
  await using opener = await opened(target, ENCRYPTED);
  await opener.keys.add(THEIRS);
  const bytes = Uint8Array.from(await target.get(slotOf(context)));
  bytes[50]! ^= 1;
  await target.put(slotOf(context), bytes);
  for (const depth of ['structure', 'checksums', 'data'] as const) {
    const verified = await opener.verify({ depth });
    expect(verified).toMatchObject({ ok: false, damaged: [], restored: [] });
    expect(verified.damagedObjects).toEqual([{ key: slotOf(context), error: withCode('KEY_SLOT_CORRUPT') }]);
  }
});
