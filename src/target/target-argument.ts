import { described } from '../common/arguments.ts';
import type { CloudTarget } from './cloud-target.ts';

const CALLS = ['put', 'get', 'stat', 'list', 'delete'] as const;

/** Returns `value` when it has what a {@link CloudTarget} has, else throws a `TypeError` that names it. */
export function targetArgument(name: string, value: unknown): CloudTarget {
  const target = value as Partial<CloudTarget> | null | undefined;
  if (typeof target !== 'object' || target === null) {
    throw new TypeError(`${name} must be a CloudTarget, not ${described(value)}`);
  }
  const missing = CALLS.find((call) => typeof target[call] !== 'function');
  if (missing !== undefined) throw new TypeError(`${name} must be a CloudTarget: it has no method ${missing}`);
  if (typeof target.capabilities !== 'object' || target.capabilities === null) {
    throw new TypeError(`${name} must be a CloudTarget: it has no capabilities`);
  }
  return target as CloudTarget;
}
