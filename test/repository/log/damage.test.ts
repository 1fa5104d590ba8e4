import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { encodeMsgpack } from '../../../src/common/msgpack.ts';
import type { LogFact } from '../../../src/repository/format/log-entry.ts';
import { openObject, sealObject } from '../../../src/repository/format/log-object.ts';
import { checkpointKey, entryKey } from '../../../src/repository/format/object-keys.ts';
import { openLog } from '../../../src/repository/log/open-log.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { corrupted } from '../../../src/testing/faults.ts';
import { withCode } from '../../support/with-code.ts';
import { entryBody, fieldsOfEntry } from '../format/support/codecs-at-once.ts';
import { createIn, openIn, openVolume } from '../support/repositories.ts';
import { counted, host, LOG_KEY, logOf, objectsOf, sourceOf, targetOf } from './support/hosts.ts';
import { runJob } from './support/jobs.ts';
import { verifyLog } from './support/verify-log.ts';

/** What is damaged, forged or of a newer program at the newest end of the log. */

const keysFact: LogFact = { type: 'keys', added: [], removed: [] };
const corrupt = withCode('LOG_CORRUPT');
const KEYS = describe.each([
  ['plain', undefined],
  ['encrypted', LOG_KEY],
] as const);

async function backupsOf(count: number, options: { logKey?: Uint8Array | undefined; mode?: 'single-writer' } = {}) {
  const target = new MemoryTarget({ createOnly: options.mode === undefined });
  const writer = await host(target, options);
  const states = [writer.state];
  for (let n = 0; n < count; n++) {
    await runJob(writer, { volume: `volume ${n}` });
    states.push(writer.state);
  }
  return { target, writer, states };
}

KEYS('the newest entry of a %s log', (_name, logKey) => {
  test('is flipped: nobody writes, and readers have the state before it and are told', async () => {
    const { target, states } = await backupsOf(3, { logKey });
    const objects = await objectsOf(target);
    const body = objects.get(entryKey(6))!;
    for (let at = 0; at < body.length; at += 7) {
      const flipped = await targetOf(new Map(objects).set(entryKey(6), corrupted(body, at * 8)));
      const refused = {
        code: 'LOG_CORRUPT',
        message: expect.stringMatching(/object log\/.*restore that object.*readOnly: true/),
      };
      await expect(openLog(sourceOf(flipped, { logKey }))).rejects.toMatchObject(refused);
      const opened = await openLog(sourceOf(flipped, { logKey }), { onDamage: 'read-only' });
      expect(opened.damage).toEqual({ openedAsOf: 5, newestListed: 6, error: corrupt });
      expect([...opened.state.backups.keys()]).toEqual([...states[2]!.backups.keys()]);
    }
  });

  test('and several before it are flipped; a checkpoint still counts', async () => {
    const target = await logOf(Array(40).fill(keysFact), { logKey });
    const objects = await objectsOf(target);
    for (let seq = 34; seq <= 40; seq++) objects.set(entryKey(seq), corrupted(objects.get(entryKey(seq))!, 99));
    const opened = await openLog(sourceOf(await targetOf(objects), { logKey }), { onDamage: 'read-only' });
    expect([opened.state.seq, opened.checkpoint, opened.damage?.openedAsOf]).toEqual([33, 32, 33]);
  });

  test('is garbage of whoever may only add objects, at the next number and far above', async () => {
    const { target, states } = await backupsOf(2, { logKey });
    for (const seq of [5, 900]) await target.put(entryKey(seq), new Uint8Array(400));
    await target.put(entryKey(901), new Uint8Array(8 * 1024 * 1024 + 1));
    await expect(openLog(sourceOf(target, { logKey }))).rejects.toEqual(corrupt);
    const faulty = counted(target);
    const reader = await host(faulty, { logKey, onDamage: 'read-only' });
    expect([...reader.state.backups.keys()]).toEqual([...states[2]!.backups.keys()]);
    expect(reader.reader.damage).toMatchObject({ openedAsOf: 4, newestListed: 901 });
    expect(faulty.calls.map(({ subject }) => subject)).not.toContain(entryKey(901));
    await expect(reader.append(() => keysFact)).rejects.toEqual(corrupt);
    expect((await reader.catchUp()).seq).toBe(4);
    // The remedy: none of them is an entry, so they may be deleted.
    for (const seq of [5, 900, 901]) await target.delete(entryKey(seq));
    const writer = await host(target, { logKey });
    expect((await writer.append(() => keysFact))?.entry.seq).toBe(5);
  });

  test('has fields that are not known: nobody asks for them, and no tail repeats them', async () => {
    const { target, writer } = await backupsOf(1, { logKey });
    const { seq, hash } = writer.state;
    const body = {
      v: 1,
      seq: seq + 1,
      prev: hash,
      id: new Uint8Array(16),
      at: 5,
      type: 'keys',
      added: [],
      removed: [],
    };
    const later = entryBody({ ...body, tail: [], later: [1, { two: 3 }] });
    await target.put(entryKey(seq + 1), sealObject(logKey, 'cow1 log', seq + 1, later));
    const next = await host(target, { logKey });
    for (let n = 0; n < 3; n++) await next.append(() => keysFact);
    const newest = openObject(logKey, 'cow1 log', 4, await target.get(entryKey(4)));
    const { tail } = fieldsOfEntry(newest) as { tail: { seq: number }[] };
    const repeated = tail.find((each) => each.seq === seq + 1);
    expect(Object.keys(repeated!).toSorted()).toEqual(Object.keys(body).toSorted());
    // A verification compares the fields of the page.
    expect((await verifyLog(sourceOf(target, { logKey }))).seq).toBe(6);
  });

  test('is damaged while it is open: who writes is told, who reads keeps what there is', async () => {
    const { target, writer } = await backupsOf(1, { logKey });
    const reader = await host(target, { logKey, onDamage: 'read-only' });
    await target.put(entryKey(3), new Uint8Array(400));
    await expect(writer.catchUp()).rejects.toEqual(corrupt);
    expect((await reader.catchUp()).seq).toBe(2);
    expect(reader.reader.damage).toMatchObject({ openedAsOf: 2, error: { code: 'LOG_CORRUPT' } });
  });

  test.each([
    ['a type', { type: 'teleport' }],
    ['a version', { v: 2 }],
  ])('is of %s that is not known: that is no damage', async (_what, rest) => {
    const { target, writer } = await backupsOf(1, { logKey });
    const { seq, hash } = writer.state;
    const body = { v: 1, seq: seq + 1, prev: hash, id: new Uint8Array(16), at: 5, type: 'keys', tail: [], ...rest };
    await target.put(entryKey(seq + 1), sealObject(logKey, 'cow1 log', seq + 1, entryBody(body)));
    const newer = withCode('REPOSITORY_UNSUPPORTED');
    await expect(openLog(sourceOf(target, { logKey }))).rejects.toEqual(newer);
    await expect(openLog(sourceOf(target, { logKey }), { onDamage: 'read-only' })).rejects.toEqual(newer);
    await expect(verifyLog(sourceOf(target, { logKey }))).rejects.toEqual(newer);
    await expect(writer.catchUp()).rejects.toEqual(newer);
    await expect(writer.append(() => keysFact, { lookFirst: false })).rejects.toEqual(newer);
  });

  test('has a checkpoint of a version that is not known: it is a cache', async () => {
    const target = await logOf(Array(33).fill(keysFact), { logKey });
    const bytes = sealObject(
      logKey,
      'cow1 checkpoint',
      32,
      Uint8Array.from([0, 4, 0, 0, 0, ...encodeMsgpack({ v: 2 })]),
    );
    await target.put(checkpointKey(32), bytes);
    expect((await openLog(sourceOf(target, { logKey }))).state.seq).toBe(33);
  });

  test('has strays beside it in single-writer mode: they are no entries, and no forks', async () => {
    const { target, writer } = await backupsOf(4, { logKey, mode: 'single-writer' });
    const single = sourceOf(target, { logKey, mode: 'single-writer' });
    const objects = await objectsOf(target);
    const [sound] = [...objects].find(([key]) => key.startsWith(entryKey(8)))!;
    for (const seq of [4, 8]) await target.put(entryKey(seq, new Uint8Array(32).fill(0xab)), new Uint8Array(100));
    // What authenticates and is not what an entry says is none: a field is missing, or it is no MessagePack.
    for (const body of [entryBody({ v: 1, seq: 6, type: 'keys' }), new Uint8Array(40).fill(0xc1)]) {
      const bytes = sealObject(logKey, 'cow1 log', 6, body);
      await target.put(entryKey(6, createHash('sha256').update(bytes).digest()), bytes);
    }
    // Another entry's bytes under a name of one's own do not authenticate either.
    await target.put(entryKey(7, new Uint8Array(32)), objects.get(sound)!);
    for (const onDamage of ['refuse', 'read-only'] as const) {
      const opened = await openLog(single, { onDamage });
      expect([opened.state.backups.size, opened.damage]).toEqual([4, undefined]);
    }
    expect((await verifyLog(single)).backups.size).toBe(4);
    await runJob(writer, { volume: 'disk' });
    await runJob(await host(target, { logKey, mode: 'single-writer' }), { volume: 'disk' });
    expect((await openLog(single)).state.backups.size).toBe(6);
  });
});

test('a repository is opened for reading as of the last sound entry, with a warning', async () => {
  const target = new MemoryTarget();
  const repository = await createIn(target, true);
  const { volume } = await openVolume(4);
  const first = await repository.backup(volume, { volume: 'disk' });
  await repository.backup(volume, { volume: 'disk' });
  await repository.close();
  const body = await target.get(entryKey(4));
  await target.put(entryKey(4), corrupted(Uint8Array.from(body), 99));
  const warnings: Error[] = [];
  const listen = (warning: Error) => warnings.push(warning);
  process.on('warning', listen);
  try {
    await using opened = await openIn(target, true, { readOnly: true });
    expect(opened.damage).toMatchObject({ openedAsOf: 3, newestListed: 4, error: { code: 'LOG_CORRUPT' } });
    expect((await Array.fromAsync(opened.listBackups())).map(({ id }) => id)).toEqual([first.id]);
    await new Promise(setImmediate);
    expect(warnings).toEqual([expect.objectContaining({ code: expect.stringMatching(/LOG_DAMAGED$/) })]);
  } finally {
    process.off('warning', listen);
  }
  await expect(openIn(target, true)).rejects.toEqual(corrupt);
});
