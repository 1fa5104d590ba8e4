import { BackupError } from '../../../src/common/errors.ts';
import { OfWorld, type Parameter, shown, type Wrong } from './wrong-values.ts';

/** A call that has not been answered by then never will be. */
const HANGS_MS = 20_000;
/** What JavaScript says of its own accord where nobody has looked at an argument. */
const ACCIDENTAL =
  /^Cannot (read|set|convert|mix|destructure|access|use)|is not (a function|iterable|defined|a constructor)|^Reduce of|in operator|'in'|^Invalid (time|array)|class constructor|^Receiver must/i;

/** What came of a call. */
export type Outcome =
  | { readonly kind: 'answered'; readonly value: unknown }
  | { readonly kind: 'threw'; readonly error: unknown }
  | { readonly kind: 'hangs' };

/** Of a call, and of the first step where it answers with something to iterate over. */
export async function outcomeOf(call: () => unknown): Promise<Outcome> {
  let timer: NodeJS.Timeout | undefined;
  const hanging = new Promise<Outcome>((resolve) => {
    timer = setTimeout(() => resolve({ kind: 'hangs' }), HANGS_MS);
  });
  try {
    return await Promise.race([settled(call), hanging]);
  } finally {
    clearTimeout(timer);
  }
}

async function settled(call: () => unknown): Promise<Outcome> {
  try {
    const value = await call();
    const steps = value as Partial<AsyncIterable<unknown>> | undefined;
    if (typeof steps === 'object' && steps !== null && Symbol.asyncIterator in steps) {
      const iterator = (steps as AsyncIterable<unknown>)[Symbol.asyncIterator]();
      await iterator.next();
      await iterator.return?.();
    }
    return { kind: 'answered', value };
  } catch (error) {
    return { kind: 'threw', error };
  }
}

/** A `TypeError` that this library did not mean, as every one is whose message JavaScript has made. */
export function isAccident(error: unknown): boolean {
  return !BackupError.is(error) && (!(error instanceof TypeError) || ACCIDENTAL.test(error.message));
}

/**
 * What is wrong with the answer to a call that has wrong values, or undefined: a `TypeError` must name the parameter or the
 * option, and a `BackupError` must be the one that is documented for that value.
 */
export function faultOf(outcome: Outcome, wrong: readonly Wrong[]): string | undefined {
  if (outcome.kind === 'hangs') return 'is not answered';
  if (outcome.kind === 'answered') return 'is answered as if it were right';
  const { error } = outcome;
  if (BackupError.is(error)) {
    return wrong.some(({ code }) => code === error.code)
      ? undefined
      : `is refused with ${error.code}: ${error.message}`;
  }
  if (isAccident(error)) return `throws ${String(error)}`;
  const { message } = error as TypeError;
  return wrong.some(({ names }) => names.some((name) => isNamed(name, message))) ? undefined : `says only: ${message}`;
}

function isNamed(name: string, message: string): boolean {
  return new RegExp(`(?<![A-Za-z])${name}(?![A-Za-z])`).test(message);
}

export const wrongValue = ({ value }: Wrong, world: unknown): unknown =>
  value instanceof OfWorld ? value.make(world as never) : value;

/** Calls once for each wrong value of each parameter, the others being right. */
export async function misuse(
  name: string,
  parameters: readonly Parameter[],
  world: unknown,
  call: (args: unknown[]) => unknown,
  answers?: unknown,
): Promise<string[]> {
  const faults: string[] = [];
  for (const [index, parameter] of parameters.entries()) {
    for (const wrong of parameter.wrong) {
      const args = parameters.map(({ right }, at) => (at === index ? wrongValue(wrong, world) : right(world as never)));
      const outcome = await outcomeOf(() => call(args));
      const isTold = answers !== undefined && outcome.kind === 'answered' && outcome.value === answers;
      const fault = isTold ? undefined : faultOf(outcome, [wrong]);
      if (fault !== undefined) faults.push(`${name}(${args.map(shown).join(', ')}) ${fault}`);
    }
  }
  return faults;
}
