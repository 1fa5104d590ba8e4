import { type AbortOptions, abortable } from '../../common/abort.ts';
import { described } from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { KEY_BYTES, wipeBytes } from '../format/derivation.ts';
import type { KeyProvider } from './unlock.ts';

/** Calls of somebody else's code with the repository's key. It may fail, answer with anything, or never answer. */

/** Most bytes that a provider makes of a key. */
export const MAX_WRAPPED_BYTES = 16 * 1024;

/** @throws `KEY_REFUSED`, a `BackupError` of the provider's, `signal.reason` */
export async function wrapByProvider(
  provider: KeyProvider,
  repositoryKey: Uint8Array,
  options: AbortOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  const given = Uint8Array.from(repositoryKey);
  const wrapped = await answerOf('wrap', options, async () => {
    try {
      const answer: unknown = await provider.wrap(given, options);
      // A copy before `given` is zeroed: they may be one array.
      return isBytes(answer) ? Uint8Array.from(answer) : answer;
    } finally {
      wipeBytes(given); // Also where nobody waits for the answer any more.
    }
  });
  if (isBytes(wrapped) && wrapped.length > 0 && wrapped.length <= MAX_WRAPPED_BYTES) return wrapped;
  throw refused(`its wrap gave ${sizeOf(wrapped)} instead of 1 to ${MAX_WRAPPED_BYTES} bytes`);
}

/** @throws as {@link wrapByProvider} */
export async function unwrapByProvider(
  provider: KeyProvider,
  wrapped: Uint8Array,
  options: AbortOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  const key = await answerOf('unwrap', options, async (): Promise<unknown> => provider.unwrap(wrapped, options));
  if (!isBytes(key) || key.length !== KEY_BYTES) throw refused(`its unwrap gave ${sizeOf(key)} instead of a key`);
  return Uint8Array.from(key);
}

async function answerOf(call: string, { signal }: AbortOptions, work: () => Promise<unknown>): Promise<unknown> {
  signal?.throwIfAborted();
  try {
    return await abortable(work(), signal);
  } catch (cause) {
    signal?.throwIfAborted();
    if (BackupError.is(cause)) throw cause;
    throw refused(`its ${call} failed`, cause);
  }
}

/** By its tag, not by its prototype: bytes of another realm are as good. */
function isBytes(value: unknown): value is Uint8Array<ArrayBuffer> {
  return ArrayBuffer.isView(value) && Object.prototype.toString.call(value) === '[object Uint8Array]';
}

/** What an answer is, and nothing of what it says: it may be half a key. */
function sizeOf(answer: unknown): string {
  if (isBytes(answer)) return `${answer.length} bytes`;
  return typeof answer === 'string' ? 'a string' : described(answer);
}

function refused(how: string, cause?: unknown): BackupError {
  return new BackupError('KEY_REFUSED', `the key provider did not do what was asked: ${how}`, { cause });
}
