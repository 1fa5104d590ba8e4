import type { AbortOptions } from '../common/abort.ts';
import {
  booleanArgument,
  bytesArgument,
  described,
  functionArgument,
  integerArgument,
  optionsArgument,
  signalArgument,
  textArgument,
} from '../common/arguments.ts';
import type { TargetClock } from '../common/clock.ts';
import { report } from '../common/report.ts';
import type { CloudTarget, GetOptions, ListOptions, PutOptions, RemoveLeftoversOptions } from './cloud-target.ts';
import { checkRange } from './object-range.ts';

/** Checks of the arguments of a target's methods. Each function returns the argument, or throws a `TypeError`. */

/**
 * Returns `body` if it is a `Uint8Array` that is not a view of shared memory: another thread could change that while it is sent,
 * so that the object would be a mixture.
 */
export function bodyArgument(body: unknown): Uint8Array<ArrayBuffer> {
  const bytes = bytesArgument('body', body);
  if (Object.prototype.toString.call(bytes.buffer) === '[object SharedArrayBuffer]') {
    throw new TypeError('body must not be a view of shared memory: pass a copy of it');
  }
  return bytes as Uint8Array<ArrayBuffer>;
}

export function targetArgument(name: string, target: unknown): CloudTarget {
  const given = target as Record<string, unknown> | null | undefined;
  const lacking = METHODS.find((method) => typeof given?.[method] !== 'function');
  if (lacking !== undefined || typeof given?.capabilities !== 'object' || given.capabilities === null) {
    const how = typeof given === 'object' && given !== null ? `: it has no ${lacking ?? 'capabilities'}` : '';
    throw new TypeError(`${name} must be a CloudTarget, not ${described(target)}${how}`);
  }
  return target as CloudTarget;
}

const METHODS = ['put', 'get', 'stat', 'list', 'delete'] as const;
const ABORT = { signal: true } as const;
const PUT = { createOnly: true, onSent: true, signal: true } as const;
const GET = { range: true, ifTag: true, signal: true } as const;
const LIST = { after: true, signal: true } as const;
const LEFTOVERS = { olderThanMs: true, dryRun: true, signal: true } as const;
const DAY_MS = 24 * 60 * 60 * 1000;

export function abortOptions(options: AbortOptions | undefined): AbortOptions {
  const { signal } = optionsArgument('options', options, ABORT);
  return { signal: signalArgument('options.signal', signal) };
}

export function putOptions(options: PutOptions | undefined): PutOptions {
  const { createOnly = false, onSent, signal } = optionsArgument('options', options, PUT);
  booleanArgument('options.createOnly', createOnly);
  if (onSent !== undefined) functionArgument('options.onSent', onSent);
  return {
    createOnly,
    // An error of the callback must not fail the put, and nothing would catch it where it is called.
    onSent: onSent && ((bytes) => report('onSent', onSent, bytes)),
    signal: signalArgument('options.signal', signal),
  };
}

export function getOptions(options: GetOptions | undefined): GetOptions {
  const { range, ifTag, signal } = optionsArgument('options', options, GET);
  return {
    range: checkRange(range),
    ifTag: ifTag === undefined ? undefined : textArgument('options.ifTag', ifTag),
    signal: signalArgument('options.signal', signal),
  };
}

export function listOptions(options: ListOptions | undefined): ListOptions {
  const { after, signal } = optionsArgument('options', options, LIST);
  if (after !== undefined && typeof after !== 'string') {
    throw new TypeError(`options.after must be a string, not ${described(after)}`);
  }
  return { after, signal: signalArgument('options.signal', signal) };
}

export interface CheckedLeftoversOptions extends AbortOptions {
  readonly olderThanMs: number;
  readonly dryRun: boolean;
}

export function leftoversOptions(options: RemoveLeftoversOptions | undefined): CheckedLeftoversOptions {
  const { olderThanMs = DAY_MS, dryRun = false, signal } = optionsArgument('options', options, LEFTOVERS);
  return {
    olderThanMs: integerArgument('olderThanMs', olderThanMs, 0),
    dryRun: booleanArgument('dryRun', dryRun),
    signal: signalArgument('signal', signal),
  };
}

/** The elements are checked one by one later. */
export function keysArgument(keys: unknown): readonly string[] {
  if (!Array.isArray(keys)) throw new TypeError(`keys must be an array of object keys, not ${described(keys)}`);
  return keys;
}

export function prefixOfList(prefix: unknown): string {
  if (typeof prefix !== 'string') throw new TypeError(`prefix must be a string, not ${described(prefix)}`);
  return prefix;
}

export function clockArgument<T extends Partial<TargetClock>>(
  name: string,
  clock: T,
  methods: readonly (keyof TargetClock & keyof T)[],
): T {
  const lacking = methods.find((method) => typeof clock?.[method] !== 'function');
  if (lacking !== undefined) throw new TypeError(`${name} must be a clock with ${lacking}, not ${described(clock)}`);
  return clock;
}
