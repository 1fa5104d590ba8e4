import { describe, expect, test } from 'vitest';
import { encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import type { LogState } from '../../../src/repository/format/log-state.ts';
import { checkpointKey, entryKey } from '../../../src/repository/format/object-keys.ts';
import { LogListing } from '../../../src/repository/log/log-listing.ts';
import { LogReader } from '../../../src/repository/log/log-reader.ts';
import type { LogPosition } from '../../../src/repository/log/log-source.ts';
import { openLog, prefetchLog } from '../../../src/repository/log/open-log.ts';
import { PageStore } from '../../../src/repository/log/pages/page-store.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { corrupted, scriptedFaults } from '../../../src/testing/faults.ts';
import { SWEEPS_ALL } from '../../support/randomness.ts';
import { withCode } from '../../support/with-code.ts';
import { backup, commit, everyFact, hexId, open, pack } from './support/facts.ts';
import { counted, host, LOG_KEY, logOf, objectsOf, sourceOf, targetOf } from './support/hosts.ts';
import { verifyLog } from './support/verify-log.ts';

/** Bytes are flipped one in so many. */
const EVERY = SWEEPS_ALL ? 1 : 4;

const KEYS = describe.each([
  ['plain', undefined],
  ['encrypted', LOG_KEY],
] as const);
const stateOf = (state: LogState) => ({ ...state });
const keysFact = (n: number) => ({ type: 'keys' as const, added: [n.toString(16).padStart(16, '0')], removed: [] });

/** A log of `length` small entries, checkpoints as they come, and where it stood after each. */
async function longLog(length: number, options: { logKey?: Uint8Array } = {}) {
  const target = new MemoryTarget();
  const writer = await host(target, options);
  const positions: LogPosition[] = [writer.position];
  for (let n = 1; n <= length; n++) {
    await writer.append(() => keysFact(n));
    positions.push(writer.position);
  }
  return { target, positions, state: writer.state };
}

async function withoutCheckpoints(target: CloudTarget): Promise<MemoryTarget> {
  const objects = await objectsOf(target);
  return targetOf(new Map([...objects].filter(([key]) => !key.endsWith('-c'))));
}

KEYS('a %s log', (_name, logKey) => {
  test('is opened to the state that its entries give, whatever the checkpoints', async () => {
    const facts = everyFact();
    const target = await withoutCheckpoints(await logOf(facts, { logKey }));
    const { state, checkpoint, tail } = await openLog(sourceOf(target, { logKey }));
    expect(checkpoint).toBe(0);
    expect(tail).toHaveLength(facts.length);
    expect(stateOf(await verifyLog(sourceOf(target, { logKey })))).toEqual(stateOf(state));
    for (let seq = 1; seq <= facts.length; seq++) {
      // The checkpoint of each entry, and none other.
      const part = await logOf([], {});
      for (const [key, body] of await objectsOf(target)) if (key >= entryKey(seq)) await part.put(key, body);
      const then = await openLog(sourceOf(part, { logKey }));
      const marked = await targetOf(await objectsOf(target));
      await marked.put(checkpointKey(seq), (await encodeCheckpoint(logKey, then.state))!);
      const opened = await openLog(sourceOf(marked, { logKey }));
      expect(opened.checkpoint).toBe(seq);
      expect(stateOf(opened.state)).toEqual(stateOf(state));
    }
  });

  test('with any byte of its objects flipped gives its code, or the true state: never another', async () => {
    // The tail of the newest entry reaches the checkpoint.
    const facts = everyFact();
    while (facts.length % 16 !== 0) facts.push(keysFact(facts.length));
    const target = await logOf(facts, { logKey });
    const { state } = await openLog(sourceOf(target, { logKey }));
    await target.put(checkpointKey(9), (await encodeCheckpoint(logKey, await openedAt(target, 9, logKey)))!);
    const objects = await objectsOf(target);
    const newest = entryKey(state.seq);
    let refusals = 0;
    for (const [key, body] of objects) {
      // Every byte, or many, where it counts for opening, some of the others.
      const step = key === newest || key.endsWith('-c') ? EVERY : 53;
      for (let at = 0; at < body.length; at += step) {
        const flipped = await targetOf(new Map(objects).set(key, corrupted(body, at * 8 + (at % 8))));
        const outcome = await openLog(sourceOf(flipped, { logKey })).catch((error: unknown) => error);
        if (outcome instanceof Error) {
          expect(outcome).toEqual(withCode('LOG_CORRUPT'));
          refusals++;
        } else expect(stateOf((outcome as { state: LogState }).state)).toEqual(stateOf(state));
        if (!key.endsWith('-c') && at % 11 === 0)
          await expect(verifyLog(sourceOf(flipped, { logKey }))).rejects.toEqual(withCode('LOG_CORRUPT'));
      }
    }
    expect(refusals).toBe(Math.ceil(objects.get(newest)!.length / EVERY)); // Damage anywhere else is bridged by the checkpoint and the tail.
  });
});

async function openedAt(target: CloudTarget, seq: number, logKey: Uint8Array | undefined): Promise<LogState> {
  const part = new MemoryTarget();
  for (const [key, body] of await objectsOf(target)) if (key >= entryKey(seq)) await part.put(key, body);
  return (await openLog(sourceOf(part, { logKey }))).state;
}

test('an empty log opens to nothing', async () => {
  const { state, tail } = await openLog(sourceOf(new MemoryTarget()));
  expect([state.seq, tail]).toEqual([0, []]);
});

test('opening takes two rounds: one listing, then the newest entry and the checkpoint together', async () => {
  const { target, state } = await longLog(205);
  const faulty = counted(target);
  let inFlight = 0;
  let together = 0;
  const get = faulty.get.bind(faulty);
  faulty.get = async (...args) => {
    together = Math.max(together, ++inFlight);
    return await get(...args).finally(() => inFlight--);
  };
  const opened = await openLog(sourceOf(faulty));
  expect(stateOf(opened.state)).toEqual(stateOf(state));
  expect(faulty.calls.map(({ operation, subject }) => [operation, subject])).toEqual([
    ['list', 'log/'],
    ['get', checkpointKey(200)],
    ['get', entryKey(204)],
    ['get', entryKey(205)],
  ]);
  expect(together).toBe(3);
});

test('what was asked for before the key was known is not asked for again', async () => {
  const { target, state } = await longLog(42, { logKey: LOG_KEY });
  const faulty = counted(target);
  const listing = await LogListing.read(sourceOf(faulty));
  const prefetched = prefetchLog(faulty, listing);
  expect(faulty.callCount('get')).toBe(2);
  const reader = await LogReader.open(sourceOf(faulty, { logKey: LOG_KEY }), { listing, prefetched });
  expect(stateOf(reader.state)).toEqual(stateOf(state));
  expect([faulty.callCount(), reader.source.target]).toEqual([3, faulty]);
  // Answers that fail are as if they had just been asked for: what was listed and is gone takes another listing.
  await target.delete(entryKey(42));
  const late = { listing, prefetched: prefetchLog(target, listing) };
  const { state: now } = await openLog(sourceOf(target, { logKey: LOG_KEY }), late);
  expect(now.seq).toBe(41);
});

test('a listing that the caller has read already is not read again', async () => {
  const { target } = await longLog(40);
  const faulty = counted(target);
  const listing = await LogListing.read(sourceOf(faulty));
  await openLog(sourceOf(faulty), { listing });
  expect(faulty.callCount('list')).toBe(1);
});

test('opening 250 backups: at most nine requests of the log, and a checkpoint that has most of them in pages', async () => {
  const backups = 250; // A test of the economy opens 400.
  for (const runs of [0, 8]) {
    const target = new MemoryTarget();
    const writer = await host(target, { logKey: LOG_KEY });
    const heads = new Map<string, string>();
    const packs = new Map<string, ReturnType<typeof pack>[]>();
    for (let n = 0; n < backups; n++) {
      const volume = `volume-${n % 10}`;
      const parent = heads.get(volume);
      const opened = await writer.append(() => open({ [volume]: parent }));
      const own = { ...pack(opened!.entry.seq, 'a'), random: hexId() };
      const newer = [own, ...(packs.get(volume) ?? [])].slice(0, runs);
      const one = backup(own, { volume, parent, base: parent, runs: newer });
      await writer.append(() => commit(own.session, [one], [own]));
      heads.set(volume, one.id);
      packs.set(volume, newer);
    }
    const faulty = counted(target);
    const { state } = await openLog(sourceOf(faulty, { logKey: LOG_KEY }));
    expect(faulty.callCount()).toBeLessThanOrEqual(9);
    const whole = await new PageStore(sourceOf(faulty, { logKey: LOG_KEY })).takeIn(state, 'all');
    expect(whole.backups.size).toBe(backups);
    expect(whole.heads).toEqual(new Map([...heads].map(([volume, id]) => [volume, { id, seq: expect.any(Number) }])));
    const { length } = (await encodeCheckpoint(LOG_KEY, state))!;
    console.log(`checkpoint of ${backups} backups with ${runs} runs: ${length} bytes`);
    expect(length).toBeLessThan(40_000);
  }
});

describe('checkpoints are only a cache:', () => {
  test('all of them lost', async () => {
    const { target, state } = await longLog(200);
    const bare = await withoutCheckpoints(target);
    const faulty = counted(bare);
    const opened = await openLog(sourceOf(faulty));
    expect(stateOf(opened.state)).toEqual(stateOf(state));
    expect([opened.checkpoint, opened.tail.length]).toEqual([0, 64]);
    // Tails begin behind the checkpoints that were there. One request a tail, not one an entry.
    expect(faulty.callCount('get')).toBeLessThan(100);
  });

  test('the newest lost, damaged or stale', async () => {
    const { target, state } = await longLog(200);
    const objects = await objectsOf(target);
    const newest = checkpointKey(200);
    for (const body of [
      undefined,
      corrupted(objects.get(newest)!, 99),
      objects.get(checkpointKey(192))!,
      new Uint8Array(0),
    ]) {
      const changed = new Map(objects);
      if (body === undefined) changed.delete(newest);
      else changed.set(newest, body);
      const opened = await openLog(sourceOf(await targetOf(changed)));
      expect(stateOf(opened.state)).toEqual(stateOf(state));
      expect(opened.checkpoint).toBe(192);
    }
  });

  test('never written: a tail is at most 64 long, and the log is walked behind it', async () => {
    const target = new MemoryTarget();
    const writer = await host(
      counted(target, scriptedFaults([{ operation: 'put', subject: /-c$/, fault: { kind: 'fail-before' } }])),
    );
    for (let n = 1; n <= 150; n++) await writer.append(() => keysFact(n));
    const opened = await openLog(sourceOf(target));
    expect(stateOf(opened.state)).toEqual(stateOf(writer.state));
    expect(writer.reader.tail).toHaveLength(64);
    const next = await host(target);
    await next.append(() => keysFact(151)); // With a checkpoint: it is long due.
    expect((await openLog(sourceOf(target))).checkpoint).toBe(151);
  });

  test('one whose hash is of another history is not believed (P11.chain)', async () => {
    const { target, state } = await longLog(50);
    const { target: other } = await longLog(60);
    await target.put(checkpointKey(48), await other.get(checkpointKey(48)));
    const opened = await openLog(sourceOf(target));
    expect(opened.checkpoint).toBe(40);
    expect(stateOf(opened.state)).toEqual(stateOf(state));
  });

  test('one of the newest entry that has the hash of another is not believed', async () => {
    const { target, state } = await longLog(32);
    const { target: other } = await longLog(32);
    await target.put(checkpointKey(32), Uint8Array.from(await other.get(checkpointKey(32))));
    expect(stateOf((await openLog(sourceOf(target))).state)).toEqual(stateOf(state));
  });

  test('a tail that does not reach the checkpoint is bridged by walking (P11.tail)', async () => {
    const { target, state } = await longLog(69);
    await target.delete(checkpointKey(64)); // Tails of 65 to 69 begin after it; the one of 56 is the newest now.
    const faulty = counted(target);
    const opened = await openLog(sourceOf(faulty));
    expect(stateOf(opened.state)).toEqual(stateOf(state));
    expect(opened.checkpoint).toBe(56);
    expect(faulty.calls.map(({ subject }) => subject)).toEqual([
      ...['log/', checkpointKey(56)],
      ...[entryKey(68), entryKey(64), entryKey(69)],
    ]);
  });

  test('more than a page of them', async () => {
    const { target, state } = await longLog(1100);
    const bare = await withoutCheckpoints(target);
    expect(stateOf((await openLog(sourceOf(bare))).state)).toEqual(stateOf(state));
    await bare.put(checkpointKey(32), await target.get(checkpointKey(32)));
    expect((await openLog(sourceOf(bare))).checkpoint).toBe(32);
  });
});

describe('what a host remembers (P11)', () => {
  test('is found again, however old', async () => {
    const { target, positions, state } = await longLog(150);
    for (const remembered of positions) {
      expect(stateOf((await openLog(sourceOf(target), { remembered })).state)).toEqual(stateOf(state));
    }
  });

  test('a shorter log is REPOSITORY_ROLLED_BACK', async () => {
    const { target, positions } = await longLog(44);
    for (const seq of [44, 43]) await target.delete(entryKey(seq));
    await expect(openLog(sourceOf(target), { remembered: positions[44] })).rejects.toEqual(
      withCode('REPOSITORY_ROLLED_BACK'),
    );
    expect((await openLog(sourceOf(target), { remembered: positions[42] })).state.seq).toBe(42);
    await expect(openLog(sourceOf(new MemoryTarget()), { remembered: positions[1] })).rejects.toEqual(
      withCode('REPOSITORY_ROLLED_BACK'),
    );
  });

  test('another history is REPOSITORY_ROLLED_BACK, also a longer one, also behind its checkpoint', async () => {
    const { target } = await longLog(150);
    const { positions } = await longLog(150);
    for (const seq of [1, 20, 127, 128, 129, 150]) {
      await expect(openLog(sourceOf(target), { remembered: positions[seq] })).rejects.toEqual(
        withCode('REPOSITORY_ROLLED_BACK'),
      );
    }
  });

  test('objects of the remembered history under another one do not help it', async () => {
    const { target } = await longLog(150);
    const { target: other, positions } = await longLog(150);
    for (let seq = 1; seq <= 100; seq++)
      await target.put(entryKey(seq), Uint8Array.from(await other.get(entryKey(seq))));
    await expect(openLog(sourceOf(target), { remembered: positions[20] })).rejects.toEqual(withCode('LOG_CORRUPT'));
  });

  test('an open log that goes on from elsewhere is REPOSITORY_ROLLED_BACK', async () => {
    const { target } = await longLog(3);
    const writer = await host(target);
    const { target: other } = await longLog(5);
    for (const [key, body] of await objectsOf(other)) await target.put(key, body);
    await expect(writer.catchUp()).rejects.toEqual(withCode('REPOSITORY_ROLLED_BACK'));
    await expect(writer.append(() => keysFact(9))).rejects.toEqual(withCode('REPOSITORY_ROLLED_BACK'));
    expect(writer.state.seq).toBe(3);
  });
});

describe('a log that was cut', () => {
  test('below its newest checkpoint is LOG_TRUNCATED', async () => {
    const { target } = await longLog(32);
    await target.delete(entryKey(32));
    await expect(openLog(sourceOf(target))).rejects.toEqual(withCode('LOG_TRUNCATED'));
    for (let seq = 1; seq < 32; seq++) await target.delete(entryKey(seq));
    await expect(openLog(sourceOf(target))).rejects.toEqual(withCode('LOG_TRUNCATED'));
  });

  test('in its middle is LOG_TRUNCATED for who walks there, and for a verification', async () => {
    const { target } = await longLog(150);
    const bare = await withoutCheckpoints(target);
    await bare.delete(entryKey(96)); // The tails of 97 to 128 begin after it.
    await expect(openLog(sourceOf(bare))).rejects.toEqual(withCode('LOG_TRUNCATED'));
    await target.delete(entryKey(7));
    expect((await openLog(sourceOf(target))).state.seq).toBe(150);
    await expect(verifyLog(sourceOf(target))).rejects.toEqual(withCode('LOG_TRUNCATED'));
  });

  test('a checkpoint that came while the listing was being read is no alarm', async () => {
    const { target } = await longLog(32);
    const entry = await target.get(entryKey(32));
    await target.delete(entryKey(32));
    let listings = 0;
    const racing = counted(target);
    const list = racing.list.bind(racing);
    racing.list = async function* (...args) {
      yield* list(...args);
      if (++listings === 1) await target.put(entryKey(32), entry);
    };
    expect((await openLog(sourceOf(racing))).state.seq).toBe(32);
  });
});

test('foreign objects under log/ are left alone; an entry that is too large is refused unread', async () => {
  const { target, state } = await longLog(5);
  for (const key of ['log/readme', 'log/0', `${entryKey(900)}-x`, `${entryKey(900)}-${'0'.repeat(32)}`])
    await target.put(key, new Uint8Array(4));
  expect(stateOf((await openLog(sourceOf(target))).state)).toEqual(stateOf(state));
  await target.put(entryKey(6), new Uint8Array(8 * 1024 * 1024 + 1));
  const faulty = counted(target);
  await expect(openLog(sourceOf(faulty))).rejects.toEqual(withCode('LOG_CORRUPT'));
  expect(faulty.calls.filter(({ subject }) => subject === entryKey(6))).toEqual([]);
});
