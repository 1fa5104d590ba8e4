import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeMsgpack, encodeMsgpack } from '../../src/common/msgpack.ts';
import { decodeFieldsInSteps, MsgpackReader, UndecodedArray } from '../../src/common/msgpack-reader.ts';
import {
  encodeMsgpackInSteps,
  MsgpackArray,
  MsgpackBytes,
  MsgpackEncoded,
  MsgpackMap,
} from '../../src/common/msgpack-writer.ts';
import { property } from '../support/randomness.ts';

const refused = expect.objectContaining({ name: 'BackupError', code: 'STATE_CORRUPT' });

/** Runs to the end; with the number of pauses. */
function run<T>(work: Generator<void, T, void>): { value: T; pauses: number } {
  for (let pauses = 0; ; pauses++) {
    const step = work.next();
    if (step.done) return { value: step.value, pauses };
  }
}

function* all(bytes: Uint8Array): Generator<void, unknown, void> {
  const reader = new MsgpackReader(bytes, 'STATE_CORRUPT');
  const value = yield* reader.value();
  reader.end();
  return value;
}

const decode = (bytes: Uint8Array) => run(all(bytes));
const numbers = (count: number) => Array.from({ length: count }, (_, n) => n * 1000);

/** Long ones of every shape. */
const LONG: Readonly<Record<string, unknown>> = {
  'an array of numbers': numbers(50_000),
  'an array of arrays': numbers(20_000).map((n) => [n, String(n)]),
  'an array in an array': [1, [2, [3, numbers(50_000)], 'x'], numbers(10)],
  'long arrays in an array': [numbers(9000), numbers(9000), numbers(9000)],
  'a map': Object.fromEntries(numbers(20_000).map((n) => [`name ${n}`, n])),
  'a map in a map': { a: { b: Object.fromEntries(numbers(20_000).map((n) => [`name ${n}`, [n]])), c: 1 }, d: null },
  'a text': 'ä'.repeat(200_000),
  'bytes among others': [1, new Uint8Array(300_000).fill(7), numbers(9)],
};

describe.each(Object.entries(LONG))('%s', (_name, value) => {
  test('is decoded in steps to what it is at once', () => {
    const bytes = encodeMsgpack(value);
    const { value: decoded, pauses } = decode(bytes);
    expect(JSON.stringify(decoded)).toBe(JSON.stringify(decodeMsgpack(bytes, 'STATE_CORRUPT')));
    const short = typeof value === 'string' || Array.isArray(value) ? value.length < 5 : false;
    if (!short && typeof value !== 'string') expect(pauses).toBeGreaterThanOrEqual(Math.floor(bytes.length / 50_000));
  });

  test('is refused when it is cut, or something follows', () => {
    const bytes = encodeMsgpack(value);
    expect(() => decode(bytes.subarray(0, bytes.length - 1))).toThrow(refused);
    expect(() => decode(bytes.subarray(0, bytes.length >> 1))).toThrow(refused);
    expect(() => decode(Uint8Array.from([...bytes, 0]))).toThrow(refused);
  });
});

test('short values are decoded in steps as at once, and refused alike', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.nat(), fc.integer({ min: 0, max: 255 }), (value, at, byte) => {
      const bytes = encodeMsgpack(value);
      const outcome = (work: () => unknown) => {
        try {
          return JSON.stringify(work());
        } catch (error) {
          return (error as { code?: string }).code;
        }
      };
      // A key may be `__proto__`, which is refused.
      const expectSameOutcome = () =>
        expect(outcome(() => decode(bytes).value)).toBe(outcome(() => decodeMsgpack(bytes, 'STATE_CORRUPT')));
      expectSameOutcome();
      bytes[at % bytes.length] = byte;
      expectSameOutcome();
    }),
    property(1000),
  );
});

test('parts are encoded to the bytes of the whole, in pauses', () => {
  for (const count of [0, 1, 15, 16, 255, 256, 65_535, 65_536]) {
    const items = numbers(count);
    const bytes = new Uint8Array(count).fill(3);
    const { value, pauses } = run(
      encodeMsgpackInSteps(
        new MsgpackMap({
          a: MsgpackArray.of(count, items, (n) => [n, 'x']),
          b: new MsgpackBytes(count, [bytes.subarray(0, count >> 1), bytes.subarray(count >> 1)]),
          c: MsgpackArray.of(2, [new MsgpackEncoded(encodeMsgpack({ d: 1 })), MsgpackArray.of(count, items)]),
        }),
      ),
    );
    const whole = encodeMsgpack({ a: items.map((n) => [n, 'x']), b: bytes, c: [{ d: 1 }, items] });
    expect(Buffer.compare(value, whole), String(count)).toBe(0);
    expect(pauses).toBeGreaterThanOrEqual(Math.floor(whole.length / 32_768));
  }
  const fields = Object.fromEntries(numbers(20).map((n) => [`field ${n}`, n]));
  expect(Buffer.compare(run(encodeMsgpackInSteps(new MsgpackMap(fields))).value, encodeMsgpack(fields))).toBe(0);
});

test('a byte string may come in one piece of memory that is filled again and again', () => {
  for (const length of [10, 300_000]) {
    const piece = new Uint8Array(length);
    const pieces = function* () {
      for (let n = 1; n <= 3; n++) yield piece.fill(n);
    };
    const { value } = run(encodeMsgpackInSteps(tupleOf(new MsgpackBytes(3 * length, pieces()))));
    const whole = Uint8Array.from({ length: 3 * length }, (_, at) => 1 + Math.floor(at / length));
    expect(Buffer.compare(value, encodeMsgpack([whole]))).toBe(0);
  }
});

const tupleOf = (part: unknown) => MsgpackArray.of(1, [part]);

// V8 makes a hidden class for each function* that is called: for a million lists they took 1 KB each until the next major
// collection, and minor collections of 20 ms had to move them.
test('all lists are walked by one generator function', () => {
  expect(tupleOf(1).plains).toBe(tupleOf(2).plains);
});

describe('a reader', () => {
  const reader = (value: unknown) => new MsgpackReader(encodeMsgpack(value), 'STATE_CORRUPT');

  test('hands on each element of a list before it decodes those that are further on', () => {
    const list = reader(numbers(100_000));
    let seen = 0;
    const work = list.list(() => {
      seen++;
    });
    work.next();
    expect(seen).toBeGreaterThan(0);
    expect(seen).toBeLessThan(20_000);
    run(work);
    list.end();
    expect(seen).toBe(100_000);
  });

  test('reads maps by name, and steps over what is not wanted', () => {
    const map = reader({ a: numbers(50_000), b: 2, c: [] });
    const found: unknown[] = [];
    const { pauses } = run(
      map.map(function* (name) {
        if (name === 'a') yield* map.skip();
        else found.push([name, yield* map.value()]);
      }),
    );
    map.end();
    expect(found).toEqual([
      ['b', 2],
      ['c', []],
    ]);
    expect(pauses).toBeGreaterThan(5);
  });

  test('refuses other shapes than are asked for, and a key that stands twice', () => {
    expect(() => run(reader({}).list(() => {}))).toThrow(refused);
    expect(() => run(reader([]).map(function* () {}))).toThrow(refused);
    expect(() => run(reader(5).list(() => {}))).toThrow(refused);
    expect(() => run(new MsgpackReader(new Uint8Array(0), 'STATE_CORRUPT').list(() => {}))).toThrow(refused);
    const twice = new MsgpackReader(Uint8Array.of(0x82, 0xa1, 0x61, 1, 0xa1, 0x61, 2), 'STATE_CORRUPT');
    expect(() =>
      run(
        twice.map(function* () {
          yield* twice.skip();
        }),
      ),
    ).toThrow(refused);
  });

  test('nesting ends at 16 for it too', () => {
    const nested = (depth: number) => Uint8Array.from([...new Array(depth).fill(0x91), 0]);
    expect(() => decode(nested(16))).not.toThrow();
    expect(() => decode(nested(17))).toThrow(refused);
    // Around something long, so that it goes into each.
    const around = (depth: number) =>
      Uint8Array.from([...new Array(depth).fill(0x91), ...encodeMsgpack(numbers(9000))]);
    expect(() => decode(around(15))).not.toThrow();
    expect(() => decode(around(16))).toThrow(refused);
  });
});

describe('fields', () => {
  const fieldsOf = (value: unknown) => run(decodeFieldsInSteps(encodeMsgpack(value), 'STATE_CORRUPT')).value;
  const taken = (array: unknown, take: (item: unknown) => void = () => {}) => {
    const items: unknown[] = [];
    run(
      (array as UndecodedArray).each((item) => {
        items.push(item);
        take(item);
      }),
    );
    return items;
  };

  test('that are short are decoded; long arrays are, by their elements', () => {
    const fields = fieldsOf({ a: null, b: [1, 2], c: numbers(50_000), __proto__: 3, d: 'x' });
    expect(fields).toMatchObject({ a: null, b: [1, 2], d: 'x' });
    expect(fields.c).toBeInstanceOf(UndecodedArray);
    expect(taken(fields.c)).toEqual(numbers(50_000));
  });

  test('of which an element is wrong: those after it are not decoded', () => {
    const bomb = fieldsOf({ list: Array.from({ length: 200_000 }, (_, n) => `${n}`) }).list;
    const looked: unknown[] = [];
    const refuse = (item: unknown) => {
      looked.push(item);
      throw new Error('wrong');
    };
    expect(() => taken(bomb, refuse)).toThrow('wrong');
    expect(looked).toEqual(['0']);
  });

  test('that are long and no array, or that stand there twice, are refused', () => {
    const map = fieldsOf({ a: Object.fromEntries(numbers(20_000).map((n) => [`name ${n}`, n])) }).a;
    expect(() => taken(map)).toThrow(refused);
    const twice = Uint8Array.of(0x82, 0xa1, 0x61, 1, 0xa1, 0x61, 2);
    expect(() => run(decodeFieldsInSteps(twice, 'STATE_CORRUPT'))).toThrow(refused);
    expect(() => fieldsOf([1])).toThrow(refused);
  });
});
