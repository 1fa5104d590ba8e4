import fc from 'fast-check';
import { Packr, pack } from 'msgpackr';
import { describe, expect, test } from 'vitest';
import { BackupError } from '../../src/common/errors.ts';
import { decodeMsgpack, encodeMsgpack } from '../../src/common/msgpack.ts';
import { MsgpackReader } from '../../src/common/msgpack-reader.ts';
import { runAtOnce } from '../../src/common/yield-to-event-loop.ts';
import { property } from '../support/randomness.ts';

const refused = expect.objectContaining({ name: 'BackupError', code: 'STATE_CORRUPT' });
const decode = (bytes: Uint8Array) => decodeMsgpack(bytes, 'STATE_CORRUPT');
const fromHex = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'));

/** Everything that may be encoded, to a depth that is allowed. */
const plain: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, depthIdentifier: 'plain' },
    fc.oneof(
      fc.constantFrom(
        null,
        true,
        false,
        '',
        127,
        128,
        255,
        256,
        65_535,
        65_536,
        -32,
        -33,
        -129,
        2 ** 32,
        -(2 ** 31) - 1,
      ),
      fc.maxSafeInteger(),
      fc.double({ noNaN: true, noDefaultInfinity: true }).filter((number) => !Object.is(number, -0)),
      fc.string({ unit: 'binary', maxLength: 300 }),
      fc.uint8Array({ maxLength: 300 }),
    ),
    fc.array(tie('value'), { maxLength: 20, depthIdentifier: 'plain' }),
    fc.dictionary(
      fc.string({ maxLength: 20 }).filter((key) => key !== '__proto__'),
      tie('value'),
      {
        maxKeys: 20,
        noNullPrototype: true,
        depthIdentifier: 'plain',
      },
    ),
  ),
})).value;

/** Node gives back its own kind of `Uint8Array` in places; only the bytes matter. */
function unified(value: unknown): unknown {
  if (value instanceof Uint8Array) return { bytes: Buffer.from(value).toString('hex') };
  if (Array.isArray(value)) return value.map(unified);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, unified(each)]));
}

describe('plain MessagePack', () => {
  test('what is encoded is decoded again, wherever in memory it lies', () => {
    fc.assert(
      fc.property(plain, fc.nat(9), (value, offset) => {
        const bytes = encodeMsgpack(value);
        const memory = new Uint8Array(bytes.length + 20).fill(0xc1);
        memory.set(bytes, offset);
        expect(unified(decode(memory.subarray(offset, offset + bytes.length)))).toEqual(unified(value));
      }),
      property(1000),
    );
  });

  test('the bytes that it is given are left as they were, without a property more', () => {
    const bytes = encodeMsgpack([1, 'two', new Uint8Array([3])]);
    const copy = bytes.slice();
    decode(bytes);
    expect(bytes).toEqual(copy);
    expect(Object.keys(bytes)).toEqual(Object.keys(copy));
  });

  test('small integers are integers, not references to records', () => {
    for (let number = -32; number < 128; number++)
      expect(decode(fromHex(Buffer.from([number & 0xff]).toString('hex')))).toBe(number);
  });

  test('no key is one that decoders rename, or take for the prototype', () => {
    const text = Buffer.from('__proto__').toString('hex');
    for (const hex of [`81a9${text}81a17801`, `81d909${text}01`, `9181a16181a9${text}01`]) {
      expect(() => decode(fromHex(hex)), hex).toThrow(refused);
    }
    expect(decode(fromHex(`91a9${text}`))).toEqual(['__proto__']);
  });

  describe('decoders of other languages would read otherwise', () => {
    /** As {@link decode}, in steps. */
    const inSteps = (bytes: Uint8Array) => {
      const reader = new MsgpackReader(bytes, 'STATE_CORRUPT');
      const value = runAtOnce(reader.value());
      reader.end();
      return value;
    };
    const skipped = (bytes: Uint8Array) => runAtOnce(new MsgpackReader(bytes, 'STATE_CORRUPT').skip());
    const everywhere = (inner: string) => [inner, `91${inner}`, `82a16a01a16b${inner}`, `dc0002${inner}c0`];
    const expectRefused = (hex: string) => {
      for (const around of everywhere(hex)) {
        const bytes = fromHex(around);
        for (const read of [decode, inSteps, skipped]) expect(() => read(bytes), around).toThrow(refused);
      }
    };

    test('a map with a key that occurs twice, however it is encoded, and however many keys there are', () => {
      for (const twice of ['82a16101a16102', '82a16101d9016102', '82a16101da00016102', '82a001a002']) {
        expectRefused(twice);
      }
      for (const count of [2, 16, 17, 18, 40, 300]) {
        const keys = Array.from({ length: count }, (_, index) => `key ${index}`);
        const mapOf = (names: readonly string[]) => {
          const entries = names.map((name) => `${Buffer.from(encodeMsgpack(name)).toString('hex')}c0`);
          return `de${names.length.toString(16).padStart(4, '0')}${entries.join('')}`;
        };
        expect(Object.keys(decode(fromHex(mapOf(keys))) as object)).toEqual(keys);
        for (const again of [0, count >> 1, count - 1]) expectRefused(mapOf([...keys, keys[again] as string]));
      }
      // Each map has keys of its own.
      expect(decode(fromHex('82a16181a16101a16281a16102'))).toEqual({ a: { a: 1 }, b: { a: 2 } });
      expect(inSteps(fromHex('9281a1610181a16102'))).toEqual([{ a: 1 }, { a: 2 }]);
    });

    test('a map that is read over several steps too', () => {
      const long = Buffer.from(encodeMsgpack(new Array(18_000).fill(7))).toString('hex');
      expectRefused(`83a161${long}a162${long}a16101`);
      expectRefused(`83a161${long}a16201a162${long}`);
    });

    test('a text that is not UTF-8', () => {
      for (const wrong of ['ff', 'c080', 'eda080', 'f8888080', 'c3', 'e282', 'f4908080', '61ff', '80']) {
        const head = (0xa0 + wrong.length / 2).toString(16);
        expectRefused(head + wrong);
        expectRefused(`81${head}${wrong}01`);
        expectRefused(`d96${(wrong.length / 2).toString(16)}${'61'.repeat(0x60)}${wrong}`);
      }
      expect(decode(fromHex('a4f09f9084'))).toBe('🐄');
    });

    test('a number that is not finite, or an integer that no double holds', () => {
      for (const wrong of [
        'cb7ff8000000000000',
        'cb7ff0000000000000',
        'cbfff0000000000000',
        'ca7fc00000',
        'ca7f800000',
      ]) {
        expectRefused(wrong);
      }
      for (const wrong of ['cf0020000000000000', 'cfffffffffffffffff', 'd30020000000000000', 'd3ffe0000000000000']) {
        expectRefused(wrong);
      }
      expect(decode(fromHex('cf001fffffffffffff'))).toBe(2 ** 53 - 1);
      expect(decode(fromHex('d3ffe0000000000001'))).toBe(-(2 ** 53) + 1);
      expect(decode(fromHex('cb7fefffffffffffff'))).toBe(Number.MAX_VALUE);
    });
  });

  test('nothing but plain values passes: extensions, dates, errors, sets, records and references are refused', () => {
    const shared = { a: 1 };
    const structured = new Packr({ structuredClone: true });
    const others = [
      pack(new Date(0)),
      pack(undefined),
      structured.pack(new Error('one')),
      structured.pack(new Set([1])),
      structured.pack([shared, shared]),
      new Packr({ useRecords: true }).pack([{ a: 1 }, { a: 2 }]),
    ];
    for (const bytes of others) expect(() => decode(bytes)).toThrow(refused);
    for (const type of ['c1', 'c7', 'c8', 'c9', 'd4', 'd5', 'd6', 'd7', 'd8']) {
      expect(() => decode(fromHex(`${type}${'00'.repeat(20)}`)), type).toThrow(refused);
      expect(() => decode(fromHex(`91${type}${'00'.repeat(20)}`)), type).toThrow(refused);
    }
  });

  test('nesting ends at 16', () => {
    const nested = (depth: number, type: string) => fromHex(`${type.repeat(depth)}00`);
    expect(() => decode(nested(16, '91'))).not.toThrow();
    expect(() => decode(nested(17, '91'))).toThrow(refused);
    expect(() => decode(nested(17, '81a161'))).toThrow(refused);
    // The innermost may be empty, and counts as well.
    expect(() => decode(fromHex(`${'91'.repeat(15)}90`))).not.toThrow();
    for (const empty of ['90', '80']) expect(() => decode(fromHex(`${'91'.repeat(16)}${empty}`))).toThrow(refused);
    expect(() => decode(nested(1_000_000, '91'))).toThrow(refused);
  });

  test('every value is there in full and nothing follows it', () => {
    fc.assert(
      fc.property(plain, fc.nat(), (value, place) => {
        const bytes = encodeMsgpack(value);
        expect(() => decode(bytes.subarray(0, place % bytes.length))).toThrow(refused);
        expect(() => decode(Uint8Array.from([...bytes, place & 0xff]))).toThrow(refused);
      }),
      property(500),
    );
  });

  test('a claimed length is believed only as far as there are bytes for it', () => {
    const before = process.memoryUsage();
    const claims = [
      'ddffffffff',
      'dd7fffffff',
      'dfffffffff',
      'df7fffffff',
      'dcffff',
      'deffff',
      'c6ffffffff',
      'dbffffffff',
    ];
    for (const claim of claims) {
      for (const around of ['', '91', '9f', '81a161']) {
        for (let time = 0; time < 50; time++) {
          expect(() => decode(fromHex(`${around}${claim}000000`)), `${around}${claim}`).toThrow(refused);
        }
      }
    }
    // What fits is no more than the input: an array of nils claims a byte each.
    expect((decode(fromHex(`dc0100${'c0'.repeat(256)}`)) as unknown[]).length).toBe(256);
    const after = process.memoryUsage();
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(2 ** 20);
    expect(after.heapUsed - before.heapUsed).toBeLessThan(2 ** 26);
  });

  test('values that are much larger in memory than in their bytes are counted', () => {
    for (const empty of ['80', '90', 'c400']) {
      const count = 2 ** 20;
      const head = Buffer.alloc(5);
      head[0] = 0xdd;
      head.writeUInt32BE(count, 1);
      const bomb = Uint8Array.from(Buffer.concat([head, Buffer.alloc(count * (empty.length / 2), empty, 'hex')]));
      expect(() => decode(bomb), empty).toThrow(refused);
    }
    expect(decode(fromHex(`dc0fff${'80'.repeat(4095)}`))).toHaveLength(4095);
  });

  test('random and damaged bytes are decoded or refused, and the next ones are decoded as if nothing had been', () => {
    const damaged = fc
      .tuple(plain, fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 5 }))
      .map(([value, changes]) => {
        const bytes = encodeMsgpack(value);
        for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
        return bytes;
      });
    fc.assert(
      fc.property(fc.oneof(damaged, fc.uint8Array({ maxLength: 100 })), (bytes) => {
        try {
          decode(bytes);
        } catch (error) {
          expect(BackupError.is(error, 'STATE_CORRUPT')).toBe(true);
        }
        expect(decode(encodeMsgpack({ a: [1, 'b'] }))).toEqual({ a: [1, 'b'] });
      }),
      property(3000),
    );
  });

  test('the refusal has the code that was asked for, and the cause', () => {
    const error = (() => {
      try {
        return decodeMsgpack(new Uint8Array(0), 'SOME_CODE');
      } catch (caught) {
        return caught;
      }
    })();
    expect(error).toMatchObject({ name: 'BackupError', code: 'SOME_CODE', cause: expect.any(Error) });
  });
});
