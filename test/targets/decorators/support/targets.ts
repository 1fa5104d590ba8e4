import type { TargetClock } from '../../../../src/common/clock.ts';
import { BackupError, type BackupErrorCode } from '../../../../src/common/errors.ts';

/** A clock that jumps ahead instead of waiting, and remembers by how much. */
export interface JumpingClock extends TargetClock {
  readonly slept: number[];
}

export function jumpingClock(): JumpingClock {
  let now = 1000;
  const slept: number[] = [];
  return {
    slept,
    now: () => now,
    async sleep(delayMs, signal) {
      signal?.throwIfAborted();
      slept.push(delayMs);
      now += delayMs;
    },
  };
}

/** An error for a fault. */
export function failure(code: BackupErrorCode, retryable = true, retryAfterMs?: number): () => BackupError {
  return () => new BackupError(code, 'injected', { retryable, retryAfterMs });
}

export function bytes(...values: number[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(values);
}
