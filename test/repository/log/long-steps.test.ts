import { describe, expect, test } from 'vitest';
import { sha256InSteps } from '../../../src/common/long-bytes.ts';
import { encodeMsgpack } from '../../../src/common/msgpack.ts';
import { MsgpackReader } from '../../../src/common/msgpack-reader.ts';
import { encodeMsgpackInSteps } from '../../../src/common/msgpack-writer.ts';
import type { Steps } from '../../../src/common/yield-to-event-loop.ts';
import { decodeCheckpoint, encodeCheckpoint, statePlain } from '../../../src/repository/format/checkpoint-codec.ts';
import { commitIdFor, decodingEntry, encodingEntry } from '../../../src/repository/format/entry-codec.ts';
import { openingObject, sealingObject } from '../../../src/repository/format/log-object.ts';
import { EMPTY_STATE, type LogState } from '../../../src/repository/format/log-state.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { PACK_BYTES } from '../../../src/repository/format/packed-names.ts';
import { stateFrom } from '../../../src/repository/format/state-decoding.ts';
import { randomBytes } from '../../support/randomness.ts';
import { withCode } from '../../support/with-code.ts';
import { backup, collect, commit, entryAfter, hexId, id32, nameOf, open, pack, zeroAnchors } from './support/facts.ts';
import { LOG_KEY } from './support/hosts.ts';

/** What is long is done in steps, of which none does more than a bounded part: the event loop turns in between. */

function counted<T>(work: Steps<T>): { value: T; steps: number } {
  for (let steps = 1; ; steps++) {
    const step = work.next();
    if (step.done) return { value: step.value, steps };
  }
}

/** So many backups, sessions, packs of one session, and condemned packs. */
function largeState(count: number): LogState {
  const backups = Array.from({ length: count }, (_, n) => {
    const one = backup(pack(n + 1, 'a'));
    return { ...one, seq: n + 1, committedAt: n, session: n + 1 };
  });
  const hash = id32();
  const dead = new Set(backups.map(({ id }) => id));
  const packs = new Map(backups.map(({ id }) => [id, { size: 1, sha256: id32() }]));
  const condemned = backups.map(({ id }) => ({ pack: { session: 9, random: id }, seq: 5, at: 6 }));
  return {
    ...EMPTY_STATE,
    floor: { seq: 5, sha256: id32() },
    seq: 10 * count,
    hash,
    anchors: zeroAnchors(10 * count, hash),
    backups: new Map(backups.map((each) => [each.id, each])),
    heads: new Map(backups.map(({ id, seq }) => [`volume ${id}`, { id, seq }])),
    sessions: new Map(
      backups.map(({ seq }) => [
        seq,
        { seq, hash, at: 1, owner: 'x', volumes: new Map([['a', undefined]]), adopted: [3] },
      ]),
    ),
    known: new Map([[7, { packs, tables: [], dead }]]),
    condemned: new Map(condemned.map((each) => [packKey(each.pack), each])),
    removedSlots: new Set(backups.map(({ id }) => id.slice(0, 16))),
  };
}

function* encoding(state: LogState) {
  return yield* encodeMsgpackInSteps(yield* statePlain(state));
}

test('a state is written and read in steps, twice as many for twice as much', () => {
  const [once, twice] = [2000, 4000].map((count): Record<'bytes' | 'written' | 'read', number> => {
    const state = largeState(count);
    const written = counted(encoding(state));
    const read = counted(stateFrom(new MsgpackReader(written.value, 'LOG_CORRUPT'), Infinity));
    expect({ ...read.value }).toEqual({ ...state });
    return { bytes: written.value.length, written: written.steps, read: read.steps };
  });
  for (const what of ['written', 'read'] as const) {
    // At most 16 KiB a step, and a little more.
    expect(twice![what]).toBeGreaterThan(twice!.bytes / 20_000);
    expect(twice![what] / once![what]).toBeGreaterThan(1.8);
  }
});

test('a checkpoint of a large state comes back', async () => {
  const state = largeState(1000);
  for (const key of [undefined, LOG_KEY]) {
    const bytes = (await encodeCheckpoint(key, state))!;
    expect({ ...(await decodeCheckpoint(key, state.seq, bytes)) }).toEqual({ ...state });
  }
});

test('objects are hashed, sealed and opened 256 KiB a step', () => {
  const body = Uint8Array.from(randomBytes(5 * 2 ** 20));
  expect(counted(sha256InSteps(body)).steps).toBe(21);
  for (const key of [undefined, LOG_KEY]) {
    const sealed = counted(sealingObject(key, 'cow1 log', 3, body));
    const opened = counted(openingObject(key, 'cow1 log', 3, sealed.value));
    expect(Buffer.compare(opened.value, body)).toBe(0);
    expect(Math.min(sealed.steps, opened.steps)).toBeGreaterThan(20);
    sealed.value[2 ** 20]! ^= 1;
    expect(() => counted(openingObject(key, 'cow1 log', 3, sealed.value))).toThrow(withCode('LOG_CORRUPT'));
  }
});

describe('entries of megabytes are encoded and decoded in steps:', () => {
  const packs = Array.from({ length: 20_000 }, () => ({ ...pack(1, 'a'), random: hexId() }));
  const names = packs.map(nameOf);
  const facts = {
    'a commit of many packs': commit(1, [backup(pack(1, 'a'))], packs),
    'a collection': collect({ packs: names, sessions: names.map((_, n) => n + 1), gonePacks: names }),
    'forgetting many': { type: 'forget', backups: packs.map(({ random }) => random) },
    openingObject: open(Object.fromEntries(packs.slice(0, 9000).map(({ random }) => [random, random]))),
  } as const;
  test.each(Object.entries(facts))('%s', (_name, fact) => {
    const entry = entryAfter(EMPTY_STATE, fact);
    const encoded = counted(encodingEntry(LOG_KEY, entry, []));
    const { bytes, ...made } = encoded.value;
    const decoded = counted(decodingEntry(LOG_KEY, 1, bytes));
    expect(decoded.value).toEqual(made);
    expect(made.entry).toEqual(entry);
    const least = bytes.length / 20_000;
    expect(decoded.steps).toBeGreaterThan(least);
    expect(encoded.steps).toBeGreaterThan(least);
    if (fact.type !== 'open') expect(counted(commitIdFor(LOG_KEY, entry)).steps).toBeGreaterThan(least);
  });
});

describe('a hostile checkpoint is refused where it is wrong, before the rest is made:', () => {
  const filled = (field: string, item: string, bytes: number) => {
    const count = (bytes * 2) / item.length;
    const head = Buffer.from([0xdd, count >>> 24, (count >>> 16) & 0xff, (count >>> 8) & 0xff, count & 0xff]);
    return Buffer.concat([
      Buffer.of(0x82),
      encodeMsgpack('v'),
      Buffer.of(1),
      encodeMsgpack(field),
      head,
      Buffer.alloc(bytes, item, 'hex'),
    ]);
  };
  test.each(['backups', 'heads', 'known', 'condemned', 'quarantined', 'removedSlots', 'seq'])('%s', (field) => {
    for (const item of ['90', '80', 'c0', '9190']) {
      const raw = filled(field, item, 2 ** 21);
      const work = stateFrom(new MsgpackReader(raw, 'LOG_CORRUPT'), 2 ** 20);
      let steps = 0;
      expect(() => {
        while (!work.next().done) steps++;
      }).toThrow(withCode('LOG_CORRUPT'));
      expect(steps).toBeLessThan(3);
    }
  });

  test('an element that is long itself, and names without end', () => {
    const elements = (item: Uint8Array) =>
      Buffer.concat([Buffer.of(0x82), encodeMsgpack('v'), Buffer.of(1), encodeMsgpack('known'), Buffer.of(0x91), item]);
    const read = (raw: Uint8Array) => () => counted(stateFrom(new MsgpackReader(raw, 'LOG_CORRUPT'), 2 ** 20));
    const many = 3 * 2 ** 20;
    const numbers = Buffer.concat([
      Buffer.of(0xdd, many >> 24, many >> 16, (many >> 8) & 0xff, many & 0xff),
      Buffer.alloc(many),
    ]);
    expect(read(elements(numbers))).toThrow(expect.objectContaining({ cause: new RangeError('too many values') }));
    const namesOf = (count: number) => {
      const bytes = Buffer.alloc(count * PACK_BYTES, 1);
      for (let n = 0; n < count; n++) bytes.writeUInt32LE(n, n * PACK_BYTES);
      return Uint8Array.from(bytes);
    };
    const names = (count: number) => elements(encodeMsgpack([1, namesOf(count), [], new Uint8Array(0)]));
    expect(read(names(2 ** 14))).toThrow('more memory than its length allows');
    expect(read(names(2 ** 10))).toThrow('lacks a field');
  });
});
