import { booleanArgument, integerArgument, optionsArgument, signalArgument } from '../../common/arguments.ts';
import type { RemoveLeftoversOptions } from '../cloud-target.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const KNOWN = { olderThanMs: true, dryRun: true, signal: true } as const;

/** Options of `removeLeftovers` with their defaults, or a `TypeError`. */
export function checkLeftoversOptions(options: RemoveLeftoversOptions | undefined): {
  readonly olderThanMs: number;
  readonly dryRun: boolean;
  readonly signal: AbortSignal | undefined;
} {
  const { olderThanMs = DAY_MS, dryRun = false, signal } = optionsArgument('options', options, KNOWN);
  return {
    olderThanMs: integerArgument('olderThanMs', olderThanMs, 0),
    dryRun: booleanArgument('dryRun', dryRun),
    signal: signalArgument('signal', signal),
  };
}
