import { describe, expect, test } from 'vitest';
import { decodeCheckpoint, encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import { floorSeq, type LogState } from '../../../src/repository/format/log-state.ts';
import { checkpointKey, entryKey } from '../../../src/repository/format/object-keys.ts';
import { decideOpen } from '../../../src/repository/log/entries/sessions.ts';
import { openLog } from '../../../src/repository/log/open-log.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { open } from './support/facts.ts';
import { counted, host, LOG_KEY, objectsOf, sourceOf, targetOf } from './support/hosts.ts';
import { deleteBelow, grow, growAndPrune, keysFact, logKeysOf, raiseFloor } from './support/pruned-log.ts';
import { verifyLog } from './support/verify-log.ts';

/** L1 to L7 against the real code: logs whose old entries are deleted, and processes that slept meanwhile. */

const plain = (state: LogState) => ({ ...state });

/** Runs something at a moment that a test chooses. */
class HookedTarget extends ForwardingTarget {
  beforeGet: (key: string) => Promise<void> = async () => {};
  afterList: () => Promise<void> = async () => {};
  givesTags = true;

  constructor(inner: CloudTarget) {
    super(inner, 'this hooked target');
  }

  protected override async forwardGet(...args: Parameters<CloudTarget['get']>) {
    await this.beforeGet(args[0]);
    return this.inner.get(...args);
  }

  protected override async *forwardList(...args: Parameters<CloudTarget['list']>) {
    for await (const { tag, ...info } of this.inner.list(...args)) yield this.givesTags ? { ...info, tag } : info;
    await this.afterList();
  }
}

describe.each([
  ['plain', undefined],
  ['encrypted', LOG_KEY],
] as const)('a %s log', (_name, logKey) => {
  test('opens to the state that all of its entries have given, with few objects left', async () => {
    const target = new MemoryTarget();
    const writer = await host(target, { logKey });
    const state = await growAndPrune(target, writer, 150);
    expect(floorSeq(state)).toBeGreaterThan(80);
    const left = await logKeysOf(target);
    expect(left.length).toBeLessThan(75);
    expect(left).not.toContain(entryKey(floorSeq(state)));
    const source = sourceOf(target, { logKey });
    expect(plain((await openLog(source)).state)).toEqual(plain(state));
    expect(plain(await verifyLog(source))).toEqual(plain(state));
    await growAndPrune(target, writer, 100);
    expect(plain((await openLog(source)).state)).toEqual(plain(writer.state));
  });
});

describe('L1: what a floor rests on', () => {
  const pruned = async () => {
    const target = new MemoryTarget();
    const writer = await host(target);
    const state = await growAndPrune(target, writer);
    const checkpoints = (await logKeysOf(target)).filter((key) => key.endsWith('-c'));
    return { target, writer, state, newer: checkpoints[0]!, floor: checkpointKey(floorSeq(state)), checkpoints };
  };

  test('two checkpoints are left: the log opens without the newer one, and without the entry of the floor', async () => {
    const { target, state, newer, floor, checkpoints } = await pruned();
    expect(checkpoints).toEqual([newer, floor]);
    for (const lost of [newer, floor]) {
      const part = await targetOf(await objectsOf(target));
      await part.delete(lost);
      expect(plain((await openLog(sourceOf(part))).state)).toEqual(plain(state));
    }
    await target.delete(newer);
    await target.delete(floor);
    // The entry alone was deleted rightfully: a checkpoint helps as well.
    const error = {
      code: 'LOG_TRUNCATED',
      message: expect.stringMatching(/^entry \d+ of the log is missing, and so is a checkpoint of it/),
    };
    await expect(openLog(sourceOf(target))).rejects.toMatchObject(error);
  });

  test('the checkpoint of the floor has its digest: another one of the same state is not believed', async () => {
    const { target, state, newer, floor } = await pruned();
    const then = await decodeCheckpoint(undefined, floorSeq(state), await target.get(floor));
    const other = (await encodeCheckpoint(undefined, { ...then, keySlots: new Set() }))!;
    await target.put(floor, other);
    expect(plain((await openLog(sourceOf(target))).state)).toEqual(plain(state));
    await target.delete(newer);
    await expect(openLog(sourceOf(target))).rejects.toMatchObject({
      code: 'LOG_TRUNCATED',
      message: expect.stringMatching(/checkpoint/),
    });
  });

  test('checkpoints below the floor mean nothing, whatever they say', async () => {
    const { target, writer, state, newer, floor } = await pruned();
    const old = await host(new MemoryTarget());
    await grow(old, 5);
    await target.put(checkpointKey(5), (await encodeCheckpoint(undefined, old.state))!);
    expect(plain((await openLog(sourceOf(target))).state)).toEqual(plain(state));
    expect(plain(await writer.catchUp())).toEqual(plain(state));
    for (const key of [newer, floor]) await target.delete(key);
    await expect(openLog(sourceOf(target))).rejects.toEqual(withCode('LOG_TRUNCATED'));
  });

  test('a checkpoint that is there is not replaced, and a bad one is no floor', async () => {
    const target = new MemoryTarget();
    const writer = await host(target);
    const garbage = Uint8Array.of(1, 2, 3);
    await grow(writer, 70);
    await target.put(checkpointKey(70), garbage);
    await writer.checkpointNow();
    expect(await target.get(checkpointKey(70))).toEqual(garbage);
    await grow(writer, 5);
    expect(floorSeq((await raiseFloor(writer))!)).toBe(56);
    await grow(writer, 64);
    expect(floorSeq((await raiseFloor(writer))!)).toBeGreaterThan(70);
  });

  test('a checkpoint that says something else than the entries is no floor, and none that counts for one', async () => {
    const target = new MemoryTarget();
    const writer = await host(target);
    await grow(writer, 96);
    const other = (await encodeCheckpoint(undefined, { ...writer.state, keySlots: new Set() }))!;
    await target.put(checkpointKey(96), other);
    await grow(writer, 4);
    expect(floorSeq((await raiseFloor(writer))!)).toBe(80);
  });

  test('no floor is set where own fold and checkpoint differ, or where an entry is damaged', async () => {
    const target = new MemoryTarget();
    const writer = await host(target);
    await grow(writer, 100);
    const objects = await objectsOf(target);
    for (const key of [entryKey(20), checkpointKey(96)]) {
      const damaged = await targetOf(objects);
      await damaged.put(key, Uint8Array.from(objects.get(key)!.toReversed()));
      const other = await host(damaged);
      const state = await raiseFloor(other);
      // Of three checkpoints, the two good ones will do.
      expect(state === undefined ? 0 : floorSeq(state)).toBe(key === entryKey(20) ? 0 : 80);
    }
  });
});

describe('a process that has the log open while entries are deleted', () => {
  test.each([
    ['all of them', () => false],
    ['every second one', (seq: number) => seq % 2 === 0],
    ['those that it would read next', (seq: number) => seq > 12],
    ['those that it has read', (seq: number) => seq < 12],
  ])('follows the log: %s', async (_what, leave) => {
    const target = new MemoryTarget();
    const sleeper = await host(target);
    await grow(sleeper, 10);
    const writer = await host(target);
    await grow(writer, 100);
    await deleteBelow(target, (await raiseFloor(writer))!, leave);
    expect(plain(await sleeper.catchUp())).toEqual(plain(writer.state));
    expect(sleeper.position).toEqual(writer.position);
    await grow(sleeper, 3);
    expect(plain(await writer.catchUp())).toEqual(plain(sleeper.state));
    expect(plain(await verifyLog(sourceOf(target)))).toEqual(plain(sleeper.state));
  });

  test.each([
    ['all are', () => false],
    ['only that one is', (seq: number) => seq !== 11],
  ])('L3: is not misled by a number that is free again, where %s', async (_what, leave) => {
    const target = new MemoryTarget();
    const sleeper = await host(target);
    await grow(sleeper, 10);
    const writer = await host(target);
    await growAndPrune(target, writer, 100, leave);
    const appended = await sleeper.append(() => keysFact(1_000_000), { lookFirst: false });
    // It created entry 11, which is not in the log, and then a real one.
    expect(await target.stat(entryKey(11))).toBeDefined();
    expect(appended?.entry.seq).toBe(writer.state.seq + 1);
    expect((await writer.catchUp()).keySlots.has(keysFact(1_000_000).added[0]!)).toBe(true);
    await deleteBelow(target, writer.state);
    expect(await target.stat(entryKey(11))).toBeUndefined();
    expect(plain(await verifyLog(sourceOf(target)))).toEqual(plain(writer.state));
  });

  test('L6: meets the entry of another sleeper, and opens anew', async () => {
    const target = new MemoryTarget();
    const [one, other] = [await host(target), await host(target)];
    await grow(one, 10);
    await other.catchUp();
    const writer = await host(target);
    await growAndPrune(target, writer);
    await one.append(() => keysFact(2_000_000), { lookFirst: false, confirm: false });
    await one.append(() => keysFact(2_000_001), { lookFirst: false, confirm: false });
    // The first follows from what it knows, and the second from that.
    await other.append(() => keysFact(2_000_002), { lookFirst: false });
    const { keySlots } = await writer.catchUp();
    expect([2_000_000, 2_000_001, 2_000_002].map((n) => keySlots.has(keysFact(n).added[0]!))).toEqual([
      false,
      false,
      true,
    ]);
    expect((await one.catchUp()).seq).toBe(writer.state.seq);
  });

  test('L2: a refusal is looked at again, because strays may have led to it', async () => {
    const target = new MemoryTarget();
    const [one, other] = [await host(target), await host(target)];
    await grow(one, 10);
    await other.catchUp();
    const writer = await host(target);
    await growAndPrune(target, writer);
    await one.append(() => open({ disk: undefined }), { lookFirst: false, confirm: false });
    const opening = (state: LogState) => decideOpen(state, { owner: 'other', volumes: new Map([['disk', undefined]]) });
    // It folds the stray, in which the volume is busy.
    await other.append(() => keysFact(3_000_000), { lookFirst: false, confirm: false });
    const opened = await other.append(opening, { lookFirst: false });
    expect(opened?.entry.seq).toBe(writer.state.seq + 1);
  });

  test('L6: an own entry above the floor that is not in the log shows that the log is broken', async () => {
    const store = new MemoryTarget();
    const target = new HookedTarget(store);
    target.givesTags = false; // And the entry that takes the place of its own has the same length: a listing shows nothing.
    const writer = await host(target);
    await grow(writer, 10);
    const old = await objectsOf(target);
    const sleeper = await host(target);
    await sleeper.append(() => keysFact(4_000_000), { confirm: false });
    // The store is set back, and goes on in another way: no floor explains that the entries are gone.
    for (const key of await logKeysOf(target)) if (!old.has(key)) await target.delete(key);
    const other = await host(target);
    for (let n = 2; n < 7; n++) await other.append(() => keysFact(4_000_000 + n));
    await expect(sleeper.catchUp()).rejects.toEqual(withCode('REPOSITORY_ROLLED_BACK'));
  });

  test('does not follow another history, recognised by anchors below the floor', async () => {
    const target = new MemoryTarget();
    const sleeper = await host(target);
    await grow(sleeper, 40);
    const other = new MemoryTarget();
    const writer = await host(other);
    await growAndPrune(other, writer, 150);
    for (const key of await logKeysOf(target)) await target.delete(key);
    for (const [key, body] of await objectsOf(other)) await target.put(key, body);
    await expect(sleeper.catchUp()).rejects.toEqual(withCode('REPOSITORY_ROLLED_BACK'));
  });
});

describe('L3, L5: a process that opens the log in the middle of it', () => {
  const prunedBehind = async (givesTags: boolean) => {
    const target = new MemoryTarget();
    const writer = await host(target);
    await grow(writer, 40);
    const hooked = new HookedTarget(target);
    hooked.givesTags = givesTags;
    const stray = await host(target);
    let isDone = false;
    const newest = writer.state.seq;
    hooked.beforeGet = async (key) => {
      if (isDone || key !== entryKey(newest)) return;
      isDone = true;
      // Between the listing and this request, everything is deleted that was listed, and a sleeper takes the number.
      await growAndPrune(target, writer, 100);
      const { reader } = stray;
      reader.fallBack();
    };
    return { target, writer, hooked, newest };
  };

  test('what was listed and is gone leads to another listing', async () => {
    for (const givesTags of [true, false]) {
      const { writer, hooked } = await prunedBehind(givesTags);
      expect(plain((await openLog(sourceOf(hooked))).state)).toEqual(plain(writer.state));
    }
  });

  test.each([[true], [false]])(
    'a stray with the number of the listed entry is not believed (tags: %s)',
    async (givesTags) => {
      const target = new MemoryTarget();
      const writer = await host(target);
      await grow(writer, 42);
      const sleeper = await host(target);
      await grow(writer, 1);
      const hooked = new HookedTarget(target);
      hooked.givesTags = givesTags;
      let isDone = false;
      hooked.beforeGet = async (key) => {
        if (isDone || key !== entryKey(43)) return;
        isDone = true;
        await growAndPrune(target, writer, 100);
        await sleeper.append(() => keysFact(5_000_000), { lookFirst: false, confirm: false });
        expect(sleeper.state.seq).toBe(43);
      };
      expect(plain((await openLog(sourceOf(hooked))).state)).toEqual(plain(writer.state));
      expect(isDone).toBe(true);
    },
  );

  test('L4: a listing that lacks an entry leads to another one; two that agree are refused', async () => {
    const target = new MemoryTarget();
    const writer = await host(target);
    await growAndPrune(target, writer);
    // The tail of the newest entry repeats the one that is not listed, so reading does not miss it.
    while (writer.state.seq % 2 !== 0 || writer.reader.checkpoint >= writer.state.seq - 1) {
      await writer.append(() => keysFact(5_000_000));
    }
    const lacking = (times: number) => {
      const part = counted(target);
      part.list = async function* (prefix, options) {
        const hides = times-- > 0;
        for await (const info of target.list(prefix, options)) {
          if (!hides || info.key !== entryKey(writer.state.seq - 1)) yield info;
        }
      };
      return sourceOf(part);
    };
    expect((await openLog(lacking(1))).state.seq).toBe(writer.state.seq);
    await expect(openLog(lacking(2))).rejects.toEqual(withCode('LOG_TRUNCATED'));
  });
});

describe('P11, L7: a host that remembers a position', () => {
  const remembering = async () => {
    const target = new MemoryTarget();
    const writer = await host(target);
    await grow(writer, 40);
    const { position } = writer;
    await growAndPrune(target, writer, 100);
    return { target, writer, position };
  };

  test('below the floor recognises its log by an anchor, and refuses another one', async () => {
    const { target, writer, position } = await remembering();
    expect(floorSeq(writer.state)).toBeGreaterThan(position.seq);
    expect((await openLog(sourceOf(target), { remembered: position })).state.seq).toBe(writer.state.seq);
    const other = (await remembering()).target;
    await expect(openLog(sourceOf(other), { remembered: position })).rejects.toEqual(
      withCode('REPOSITORY_ROLLED_BACK'),
    );
  });

  test('without anchors, or with none in common, nothing is known; above the floor it is exact', async () => {
    const other = (await remembering()).target;
    const { target, writer, position } = await remembering();
    const { seq, hash } = position;
    expect((await openLog(sourceOf(other), { remembered: { seq: 41, hash } })).state.seq).toBe(writer.state.seq);
    expect(seq).toBe(40);
    for (const above of [floorSeq(writer.state), writer.state.seq - 3]) {
      const exact = openLog(sourceOf(target), { remembered: { seq: above, hash } });
      await expect(exact, String(above)).rejects.toEqual(withCode('REPOSITORY_ROLLED_BACK'));
    }
    const later = { ...writer.position, seq: writer.state.seq + 1 };
    await expect(openLog(sourceOf(target), { remembered: later })).rejects.toEqual(withCode('REPOSITORY_ROLLED_BACK'));
  });
});

describe('P13: in single-writer mode', () => {
  test('two entries of a number up to the floor are no fork, and above it they are', async () => {
    const options = { mode: 'single-writer' as const };
    const target = new MemoryTarget({ createOnly: false });
    const writer = await host(target, options);
    await grow(writer, 20);
    const twin = await targetOf(await objectsOf(target));
    await growAndPrune(target, writer, 120, (seq) => seq === 21);
    const late = await host(twin, options);
    await grow(late, 1);
    const [key, body] = [...(await objectsOf(twin))][0]!;
    await target.put(key, body);
    expect((await host(target, options)).state.seq).toBe(writer.state.seq);
    await grow(writer, 1);
    await deleteBelow(target, writer.state);
    expect(await logKeysOf(target)).not.toContain(key);
    const twice = await targetOf(await objectsOf(target));
    await grow(await host(twice, options), 1);
    const fork = [...(await objectsOf(twice))][0]!;
    await grow(writer, 1);
    await target.put(...fork);
    await expect(host(target, options)).rejects.toEqual(withCode('LOG_FORKED'));
  });
});
