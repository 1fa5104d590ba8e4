import { isDeepStrictEqual } from 'node:util';
import { BackupError, type BackupErrorCode } from '../common/errors.ts';
import { isBytes, isError } from '../common/realms.ts';

/**
 * The base of the conformance suites. This folder holds the suites for devices and targets, whose cases are data that any test
 * runner can run, and faulty devices and targets for testing what is built on them.
 */

/** The context that a runner passes to a case. @public */
export interface ConformanceContext {
  /** Called if the adapter lacks the capability that the case is about. The case returns right after it. */
  skip(reason?: string): void;
}

/**
 * One obligation of an adapter as a test case for vitest, node:test or any other runner. `run` resolves if the adapter fulfils the
 * obligation, or else rejects with what was expected and what was seen.
 *
 * @example
 * ```ts
 * for (const { name, run } of targetConformance({ open })) test(name, (context) => run(context));
 * ```
 *
 * @public
 */
export interface ConformanceCase {
  readonly name: string;
  run(context: ConformanceContext): Promise<void>;
}

/** The error of a case whose obligation is not fulfilled. @public */
export class ConformanceError extends Error {
  override readonly name = 'ConformanceError';
}

/** Fails the case unless `condition` holds. */
export function expectThat(condition: boolean, message: string): asserts condition {
  if (!condition) throw new ConformanceError(message);
}

/** Fails the case unless both values are deeply equal. */
export function expectEqual(actual: unknown, expected: unknown, what: string): void {
  if (!isDeepStrictEqual(actual, expected)) {
    throw new ConformanceError(`${what}: expected ${show(expected)}, got ${show(actual)}`);
  }
}

/** Fails the case unless both arrays hold the same bytes. The error names the first difference. */
export function expectBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  expectThat(isBytes(actual), `${what}: expected a Uint8Array, got ${show(actual)}`);
  expectEqual(actual.byteLength, expected.byteLength, `${what}, length in bytes`);
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  throw new ConformanceError(`${what}: byte ${at} is ${actual[at]}, expected ${expected[at]}`);
}

/** Fails the case unless `work` rejects with a `BackupError` that has `code`. */
export async function expectCode(work: Promise<unknown>, code: BackupErrorCode, what: string): Promise<BackupError> {
  const outcome = await outcomeOf(work);
  if (outcome.rejected && BackupError.is(outcome.error, code)) return outcome.error;
  const seen = outcome.rejected ? `rejected with ${show(outcome.error)}` : `resolved with ${show(outcome.value)}`;
  throw new ConformanceError(`${what}: expected a BackupError with code ${code}, but it ${seen}`);
}

/** The outcome of a promise. It never rejects. */
export async function outcomeOf<T>(
  work: Promise<T>,
): Promise<{ rejected: false; value: T } | { rejected: true; error: unknown }> {
  try {
    return { rejected: false, value: await work };
  } catch (error) {
    return { rejected: true, error };
  }
}

function show(value: unknown): string {
  if (isBytes(value)) return `${value.byteLength} bytes`;
  if (BackupError.is(value)) return `${value.code} (${value.message})`;
  if (isError(value)) return `${value.name}: ${value.message}`;
  try {
    return (JSON.stringify(value) ?? String(value)).slice(0, 400);
  } catch {
    return String(value);
  }
}
