import type { AbortOptions } from '../common/abort.ts';
import {
  booleanArgument,
  bytesArgument,
  described,
  functionArgument,
  optionsArgument,
  signalArgument,
} from '../common/arguments.ts';
import { tell } from '../common/tell.ts';
import type { TargetClock } from './clock.ts';
import type { CloudTarget, GetOptions, ListOptions, PutOptions } from './cloud-target.ts';
import { checkRange } from './object-range.ts';

/** Checks of what is passed to the methods of a target. Each returns the options, or throws a `TypeError`. */

/**
 * Returns `body` when it is a `Uint8Array` that stays as it is: of memory that another thread may write to, a part could be
 * sent as it was and the rest as it is.
 */
export function bodyArgument(body: unknown): Uint8Array<ArrayBuffer> {
  const bytes = bytesArgument('body', body);
  if (Object.prototype.toString.call(bytes.buffer) === '[object SharedArrayBuffer]') {
    throw new TypeError('body must not be a view of shared memory: pass a copy of it');
  }
  return bytes as Uint8Array<ArrayBuffer>;
}

/** Returns `target` when it has the methods of one, else throws a `TypeError` that names it. */
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
const GET = { range: true, signal: true } as const;
const LIST = { after: true, signal: true } as const;

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
    // Nobody's put may fail by it, and it is called where nobody would catch what it throws.
    onSent: onSent && ((bytes) => tell('onSent', onSent, bytes)),
    signal: signalArgument('options.signal', signal),
  };
}

export function getOptions(options: GetOptions | undefined): GetOptions {
  const { range, signal } = optionsArgument('options', options, GET);
  return { range: checkRange(range), signal: signalArgument('options.signal', signal) };
}

export function listOptions(options: ListOptions | undefined): ListOptions {
  const { after, signal } = optionsArgument('options', options, LIST);
  if (after !== undefined && typeof after !== 'string') {
    throw new TypeError(`options.after must be a string, not ${described(after)}`);
  }
  return { after, signal: signalArgument('options.signal', signal) };
}

/** Returns `keys` when it is an array; each of them is looked at by itself. */
export function keysArgument(keys: unknown): readonly string[] {
  if (!Array.isArray(keys)) throw new TypeError(`keys must be an array of object keys, not ${described(keys)}`);
  return keys;
}

/** Returns `prefix` when it is a string, also an empty one. */
export function prefixOfList(prefix: unknown): string {
  if (typeof prefix !== 'string') throw new TypeError(`prefix must be a string, not ${described(prefix)}`);
  return prefix;
}

/** Returns `clock` when it has the methods that are called of it, else throws a `TypeError` that names it. */
export function clockArgument<T extends Partial<TargetClock>>(
  name: string,
  clock: T,
  methods: readonly (keyof TargetClock & keyof T)[],
): T {
  const lacking = methods.find((method) => typeof clock?.[method] !== 'function');
  if (lacking !== undefined) throw new TypeError(`${name} must be a clock with ${lacking}, not ${described(clock)}`);
  return clock;
}
