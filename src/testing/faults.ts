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
 * What goes wrong with one call to a faulty target or device.
 *
 * - `fail-before`: rejects and does nothing.
 * - `fail-after`: does it, then rejects: the answer was lost.
 * - `delay`: does it `delayMs` later.
 * - `truncate`: a read answers, or a write keeps, only the first `keepBytes` (default: half of them). Of a listing:
 *   so many objects (default: one).
 * - `corrupt`: one bit of what is read or written is flipped.
 * - `never-answer`: does nothing and settles only when its signal aborts.
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

/** One call as a plan sees it. @public */
export interface FaultCall<Operation extends string = string> {
  readonly operation: Operation;
  /** The object's key, the listing's prefix, or the offset on a device in decimal. */
  readonly subject: string;
}

/** Decides, call by call, what goes wrong. @public */
export interface FaultPlan<Operation extends string = string> {
  /** The fault of this call, `undefined` to let it pass. Asked exactly once a call, in the order of calls. */
  next(call: FaultCall<Operation>): Fault | undefined;
}

/** One entry of a call log. @public */
export interface FaultedCall<Operation extends string = string> extends FaultCall<Operation> {
  readonly fault: Fault | undefined;
}

/** One line of a script. @public */
export interface FaultRule<Operation extends string = string> {
  /** Which operation. Absent: any. */
  readonly operation?: Operation | undefined;
  /** Which subject, by equality or pattern. Absent: any. */
  readonly subject?: string | RegExp | undefined;
  /** Which of the calls that match, counted from 1, or every one of them. @defaultValue 'every' */
  readonly nth?: number | 'every' | undefined;
  readonly fault: Fault;
}

/** A plan that says exactly which calls go wrong. The first rule that applies to a call wins. @public */
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

/** A misspelt rule would never apply, and the test that stands on it would pass. */
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
  const { error, delayMs, keepBytes, bit } = optionsArgument<AnyFault>(name, fault as AnyFault, known);
  if (error !== undefined) functionArgument(`${name}.error`, error);
  if (kind === 'delay' || delayMs !== undefined) integerArgument(`${name}.delayMs`, delayMs, 0);
  if (keepBytes !== undefined) integerArgument(`${name}.keepBytes`, keepBytes, 0);
  if (bit !== undefined) integerArgument(`${name}.bit`, bit, 0);
}

interface AnyFault {
  readonly kind: FaultKind;
  readonly error?: unknown;
  readonly delayMs?: unknown;
  readonly keepBytes?: unknown;
  readonly bit?: unknown;
}

function matches(rule: FaultRule, call: FaultCall): boolean {
  if (rule.operation !== undefined && rule.operation !== call.operation) return false;
  if (rule.subject === undefined) return true;
  if (typeof rule.subject === 'string') return rule.subject === call.subject;
  // `search` takes no heed of the `lastIndex` that a pattern with the g flag keeps between calls.
  return call.subject.search(rule.subject) >= 0;
}

/** Options of {@link seededFaults}. @public */
export interface SeededFaultsOptions<Operation extends string = string> {
  /** @defaultValue a fresh one, which the plan tells as `seed` */
  readonly seed?: number | undefined;
  /** How often each fault befalls each operation, from 0 to 1. */
  readonly rates: { readonly [O in Operation]?: { readonly [K in FaultKind]?: number | undefined } | undefined };
  /** The longest `delay`, in milliseconds. @defaultValue 10 */
  readonly maxDelayMs?: number | undefined;
  /** After so many faults everything passes, so that what is tested can end. @defaultValue no limit */
  readonly maxFaults?: number | undefined;
}

/** A plan drawn from a seed: the same seed and the same calls give the same faults. @public */
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
      // Two draws a call, whatever comes of them, so that one call's luck never shifts another's.
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

/** The error of a fault: its own, or else one with `code` that may pass by itself. */
export function injectedError(fault: Fault, call: FaultCall, code: BackupErrorCode): unknown {
  if ('error' in fault && fault.error !== undefined) return fault.error();
  return new BackupError(code, `injected ${fault.kind} in ${call.operation} of ${call.subject}`, { retryable: true });
}

/** A copy of the first `keepBytes` of `bytes`, half of them when it is not said how many. */
export function truncated(bytes: Uint8Array, keepBytes: number | undefined): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes.subarray(0, Math.min(bytes.length, keepBytes ?? Math.floor(bytes.length / 2))));
}

/** A copy of `bytes` with one bit flipped (bit numbers wrap around); no bytes, no change. */
export function corrupted(bytes: Uint8Array, bit = 0): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(bytes);
  if (copy.length === 0) return copy;
  const at = Math.floor(bit / 8) % copy.length;
  copy[at] = (copy[at] ?? 0) ^ (1 << (bit % 8));
  return copy;
}

/** A promise that settles only when `signal` aborts, and then rejects with its reason. */
export function neverAnswer(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal === undefined) return;
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
