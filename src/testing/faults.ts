import {
  choiceArgument,
  described,
  functionArgument,
  integerArgument,
  limitArgument,
  optionsArgument,
  plainObjectArgument,
  textArgument,
} from '../common/arguments.ts';
import { BackupError, type BackupErrorCode } from '../common/errors.ts';
import { freshSeed, seededRandom } from './seeded-random.ts';

/**
 * A fault of one call to a faulty target or device.
 *
 * - `fail-before`: the call rejects without any effect.
 * - `fail-after`: the call takes effect and then rejects, as if the answer was lost.
 * - `delay`: the call takes effect `delayMs` later.
 * - `truncate`: a read returns, or a write stores, only the first `keepBytes` bytes (by default half of them). A listing has only
 *   the first `keepBytes` objects (by default one).
 * - `corrupt`: one bit of the bytes that are read or written is flipped.
 * - `never-answer`: the call has no effect and settles only when its signal aborts.
 *
 * @public
 */
export type Fault =
  | { readonly kind: 'fail-before' | 'fail-after'; readonly error?: (() => unknown) | undefined }
  | { readonly kind: 'delay'; readonly delayMs: number }
  | { readonly kind: 'truncate'; readonly keepBytes?: number | undefined }
  | { readonly kind: 'corrupt'; readonly bit?: number | undefined }
  | { readonly kind: 'never-answer' };

/** @public */
export type FaultKind = Fault['kind'];

/** A call for which a plan chooses a fault. @public */
export interface FaultCall<Operation extends string = string> {
  readonly operation: Operation;
  /** The key of the object, the prefix of the listing, or the offset on the device in decimal digits. */
  readonly subject: string;
}

/** Decides for each call whether it has a fault. @public */
export interface FaultPlan<Operation extends string = string> {
  /** Returns the fault of a call; `undefined` for none. It is called exactly once for each call, in the order of the calls. */
  next(call: FaultCall<Operation>): Fault | undefined;
}

/** An entry of a log of calls. @public */
export interface FaultedCall<Operation extends string = string> extends FaultCall<Operation> {
  readonly fault: Fault | undefined;
}

/** A rule of {@link scriptedFaults}. @public */
export interface FaultRule<Operation extends string = string> {
  /** The operation of the calls that the rule matches. @defaultValue any */
  readonly operation?: Operation | undefined;
  /** The subject of the calls that the rule matches, or a pattern for it. @defaultValue any */
  readonly subject?: string | RegExp | undefined;
  /** The number, from 1, of the matching call that has the fault; or every matching call. @defaultValue 'every' */
  readonly nth?: number | 'every' | undefined;
  readonly fault: Fault;
}

/** Makes a plan from rules that name the calls with faults. The first rule that applies to a call wins. @public */
export function scriptedFaults<Operation extends string = string>(
  rules: readonly FaultRule<Operation>[],
): FaultPlan<Operation> {
  if (!Array.isArray(rules)) throw new TypeError(`rules must be an array, not ${described(rules)}`);
  for (const [index, rule] of rules.entries()) checkRule(`rules[${index}]`, rule);
  const seen = rules.map(() => 0);
  return {
    next(call) {
      let chosen: Fault | undefined;
      rules.forEach((rule, index) => {
        if (!matches(rule, call)) return;
        const count = (seen[index] ?? 0) + 1;
        seen[index] = count;
        if (rule.nth === undefined || rule.nth === 'every' || rule.nth === count) chosen ??= rule.fault;
      });
      return chosen;
    },
  };
}

const RULE = { operation: true, subject: true, nth: true, fault: true } as const satisfies Record<
  keyof FaultRule,
  true
>;
const KINDS: readonly FaultKind[] = ['fail-before', 'fail-after', 'delay', 'truncate', 'corrupt', 'never-answer'];

/** Throws a `TypeError` for an invalid rule: it would never apply, and a test that relies on it would pass. */
function checkRule(name: string, rule: FaultRule): void {
  const { operation, subject, nth, fault } = optionsArgument(name, rule ?? null, RULE);
  if (operation !== undefined) textArgument(`${name}.operation`, operation);
  const isPattern = Object.prototype.toString.call(subject) === '[object RegExp]';
  if (subject !== undefined && typeof subject !== 'string' && !isPattern) {
    throw new TypeError(`${name}.subject must be a string or a RegExp, not ${described(subject)}`);
  }
  if (nth !== undefined && nth !== 'every') integerArgument(`${name}.nth`, nth, 1);
  checkFault(`${name}.fault`, fault);
}

function checkFault(name: string, fault: Fault): void {
  const kind = choiceArgument(`${name}.kind`, (plainObjectArgument(name, fault) as Fault).kind, KINDS);
  const known = { kind: true, error: true, delayMs: true, keepBytes: true, bit: true } as const;
  const { error, delayMs, keepBytes, bit } = optionsArgument<object>(name, fault, known) as Record<string, unknown>;
  if (error !== undefined) functionArgument(`${name}.error`, error);
  if (kind === 'delay' || delayMs !== undefined) integerArgument(`${name}.delayMs`, delayMs, 0);
  if (keepBytes !== undefined) integerArgument(`${name}.keepBytes`, keepBytes, 0);
  if (bit !== undefined) integerArgument(`${name}.bit`, bit, 0);
}

function matches(rule: FaultRule, call: FaultCall): boolean {
  if (rule.operation !== undefined && rule.operation !== call.operation) return false;
  if (rule.subject === undefined) return true;
  if (typeof rule.subject === 'string') return rule.subject === call.subject;
  // `search` ignores the `lastIndex` that a pattern with the g flag keeps between calls.
  return call.subject.search(rule.subject) >= 0;
}

/** Options of {@link seededFaults}. @public */
export interface SeededFaultsOptions<Operation extends string = string> {
  /** The seed. @defaultValue a new one, which the plan has as `seed` */
  readonly seed?: number | undefined;
  /** The probability of each fault for each operation, from 0 to 1. */
  readonly rates: { readonly [O in Operation]?: { readonly [K in FaultKind]?: number | undefined } | undefined };
  /** The longest `delay`, in milliseconds. @defaultValue 10 */
  readonly maxDelayMs?: number | undefined;
  /** The number of faults after which all calls pass, so that a test can end. @defaultValue no limit */
  readonly maxFaults?: number | undefined;
}

/** Makes a random plan. The same seed and the same calls give the same faults. @public */
export function seededFaults<Operation extends string = string>(
  options: SeededFaultsOptions<Operation>,
): FaultPlan<Operation> & { readonly seed: number } {
  const known = { seed: true, rates: true, maxDelayMs: true, maxFaults: true } as const;
  const {
    seed = freshSeed(),
    maxDelayMs = 10,
    maxFaults = Number.POSITIVE_INFINITY,
  } = optionsArgument('options', options ?? null, known);
  checkRates(options.rates);
  integerArgument('options.maxDelayMs', maxDelayMs, 0);
  limitArgument('options.maxFaults', maxFaults, 0);
  const random = seededRandom(seed);
  let left = maxFaults;
  return {
    seed,
    next(call) {
      // Each call takes two numbers in any case, so that the fault of one call does not change those of later calls.
      let draw = random();
      const detail = random();
      const rates: { readonly [K in FaultKind]?: number | undefined } = options.rates[call.operation] ?? {};
      for (const [kind, rate] of Object.entries(rates) as [FaultKind, number | undefined][]) {
        draw -= rate ?? 0;
        if (draw >= 0 || left <= 0) continue;
        left--;
        return drawnFault(kind, detail, maxDelayMs);
      }
      return undefined;
    },
  };
}

function checkRates(rates: Readonly<Record<string, unknown>>): void {
  plainObjectArgument('options.rates', rates);
  for (const [operation, each] of Object.entries(rates)) {
    const name = `options.rates.${operation}`;
    if (each === undefined) continue;
    for (const [kind, rate] of Object.entries(plainObjectArgument(name, each))) {
      choiceArgument(`a fault of ${name}`, kind, KINDS);
      if (rate === undefined || (typeof rate === 'number' && rate >= 0 && rate <= 1)) continue;
      throw new TypeError(`${name}.${kind} must be a number from 0 to 1, not ${described(rate)}`);
    }
  }
}

function drawnFault(kind: FaultKind, detail: number, maxDelayMs: number): Fault {
  if (kind === 'delay') return { kind, delayMs: Math.ceil(detail * maxDelayMs) };
  if (kind === 'corrupt') return { kind, bit: Math.floor(detail * 2 ** 32) };
  return { kind };
}

/** The error of a fault: its own, or else a retryable one with `code`. */
export function injectedError(fault: Fault, call: FaultCall, code: BackupErrorCode): unknown {
  if ('error' in fault && fault.error !== undefined) return fault.error();
  return new BackupError(code, `injected ${fault.kind} in ${call.operation} of ${call.subject}`, { retryable: true });
}

/** A copy of the first `keepBytes` of `bytes`, by default half of them. */
export function truncated(bytes: Uint8Array, keepBytes: number | undefined): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes.subarray(0, Math.min(bytes.length, keepBytes ?? Math.floor(bytes.length / 2))));
}

/** A copy of `bytes` with one bit flipped. Bit numbers wrap around. */
export function corrupted(bytes: Uint8Array, bit = 0): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(bytes);
  if (copy.length === 0) return copy;
  const at = Math.floor(bit / 8) % copy.length;
  copy[at] = (copy[at] ?? 0) ^ (1 << (bit % 8));
  return copy;
}
