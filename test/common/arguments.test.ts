import { describe, expect, test } from 'vitest';
import { choiceArgument, integerArgument, limitArgument, textArgument } from '../../src/common/arguments.ts';

describe('arguments', () => {
  test('an integer is returned when it is within its limits, else a TypeError names it', () => {
    for (const value of [2, 3, 5]) expect(integerArgument('blocks', value, 2, 5)).toBe(value);
    for (const value of [1, 6, 2.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, '3', 3n, null, undefined]) {
      expect(() => integerArgument('blocks', value, 2, 5)).toThrow(TypeError);
      expect(() => integerArgument('blocks', value, 2, 5)).toThrow(/^blocks must be an integer from 2 to 5/);
    }
    expect(integerArgument('blocks', Number.MAX_SAFE_INTEGER, 0)).toBe(Number.MAX_SAFE_INTEGER);
  });

  test('a limit may be Infinity', () => {
    expect(limitArgument('bytes', Number.POSITIVE_INFINITY, 1)).toBe(Number.POSITIVE_INFINITY);
    expect(limitArgument('bytes', 7, 1)).toBe(7);
    for (const value of [0, Number.NEGATIVE_INFINITY, Number.NaN])
      expect(() => limitArgument('bytes', value, 1)).toThrow(TypeError);
  });

  test('a text is not empty', () => {
    expect(textArgument('path', 'x')).toBe('x');
    for (const value of ['', 5, null, undefined, ['x']])
      expect(() => textArgument('path', value)).toThrow(/^path must be/);
  });

  test('a choice is one of those there are, and the error lists them', () => {
    expect(choiceArgument('policy', 'b', ['a', 'b'])).toBe('b');
    for (const value of ['c', '', 0, undefined]) {
      expect(() => choiceArgument('policy', value, ['a', 'b'])).toThrow(/^policy must be one of a, b/);
    }
  });
});
