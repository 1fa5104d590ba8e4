import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import type { LogFact } from '../../../src/repository/format/log-entry.ts';
import { floorSeq, type LogState } from '../../../src/repository/format/log-state.ts';
import { checkpointKey, entryKey, parseLogKey } from '../../../src/repository/format/object-keys.ts';
import { fetchCheckpoint, floorCheckpoint } from '../../../src/repository/log/log-source.ts';
import { openLog } from '../../../src/repository/log/open-log.ts';
import type { CloudTarget, PutOptions, PutResult } from '../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { scriptedFaults } from '../../../src/testing/faults.ts';
import { withCode } from '../../support/with-code.ts';
import { counted, host, LOG_KEY, objectsOf, sourceOf } from './support/hosts.ts';
import { runJob } from './support/jobs.ts';
import { deleteBelow, grow, logKeysOf, raiseFloor } from './support/pruned-log.ts';
import { verifyLog } from './support/verify-log.ts';

/** P13, decision 022: without create-only. */

const keysFact: LogFact = { type: 'keys', added: [], removed: [] };
const mode = 'single-writer';
const single = (target: MemoryTarget) => sourceOf(target, { mode });
const store = () => new MemoryTarget({ createOnly: false });
const forked = withCode('LOG_FORKED');

test('keys end in the hash of the entry; a log of one writer is like any other', async () => {
  const target = store();
  const writer = await host(target, { mode });
  await runJob(writer);
  for (let n = 0; n < 80; n++) await writer.append(() => keysFact);
  const entries = [...(await objectsOf(target)).keys()].map(parseLogKey).filter((key) => key?.kind === 'entry');
  expect(entries).toHaveLength(82);
  expect(entries.every((key) => key?.kind === 'entry' && key.suffix?.length === 32)).toBe(true);
  const opened = await openLog(single(target), { remembered: writer.position });
  expect({ ...opened.state }).toEqual({ ...writer.state });
  expect({ ...(await verifyLog(single(target))) }).toEqual({ ...writer.state });
  for (const key of await logKeysOf(target)) if (parseLogKey(key)?.kind === 'checkpoint') await target.delete(key);
  expect({ ...(await openLog(single(target))).state }).toEqual({ ...writer.state });
});

test('a second writer that comes later follows the first', async () => {
  const target = store();
  const first = await host(target, { mode });
  const second = await host(target, { mode });
  await first.append(() => keysFact);
  await second.append(() => keysFact);
  await first.append(() => keysFact);
  expect(first.position).not.toEqual(second.position);
  expect({ ...(await second.catchUp()) }).toEqual({ ...first.state });
});

/** Two writers put an entry at number 2 each, one after the other; both had looked. */
async function twoAtOne() {
  const target = store();
  const told: string[] = [];
  const first = await host(target, { mode });
  await first.append(() => keysFact);
  const second = await host(target, { mode });
  const both = Promise.withResolvers<void>();
  let decided = 0;
  const decide = async () => {
    if (++decided === 2) both.resolve();
    await both.promise;
    return keysFact;
  };
  const append = (writer: typeof first, name: string) =>
    writer.append(decide).then(
      () => told.push(name),
      (error: unknown) => error,
    );
  const results = await Promise.all([append(first, 'first'), append(second, 'second')]);
  return { target, told, first, second, results };
}

describe('two entries at one number', () => {
  test('are seen by whoever put the later one: at most one writer is told of a success', async () => {
    const { told, results } = await twoAtOne();
    expect(told.length).toBeLessThan(2);
    expect(results.filter((result) => typeof result === 'object')).toEqual(Array(2 - told.length).fill(forked));
  });

  test('stop whoever has seen them', async () => {
    const { first, second } = await twoAtOne();
    for (const writer of [first, second]) {
      await expect(writer.append(() => keysFact)).rejects.toEqual(forked);
      expect(writer.reader.unwritable).toEqual(forked);
    }
  });

  test('are refused by every opener, or opened for reading only, as it was before them', async () => {
    const { target } = await twoAtOne();
    await expect(openLog(single(target))).rejects.toEqual(forked);
    await expect(verifyLog(single(target))).rejects.toEqual(forked);
    const reader = await host(target, { mode, onDamage: 'read-only' });
    expect(reader.state.seq).toBe(1);
    await expect(reader.append(() => keysFact)).rejects.toEqual(forked);
  });

  test('at the first number, and under more entries', async () => {
    const target = store();
    for (const other of [store(), store()]) {
      const writer = await host(other, { mode });
      await writer.append(() => keysFact);
      await writer.append(() => keysFact);
      for (const [key, body] of await objectsOf(other)) await target.put(key, body);
    }
    await expect(openLog(single(target))).rejects.toEqual(forked);
    expect((await openLog(single(target), { onDamage: 'read-only' })).state.seq).toBe(0);
  });
});

test('an entry with an unknown outcome is sent again before any other: a writer does not fork its own log', async () => {
  for (const kind of ['fail-before', 'fail-after'] as const) {
    const target = store();
    const rules = [1, 2].map((nth) => ({ operation: 'put' as const, nth, fault: { kind } }));
    const writer = await host(counted(target, scriptedFaults(rules)), { mode, attempts: 2 });
    await expect(writer.append(() => keysFact)).rejects.toEqual(withCode('COMMIT_UNKNOWN'));
    expect((await writer.append(() => keysFact))?.entry.seq).toBe(2);
    expect((await verifyLog(single(target))).seq).toBe(2);
  }
});

test('an entry with an unknown outcome is not sent again where the next writer has its number by now', async () => {
  const target = store();
  const rules = [1, 2].map((nth) => ({ operation: 'put' as const, nth, fault: { kind: 'fail-before' as const } }));
  const first = await host(counted(target, scriptedFaults(rules)), { mode, attempts: 2 });
  await expect(first.append(() => keysFact)).rejects.toEqual(withCode('COMMIT_UNKNOWN'));
  const second = await host(target, { mode });
  await second.append(() => keysFact);
  expect((await first.append(() => keysFact))?.entry.seq).toBe(2);
  expect((await verifyLog(single(target))).seq).toBe(2);
});

test('so it is when the entry has been seen in between', async () => {
  const target = store();
  const faults = scriptedFaults(
    [1, 2].map((nth) => ({ operation: 'put' as const, nth, fault: { kind: 'fail-after' as const } })),
  );
  const writer = await host(counted(target, faults), { mode, attempts: 2 });
  await expect(writer.append(() => keysFact)).rejects.toEqual(withCode('COMMIT_UNKNOWN'));
  expect((await writer.catchUp()).seq).toBe(1);
  expect((await writer.append(() => keysFact))?.entry.seq).toBe(2);
});

test('a look that can not be taken leaves the outcome unknown', async () => {
  const target = store();
  const faulty = counted(target, {
    next: ({ operation }) =>
      operation === 'list' && faulty.callCount('put') > 0 ? { kind: 'fail-before' } : undefined,
  });
  const writer = await host(faulty, { mode, attempts: 3 });
  await expect(writer.append(() => keysFact)).rejects.toEqual(withCode('COMMIT_UNKNOWN'));
});

test('a log whose newest entry was replaced or taken away is REPOSITORY_ROLLED_BACK for who has it open', async () => {
  const target = store();
  const writer = await host(target, { mode });
  await writer.append(() => keysFact);
  await writer.append(() => keysFact);
  const key = entryKey(2, writer.state.hash);
  const body = await target.get(key);
  await target.delete(key);
  await expect(writer.catchUp()).rejects.toEqual(withCode('REPOSITORY_ROLLED_BACK'));
  await target.put(entryKey(2, new Uint8Array(32)), Uint8Array.from(body));
  await expect(writer.append(() => keysFact)).rejects.toEqual(withCode('REPOSITORY_ROLLED_BACK'));
});

describe('keys of checkpoints end in the digest of their object', () => {
  const bytesOf = async (state: LogState) => (await encodeCheckpoint(LOG_KEY, state))!;
  const keyOf = (seq: number, bytes: Uint8Array) => checkpointKey(seq, createHash('sha256').update(bytes).digest());
  const checkpointsOf = async (target: CloudTarget) => (await logKeysOf(target)).filter((key) => key.includes('-c-'));
  const opened = async (target: CloudTarget) => ({
    ...(await openLog(sourceOf(target, { mode, logKey: LOG_KEY }))).state,
  });

  /** A store whose put of a checkpoint is on its way until it is told to arrive. The writer of it was told nothing. */
  class LateStore extends MemoryTarget {
    late: { readonly key: string; readonly body: Uint8Array<ArrayBuffer> } | undefined;
    #holds = false;

    constructor() {
      super({ createOnly: false });
    }

    holdNextCheckpoint(): void {
      this.#holds = true;
    }

    override async put(key: string, body: Uint8Array<ArrayBuffer>, options?: PutOptions): Promise<PutResult> {
      if (!this.#holds || parseLogKey(key)?.kind !== 'checkpoint') return await super.put(key, body, options);
      this.#holds = false;
      this.late = { key, body: Uint8Array.from(body) };
      throw new BackupError('TARGET_UNAVAILABLE', 'no answer');
    }

    async arrive(): Promise<void> {
      await super.put(this.late!.key, this.late!.body);
    }
  }

  /** A log whose floor is the checkpoint of 88, of which an earlier put is still on its way: its process has crashed. */
  const withLatePut = async () => {
    const target = new LateStore();
    const options = { mode, logKey: LOG_KEY } as const;
    const crashed = await host(target, { ...options, onCheckpointFailed: () => {} });
    await grow(crashed, 87);
    target.holdNextCheckpoint();
    await grow(crashed, 1);
    expect(parseLogKey(target.late!.key)!.seq).toBe(88);
    const writer = await host(target, options);
    await writer.checkpointNow();
    await grow(writer, 12);
    const state = await raiseFloor(writer);
    expect(floorSeq(state!)).toBe(88);
    return { target, writer, state: state! };
  };

  test('a put that arrives late does not replace the checkpoint of the floor', async () => {
    const { target, writer, state } = await withLatePut();
    await deleteBelow(target, state);
    const [newer, floor, ...others] = await checkpointsOf(target);
    expect([parseLogKey(newer!)?.seq, floor, others]).toEqual([96, checkpointKey(88, state.floor!.sha256), []]);
    const body = await target.get(floor!);
    await target.arrive();
    expect(target.late!.key).not.toBe(floor);
    expect(await target.get(floor!)).toEqual(body);
    // It is the only record of what was deleted, and the one of its number that counts.
    expect(await opened(target)).toEqual({ ...state });
    await target.delete(newer!);
    expect(await opened(target)).toEqual({ ...state });
    expect({ ...(await writer.catchUp()) }).toEqual({ ...state });
    expect({ ...(await floorCheckpoint(writer.reader.source, state.floor!, {})) }.seq).toBe(88);
    await target.delete(floor!);
    await expect(opened(target)).rejects.toMatchObject({ code: 'LOG_TRUNCATED', message: new RegExp(floor!) });
  });

  test('those of one number are read in turn: one that is sound is enough', async () => {
    const target = store();
    const writer = await host(target, { mode, logKey: LOG_KEY });
    await grow(writer, 42);
    const [newest] = (await checkpointsOf(target)) as [string];
    const sound = await target.get(newest);
    const { seq } = parseLogKey(newest)!;
    const first = checkpointKey(seq, new Uint8Array(32));
    const rest = (await logKeysOf(target)).filter((key) => parseLogKey(key)!.seq <= seq && key !== newest);
    for (const damaged of [sound.slice(0, 99), sound.slice(), Uint8Array.of(1)]) {
      const copy = await singleWith(await objectsOf(target));
      await copy.put(first, damaged);
      // Where it can't be passed over, nothing leads to the state.
      for (const key of rest) await copy.delete(key);
      expect(await opened(copy)).toEqual({ ...writer.state });
      await copy.delete(newest);
      await expect(opened(copy)).rejects.toEqual(withCode('LOG_TRUNCATED'));
    }
  });

  test('one that says something else than the entries is passed over for another of its number as a floor', async () => {
    const target = store();
    const writer = await host(target, { mode, logKey: LOG_KEY });
    await grow(writer, 100);
    const [, second] = (await checkpointsOf(target)) as [string, string];
    const { seq } = parseLogKey(second)!;
    const { state } = (await fetchCheckpoint(writer.reader.source, seq, (await target.stat(second))!))!;
    // Nonces make their names: some of them come first.
    for (let n = 0; n < 8; n++) {
      const bytes = await bytesOf({ ...state, removedSlots: new Set(['0123456789abcdef']) });
      await target.put(keyOf(seq, bytes), bytes);
    }
    const { floor } = (await raiseFloor(writer))!;
    expect([floor!.seq, checkpointKey(seq, floor!.sha256)]).toEqual([seq, second]);
  });

  test('the key of a checkpoint without its digest, and in shared mode the one with it, is none', async () => {
    const target = store();
    const writer = await host(target, { mode, logKey: LOG_KEY });
    await grow(writer, 3);
    const further = await host(await singleWith(await objectsOf(target)), { mode, logKey: LOG_KEY });
    await grow(further, 6);
    const bytes = await bytesOf(further.state);
    await target.put(checkpointKey(9), bytes);
    expect((await opened(target)).seq).toBe(3);
    await target.put(keyOf(9, bytes), bytes);
    await expect(opened(target)).rejects.toEqual(withCode('LOG_TRUNCATED'));
    const shared = new MemoryTarget();
    const other = await host(shared, { logKey: LOG_KEY });
    await grow(other, 3);
    await shared.put(keyOf(9, bytes), bytes);
    expect((await other.catchUp()).seq).toBe(3);
    expect((await openLog(sourceOf(shared, { logKey: LOG_KEY }))).state.seq).toBe(3);
  });
});

async function singleWith(objects: ReadonlyMap<string, Uint8Array<ArrayBuffer>>): Promise<MemoryTarget> {
  const target = store();
  for (const [key, body] of objects) await target.put(key, body);
  return target;
}
