import { BackupError } from '../common/errors.ts';
import { Retries, type RetryPolicy } from '../common/retry.ts';
import type { BlockCall } from './pipeline-options.ts';

/** A call of the host's `store`, `storeRecord` or `load`. */
export interface RepeatedCall {
  /** What it is about, for the message of the error: `block 7`. */
  readonly what: string;
  readonly code: 'STORE_FAILED' | 'LOAD_FAILED';
  readonly policy: RetryPolicy;
  readonly signal: AbortSignal;
  /** Called before each attempt. What it throws ends the call, because another attempt would not mend it. */
  readonly check?: (() => void) | undefined;
  readonly onFailure?: ((error: unknown, attempt: number) => void) | undefined;
}

const DONE = { STORE_FAILED: 'stored', LOAD_FAILED: 'loaded' } as const;

/** Calls the host as often as it takes and the options allow. @throws the code, what `check` throws, `signal.reason` */
export async function repeatCall<T>(
  { what, code, policy, signal, check, onFailure }: RepeatedCall,
  call: (call: BlockCall) => T | Promise<T>,
): Promise<T> {
  let retries: Retries | undefined;
  for (let attempt = 1; ; attempt++) {
    // @mutation nothing-begins-after-the-end
    signal.throwIfAborted();
    check?.();
    try {
      // @mutation stored-when-acknowledged
      return await call({ signal, attempt });
    } catch (error) {
      onFailure?.(error, attempt);
      retries ??= new Retries(policy, signal);
      await retries.pause(error).catch((last: unknown) => {
        signal.throwIfAborted();
        const times = `${attempt} attempt${attempt === 1 ? '' : 's'}`;
        const message = `${what} could not be ${DONE[code]}, after ${times}: ${String(last)}`;
        throw new BackupError(code, message, { cause: last, retryable: true });
      });
    }
  }
}
