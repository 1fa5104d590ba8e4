import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import vm from 'node:vm';
import { describe, expect, test } from 'vitest';
import { hasBrand, isArrayBuffer, isBytes, isError, isPromise, isTypeError } from '../../src/common/realms.ts';
import { systemCode } from '../../src/common/system-errors.ts';
import { fileError } from '../../src/targets/file/file-errors.ts';
import { SOURCES, sourceImports } from './support/source-imports.ts';

const root = join(import.meta.dirname, '../..');

test('the built library backs up, restores, verifies and prunes in a vm context', { timeout: 120_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'cow-realm-'));
  try {
    const flags = ['--experimental-vm-modules', '--experimental-strip-types', '--no-warnings'];
    const program = join(import.meta.dirname, 'support', 'in-a-realm.ts');
    const { stdout, stderr } = spawnSync(process.execPath, [...flags, program, join(root, 'dist'), folder], {
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    expect(stdout).toBe('done\n');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

describe('values of another realm', () => {
  const of = (code: string) => vm.runInNewContext(code) as unknown;

  test('are what they are', () => {
    expect(isBytes(of('new Uint8Array(3)'))).toBe(true);
    expect(isBytes(Buffer.alloc(1))).toBe(true);
    for (const other of [
      'new Uint16Array(3)',
      '[1]',
      '({ length: 1 })',
      '"text"',
      'null',
      'new DataView(new ArrayBuffer(1))',
    ])
      expect(isBytes(of(other)), other).toBe(false);
    expect(isBytes({ [Symbol.toStringTag]: 'Uint8Array' })).toBe(false);
    expect(isArrayBuffer(of('new ArrayBuffer(3)'))).toBe(true);
    expect(isArrayBuffer(of('new SharedArrayBuffer(3)'))).toBe(false);
    expect(isError(of('new RangeError("x")'))).toBe(true);
    expect(isTypeError(of('new TypeError("x")'))).toBe(true);
    expect(isTypeError(of('new RangeError("x")'))).toBe(false);
    expect(isPromise(of('Promise.resolve(1)') as never)).toBe(true);
    expect(isPromise({ done: true } as never)).toBe(false);
    expect(hasBrand(null, Symbol.for('x'))).toBe(false);
  });

  test('that are errors of the system have their code, and misuse has none', () => {
    const missing = of('Object.assign(new Error("x"), { code: "ENOENT", errno: -2, syscall: "open" })');
    expect(systemCode(missing)).toBe('ENOENT');
    expect(fileError(missing, 'put')).toMatchObject({ code: 'TARGET_ERROR', cause: missing });
    const full = of('Object.assign(new Error("x"), { code: "ENOSPC" })');
    expect(fileError(full, 'put')).toMatchObject({ code: 'NO_SPACE', cause: full });
    const misuse = of('Object.assign(new TypeError("x"), { code: "ERR_INVALID_ARG_TYPE" })');
    expect(fileError(misuse, 'put')).toBe(misuse);
  });
});

test('no source asks by instanceof what a value of Node or of a caller is', () => {
  // A first look that another one follows where it says no.
  const looksAgain = ['common/realms.ts', 'device/door.ts', 'volume/copy-before-write.ts', 'targets/s3/s3-exchange.ts'];
  const asking = [...sourceImports().keys()].filter((file) => {
    const text = readFileSync(join(SOURCES, file), 'utf8');
    return /instanceof (?:\w*Error|Uint8Array|ArrayBuffer|Promise|Date|RegExp|AbortSignal|CopyOnWriteVolume|VolumeSnapshot|\w+Device|\w+Target)\b/.test(
      text,
    );
  });
  expect(asking.filter((file) => !looksAgain.includes(file))).toEqual([]);
});
