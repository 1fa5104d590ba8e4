import { afterEach, describe, expect, test, vi } from 'vitest';
import { abortable } from '../../../src/common/abort.ts';
import { BackupError } from '../../../src/common/errors.ts';
import type { LogFact } from '../../../src/repository/format/log-entry.ts';
import type { LogState } from '../../../src/repository/format/log-state.ts';
import { checkpointKey, entryKey } from '../../../src/repository/format/object-keys.ts';
import { decideOpen } from '../../../src/repository/log/entries/sessions.ts';
import type { TargetOperation } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { type Fault, type FaultRule, scriptedFaults } from '../../../src/testing/faults.ts';
import { withCode } from '../../support/with-code.ts';
import { decodeEntry } from '../format/support/codecs-at-once.ts';
import { open } from './support/facts.ts';
import { counted, type HostOptions, host, LOG_KEY, sourceOf } from './support/hosts.ts';
import { idsOf, runJob } from './support/jobs.ts';
import { verifyLog } from './support/verify-log.ts';

const keysFact: LogFact = { type: 'keys', added: [], removed: [] };
const failing =
  (code: string, retryable = true) =>
  () =>
    new BackupError(code, 'injected', { retryable });

/** A host whose PUT of entry 1 goes as the rules say, and what the store then has. */
async function troubled(rules: readonly FaultRule<TargetOperation>[], options: HostOptions = {}) {
  const target = new MemoryTarget();
  const faulty = counted(target, scriptedFaults(rules));
  const writer = await host(faulty, options);
  const since = faulty.calls.length;
  const calls = () => faulty.calls.slice(since).map(({ operation, subject }) => `${operation} ${subject}`);
  return { target, faulty, writer, calls };
}

const PUT_1 = `put ${entryKey(1)}`;
const GET_1 = `get ${entryKey(1)}`;
const STAT_1 = `stat ${entryKey(1)}`;
/** What confirms an entry. */
const LOOK = 'list log/';
const put = (nth: number | 'every', fault: Fault): FaultRule<TargetOperation> => ({
  operation: 'put',
  subject: /^log\/[^-]*$/,
  nth,
  fault,
});

describe('requests', () => {
  test('of a small incremental: open, pack, commit, and the look that confirms it', async () => {
    const { writer, faulty } = await troubled([]);
    const before = faulty.callCount();
    await runJob(writer);
    expect(faulty.calls.slice(before).map(({ operation }) => operation)).toEqual(['put', 'put', 'put', 'list']);
  });

  test('a lost race adds three: the size of what won is looked at before it is read', async () => {
    const { writer, faulty, target } = await troubled([]);
    const other = await host(target);
    const before = faulty.callCount();
    await runJob(writer, { beforeCommit: () => other.append(() => keysFact) });
    expect(faulty.callCount() - before).toBe(7);
  });

  test('a due checkpoint adds one, after its entry is confirmed', async () => {
    const { writer, faulty } = await troubled([]);
    for (let n = 0; n < 30; n++) await writer.append(() => keysFact);
    const before = faulty.callCount();
    await runJob(writer);
    expect(
      faulty.calls
        .slice(before)
        .map(({ subject }) => subject)
        .slice(-2),
    ).toEqual(['log/', checkpointKey(32)]);
    expect(faulty.callCount() - before).toBe(5);
    expect(writer.reader.tail).toEqual([]);
  });

  test('looking where nothing is new is one; many new entries cost one for each tail', async () => {
    const { writer, faulty, target } = await troubled([]);
    const other = await host(target);
    const looked = async () => {
      const before = faulty.callCount();
      await writer.catchUp();
      return faulty.callCount() - before;
    };
    expect(await looked()).toBe(1);
    for (let n = 0; n < 25; n++) await other.append(() => keysFact);
    expect(await looked()).toBeLessThan(10);
    expect(writer.position).toEqual(other.position);
    for (let n = 0; n < 100; n++) await other.append(() => keysFact);
    expect(await looked()).toBeLessThan(33);
    expect({ ...writer.state }).toEqual({ ...other.state });
  });
});

describe('whose entry (P5)', () => {
  test('a lost answer: the same bytes to the same number, and then it is its own', async () => {
    const { writer, calls, target } = await troubled([put(1, { kind: 'fail-after' })]);
    const { entry } = (await writer.append(() => keysFact, { lookFirst: false }))!;
    expect(calls()).toEqual([PUT_1, PUT_1, STAT_1, GET_1, LOOK]);
    expect(decodeEntry(undefined, 1, await target.get(entryKey(1))).entry.commitId).toBe(entry.commitId);
    expect(writer.state.seq).toBe(1);
  });

  test('a lost request: the same bytes to the same number', async () => {
    const bodies: Uint8Array[] = [];
    const { writer, calls, faulty } = await troubled([
      put(1, { kind: 'fail-before' }),
      put(2, { kind: 'fail-before' }),
    ]);
    const given = faulty.put.bind(faulty);
    faulty.put = (key, body, options) => {
      bodies.push(body);
      return given(key, body, options);
    };
    await writer.append(() => keysFact, { lookFirst: false });
    expect(calls()).toEqual([PUT_1, PUT_1, PUT_1, LOOK]);
    expect(bodies[1]).toEqual(bodies[0]);
    expect(new Set(bodies.map((body) => body.buffer)).size).toBe(3); // Never a buffer of a PUT that was rejected.
  });

  test("its own late PUT, found after another failure, is not another's", async () => {
    const { writer, calls } = await troubled([
      put(1, { kind: 'fail-after' }),
      { operation: 'get', subject: entryKey(1), nth: 1, fault: { kind: 'fail-before' } },
    ]);
    await writer.append(() => keysFact, { lookFirst: false });
    expect(calls()).toEqual([PUT_1, PUT_1, STAT_1, GET_1, STAT_1, GET_1, LOOK]);
    expect(writer.state.seq).toBe(1);
  });

  test('a conflict means again, not that it exists', async () => {
    const { writer, calls } = await troubled([put(1, { kind: 'fail-before', error: failing('OBJECT_CONFLICT') })]);
    await writer.append(() => keysFact, { lookFirst: false });
    expect(calls()).toEqual([PUT_1, PUT_1, LOOK]);
  });

  test('a store that can not be reached: COMMIT_UNKNOWN after so many tries, and no other number', async () => {
    const pauses: number[] = [];
    const { writer, calls, target } = await troubled([put('every', { kind: 'fail-before' })], {
      attempts: 5,
      baseDelayMs: 100,
      maxDelayMs: 300,
      random: () => 1,
      sleep: async (delayMs) => {
        pauses.push(delayMs);
      },
    });
    await expect(writer.append(() => keysFact, { lookFirst: false })).rejects.toEqual(withCode('COMMIT_UNKNOWN'));
    expect(calls()).toEqual(Array(5).fill(PUT_1));
    expect(pauses).toEqual([100, 200, 300, 300]);
    expect(writer.state.seq).toBe(0);
    expect((await host(target)).state.seq).toBe(0);
  });

  test('COMMIT_UNKNOWN that did take effect shows at the next look, and is not written twice', async () => {
    const { writer, target, faulty } = await troubled(
      [
        put(1, { kind: 'fail-after' }),
        { operation: 'get', subject: entryKey(1), nth: 1, fault: { kind: 'fail-before' } },
        { operation: 'get', subject: entryKey(1), nth: 2, fault: { kind: 'fail-before' } },
      ],
      { attempts: 3 },
    );
    await expect(writer.append(() => open(), { lookFirst: false })).rejects.toEqual(withCode('COMMIT_UNKNOWN'));
    const plan = { owner: 'host', volumes: new Map([['disk', undefined]]) };
    await expect(writer.append((state) => decideOpen(state, plan))).rejects.toEqual(withCode('VOLUME_BUSY'));
    expect(writer.state.seq).toBe(1);
    expect((await verifyLog(sourceOf(target))).sessions.size).toBe(1);
    expect(faulty.callCount('put')).toBe(2);
  });

  test('what stands there and can not be read is LOG_CORRUPT; with a request unanswered before, COMMIT_UNKNOWN', async () => {
    const { writer, target, calls } = await troubled([], { attempts: 3 });
    await target.put(entryKey(1), new Uint8Array(100));
    await expect(writer.append(() => keysFact, { lookFirst: false })).rejects.toEqual(withCode('LOG_CORRUPT'));
    expect(calls()).toEqual([PUT_1, STAT_1, GET_1, STAT_1, GET_1]);
    const late = await troubled([put(1, { kind: 'fail-before' })], { attempts: 3 });
    await late.target.put(entryKey(1), new Uint8Array(100));
    await expect(late.writer.append(() => keysFact, { lookFirst: false })).rejects.toMatchObject({
      code: 'COMMIT_UNKNOWN',
      cause: { code: 'LOG_CORRUPT' },
    });
  });

  test('what stands there and is larger than an entry is not fetched', async () => {
    const { writer, target, faulty } = await troubled([], { attempts: 3 });
    await target.put(entryKey(1), new Uint8Array(8 * 1024 * 1024 + 1));
    await expect(writer.append(() => keysFact, { lookFirst: false })).rejects.toEqual(withCode('LOG_CORRUPT'));
    expect(faulty.callCount('get')).toBe(0);
  });

  test('a refusal that nothing went before is told as what it is', async () => {
    for (const code of ['PERMISSION_DENIED', 'CREDENTIALS_REFUSED', 'OBJECT_TOO_LARGE', 'NO_SPACE', 'READ_ONLY']) {
      const refusing = { kind: 'fail-before', error: failing(code, false) } as const;
      const { writer, calls } = await troubled([put(1, refusing)]);
      await expect(writer.append(() => keysFact, { lookFirst: false })).rejects.toEqual(withCode(code));
      expect(calls()).toEqual([PUT_1]);
      const after = await troubled([put(1, { kind: 'fail-after' }), put(2, refusing), put(3, refusing)], {
        attempts: 3,
      });
      await expect(after.writer.append(() => keysFact, { lookFirst: false })).rejects.toEqual(
        withCode('COMMIT_UNKNOWN'),
      );
    }
  });

  test("another's entry: everything is decided again, on a state that holds it", async () => {
    const { writer, target, calls } = await troubled([]);
    const other = await host(target);
    await other.append(() => open({ theirs: undefined }));
    const seen: number[] = [];
    await writer.append(
      (state) => {
        seen.push(state.seq);
        return open({ ours: undefined });
      },
      { lookFirst: false },
    );
    expect(seen).toEqual([0, 1]);
    expect(calls()).toEqual([PUT_1, STAT_1, GET_1, `put ${entryKey(2)}`, LOOK]);
    expect([...writer.state.sessions.keys()]).toEqual([1, 2]);
  });

  test("another's entry of the same size is not taken for its own: all bytes decide", async () => {
    const options = { now: () => 1_000 };
    const { writer, target } = await troubled([], options);
    await (await host(target, options)).append(() => open({ aaaa: undefined }));
    const own = await writer.append(() => open({ bbbb: undefined }), { lookFirst: false });
    const { writer: alone, target: elsewhere } = await troubled([], options);
    await alone.append(() => open({ bbbb: undefined }));
    expect((await target.stat(entryKey(1)))?.size).toBe((await elsewhere.stat(entryKey(1)))?.size);
    expect(own?.entry.seq).toBe(2);
    expect([...writer.state.sessions.keys()]).toEqual([1, 2]);
  });

  test('what is refused is refused on a state that was looked at', async () => {
    const { writer, target } = await troubled([]);
    const other = await host(target);
    await other.append(() => open());
    await writer.catchUp();
    await other.append(() => ({ type: 'abort', session: 1 }));
    const plan = { owner: 'host', volumes: new Map([['disk', undefined]]) };
    await writer.append((state) => decideOpen(state, plan), { lookFirst: false });
    expect([...writer.state.sessions.keys()]).toEqual([3]);
    await expect(writer.append((state) => decideOpen(state, plan), { lookFirst: false })).rejects.toEqual(
      withCode('VOLUME_BUSY'),
    );
  });
});

describe('cancelling', () => {
  test('before the entry is sent needs no network', async () => {
    const { writer, calls } = await troubled([]);
    const reason = new Error('enough');
    const append = writer.append(() => keysFact, { signal: AbortSignal.abort(reason), lookFirst: false });
    await expect(append).rejects.toBe(reason);
    const abort = new AbortController();
    const decide = () => {
      abort.abort(reason);
      return keysFact;
    };
    await expect(writer.append(decide, { signal: abort.signal, lookFirst: false })).rejects.toBe(reason);
    expect(calls()).toEqual([]);
  });

  test('after that waits for the outcome: a success is a success', async () => {
    const { writer, faulty, target, calls } = await troubled([put(1, { kind: 'fail-before' })]);
    const abort = new AbortController();
    const given = faulty.put.bind(faulty);
    faulty.put = (...args) => {
      abort.abort(new Error('enough'));
      return given(...args);
    };
    const appended = await writer.append(() => keysFact, { signal: abort.signal, lookFirst: false });
    expect(appended?.entry.seq).toBe(1);
    expect(calls()).toEqual([PUT_1, PUT_1, LOOK]);
    expect((await host(target)).state.seq).toBe(1);
  });

  test('after that waits for the outcome: a lost number is not tried again', async () => {
    const { writer, faulty, target } = await troubled([]);
    await (await host(target)).append(() => keysFact);
    const reason = new Error('enough');
    const abort = new AbortController();
    const given = faulty.put.bind(faulty);
    faulty.put = (...args) => {
      abort.abort(reason);
      return given(...args);
    };
    await expect(writer.append(() => keysFact, { signal: abort.signal, lookFirst: false })).rejects.toBe(reason);
    expect((await host(target)).state.seq).toBe(1);
  });

  test.each(['shared', 'single-writer'] as const)(
    'while the entry is made, in %s mode, sends nothing',
    async (mode) => {
      const reason = new Error('enough');
      const abort = new AbortController();
      // The clock is asked when the decision has been made.
      const now = () => {
        abort.abort(reason);
        return 0;
      };
      const { writer, faulty, target } = await troubled([], { now, mode });
      const { signal } = abort;
      await expect(writer.append(() => keysFact, { signal })).rejects.toBe(reason);
      expect(faulty.callCount('put')).toBe(0);
      // Nor does it come with a later one.
      await writer.append(() => keysFact);
      expect((await host(target, { mode })).state.seq).toBe(1);
    },
  );

  /** A host that pauses until it is cancelled, which it is as soon as it pauses. */
  async function cancelledWhilePausing(rules: readonly FaultRule<TargetOperation>[], options: HostOptions = {}) {
    const reason = new Error('enough');
    const abort = new AbortController();
    const sleep = (_delayMs: number, signal?: AbortSignal) => {
      abort.abort(reason);
      return abortable(new Promise<never>(() => {}), signal);
    };
    const { writer, calls } = await troubled(rules, { sleep, ...options });
    const outcome = await writer
      .append(() => keysFact, { signal: abort.signal, lookFirst: false })
      .then(
        (appended) => appended?.entry.seq,
        (error: unknown) => error,
      );
    return { reason, outcome, calls: calls() };
  }

  test('ends a pause at once where nothing can have taken effect', async () => {
    const conflict = put('every', { kind: 'fail-before', error: failing('OBJECT_CONFLICT') });
    const { reason, outcome, calls } = await cancelledWhilePausing([conflict]);
    expect(outcome).toBe(reason);
    expect(calls).toEqual([PUT_1]);
  });

  test('ends a pause at once where something may have, and asks once more', async () => {
    const lost = await cancelledWhilePausing([put(1, { kind: 'fail-after' })]);
    expect(lost.outcome).toBe(1);
    expect(lost.calls).toEqual([PUT_1, PUT_1, STAT_1, GET_1, LOOK]);
    const gone = await cancelledWhilePausing([put('every', { kind: 'fail-before' })]);
    expect(gone.outcome).toEqual(withCode('COMMIT_UNKNOWN'));
    expect(gone.calls).toEqual([PUT_1, PUT_1]);
  });

  test('ends a pause at once while a single writer puts its entry', async () => {
    const options = { mode: 'single-writer' } as const;
    const gone = await cancelledWhilePausing(
      [{ operation: 'put', nth: 'every', fault: { kind: 'fail-before' } }],
      options,
    );
    expect(gone.outcome).toEqual(withCode('COMMIT_UNKNOWN'));
    expect(gone.calls.filter((call) => call.startsWith('put'))).toHaveLength(2);
  });

  test('ends a pause at once while a listing is to confirm the entry', async () => {
    const unlisted = (nth: number | 'every'): FaultRule<TargetOperation> => ({
      operation: 'list',
      subject: 'log/',
      nth,
      fault: { kind: 'fail-before' },
    });
    // The first listing opens the log.
    const once = await cancelledWhilePausing([unlisted(2)]);
    expect([once.outcome, once.calls]).toEqual([1, [PUT_1, LOOK, LOOK]]);
    const gone = await cancelledWhilePausing([unlisted(2), unlisted(3)]);
    expect([gone.outcome, gone.calls]).toEqual([withCode('COMMIT_UNKNOWN'), [PUT_1, LOOK, LOOK]]);
  });

  test('while waiting for a turn leaves the others theirs', async () => {
    const { writer } = await troubled([]);
    const gate = Promise.withResolvers<LogFact>();
    const first = writer.append(() => gate.promise);
    const abort = new AbortController();
    const second = writer.append(() => keysFact, { signal: abort.signal });
    const third = writer.append(() => keysFact);
    abort.abort(new Error('enough'));
    await expect(second).rejects.toThrow('enough');
    gate.resolve(keysFact);
    expect([(await first)?.entry.seq, (await third)?.entry.seq]).toEqual([1, 2]);
  });
});

test('an entry without a tail is small, brings no checkpoint, and is one to open by like any other', async () => {
  const { writer, target } = await troubled([]);
  for (let n = 0; n < 31; n++) await writer.append(() => keysFact);
  await writer.append(() => keysFact, { withoutTail: true });
  const bytes = await target.get(entryKey(32));
  expect(decodeEntry(undefined, 32, bytes).tail).toEqual([]);
  expect(bytes.length).toBeLessThan(200);
  expect(await target.stat(checkpointKey(32))).toBeUndefined();
  const opened = await host(target);
  expect({ ...opened.state }).toEqual({ ...writer.state });
  await writer.append(() => keysFact);
  expect(await target.stat(checkpointKey(33))).toBeDefined();
});

test('appends of one process go one at a time, in the order of asking', async () => {
  const { writer, calls } = await troubled([]);
  const appends = Array.from({ length: 20 }, () => writer.append(() => keysFact, { lookFirst: false }));
  expect((await Promise.all(appends)).map((each) => each?.entry.seq)).toEqual(
    Array.from({ length: 20 }, (_, n) => n + 1),
  );
  expect(calls().filter((call) => !call.endsWith('-c'))).toHaveLength(40);
});

test('a decision that says nothing writes nothing; one that throws leaves everything as it was', async () => {
  const { writer, target } = await troubled([]);
  expect(await writer.append(() => undefined)).toBeUndefined();
  await expect(writer.append(() => Promise.reject(new TypeError('no')))).rejects.toThrow(TypeError);
  await writer.append(() => keysFact);
  expect((await host(target)).state.seq).toBe(1);
});

test('a fact that breaks the rules is not written', async () => {
  const { writer, faulty } = await troubled([]);
  await expect(writer.append(() => ({ type: 'abort', session: 9 }))).rejects.toEqual(withCode('LOG_CORRUPT'));
  expect(faulty.callCount('put')).toBe(0);
});

test('a checkpoint that fails is told, and tried again with the next entry', async () => {
  const failures: unknown[] = [];
  const { writer, target } = await troubled(
    [{ operation: 'put', subject: /-c$/, nth: 1, fault: { kind: 'fail-before' } }],
    { onCheckpointFailed: (error) => failures.push(error), logKey: LOG_KEY },
  );
  for (let n = 0; n < 33; n++) await writer.append(() => keysFact);
  expect(failures).toEqual([withCode('TARGET_UNAVAILABLE')]);
  expect(await target.stat(checkpointKey(32))).toBeUndefined();
  expect(await target.stat(checkpointKey(33))).toBeDefined();
});

describe('a checkpoint that the store is silent about', () => {
  /** A host whose next entry makes a checkpoint due that is never answered. */
  async function silentOnCheckpoints() {
    const failures: unknown[] = [];
    const { writer, faulty, target } = await troubled([], { onCheckpointFailed: (error) => failures.push(error) });
    for (let n = 0; n < 31; n++) await writer.append(() => keysFact);
    const given = faulty.put.bind(faulty);
    const asked = Promise.withResolvers<void>();
    let silent = 0;
    faulty.put = (key, ...rest) => {
      if (!key.endsWith('-c')) return given(key, ...rest);
      silent++;
      asked.resolve();
      return new Promise<never>(() => {});
    };
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    return { writer, faulty, target, given, failures, asked: asked.promise, silent: () => silent };
  }

  afterEach(() => {
    vi.useRealTimers();
  });

  test('holds its entry a moment at most, and the entries after it not at all', async () => {
    const { writer, asked, silent, failures } = await silentOnCheckpoints();
    const due = writer.append(() => keysFact);
    await asked;
    await vi.advanceTimersByTimeAsync(1_000);
    expect((await due)?.entry.seq).toBe(32);
    expect((await writer.append(() => keysFact))?.entry.seq).toBe(33);
    expect([silent(), failures]).toEqual([1, []]);
  });

  test('holds nobody after an abort, and the entry is a success', async () => {
    const { writer, asked } = await silentOnCheckpoints();
    const abort = new AbortController();
    const due = writer.append(() => keysFact, { signal: abort.signal });
    await asked;
    abort.abort(new Error('enough'));
    expect((await due)?.entry.seq).toBe(32);
  });

  test('is given up after minutes, and the next entry brings another', async () => {
    const { writer, faulty, target, given, asked, failures } = await silentOnCheckpoints();
    const due = writer.append(() => keysFact);
    await asked;
    await vi.advanceTimersByTimeAsync(5 * 60_000);
    await due;
    expect(failures).toEqual([withCode('TARGET_TIMEOUT')]);
    faulty.put = given;
    await writer.append(() => keysFact);
    expect(await target.stat(checkpointKey(33))).toBeDefined();
  });

  test('is given up after seconds when the log is closed', async () => {
    const { writer, asked, failures } = await silentOnCheckpoints();
    const due = writer.append(() => keysFact);
    await asked;
    const settled = writer.settled();
    await vi.advanceTimersByTimeAsync(5_000);
    await settled;
    await due;
    expect(failures).toEqual([withCode('TARGET_TIMEOUT')]);
  });
});

describe('a turn at the log ends, although the store never answers and the caller has no signal:', () => {
  const silent: Fault = { kind: 'never-answer' };
  const ten = 10 * 60_000;

  /** Advances the time as soon as a request or the decision is on its way. */
  async function outcomeAfter(ms: number, asked: Promise<unknown>, work: Promise<unknown>): Promise<unknown> {
    const outcome = work.catch((error: unknown) => error);
    await asked;
    await vi.advanceTimersByTimeAsync(ms);
    return outcome;
  }

  async function silentOn(operation: 'put' | 'list', nth: number, options: HostOptions = {}) {
    const asked = Promise.withResolvers<void>();
    const { writer, faulty, target } = await troubled([{ operation, nth, fault: silent }], options);
    const given = faulty[operation].bind(faulty) as (...args: unknown[]) => never;
    let calls = operation === 'list' ? 3 : 0; // Opening has listed the log, and what may lie beside an empty one.
    faulty[operation] = (...args: unknown[]) => {
      if (++calls === nth) asked.resolve();
      return given(...args);
    };
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    return { writer, faulty, target, asked: asked.promise };
  }

  afterEach(() => {
    vi.useRealTimers();
  });

  test.each(['shared', 'single-writer'] as const)('to a put, in %s mode: COMMIT_UNKNOWN', async (mode) => {
    const { writer, target, asked } = await silentOn('put', 1, { mode });
    const first = writer.append(() => keysFact);
    const second = writer.append(() => keysFact);
    const outcome = await outcomeAfter(ten + 10_000, asked, first);
    expect(outcome).toMatchObject({ code: 'COMMIT_UNKNOWN', cause: { code: 'TARGET_TIMEOUT' } });
    await second;
    // A single writer settles the entry before it sends the next one.
    expect((await host(target, { mode })).state.seq).toBe(mode === 'shared' ? 1 : 2);
  });

  test('to the listing before the decision: TARGET_TIMEOUT, and nothing was sent', async () => {
    const { writer, faulty, asked } = await silentOn('list', 4);
    const outcome = await outcomeAfter(
      ten,
      asked,
      writer.append(() => keysFact),
    );
    expect(outcome).toMatchObject({ code: 'TARGET_TIMEOUT', retryable: true });
    expect(faulty.callCount('put')).toBe(0);
    expect((await writer.append(() => keysFact))?.entry.seq).toBe(1);
  });

  test('to a replay, for as long as the option says', async () => {
    const { writer, asked } = await silentOn('list', 4, { turnTimeoutMs: 50 });
    expect(await outcomeAfter(50, asked, writer.catchUp())).toEqual(withCode('TARGET_TIMEOUT'));
    expect((await writer.catchUp()).seq).toBe(0);
  });

  test('to what the decision asks', async () => {
    const { writer, faulty } = await troubled([]);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const asked = Promise.withResolvers<void>();
    const decide = () => {
      asked.resolve();
      return new Promise<never>(() => {});
    };
    expect(await outcomeAfter(ten, asked.promise, writer.append(decide))).toEqual(withCode('TARGET_TIMEOUT'));
    expect(faulty.callCount('put')).toBe(0);
    expect((await writer.append(() => keysFact))?.entry.seq).toBe(1);
  });
});

describe('faults at every request of a reference history:', () => {
  const history = async (writer: Awaited<ReturnType<typeof host>>) => {
    const done: string[] = [];
    for (const volume of ['disk', 'other', 'disk']) done.push((await runJob(writer, { volume })).id);
    await writer.append((state) => ({ type: 'forget', backups: [state.heads.get('other')!.id] }));
    return done;
  };
  const kinds: Fault[] = [{ kind: 'fail-before' }, { kind: 'fail-after' }];
  const indices = 24;

  test.each([1, 100])('success or a code, then it opens and the next commit succeeds (%i in a row)', async (inRow) => {
    for (const fault of kinds) {
      for (let index = 0; index < indices; index++) {
        const target = new MemoryTarget();
        let call = 0;
        let isOver = false;
        const faulty = counted(target, {
          next: () => (++call > index && call <= index + inRow && !isOver ? fault : undefined),
        });
        const told: string[] = [];
        const failed: string[] = [];
        try {
          const writer = await host(faulty, { attempts: 4 });
          let trying: string | undefined;
          for (const volume of ['disk', 'other', 'disk']) {
            try {
              told.push((await runJob(writer, { volume, onCommit: (id) => (trying = id) })).id);
            } catch (error) {
              if (trying !== undefined && !BackupError.is(error, 'COMMIT_UNKNOWN')) failed.push(trying);
              throw error;
            }
            trying = undefined;
          }
        } catch (error) {
          expect(BackupError.is(error), String(error)).toBe(true);
        }
        isOver = true;
        const state = await verifyLog(sourceOf(target));
        expect(idsOf(state)).toEqual(expect.arrayContaining(told));
        for (const id of failed) expect(idsOf(state)).not.toContain(id);
        const next = await host(target);
        const takeOver = [...next.state.sessions.keys()];
        await runJob(next, { volume: 'disk', takeOver });
        await runJob(next, { volume: 'other', takeOver });
      }
    }
  });

  test('the history itself has as many requests', async () => {
    const faulty = counted(new MemoryTarget());
    await history(await host(faulty));
    expect(faulty.callCount()).toBeLessThan(indices);
    expect(faulty.callCount()).toBeGreaterThan(12);
  });

  test('a host that dies at any request, before or after it took effect', async () => {
    for (const isDone of [false, true]) {
      for (let index = 1; index < indices; index++) {
        const target = new MemoryTarget();
        const told: string[] = [];
        let call = 0;
        const dying = counted(target);
        const dead = Promise.withResolvers<void>();
        // From its death on the host does nothing: no call is ever answered.
        for (const name of ['put', 'get'] as const) {
          const given = (dying[name] as (...args: unknown[]) => Promise<unknown>).bind(dying);
          (dying as unknown as Record<string, unknown>)[name] = async (...args: unknown[]) => {
            const at = ++call;
            if (at >= index) {
              if (at === index && isDone) await given(...args);
              dead.resolve();
              return new Promise(() => {});
            }
            return given(...args);
          };
        }
        const life = (async () => {
          const writer = await host(dying);
          for (const volume of ['disk', 'other', 'disk']) told.push((await runJob(writer, { volume })).id);
        })();
        await Promise.race([dead.promise, life]);
        const survivor = await host(target);
        expect(idsOf(survivor.state)).toEqual(expect.arrayContaining(told));
        const orphaned: readonly number[] = [...survivor.state.sessions.keys()];
        const adopted = await runJob(survivor, { volume: 'disk', takeOver: orphaned });
        expect(idsOf(survivor.state)).toContain(adopted.id);
        await runJob(survivor, { volume: 'other', takeOver: orphaned });
        const verified: LogState = await verifyLog(sourceOf(target));
        expect({ ...verified }).toEqual({ ...survivor.state });
        expect(verified.sessions.size).toBe(0);
      }
    }
  });
});
