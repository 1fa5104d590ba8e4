import { expect, vi } from 'vitest';
import { BackupError, type BackupErrorCode } from '../../../src/common/errors.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import { turn } from '../../support/turn.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;
/** The block size of most tests here. */
export const BLOCK = 4 * KIB;

/** `length` bytes of one value. */
export function filled(byte: number, length = BLOCK): Uint8Array {
  return new Uint8Array(length).fill(byte);
}

/** Gives every block of a device's memory a content of its own: block b is full of `first + b`. */
export function numberBlocks(bytes: Uint8Array, first = 1, blockSize = BLOCK): void {
  for (let at = 0; at < bytes.length; at += blockSize) bytes.fill(first + at / blockSize, at, at + blockSize);
}

/** A part of a device, by default all of it. */
export async function contentOf(
  device: Pick<BlockDevice, 'read' | 'size'>,
  offset = 0,
  length = device.size - offset,
): Promise<Uint8Array> {
  const into = filled(0xee, length);
  await device.read(offset, into);
  return into;
}

/** Compares at memory speed, and says where the first difference is. */
export function expectSame(actual: Uint8Array, expected: Uint8Array, what = 'content'): void {
  expect(actual.length, `${what}: length`).toBe(expected.length);
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  expect.fail(`${what}: byte ${at} is ${actual[at]} and should be ${expected[at]}`);
}

/** Reads a range and expects every byte of it to be `byte`. */
export async function expectFilled(
  device: Pick<BlockDevice, 'read' | 'size'>,
  byte: number,
  offset: number,
  length = BLOCK,
): Promise<void> {
  expectSame(await contentOf(device, offset, length), filled(byte, length), `${length} bytes at ${offset}`);
}

/** The error that `work` ends with, which has to be a `BackupError` of that code. */
export async function errorOf(work: Promise<unknown> | (() => unknown), code: BackupErrorCode): Promise<BackupError> {
  let error: unknown;
  try {
    await (typeof work === 'function' ? work() : work);
  } catch (thrown) {
    error = thrown;
  }
  if (!BackupError.is(error)) expect.fail(`expected ${code}, got ${error === undefined ? 'no error' : String(error)}`);
  expect(error.code).toBe(code);
  return error;
}

/** The codes of an error and of what caused it, outermost first. */
export function codesOf(error: unknown): string[] {
  return BackupError.is(error) ? [error.code, ...codesOf(error.cause)] : [];
}

/** Whether a promise has settled by now. */
export async function isSettled(work: Promise<unknown>): Promise<boolean> {
  let settled = false;
  work.then(
    () => {
      settled = true;
    },
    () => {
      settled = true;
    },
  );
  await turn();
  return settled;
}

/** Lets all but the last millisecond of a deadline pass, which a write outlives, and then that. Timers have to be fake. */
export async function passDeadline(write: Promise<void>, deadlineMs: number): Promise<void> {
  await turn();
  await vi.advanceTimersByTimeAsync(deadlineMs - 1);
  expect(await isSettled(write)).toBe(false);
  await vi.advanceTimersByTimeAsync(1);
  await turn();
}
