import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import {
  bytesArgument,
  choiceArgument,
  dateArgument,
  integerArgument,
  limitArgument,
  optionsArgument,
  signalArgument,
  textArgument,
} from '../../src/common/arguments.ts';

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

describe('options and values of a public call', () => {
  interface Options {
    dryRun?: boolean | undefined;
    keepLast?: number | undefined;
  }
  const known = { dryRun: true, keepLast: true } as const;

  test('refuses an option that the function does not read, and names the nearest', () => {
    const misspelt = { dryrun: true } as Options;
    expect(() => optionsArgument<Options>('options', misspelt, known)).toThrow(
      /no option "dryrun"; did you mean dryRun/,
    );
    expect(() => optionsArgument<Options>('options', { keepLats: 1 } as Options, known)).toThrow(
      /did you mean keepLast/,
    );
    expect(() => optionsArgument<Options>('options', { zebra: 1 } as Options, known)).toThrow(/known options: dryRun/);
  });

  test('refuses what is no plain object, and takes one of another realm', () => {
    for (const value of [null, 1, 'text', [], new Map(), () => {}, new Uint8Array(1)]) {
      expect(() => optionsArgument<Options>('options', value as Options, known)).toThrow(TypeError);
    }
    const foreign = runInNewContext('({ dryRun: true })');
    expect(optionsArgument<Options>('options', foreign, known)).toBe(foreign);
    expect(optionsArgument<Options>('options', undefined, known)).toEqual({});
  });

  test('takes bytes, dates and signals of another realm, and no other view', () => {
    expect(bytesArgument('data', runInNewContext('new Uint8Array(3)'))).toHaveLength(3);
    expect(bytesArgument('data', Buffer.alloc(2))).toHaveLength(2);
    for (const value of [new Uint16Array(1), new DataView(new ArrayBuffer(1)), new ArrayBuffer(1), 'text', null, [1]]) {
      expect(() => bytesArgument('data', value)).toThrow(/data must be a Uint8Array/);
    }
    expect(() => dateArgument('before', runInNewContext('new Date(0)'))).not.toThrow();
    expect(() => dateArgument('before', new Date(Number.NaN))).toThrow(TypeError);
    expect(signalArgument('signal', AbortSignal.abort())?.aborted).toBe(true);
    expect(() => signalArgument('signal', {})).toThrow(TypeError);
    expect(() => signalArgument('signal', null)).toThrow(TypeError);
  });
});
