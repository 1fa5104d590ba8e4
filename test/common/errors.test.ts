import { describe, expect, test } from 'vitest';
import { BackupError } from '../../src/common/errors.ts';

// A second copy of the module, as a second copy of the package in one process would have it.
const SECOND_COPY = '../../src/common/errors.ts?second-copy';
const { BackupError: OtherError } = (await import(SECOND_COPY)) as typeof import('../../src/common/errors.ts');

describe('BackupError', () => {
  test('carries its code, what may be done about it, and the cause', () => {
    const cause = new Error('below');
    const error = new BackupError('TARGET_THROTTLED', 'slow down', { cause, retryable: true, retryAfterMs: 250 });
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({
      name: 'BackupError',
      code: 'TARGET_THROTTLED',
      message: 'slow down',
      retryable: true,
      retryAfterMs: 250,
      cause,
    });
  });

  test('is final and without a cause unless it is said otherwise', () => {
    const error = new BackupError('CLOSED', 'closed');
    expect([error.retryable, error.retryAfterMs, 'cause' in error]).toEqual([false, undefined, false]);
    expect('cause' in new BackupError('CLOSED', 'closed', { cause: undefined })).toBe(true);
  });

  test('is known by its code, and without one', () => {
    const error = new BackupError('NO_SPACE', 'full');
    expect([BackupError.is(error), BackupError.is(error, 'NO_SPACE'), BackupError.is(error, 'CLOSED')]).toEqual([
      true,
      true,
      false,
    ]);
  });

  test('is known across two copies of the package, where instanceof is not', () => {
    const theirs = new OtherError('NO_SPACE', 'full');
    expect(OtherError).not.toBe(BackupError);
    expect(theirs).not.toBeInstanceOf(BackupError);
    expect([BackupError.is(theirs), BackupError.is(theirs, 'NO_SPACE'), BackupError.is(theirs, 'CLOSED')]).toEqual([
      true,
      true,
      false,
    ]);
    expect(OtherError.is(new BackupError('CLOSED', 'closed'), 'CLOSED')).toBe(true);
  });

  test('nothing else is taken for one', () => {
    const others = [
      new Error('CLOSED'),
      Object.assign(new Error('x'), { code: 'CLOSED', name: 'BackupError' }),
      'CLOSED',
      null,
    ];
    for (const other of [...others, undefined, 5, {}, () => {}]) expect(BackupError.is(other)).toBe(false);
  });
});
