import { describe, expect, test } from 'vitest';
import { encodeMsgpack } from '../../../src/common/msgpack.ts';
import { encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import type { LogFact } from '../../../src/repository/format/log-entry.ts';
import { sealObject } from '../../../src/repository/format/log-object.ts';
import { checkpointKey, entryKey, parseLogKey } from '../../../src/repository/format/object-keys.ts';
import { openLog } from '../../../src/repository/log/open-log.ts';
import type { CloudTarget, PutOptions } from '../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { entryBody } from '../format/support/codecs-at-once.ts';
import { host, LOG_KEY, logOf, sourceOf } from './support/hosts.ts';
import { appendAsNewer, NEWER } from './support/newer-program.ts';
import { growAndPrune, logKeysOf } from './support/pruned-log.ts';

/** What a newer program appends to the log, between the steps of an older one. */

const keysFact: LogFact = { type: 'keys', added: [], removed: [] };
const unsupported = withCode('REPOSITORY_UNSUPPORTED');

/** Calls back when an entry of the log was created. */
class Watched extends ForwardingTarget {
  onEntry: ((key: string) => Promise<unknown>) | undefined;

  constructor(inner: CloudTarget) {
    super(inner, 'this watched target');
  }

  protected override async forwardPut(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions): Promise<void> {
    await super.forwardPut(key, body, options);
    if (!key.startsWith('log/') || key.endsWith('-c')) return;
    const { onEntry } = this;
    this.onEntry = undefined;
    await onEntry?.(key);
  }
}

describe.each([
  ['plain', undefined],
  ['encrypted', LOG_KEY],
] as const)('in a log that is %s', (_name, logKey) => {
  test.each(NEWER)('$what on top of an own entry that no listing has shown yet', async (newer) => {
    const inner = await logOf(Array(31).fill(keysFact), { logKey });
    const target = new Watched(inner);
    const writer = await host(target, { logKey });
    target.onEntry = async () => {
      const { state } = await openLog(sourceOf(inner, { logKey }));
      await appendAsNewer({ target: inner, logKey }, state, newer);
    };
    const appended = writer.append(() => keysFact, { lookFirst: false });
    if (newer.stopsReaders) {
      // Nobody who does not understand the newest entry knows whether the one below is in the log.
      await expect(appended).rejects.toEqual(
        expect.objectContaining({
          code: 'COMMIT_UNKNOWN',
          message: expect.stringContaining('update'),
          cause: unsupported,
        }),
      );
    } else {
      expect((await appended)?.entry.seq).toBe(32);
      expect(writer.state.seq).toBe(33);
    }
    await writer.settled();
    // A checkpoint is due, but what it would lack this program can't know.
    expect(await inner.stat(checkpointKey(32))).toBeUndefined();
    expect(await inner.stat(checkpointKey(33))).toBeUndefined();
    for (const lookFirst of [false, true]) {
      await expect(writer.append(() => keysFact, { lookFirst })).rejects.toEqual(unsupported);
    }
    expect(await inner.stat(entryKey(34))).toBeUndefined();
  });

  test.each(NEWER.filter(({ fields }) => fields.type === 'config' && fields.v === undefined))(
    '$what stays in checkpoints, of which no entry is left to say it',
    async ({ fields, stopsReaders }) => {
      const target = await logOf([keysFact], { logKey });
      const { state } = await openLog(sourceOf(target, { logKey }));
      const names = (value: unknown) => new Set((value ?? []) as string[]);
      const asked = { ...state, features: names(fields.features), readerFeatures: names(fields.readerFeatures) };
      await target.put(checkpointKey(1), (await encodeCheckpoint(logKey, asked))!);
      await appendAsNewer({ target, logKey }, state, { what: '', fields: { ...keysFact }, stopsReaders });
      const opening = host(target, { logKey });
      if (stopsReaders) await expect(opening).rejects.toEqual(unsupported);
      else await expect((await opening).append(() => keysFact)).rejects.toEqual(unsupported);
    },
  );

  test('checkpoints of a newer program, where old entries were deleted: the log is not truncated, but unsupported', async () => {
    const target = new MemoryTarget();
    const writer = await host(target, { logKey });
    await writer.append(() => keysFact);
    // These two sleep: one before the deletion, and one that has only read.
    const sleeper = await host(target, { logKey });
    const reader = await host(target, { logKey, onDamage: 'read-only' });
    await growAndPrune(target, writer);
    const content = encodeMsgpack({ v: 2, later: 1 });
    const later = Buffer.concat([Uint8Array.of(0, content.length, 0, 0, 0), content]);
    for (const key of (await logKeysOf(target)).filter((each) => each.endsWith('-c'))) {
      const seq = parseLogKey(key)!.seq;
      await target.put(key, sealObject(logKey, 'cow1 checkpoint', seq, later));
    }
    for (const onDamage of ['refuse', 'read-only'] as const) {
      await expect(openLog(sourceOf(target, { logKey }), { onDamage })).rejects.toEqual(unsupported);
    }
    await expect(sleeper.append(() => keysFact)).rejects.toEqual(unsupported);
    await expect(reader.catchUp()).rejects.toEqual(unsupported);
    // A process that has seen all entries needs no checkpoint.
    expect((await writer.append(() => keysFact))?.entry.seq).toBe(writer.state.seq);
  });

  test.each(NEWER)('$what in single-writer mode', async (newer) => {
    const target = new MemoryTarget({ createOnly: false });
    const writer = await host(target, { logKey, mode: 'single-writer' });
    await writer.append(() => keysFact);
    const { seq, hash } = writer.state;
    const { fields } = newer;
    const body = entryBody({ v: 1, seq: seq + 1, prev: hash, id: new Uint8Array(16), at: 5, tail: [], ...fields });
    const bytes = sealObject(logKey, 'cow1 log', seq + 1, body);
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    await target.put(entryKey(seq + 1, digest), bytes);
    await expect(writer.append(() => keysFact)).rejects.toEqual(unsupported);
    const catchingUp = writer.catchUp();
    if (newer.stopsReaders) await expect(catchingUp).rejects.toEqual(unsupported);
    else expect((await catchingUp).seq).toBe(2);
  });

  test.each(NEWER.filter(({ stopsReaders }) => stopsReaders))(
    '$what in the tail of the newest entry',
    async (newer) => {
      const target = await logOf([keysFact], { logKey });
      const { state } = await openLog(sourceOf(target, { logKey }));
      await appendAsNewer({ target, logKey }, state, newer);
      const hash = new Uint8Array(
        await crypto.subtle.digest('SHA-256', Uint8Array.from(await target.get(entryKey(2)))),
      );
      const below = { v: 1, seq: 2, prev: state.hash, id: new Uint8Array(16), at: 5, ...newer.fields };
      const above = { what: '', fields: { ...keysFact, tail: [below] }, stopsReaders: true };
      await appendAsNewer({ target, logKey }, { seq: 2, hash }, above);
      for (const onDamage of ['refuse', 'read-only'] as const) {
        await expect(openLog(sourceOf(target, { logKey }), { onDamage })).rejects.toEqual(unsupported);
      }
    },
  );
});
