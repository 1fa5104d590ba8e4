import { isDeepStrictEqual } from 'node:util';
import { BackupError, type BackupErrorCode } from '../common/errors.ts';
import { isBytes, isError } from '../common/realms.ts';

/** What a case can tell its runner. @public */
export interface ConformanceContext {
  /** Called when the adapter lacks the capability that the case is about. The case returns right after. */
  skip(reason?: string): void;
}

/**
 * One obligation of an adapter, as data, for vitest, node:test or any other runner: `run` resolves when
 * the adapter keeps it and rejects, saying what was expected and what was seen, when it does not.
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

/** What a case rejects with when an obligation is not kept. @public */
export class ConformanceError extends Error {
  override readonly name = 'ConformanceError';
}

/** Fails the case unless `condition` holds. */
export function expectThat(condition: boolean, message: string): asserts condition {
  if (!condition) throw new ConformanceError(message);
}

/** Fails the case unless both are deeply equal. */
export function expectEqual(actual: unknown, expected: unknown, what: string): void {
  if (!isDeepStrictEqual(actual, expected)) {
    throw new ConformanceError(`${what}: expected ${show(expected)}, got ${show(actual)}`);
  }
}

/** Fails the case unless both hold the same bytes; says where they first differ. */
export function expectBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  expectThat(isBytes(actual), `${what}: expected a Uint8Array, got ${show(actual)}`);
  expectEqual(actual.byteLength, expected.byteLength, `${what}, length in bytes`);
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  throw new ConformanceError(`${what}: byte ${at} is ${actual[at]}, expected ${expected[at]}`);
}

/** Fails the case unless `work` rejects with a `BackupError` of that code. */
export async function expectCode(work: Promise<unknown>, code: BackupErrorCode, what: string): Promise<BackupError> {
  const outcome = await outcomeOf(work);
  if (outcome.rejected && BackupError.is(outcome.error, code)) return outcome.error;
  const seen = outcome.rejected ? `rejected with ${show(outcome.error)}` : `resolved with ${show(outcome.value)}`;
  throw new ConformanceError(`${what}: expected a BackupError with code ${code}, but it ${seen}`);
}

/** What became of a promise. Never rejects. */
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
