import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { decodeCheckpoint, encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import { MAX_TAIL } from '../../../src/repository/format/entry-codec.ts';
import type { LogEntry } from '../../../src/repository/format/log-entry.ts';
import { sealObject } from '../../../src/repository/format/log-object.ts';
import { EMPTY_STATE, type LogState } from '../../../src/repository/format/log-state.ts';
import { checkpointKey, entryKey, MAX_SEQ, parseLogKey } from '../../../src/repository/format/object-keys.ts';
import { compressContent } from '../../../src/repository/format/packed-content.ts';
import { property, randomBytes } from '../../support/randomness.ts';
import { withCode } from '../../support/with-code.ts';
import { after, backup, commit, entryAfter, everyFact, hexId, id32, open, pack } from '../log/support/facts.ts';
import { applyEntry } from '../log/support/fold-at-once.ts';
import { LOG_KEY } from '../log/support/hosts.ts';
import { decodeEntry, encodeEntry, entryBody, entryPlain, tailEntries } from './support/codecs-at-once.ts';

const corrupt = withCode('LOG_CORRUPT');
const KEYS = [undefined, LOG_KEY];

/** A log of every type of entry, each with all before it as its tail. */
function everyEntry(logKey: Uint8Array | undefined) {
  const entries: LogEntry[] = [];
  const encoded: ReturnType<typeof encodeEntry>[] = [];
  let state: LogState = EMPTY_STATE;
  for (const fact of everyFact()) {
    const one = encodeEntry(logKey, entryAfter(state, fact), tailEntries(entries.toReversed()));
    state = applyEntry(state, one.entry, one.hash);
    entries.push(one.entry);
    encoded.push(one);
  }
  return { entries, encoded, state };
}

describe('keys', () => {
  test('of newer entries come first, a checkpoint follows its entry', () => {
    const keys = [1, 2, 255, 2 ** 40, MAX_SEQ].flatMap((seq) => [checkpointKey(seq), entryKey(seq)]);
    expect(keys.toSorted()).toEqual(keys.toReversed());
    expect(entryKey(1)).toBe('log/ffffffffffffe');
    expect(checkpointKey(1)).toBe('log/ffffffffffffe-c');
  });

  test('say what they are', () => {
    const hash = id32();
    const suffix = Buffer.from(hash.subarray(0, 16)).toString('hex');
    expect(parseLogKey(entryKey(9))).toEqual({ kind: 'entry', seq: 9, suffix: undefined });
    expect(parseLogKey(entryKey(9, hash))).toEqual({ kind: 'entry', seq: 9, suffix });
    expect(parseLogKey(checkpointKey(9))).toEqual({ kind: 'checkpoint', seq: 9 });
    for (const other of [
      'log/',
      'log/fffffffffffff',
      'log/0',
      `${entryKey(9)}-d`,
      `x${entryKey(9)}`,
      `${entryKey(9)}/a`,
    ]) {
      expect(parseLogKey(other)).toBeUndefined();
    }
  });
});

describe.each(KEYS.map((key) => [key === undefined ? 'plain' : 'encrypted', key] as const))(
  '%s entries',
  (_name, logKey) => {
    test('come back as they were, with their tails', () => {
      const { entries, encoded } = everyEntry(logKey);
      for (const [index, { bytes, hash }] of encoded.entries()) {
        const decoded = decodeEntry(logKey, index + 1, bytes);
        expect(decoded.entry).toEqual(entries[index]);
        expect(decoded.tail).toEqual(entries.slice(0, index).reverse());
        expect(decoded.hash).toEqual(hash);
      }
    });

    test('are refused under another number', () => {
      const { encoded } = everyEntry(logKey);
      expect(() => decodeEntry(logKey, 3, encoded[1]!.bytes)).toThrow(corrupt);
    });

    test('are refused with any bit flipped, and cut anywhere', async () => {
      const { encoded, state } = everyEntry(logKey);
      const objects = encoded
        .slice(0, 9)
        .map(({ bytes, entry }) => ({ bytes, decode: async (b: Uint8Array) => decodeEntry(logKey, entry.seq, b) }));
      objects.push({
        bytes: (await encodeCheckpoint(logKey, state))!,
        decode: (b) => decodeCheckpoint(logKey, state.seq, b) as never,
      });
      for (const { bytes, decode } of objects) {
        await decode(bytes);
        for (let at = 0; at < bytes.length; at++) {
          const flipped = Uint8Array.from(bytes);
          flipped[at]! ^= 1 << (at % 8);
          await expect(decode(flipped)).rejects.toEqual(corrupt);
        }
        for (let length = 0; length < bytes.length; length += 7)
          await expect(decode(bytes.subarray(0, length))).rejects.toEqual(corrupt);
      }
    });

    test('are refused with every kind of wrong field, however well they are sealed', () => {
      const entry = entryPlain(entryAfter(after(open()), { type: 'abort', session: 1 }));
      const sealed = (fields: unknown) => () =>
        decodeEntry(logKey, 2, sealObject(logKey, 'cow1 log', 2, entryBody(fields)));
      expect(sealed({ ...entry, tail: [] })).not.toThrow();
      for (const whole of [null, 5, [], 'x', entry]) expect(sealed(whole), JSON.stringify(whole)).toThrow(corrupt);
      const opening = { type: 'open', owner: 'x', volumes: [], fence: [], adopt: [] };
      const committing = { type: 'commit', session: 1, backups: [], packs: [], packTables: [] };
      const collecting = {
        type: 'collect',
        session: null,
        newPacks: [],
        packs: [],
        sessions: [],
        fence: [],
        relocate: [],
      };
      const gone = { gonePacks: [], goneSessions: [] };
      for (const right of [opening, committing, { ...collecting, ...gone }]) {
        expect(sealed({ ...entry, tail: [], ...right }), JSON.stringify(right)).not.toThrow();
      }
      const wrong = [
        { tail: null },
        { tail: [1] },
        { v: 0 },
        { at: 8.64e15 + 1 },
        { at: -1e300 },
        { v: null },
        { seq: 3 },
        { seq: 0 },
        { seq: 1.5 },
        { prev: new Uint8Array(31) },
        { prev: 'x' },
        { id: new Uint8Array(15) },
        { at: null },
        { at: Number.NaN },
        { type: null },
        { session: 0 },
        { session: '1' },
        { session: null },
        { ...opening, owner: 'x'.repeat(1025) },
        { ...opening, volumes: [['', null]] },
        {
          ...opening,
          volumes: [
            ['a', null],
            ['a', null],
          ],
        },
        { ...opening, volumes: { a: null } },
        { ...opening, fence: [1, 1] },
        { ...committing, backups: [{}] },
        { ...committing, packs: [[1, new Uint8Array(16), 0, new Uint8Array(32)]] },
        { ...committing, packTables: [[new Uint8Array(32), [], 1]] },
        collecting,
        { ...collecting, ...gone, packs: [[0, new Uint8Array(16)]] },
        { ...collecting, ...gone, relocate: [[1, new Uint8Array(16), new Uint8Array(32), null]] },
        { type: 'forget', backups: ['x'] },
        { type: 'keys', added: ['NOTASLOTNOTASLOT'], removed: [] },
        { type: 'config', quarantine: [[1, 'x']], release: [] },
      ];
      for (const change of wrong) {
        expect(sealed({ ...entry, tail: [], ...change }), JSON.stringify(change)).toThrow(corrupt);
      }
      const newer = withCode('REPOSITORY_UNSUPPORTED');
      for (const change of [{ v: 2 }, { type: 'shut' }, { type: 'toString' }]) {
        expect(sealed({ ...entry, tail: [], ...change })).toThrow(newer);
        expect(sealed({ ...entry, tail: [{ ...entry, ...change }] })).toThrow(newer);
      }
    });

    test('with a tail that leaves one out are refused', () => {
      const { entries } = everyEntry(logKey);
      const fields = (tail: unknown[]) => entryBody({ ...entryPlain(entries[4]!), tail });
      const decode = (tail: unknown[]) => decodeEntry(logKey, 5, sealObject(logKey, 'cow1 log', 5, fields(tail)));
      const plain = entries.map(entryPlain);
      expect(decode([plain[3], plain[2]]).tail).toHaveLength(2);
      for (const tail of [[plain[2]], [plain[3], plain[1]], [plain[3], plain[3]], [plain[4]]])
        expect(() => decode(tail)).toThrow(corrupt);
    });
  },
);

test('a key opens only what it sealed', () => {
  const { encoded } = everyEntry(LOG_KEY);
  expect(() => decodeEntry(id32(), 1, encoded[0]!.bytes)).toThrow(corrupt);
  expect(() => decodeEntry(undefined, 1, encoded[0]!.bytes)).toThrow(corrupt);
});

test('a tail is as long as it may be, in entries and in bytes', () => {
  let state: LogState = EMPTY_STATE;
  const tail: LogEntry[] = [];
  for (let n = 0; n < 70; n++) {
    const one = entryAfter(state, { type: 'keys', added: [], removed: [] });
    state = applyEntry(state, one, id32());
    tail.unshift(one);
  }
  const entry = entryAfter(state, open());
  expect(encodeEntry(undefined, entry, tailEntries(tail)).tail).toHaveLength(MAX_TAIL);
  const long = tail.map((one) => ({
    ...one,
    type: 'keys' as const,
    added: Array.from({ length: 3000 }, (_, index) => index.toString(16).padStart(16, '0')),
    removed: [],
  }));
  const large = commit(
    1,
    [backup(pack(1, 'a'))],
    Array.from({ length: 138_000 }, () => ({ ...pack(1, 'a'), random: hexId() })),
  );
  const full = encodeEntry(undefined, entryAfter(state, large), tailEntries(long));
  expect(full.bytes.length).toBeGreaterThan(8_000_000);
  expect(full.tail.length).toBeGreaterThan(0);
  const { tail: kept, bytes } = encodeEntry(undefined, entry, tailEntries(long));
  expect(kept.length).toBeGreaterThan(5);
  expect(bytes.length).toBeLessThan(1.1 * 1024 * 1024);
});

test('nothing is encoded that would not be read', () => {
  const state = after(open());
  const encode = (fact: Parameters<typeof entryAfter>[1]) => () => encodeEntry(undefined, entryAfter(state, fact), []);
  expect(encode(open({ 'half \ud800': undefined }))).toThrow(corrupt);
  expect(encode(open({ '': undefined }))).toThrow(corrupt);
  expect(encode(commit(1, [backup(pack(1, 'a'), { metadata: JSON.parse('{"__proto__":"x"}') })], []))).toThrow(corrupt);
  expect(encode(commit(1, [backup(pack(1, 'a'), { metadata: { long: 'x'.repeat(70_000) } })], []))).toThrow(corrupt);
  expect(encode(commit(1, [{ ...backup(pack(1, 'a')), point: 0.5 }], []))).toThrow(corrupt);
  const many = Array.from({ length: 160_000 }, () => ({ ...pack(1, 'a'), random: hexId() }));
  expect(encode(commit(1, [backup(pack(1, 'a'))], many))).toThrow(withCode('LIMIT_EXCEEDED'));
  // As large as one of many ids, but made sooner.
  const reason = randomBytes(9_000_000).toString('base64');
  expect(encode({ type: 'hold', backups: [hexId()], reason })).toThrow(/too large.*pass fewer ids in one call/);
  expect(encode(open({ __proto__x: undefined, constructor: undefined, ['__proto__']: undefined }))).not.toThrow();
});

test('a checkpoint that claims more than it has is refused before anything is allocated', async () => {
  const body = new Uint8Array(200);
  body[0] = 1;
  for (const length of [2 ** 32 - 1, 64 * 1024 * 1024 + 1, 64 * 1024 * 1024, 0]) {
    new DataView(body.buffer).setUint32(1, length, true);
    await expect(decodeCheckpoint(undefined, 1, sealObject(undefined, 'cow1 checkpoint', 1, body))).rejects.toEqual(
      corrupt,
    );
  }
});

test('a checkpoint of a few KB that would be 64 MiB of empty maps is refused before it is decompressed', async () => {
  const raw = Buffer.alloc(64 * 1024 * 1024, 0x80);
  const frame = zstdCompressSync(raw);
  expect(frame.length).toBeLessThan(20_000);
  const body = new Uint8Array(5 + frame.length);
  body[0] = 1;
  new DataView(body.buffer).setUint32(1, raw.length, true);
  body.set(frame, 5);
  const before = process.memoryUsage().arrayBuffers;
  await expect(decodeCheckpoint(undefined, 1, sealObject(undefined, 'cow1 checkpoint', 1, body))).rejects.toEqual(
    corrupt,
  );
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 22);
});

test('whatever the bytes are, decoders answer or give their code', async () => {
  const isFine = async (decode: () => unknown) => {
    try {
      await decode();
    } catch (error) {
      if (!BackupError.is(error, 'LOG_CORRUPT') && !BackupError.is(error, 'REPOSITORY_UNSUPPORTED')) throw error;
    }
  };
  const { entries, state } = everyEntry(undefined);
  const plains: unknown[] = entries.map((entry) => ({ ...entryPlain(entry), tail: [] }));
  // Of a real entry or checkpoint one value, somewhere, is another one.
  const mutated = (value: unknown, path: readonly number[], other: unknown): unknown => {
    const [step, ...rest] = path;
    if (step === undefined || typeof value !== 'object' || value === null || value instanceof Uint8Array) return other;
    const keys = Object.keys(value);
    if (keys.length === 0) return other;
    const key = keys[step % keys.length]!;
    const copy = (Array.isArray(value) ? [...value] : { ...value }) as Record<string, unknown>;
    copy[key] = mutated(copy[key], rest, other);
    return copy;
  };
  const junk = fc.oneof(
    fc.integer(),
    fc.double(),
    fc.string(),
    fc.boolean(),
    fc.constant(null),
    fc.uint8Array({ maxLength: 40 }),
    fc.array(fc.integer(), { maxLength: 4 }),
    fc.dictionary(fc.string(), fc.integer(), { maxKeys: 3 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.array(fc.nat(), { minLength: 1, maxLength: 8 }), junk, async (which, path, other) => {
      const index = which % plains.length;
      const body = entryBody(mutated(plains[index], path, other));
      await isFine(() => decodeEntry(undefined, index + 1, sealObject(undefined, 'cow1 log', index + 1, body)));
    }),
    property(2000),
  );
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (body) => {
      await isFine(() => decodeEntry(undefined, 1, body));
      await isFine(() => decodeEntry(undefined, 1, sealObject(undefined, 'cow1 log', 1, body)));
      await isFine(() => decodeEntry(undefined, 1, sealObject(undefined, 'cow1 log', 1, compressContent(body))));
      await isFine(() => decodeEntry(LOG_KEY, 1, sealObject(LOG_KEY, 'cow1 log', 1, body)));
      await isFine(() => decodeCheckpoint(undefined, 1, sealObject(undefined, 'cow1 checkpoint', 1, body)));
      await isFine(() =>
        decodeCheckpoint(
          undefined,
          1,
          sealObject(undefined, 'cow1 checkpoint', 1, Uint8Array.of(0, body.length, body.length >> 8, 0, 0, ...body)),
        ),
      );
    }),
    property(1000),
  );
  expect(state.seq).toBe(entries.length);
});
