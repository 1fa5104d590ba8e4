import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkSpan, isMultiple, splitSpan } from '../../src/device/span.ts';
import { property } from '../support/randomness.ts';

describe('splitSpan', () => {
  const spans = fc.record({
    unitSize: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(512, 4096, 65_536)),
    offset: fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 2 ** 45 })),
    length: fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 1_000_000 })),
  });

  test('its parts put together are the range: nothing missing, nothing twice, nothing outside', () => {
    fc.assert(
      fc.property(spans, ({ unitSize, offset, length }) => {
        const { head, firstWhole, wholeCount, wholeOffset, tail } = splitSpan(offset, length, unitSize);
        const parts: { from: number; to: number; inBuffer: number }[] = [];
        const add = (from: number, bytes: number, inBuffer: number) => parts.push({ from, to: from + bytes, inBuffer });
        if (head) add(head.unit * unitSize + head.start, head.length, head.offset);
        if (wholeCount > 0) add(firstWhole * unitSize, wholeCount * unitSize, wholeOffset);
        if (tail) add(tail.unit * unitSize + tail.start, tail.length, tail.offset);
        let at = offset;
        for (const part of parts) {
          expect(part.from).toBe(at);
          expect(part.inBuffer).toBe(at - offset);
          expect(part.to).toBeGreaterThan(part.from);
          at = part.to;
        }
        expect(at).toBe(offset + length);
      }),
      property(2000),
    );
  });

  test('head and tail are parts of one unit each, never a whole one', () => {
    fc.assert(
      fc.property(spans, ({ unitSize, offset, length }) => {
        const { head, tail } = splitSpan(offset, length, unitSize);
        for (const part of [head, tail]) {
          if (part === undefined) continue;
          expect(part.length).toBeGreaterThan(0);
          expect(part.length).toBeLessThan(unitSize);
          expect(part.start + part.length).toBeLessThanOrEqual(unitSize);
        }
        expect(tail?.start ?? 0).toBe(0);
        if (head && tail) expect(head.start + head.length).toBe(unitSize);
      }),
      property(2000),
    );
  });

  test('a range within one unit that does not cover it is all head', () => {
    expect(splitSpan(10, 20, 512)).toMatchObject({
      head: { unit: 0, start: 10, length: 20 },
      wholeCount: 0,
      tail: undefined,
    });
    expect(splitSpan(0, 511, 512)).toMatchObject({ head: { unit: 0, start: 0, length: 511 }, tail: undefined });
    expect(splitSpan(512, 512, 512)).toMatchObject({ head: undefined, firstWhole: 1, wholeCount: 1, tail: undefined });
  });
});

describe('checkSpan', () => {
  const bounds = { size: 4096, sectorSize: 512 };

  test('takes whole sectors within the size and nothing else', () => {
    const integers = fc.oneof(
      fc.integer({ min: -1024, max: 8192 }),
      fc.integer({ min: -2, max: 10 }).map((n) => n * 512),
    );
    fc.assert(
      fc.property(integers, integers, (offset, length) => {
        const inside = offset >= 0 && length >= 0 && offset + length <= bounds.size;
        const aligned = offset % 512 === 0 && length % 512 === 0;
        const check = () => checkSpan(bounds, offset, length);
        if (inside && aligned) expect(check).not.toThrow();
        else expect(check).toThrow(expect.objectContaining({ code: inside ? 'MISALIGNED' : 'OUT_OF_RANGE' }));
      }),
      property(2000),
    );
  });

  test('knows multiples of any sector as far as numbers are exact', () => {
    const values = fc.record({
      unit: fc.integer({ min: 1, max: 2 ** 32 }),
      value: fc.maxSafeNat(),
      isOne: fc.boolean(),
    });
    fc.assert(
      fc.property(values, ({ unit, value, isOne }) => {
        const given = isOne ? Math.floor(value / unit) * unit : value;
        for (const near of [given, given + 1, given - 1, given + 0.5]) {
          if (near < 0) continue;
          expect(isMultiple(near, unit)).toBe(near % unit === 0);
        }
      }),
      property(2000),
    );
    expect(isMultiple(Number.NaN, 1)).toBe(false);
  });

  test('what is no integer is a mistake of the program: a TypeError', () => {
    for (const value of [0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, undefined, {}] as never[]) {
      expect(() => checkSpan(bounds, value, 512)).toThrow(TypeError);
      expect(() => checkSpan({ size: 4096, sectorSize: 1 }, 0, value)).toThrow(TypeError);
    }
  });
});
