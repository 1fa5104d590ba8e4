import { describe, expect, test } from 'vitest';
import type { LogFact } from '../../../src/repository/format/log-entry.ts';
import { checkpointKey, entryKey, parseLogKey } from '../../../src/repository/format/object-keys.ts';
import { openLog } from '../../../src/repository/log/open-log.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { scriptedFaults } from '../../../src/testing/faults.ts';
import { withCode } from '../../support/with-code.ts';
import { counted, host, objectsOf, sourceOf } from './support/hosts.ts';
import { runJob } from './support/jobs.ts';
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
  for (const seq of [32, 64]) await target.delete(checkpointKey(seq));
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
