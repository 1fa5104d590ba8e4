import { describe, expect, test } from 'vitest';
import { encodeMsgpack } from '../../../src/common/msgpack.ts';
import { MsgpackReader } from '../../../src/common/msgpack-reader.ts';
import { runAtOnce } from '../../../src/common/yield-to-event-loop.ts';
import type { LogFact } from '../../../src/repository/format/log-entry.ts';
import { sealObject } from '../../../src/repository/format/log-object.ts';
import { stateFrom } from '../../../src/repository/format/state-decoding.ts';
import { withCode } from '../../support/with-code.ts';
import {
  backup,
  collect,
  commit,
  entryAfter,
  id32,
  location,
  nameOf,
  open,
  pack,
  relocation,
  after as stateAfter,
} from '../log/support/facts.ts';
import { applyEntry } from '../log/support/fold-at-once.ts';
import { decodeEntry, entryBody, entryPlain } from './support/codecs-at-once.ts';

/** What a list names twice would be counted twice by one reader and once by another. */

const corrupt = withCode('LOG_CORRUPT');

describe('an array of an entry names each thing once:', () => {
  const id = backup(pack(1, 'a')).id;
  const [a, b] = [pack(1, 'a'), pack(1, 'b')];
  const table = { id: id32(), location: location(a), packs: 3 };
  const slots = ['0123456789abcdef', 'fedcba9876543210'];
  const lists: [name: string, fact: LogFact, field: string][] = [
    ['sessions that are fenced', open({}, { fence: [1, 2] }), 'fence'],
    ['sessions that are adopted', open({}, { adopt: [1, 2] }), 'adopt'],
    ['volumes', open({ a: undefined, b: undefined }), 'volumes'],
    ['tables of packs', commit(1, [], [a], [table, { ...table, id: id32() }]), 'packTables'],
    ['backups that are forgotten', { type: 'forget', backups: [id, backup(a).id] }, 'backups'],
    ['backups that are held', { type: 'hold', backups: [id, backup(a).id], reason: undefined }, 'backups'],
    ['backups that are released', { type: 'release', backups: [id, backup(a).id] }, 'backups'],
    ['packs that are condemned', collect({ packs: [nameOf(a), nameOf(b)] }), 'packs'],
    ['sessions that are condemned', collect({ sessions: [1, 2] }), 'sessions'],
    ['sessions that a collection fences', collect({ fence: [1, 2] }), 'fence'],
    ['packs that are gone', collect({ gonePacks: [nameOf(a), nameOf(b)] }), 'gonePacks'],
    ['sessions that are gone', collect({ goneSessions: [1, 2] }), 'goneSessions'],
    ['what is dated anew', collect({ redated: [1, 2] }), 'redated'],
    ['packs that are relocated', collect({ relocate: [relocation(a, b), relocation(b, a)] }), 'relocate'],
    ['slots that are added', { type: 'keys', added: slots, removed: [] }, 'added'],
    ['slots that are removed', { type: 'keys', added: [], removed: slots }, 'removed'],
    ['packs that are quarantined', { type: 'config', quarantine: [nameOf(a), nameOf(b)], release: [] }, 'quarantine'],
    ['packs that leave quarantine', { type: 'config', quarantine: [], release: [nameOf(a), nameOf(b)] }, 'release'],
  ];

  test.each(lists)('%s', (_name, fact, field) => {
    const plain = entryPlain(entryAfter(stateAfter(open()), fact));
    const read = (list: unknown) =>
      decodeEntry(undefined, 2, sealObject(undefined, 'cow1 log', 2, entryBody({ ...plain, tail: [], [field]: list })));
    const [first, second] = plain[field] as [unknown, unknown];
    expect(() => read([first, second])).not.toThrow();
    expect(() => read([first, second, first])).toThrow(corrupt);
  });

  test.each<[string, LogFact]>([
    ['packs of a commit', commit(1, [backup(a)], [a, b, a])],
    ['backups of a commit', commit(1, [backup(a, { id }), backup(a, { id })], [a])],
  ])('%s', (_name, fact) => {
    const state = stateAfter(open());
    expect(() => applyEntry(state, entryAfter(state, fact), id32())).toThrow(corrupt);
  });
});

describe('a part of a checkpoint names each thing once:', () => {
  const a = pack(1, 'a');
  const random = (letter: string) => Buffer.from(pack(1, letter).random, 'hex');
  const known = (letter: string) => Buffer.concat([random(letter), Buffer.alloc(36, 1)]);
  const stored = (one: object) => ({ ...one, seq: 2, committedAt: 1, session: 1 });
  const commitPlain = entryPlain(entryAfter(stateAfter(open()), commit(1, [backup(a)], [a]))) as { backups: object[] };
  const relocatedPlain = entryPlain(
    entryAfter(stateAfter(open()), collect({ relocate: [relocation(a, pack(1, 'b'))] })),
  ) as { relocate: unknown[] };
  const hash = new Uint8Array(32);
  const session = [1, hash, 0, 'host', [], []];
  const nothing = Object.fromEntries(
    [
      'backups',
      'pinned',
      'heads',
      'forgotten',
      'holds',
      'sessions',
      'fenced',
      'known',
      'condemned',
      'relocations',
      'quarantined',
    ].map((name) => [name, []]),
  );
  const log = { v: 1, seq: 1, hash, floor: null, anchors: hash.subarray(16), pages: [[], []], goneThrough: 0 };
  const state = { ...log, ...nothing, keySlots: [], removedSlots: [] };
  const read = (change: object) => () =>
    runAtOnce(stateFrom(new MsgpackReader(encodeMsgpack({ ...state, ...change }), 'LOG_CORRUPT'), Infinity));
  const elements: [field: string, element: unknown][] = [
    ['backups', stored(commitPlain.backups[0] as object)],
    ['pinned', stored(commitPlain.backups[0] as object)],
    ['heads', ['disk', Buffer.alloc(16), 1]],
    ['forgotten', Buffer.alloc(16)],
    ['holds', [Buffer.alloc(16), null]],
    ['sessions', session],
    ['fenced', [...session, [1, 0, null]]],
    ['known', [1, known('a'), [], Buffer.alloc(0)]],
    ['condemned', [1, 0, [[1, random('a')]], []]],
    ['condemned', [1, 0, [], [5]]],
    ['relocations', relocatedPlain.relocate[0]],
    ['quarantined', [1, random('a')]],
    ['keySlots', '0123456789abcdef'],
    ['removedSlots', '0123456789abcdef'],
  ];

  test.each(elements)('%s (%#)', (field, element) => {
    expect(read({ [field]: [element] })).not.toThrow();
    expect(read({ [field]: [element, element] })).toThrow(corrupt);
  });

  test('names of packs within one element', () => {
    const none = Buffer.alloc(0);
    const two = Buffer.concat([random('a'), random('a')]);
    expect(read({ known: [[1, Buffer.concat([known('a'), known('a')]), [], none]] })).toThrow(corrupt);
    expect(read({ known: [[1, none, [], two]] })).toThrow(corrupt);
    expect(read({ known: [[1, known('a'), [], random('b')]] })).not.toThrow();
    expect(read({ quarantined: [[1, two]] })).toThrow(corrupt);
    expect(read({ condemned: [[1, 0, [[1, two]], []]] })).toThrow(corrupt);
  });

  test('a key of a map of it', () => {
    const twice = Buffer.concat([Buffer.of(0x81), encodeMsgpack('metadata'), Buffer.from('82a16101a16102', 'hex')]);
    const raw = Buffer.concat([Buffer.of(0x81), encodeMsgpack('later'), twice]);
    expect(() => runAtOnce(stateFrom(new MsgpackReader(raw, 'LOG_CORRUPT'), Infinity))).toThrow(
      expect.objectContaining({ code: 'LOG_CORRUPT', cause: new RangeError('a key occurs twice') }),
    );
  });
});
