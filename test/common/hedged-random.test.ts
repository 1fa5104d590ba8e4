import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { hedge, hedgedBytes, hedgedHex } from '../../src/common/hedged-random.ts';

/** Two copies of one process memory: both draw the same. */
const copied = (length: number) => new Uint8Array(length).fill(7);
const secret = new Uint8Array(32).fill(1);
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const text = (value: string) => new TextEncoder().encode(value);

describe('hedged random bytes', () => {
  test('copies of one memory that say the same get the same bytes, and others as soon as what they say differs', () => {
    for (const key of [undefined, secret]) {
      const of = (...what: (Uint8Array | string | number)[]) => hex(hedge(copied, 12, key, ...what));
      expect(of('nonce', 5, text('one'))).toBe(of('nonce', 5, text('one')));
      const all = [of('nonce', 5, text('one')), of('nonce', 5, text('two')), of('nonce', 6, text('one')), of('id', 5)];
      expect(new Set(all).size).toBe(4);
    }
  });

  test('no two lists of parts are one text', () => {
    const lists = [['ab', 'c'], ['a', 'bc'], ['abc'], ['abc', ''], ['', 'abc'], [text('abc')], ['1'], [1], [1, '']];
    expect(new Set(lists.map((list) => hex(hedge(copied, 32, secret, ...list)))).size).toBe(lists.length);
  });

  test('other lengths are other bytes, not the beginning of them; every length is filled', () => {
    const drawn = [1, 8, 12, 16, 32, 64, 65, 200].map((length) => hedge(copied, length, secret, 'x'));
    expect(drawn.map(({ length }) => length)).toEqual([1, 8, 12, 16, 32, 64, 65, 200]);
    const [, eight = new Uint8Array(), twelve = new Uint8Array()] = drawn;
    expect(hex(twelve).startsWith(hex(eight))).toBe(false);
    const long = drawn.at(-1) as Uint8Array;
    expect(hex(long.subarray(0, 64))).not.toBe(hex(long.subarray(64, 128)));
    expect(hedge(copied, 0, secret)).toHaveLength(0);
  });

  test('the random source counts, with a secret and without one; the secret counts too', () => {
    let drawn = 0;
    const other = (length: number) => createHash('sha256').update(String(drawn++)).digest().subarray(0, length);
    for (const key of [undefined, secret]) {
      expect(hex(hedge(other, 16, key, 'x'))).not.toBe(hex(hedge(other, 16, key, 'x')));
    }
    expect(hex(hedge(copied, 16, secret, 'x'))).not.toBe(hex(hedge(copied, 16, new Uint8Array(32).fill(2), 'x')));
    expect(hex(hedge(copied, 16, undefined, 'x'))).not.toBe(hex(hedge(copied, 16, secret, 'x')));
  });

  test('outside of tests the source is the system: equal texts get other bytes each time', () => {
    const names = Array.from({ length: 100 }, () => hedgedHex(16, undefined, 'pack', text('same')));
    expect(new Set(names).size).toBe(100);
    for (const name of names) expect(name).toMatch(/^[0-9a-f]{32}$/);
    expect(hex(hedgedBytes(12, secret, 'x'))).not.toBe(hex(hedgedBytes(12, secret, 'x')));
  });
});
